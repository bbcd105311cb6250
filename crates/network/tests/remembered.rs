//! An address whose connections the kernel would not forget. Capabilities are taken from the whole thread, so that this test has a
//! process of its own.

use std::net::IpAddr;
use std::sync::Arc;

use network::{Bridge, HostEndpoint, HostError, HostNetwork, HostNetworks, HostSettings};
use nix::sched::{CloneFlags, unshare};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use tokio::sync::mpsc;

fn endpoint(tap: &str, address: &str) -> HostEndpoint {
    let network = HostNetwork {
        bridge: Bridge {
            name: "hull0".into(),
            addresses: vec!["172.17.0.1/24".parse().unwrap()],
            mtu: 1500,
        },
        subnets: vec!["172.17.0.0/24".parse().unwrap()],
        internal: false,
        inter_container: true,
        masquerade: true,
    };
    let address: IpAddr = address.parse().unwrap();
    HostEndpoint {
        container: tap.to_owned(),
        network: Arc::new(network),
        tap: tap.to_owned(),
        queues: 1,
        mac: network::mac_of(address),
        addresses: vec![address],
        names: Vec::new(),
        links: Vec::new(),
        servers: Vec::new(),
        egress: Vec::new(),
    }
}

/// Runs with all capabilities but that of administering networks.
async fn powerless<T>(work: impl Future<Output = T>) -> T {
    let all = capabilities(None).unwrap();
    let mut fewer = all;
    fewer.effective.remove(CapabilitySet::NET_ADMIN);
    set_capabilities(None, fewer).unwrap();
    let done = work.await;
    set_capabilities(None, all).unwrap();
    done
}

#[tokio::test]
async fn an_address_is_nobodys_until_its_connections_are_forgotten() {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        eprintln!("SKIPPED: no network namespace: {error}");
        return;
    }
    let (sender, _refusals) = mpsc::channel(1);
    let host = Arc::new(HostNetworks::open(HostSettings::default(), sender).unwrap());
    let first = host.connect(endpoint("hullt1", "172.17.0.2")).await.unwrap();
    drop(first);
    host.disconnect("hullt1");

    let second = || endpoint("hullt2", "172.17.0.2");
    for _ in 0..2 {
        let refused = powerless(host.connect(second())).await;
        assert!(
            matches!(&refused, Err(HostError::Remembered { address, .. }) if address.to_string() == "172.17.0.2"),
            "{refused:?}"
        );
    }
    // Others are not held up by it, but by what they need themselves.
    let refused = powerless(host.connect(endpoint("hullt3", "172.17.0.3"))).await;
    assert!(
        matches!(&refused, Err(error) if !matches!(error, HostError::Remembered { .. })),
        "{refused:?}"
    );
    host.connect(second()).await.unwrap();
}
