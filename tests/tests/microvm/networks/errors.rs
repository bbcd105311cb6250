//! What a network cannot do for a container is told, and nothing is left of what was tried.

use anyhow::Result;
use system_tests::{Hull, Place, hull};

use super::{Network, inspect};

/// The name of a network's bridge.
fn bridge(hull: &Hull, network: &Network) -> String {
    let id = hull.docker(["network", "inspect", "-f", "{{.Id}}", &network.name]);
    format!("hullb{}", &id.ok()[..8])
}

/// Waits until the host has nothing of a network any more, and no interface of a container that is in none.
fn wait_for_nothing(hull: &Hull, bridge: &str) {
    let look = format!(
        "ls /sys/class/net | grep -x {bridge}
         nft list ruleset | grep {bridge}
         for tap in /sys/class/net/hullt*; do [ ! -e $tap ] || [ -e $tap/master ] || echo $tap; done"
    );
    hull.eventually("nothing being left", || match hull.shell(&look).stdout {
        left if left.is_empty() => Ok(()),
        left => Err(left),
    });
}

#[test]
fn a_link_to_nobody_is_refused() -> Result<()> {
    let hull = hull!();
    let name = hull.container("linked");
    hull.docker([
        "run",
        "--name",
        &name,
        "--link",
        "nobody:somebody",
        "busybox",
        "true",
    ])
    .exits(125)
    .says("could not get container for nobody: No such container: nobody");
    let listed = hull.docker(["ps", "-aq", "--filter", &format!("name={}", &*name)]);
    assert_eq!(listed.ok(), "");
    Ok(())
}

#[test]
fn a_subnet_is_free_when_its_network_is_gone() -> Result<()> {
    let hull = hull!();
    for _ in 0..3 {
        let network = Network::new(&hull, "again", &["--subnet", "10.127.9.0/24"]);
        hull.docker(["run", "--rm", "--network", &network.name, "busybox", "true"])
            .ok();
    }
    Ok(())
}

#[test]
fn an_address_that_cannot_be_had_is_told_and_leaves_nothing() -> Result<()> {
    let hull = hull!();
    // Beside the gateway there is one address in it.
    let small = Network::new(&hull, "small", &["--subnet", "10.127.1.0/30"]);
    let bridge = bridge(&hull, &small);
    let overlapping = format!("overlapping-{}", std::process::id());
    for subnet in ["10.127.1.0/24", "10.127.1.2/31", "10.127.1.0/30"] {
        hull.docker(["network", "create", "--subnet", subnet, &overlapping])
            .exits(1)
            .says(&format!(
                "Pool overlaps with other one on this address space: {subnet} and 10.127.1.0/30"
            ));
    }
    let listed = hull.docker(["network", "ls", "--format", "{{.Name}}"]).ok();
    assert!(!listed.contains("overlapping"), "{listed}");

    let (first, second) = (hull.container("first"), hull.container("second"));
    let refused = |asked: &[&str], why: &str| {
        let run = ["run", "-d", "--name", &second, "--network", &small.name].into_iter();
        let command = ["busybox", "sleep", "100"];
        hull.docker(run.chain(asked.iter().copied()).chain(command))
            .exits(125)
            .says(why);
        assert_eq!(
            inspect(&hull, &second, "{{.State.Status}} {{.State.Running}}"),
            "created false"
        );
        hull.docker(["rm", &second]).ok();
    };
    refused(
        &["--ip", "10.127.2.9"],
        "address 10.127.2.9 is not in subnet 10.127.1.0/30",
    );
    refused(
        &["--ip", "10.127.1.3"],
        "address 10.127.1.3 cannot be a container's",
    );
    refused(
        &["--ip6", "fd00::9"],
        "no configured subnet contains the address fd00::9",
    );
    refused(&["--ip", "10.127.1.1"], "Address already in use: 10.127.1.1");
    wait_for_nothing(&hull, &bridge);
    let run = ["run", "-d", "--name", &first, "--network", &small.name];
    hull.docker(run.into_iter().chain(["busybox", "sleep", "1000"]))
        .ok();
    refused(&[], "no available addresses in 10.127.1.0/30");
    refused(&["--ip", "10.127.1.2"], "Address already in use: 10.127.1.2");
    // It is the next one's when it is given back.
    hull.docker(["rm", "-f", &first]).ok();
    let run = [
        "run",
        "--rm",
        "--network",
        &small.name,
        "busybox",
        "hostname",
        "-i",
    ];
    assert_eq!(hull.docker(run).ok(), "10.127.1.2\n");
    wait_for_nothing(&hull, &bridge);
    Ok(())
}

/// The helper VM without the program that applies the firewall's rules, until this is dropped.
struct WithoutRules<'a> {
    hull: &'a Hull,
    program: String,
}

impl<'a> WithoutRules<'a> {
    fn new(hull: &'a Hull) -> Self {
        let program = hull.shell("command -v nft").ok().trim().to_owned();
        hull.shell(&format!("mv {program} {program}.away")).ok();
        Self { hull, program }
    }
}

impl Drop for WithoutRules<'_> {
    fn drop(&mut self) {
        let program = &self.program;
        self.hull.shell(&format!("mv {program}.away {program}"));
    }
}

#[test]
fn without_a_firewall_nothing_starts_in_a_network_and_all_does_when_it_is_there() -> Result<()> {
    let hull = hull!();
    if hull.place() != Place::Machine {
        println!(
            "SKIPPED {}: it would take the host's own nft away",
            module_path!()
        );
        return Ok(());
    }
    let network = Network::new(&hull, "unruled", &[]);
    let bridge = bridge(&hull, &network);
    let container = hull.container("unruled");
    let without = WithoutRules::new(&hull);
    let run = ["run", "-d", "--name", &container, "--network", &network.name];
    hull.docker(run.into_iter().chain(["busybox", "sleep", "1000"]))
        .exits(125)
        .says("there is no program nft; install the package nftables");
    assert_eq!(inspect(&hull, &container, "{{.State.Status}}"), "created");
    // A container without a network needs no rules.
    hull.docker(["run", "--rm", "--network", "none", "busybox", "true"])
        .ok();
    drop(without);
    wait_for_nothing(&hull, &bridge);
    hull.docker(["start", &container]).ok();
    hull.docker(["rm", "-f", &container]).ok();
    wait_for_nothing(&hull, &bridge);
    Ok(())
}
