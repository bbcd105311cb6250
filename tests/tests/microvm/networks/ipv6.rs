//! Networks without IPv4.

use anyhow::Result;
use system_tests::hull;

use super::service::Service;
use super::{Network, fetch, free_port, get, inspect, serve};

#[test]
fn a_network_of_ipv6_alone_does_what_others_do() -> Result<()> {
    let hull = hull!();
    // The docker CLI of before 28 knows nothing of networks without IPv4.
    let network = Network {
        hull: &hull,
        name: format!("six-{}", std::process::id()),
    };
    let create = [
        "network",
        "create",
        "--ipv4=false",
        "--ipv6",
        "--subnet",
        "fd00:128::/64",
    ];
    hull.hull(create.into_iter().chain([network.name.as_str()])).ok();
    let families = "{{.EnableIPv4}} {{.EnableIPv6}} {{len .IPAM.Config}}";
    let seen = hull.hull(["network", "inspect", "-f", families, &network.name]);
    assert_eq!(seen.ok(), "false true 1\n");

    let port = free_port()?;
    let publish = format!("{port}:80");
    let web = serve(
        &hull,
        "six-web",
        &[
            "--network",
            &network.name,
            "--network-alias",
            "web",
            "--ip6",
            "fd00:128::77",
            "-p",
            &publish,
        ],
    );
    let place =
        "{{range .NetworkSettings.Networks}}[{{.IPAddress}}] {{.GlobalIPv6Address}} {{.IPv6Gateway}}{{end}}";
    assert_eq!(inspect(&hull, &web, place), "[] fd00:128::77 fd00:128::1");
    let read = |file: &str| hull.docker(["exec", &web, "cat", file]).ok();
    assert!(
        read("/etc/hosts").contains("fd00:128::77\t"),
        "{}",
        read("/etc/hosts")
    );
    assert!(
        read("/etc/resolv.conf").contains("nameserver fd00:128::1\n"),
        "{}",
        read("/etc/resolv.conf")
    );
    let addresses = hull.docker(["exec", &web, "ip", "-4", "-o", "addr", "show", "eth0"]);
    assert_eq!(addresses.ok(), "");

    // Names, and ports at the host's addresses of both families.
    assert_eq!(fetch(&hull, &network.name, "http://web/"), "six-web");
    assert_eq!(get(&format!("127.0.0.1:{port}"))?, "six-web");
    assert_eq!(get(&format!("[::1]:{port}"))?, "six-web");

    // The host is outside, where a policy may lead or not.
    let outside = 18_128;
    let _service = Service::new(&hull, outside);
    let call = |policy: &str| {
        let policy = format!("hull.egress={policy}");
        let script = format!("timeout 10 nc fd00:128::1 {outside}");
        let run = ["run", "--rm", "--annotation", &policy, "--network", &network.name];
        hull.docker(run.into_iter().chain(["busybox", "sh", "-c", &script]))
    };
    assert_eq!(call("all").ok(), "hello\n");
    assert_eq!(call(&format!("[fd00:128::1]:{outside}/tcp")).ok(), "hello\n");
    assert_ne!(call("none").code, 0);
    Ok(())
}
