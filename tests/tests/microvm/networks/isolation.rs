//! What one tenant forges is seen where it leaves the forger's socket, and by nobody else.

use anyhow::Result;
use system_tests::{Cleanup, Hull, hull};

use super::Network;
use super::frames::{Frame, Scene, Station};

const WIRE: &str = include_str!("wire.py");

/// Starts a container that hears all frames of its wire. It has the host's Python, beneath a folder that it may only read.
fn listener(hull: &Hull, name: &str, network: &Network, station: Station) -> Cleanup {
    let container = hull.container(name);
    let (v4, v6) = (station.v4.to_string(), station.v6.to_string());
    let run = [
        "run",
        "-d",
        "--name",
        &container,
        "--network",
        &network.name,
        "--ip",
        &v4,
        "--ip6",
        &v6,
        "-v",
        "/:/host:ro",
    ];
    let hear = ["busybox", "chroot", "/host", "python3", "-c", WIRE, "hear"];
    hull.docker(run.into_iter().chain(hear)).ok();
    assert_eq!(hull.first_lines(&container, 1), ["hearing"]);
    container
}

fn say(hull: &Hull, container: &str, frames: &[Frame]) {
    let say = ["exec", container, "chroot", "/host", "python3", "-c", WIRE, "say"];
    let say = say.map(str::to_owned).into_iter();
    let frames = frames.iter().map(|(_, bytes)| {
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<String>()
    });
    hull.docker(say.chain(frames)).ok();
}

/// What a container has heard, going one way.
fn heard(hull: &Hull, container: &str, way: &str) -> Vec<String> {
    let log = hull.docker(["logs", container]).ok();
    let frames = log.lines().filter_map(|line| line.split_once(' '));
    let frames = frames.filter(|(its_way, _)| *its_way == way);
    frames.map(|(_, digits)| digits.to_owned()).collect()
}

fn has(heard: &[String], name: &str) -> bool {
    let digits = name.bytes().map(|byte| format!("{byte:02x}"));
    let digits: String = digits.collect();
    heard.iter().any(|frame| frame.contains(&digits))
}

/// The names of those frames that are among what was heard.
fn names(heard: &[String], frames: &[Frame]) -> Vec<&'static str> {
    let names = frames.iter().map(|(name, _)| *name);
    names.filter(|name| has(heard, name)).collect()
}

/// Waits until a container has heard this come in.
fn wait_for(hull: &Hull, container: &str, name: &str) {
    hull.eventually(name, || {
        let heard = heard(hull, container, "in");
        if has(&heard, name) {
            Ok(())
        } else {
            Err(format!("{heard:?}"))
        }
    });
}

#[test]
fn what_a_container_forges_is_heard_by_itself_alone() -> Result<()> {
    let hull = hull!();
    let network = |name: &str, number: u8| {
        let (v4, v6) = (format!("10.126.{number}.0/24"), format!("fd00:126:{number}::/64"));
        Network::new(&hull, name, &["--ipv6", "--subnet", &v4, "--subnet", &v6])
    };
    let (tenant, other) = (network("tenant", 1), network("other-tenant", 2));
    let scene = Scene {
        forger: Station::new(1, 2),
        neighbour: Station::new(1, 3),
        gateway: Station::new(1, 1),
        victim: Station::new(2, 2),
        other_gateway: Station::new(2, 1),
    };
    let forger = listener(&hull, "forger", &tenant, scene.forger);
    let neighbour = listener(&hull, "neighbour", &tenant, scene.neighbour);
    let victim = listener(&hull, "victim", &other, scene.victim);

    let (honest, forged, across) = (scene.honest(), scene.forged(), scene.across());
    let all = [&honest[..], &forged, &across, &[scene.last()]].concat();
    say(&hull, &forger, &all);
    // What arrives, arrives in order; and what the other network's host answers comes behind what it would have let in.
    wait_for(&hull, &neighbour, "the last datagram");
    hull.docker(["exec", &victim, "nslookup", &victim]);
    wait_for(&hull, &victim, &victim);

    let every = |frames: &[Frame]| frames.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    assert_eq!(names(&heard(&hull, &forger, "out"), &all), every(&all));
    let at_neighbour = heard(&hull, &neighbour, "in");
    assert_eq!(names(&at_neighbour, &honest), every(&honest));
    assert_eq!(names(&at_neighbour, &forged), [""; 0]);
    assert_eq!(names(&heard(&hull, &victim, "in"), &all), [""; 0]);
    Ok(())
}
