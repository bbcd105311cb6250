//! Containers that find each other, the host that finds them, and those that must not.

mod errors;
mod frames;
mod ipv6;
mod isolation;
mod service;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use system_tests::{Cleanup, Hull, hull};

use service::Service;

/// How long an answer may take on an emulated host.
const PATIENCE: Duration = Duration::from_secs(20);

/// A network that is removed in the end.
struct Network<'a> {
    hull: &'a Hull,
    name: String,
}

impl<'a> Network<'a> {
    fn new(hull: &'a Hull, name: &str, options: &[&str]) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let create = ["network", "create", &name].into_iter();
        hull.docker(create.chain(options.iter().copied())).ok();
        Network { hull, name }
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        self.hull.docker(["network", "rm", &self.name]);
    }
}

/// Starts a container that serves a page with its own name, once it does.
fn serve(hull: &Hull, name: &str, options: &[&str]) -> Cleanup {
    let container = hull.container(name);
    // The server goes into the background once it listens.
    let script =
        format!("mkdir /w; echo {name} > /w/index.html; httpd -h /w -p 80; echo serving; exec sleep 1000");
    let run = ["run", "-d", "--name", &container].into_iter();
    let command = ["busybox", "sh", "-c", &script];
    hull.docker(run.chain(options.iter().copied()).chain(command))
        .ok();
    assert_eq!(hull.first_lines(&container, 1), ["serving"]);
    container
}

/// What a container in a network sees of a page; empty if nothing.
fn fetch(hull: &Hull, network: &str, url: &str) -> String {
    let command = ["busybox", "timeout", "5", "wget", "-qO-", url];
    let run = ["run", "--rm", "--network", network].into_iter();
    hull.docker(run.chain(command)).stdout.trim().to_owned()
}

fn inspect(hull: &Hull, container: &str, format: &str) -> String {
    hull.docker(["inspect", "-f", format, container])
        .ok()
        .trim()
        .to_owned()
}

/// The page at a port of the host.
fn get(address: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.lines().last().unwrap_or_default().to_owned())
}

/// A port of the host that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[test]
fn services_of_a_network_find_each_other_by_their_names() -> Result<()> {
    let hull = hull!();
    let network = Network::new(&hull, "names", &["--subnet", "10.123.0.0/24"]);
    let other = Network::new(&hull, "elsewhere", &[]);
    let web = serve(
        &hull,
        "names-web",
        &[
            "--network",
            &network.name,
            "--network-alias",
            "www",
            "--ip",
            "10.123.0.77",
            "--mac-address",
            "02:42:00:11:22:33",
        ],
    );
    let name: &str = &web;
    assert_eq!(
        fetch(&hull, &network.name, &format!("http://{name}/")),
        "names-web"
    );
    assert_eq!(fetch(&hull, &network.name, "http://WWW/"), "names-web");
    assert_eq!(fetch(&hull, &other.name, "http://www/"), "");
    assert_eq!(fetch(&hull, "bridge", &format!("http://{name}/")), "");
    let place = format!(
        "{{{{with index .NetworkSettings.Networks {:?}}}}}{{{{.IPAddress}}}} {{{{.MacAddress}}}}{{{{end}}}}",
        network.name
    );
    assert_eq!(inspect(&hull, name, &place), "10.123.0.77 02:42:00:11:22:33");
    let seen = hull
        .docker(["exec", name, "ip", "-o", "addr", "show", "eth0"])
        .ok();
    assert!(seen.contains("10.123.0.77/24"), "{seen}");

    // Into the other network and out of the first one, while it runs.
    hull.docker(["network", "connect", "--alias", "there", &other.name, name])
        .ok();
    assert_eq!(fetch(&hull, &other.name, "http://there/"), "names-web");
    assert_eq!(fetch(&hull, &network.name, "http://www/"), "names-web");
    hull.docker(["network", "disconnect", &network.name, name]).ok();
    assert_eq!(fetch(&hull, &network.name, "http://www/"), "");
    assert_eq!(fetch(&hull, &other.name, "http://there/"), "names-web");
    let hosts = hull.docker(["exec", name, "cat", "/etc/hosts"]).ok();
    assert!(!hosts.contains("10.123.0.77"), "{hosts}");
    let routes = hull.docker(["exec", name, "ip", "route"]).ok();
    assert!(
        routes.contains("default via") && !routes.contains("10.123.0"),
        "{routes}"
    );

    // A network with somebody in it stays, and one that is not there is told.
    let refused = hull.docker(["network", "rm", &other.name]).exits(1);
    assert!(refused.stderr.contains("has active endpoints"), "{refused}");
    let refused = hull
        .docker(["run", "--rm", "--network", "no-such-network", "busybox", "true"])
        .exits(125);
    assert!(
        refused.stderr.contains("network no-such-network not found"),
        "{refused}"
    );
    Ok(())
}

#[test]
fn a_published_port_answers_on_the_host_until_its_container_is_gone() -> Result<()> {
    let hull = hull!();
    let port = free_port()?;
    let web = serve(&hull, "published", &["-p", &format!("{port}:80")]);
    assert_eq!(get(&format!("127.0.0.1:{port}"))?, "published");
    assert_eq!(get(&format!("[::1]:{port}"))?, "published");
    assert_eq!(
        hull.docker(["port", &web, "80"]).ok(),
        format!("0.0.0.0:{port}\n[::]:{port}\n")
    );

    let second = hull.container("second");
    let wants = |port: u16| {
        let publish = format!("{port}:80");
        hull.docker([
            "run", "-d", "--name", &second, "-p", &publish, "busybox", "sleep", "100",
        ])
    };
    let refused = wants(port).exits(125);
    assert!(
        refused.stderr.contains(&format!(
            "Bind for 0.0.0.0:{port} failed: port is already allocated"
        )),
        "{refused}"
    );
    hull.docker(["rm", &second]).ok();
    let taken = TcpListener::bind("0.0.0.0:0")?;
    let refused = wants(taken.local_addr()?.port()).exits(125);
    assert!(refused.stderr.contains("in use"), "{refused}");
    hull.docker(["rm", &second]).ok();

    hull.docker(["rm", "-f", &web]).ok();
    hull.eventually("the port being free", || {
        match TcpListener::bind(("0.0.0.0", port)) {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    });
    Ok(())
}

#[test]
fn datagrams_of_a_published_port_find_their_way_there_and_back() -> Result<()> {
    let hull = hull!();
    let container = hull.container("datagrams");
    // The host's own socat: busybox has nothing that speaks UDP.
    let script = "echo serving; exec chroot /host socat -T 5 UDP4-LISTEN:9000,fork EXEC:/bin/cat";
    hull.docker([
        "run",
        "-d",
        "--name",
        &container,
        "-p",
        "9000/udp",
        "-v",
        "/:/host:ro",
        "busybox",
        "sh",
        "-c",
        script,
    ])
    .ok();
    assert_eq!(hull.first_lines(&container, 1), ["serving"]);
    let shown = hull.docker(["port", &container, "9000/udp"]).ok();
    let address = shown
        .lines()
        .next()
        .context("a port")?
        .replace("0.0.0.0", "127.0.0.1");
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.connect(&address)?;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;
    hull.eventually("an answer", || {
        let mut answer = [0; 16];
        client.send(b"ping").map_err(|error| error.to_string())?;
        match client.recv(&mut answer) {
            Ok(4) if &answer[..4] == b"ping" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    Ok(())
}

#[test]
fn what_is_not_ones_own_goes_nowhere() -> Result<()> {
    let hull = hull!();
    let (one, two) = (
        Network::new(&hull, "one", &["--subnet", "10.124.1.0/24"]),
        Network::new(&hull, "two", &["--subnet", "10.124.2.0/24"]),
    );
    let internal = Network::new(&hull, "inner", &["--internal", "--subnet", "10.124.3.0/24"]);
    let _victim = serve(&hull, "victim", &["--network", &one.name, "--ip", "10.124.1.9"]);
    let _inner = serve(
        &hull,
        "inner",
        &["--network", &internal.name, "--ip", "10.124.3.9"],
    );
    assert_eq!(fetch(&hull, &one.name, "http://10.124.1.9/"), "victim");
    assert_eq!(fetch(&hull, &two.name, "http://10.124.1.9/"), "");
    assert_eq!(fetch(&hull, &internal.name, "http://10.124.3.9/"), "inner");
    assert_eq!(fetch(&hull, &internal.name, "http://10.124.1.9/"), "");
    assert_eq!(fetch(&hull, &one.name, "http://10.124.3.9/"), "");

    // With its own address it reaches its neighbour, with another one it does not, and it gets its own back.
    let script = "ping -c 1 -W 5 10.124.1.9 >/dev/null && echo own
        ip addr add 10.124.1.200/24 dev eth0
        ping -c 1 -W 1 -I 10.124.1.200 10.124.1.9 >/dev/null && echo forged address
        ip addr del 10.124.1.200/24 dev eth0
        ip link set eth0 address 02:42:0a:7c:01:09
        ping -c 1 -W 1 10.124.1.9 >/dev/null && echo forged hardware address
        exit 0";
    let seen = hull
        .docker([
            "run",
            "--rm",
            "--cap-add",
            "NET_ADMIN",
            "--network",
            &one.name,
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    assert_eq!(seen, "own\n");
    Ok(())
}

#[test]
fn networks_and_ports_outlive_the_daemon_and_not_their_containers() -> Result<()> {
    let hull = hull!();
    let network = Network::new(&hull, "killed", &[]);
    let port = free_port()?;
    let web = serve(
        &hull,
        "killed-web",
        &[
            "--network",
            &network.name,
            "--network-alias",
            "web",
            "-p",
            &format!("{port}:80"),
        ],
    );
    let id = hull
        .docker(["network", "inspect", "-f", "{{.Id}}", &network.name])
        .ok();
    let bridge = format!("hullb{}", &id[..8]);
    let link = format!("{}:linked", &*web);
    let linked = serve(
        &hull,
        "killed-linked",
        &["--network", &network.name, "--link", &link],
    );
    let daemon = hull.shell("pidof hulld").stdout;
    hull.shell("kill -9 $(pidof hulld)").ok();
    hull.eventually("a new daemon", || {
        let new = hull.shell("pidof hulld").stdout;
        match !new.trim().is_empty() && new != daemon && hull.hull(["info"]).code == 0 {
            true => Ok(()),
            false => Err(new),
        }
    });
    hull.eventually("the port answering again", || {
        match get(&format!("127.0.0.1:{port}")) {
            Ok(page) if page == "killed-web" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert_eq!(fetch(&hull, &network.name, "http://web/"), "killed-web");
    let page = hull.hull(["exec", &linked, "timeout", "20", "wget", "-qO-", "http://linked/"]);
    assert_eq!(page.ok(), "killed-web\n");
    let shows = |what: &str| {
        hull.shell(&format!("ls /sys/class/net; nft list ruleset | grep -c {what}"))
            .stdout
    };
    assert!(shows(&bridge).contains(&bridge), "{}", shows(&bridge));
    hull.docker(["rm", "-f", &web, &linked]).ok();
    hull.eventually_within(Duration::from_secs(60), "nothing being left", || {
        let left = shows(&bridge);
        match left.contains(&bridge) || !left.ends_with("\n0\n") {
            true => Err(left),
            false => Ok(()),
        }
    });
    Ok(())
}

#[test]
fn an_egress_policy_holds_and_tells_what_it_refused() -> Result<()> {
    let hull = hull!();
    let network = Network::new(&hull, "egress", &["--subnet", "10.125.0.0/24"]);
    let _web = serve(
        &hull,
        "egress-web",
        &["--network", &network.name, "--network-alias", "web"],
    );
    let port = 18_125;
    let _service = Service::new(&hull, port);
    let since = hull.docker(["system", "info", "-f", "{{.SystemTime}}"]).ok();
    let limited = |policy: &str, script: &str| {
        let policy = format!("hull.egress={policy}");
        let run = ["run", "--rm", "--annotation", &policy, "--network", &network.name];
        hull.docker(run.into_iter().chain(["busybox", "sh", "-c", script]))
    };
    // Looked for at once: the daemon keeps the last events only, and those of other tests are among them.
    let told = |refusal: &str| {
        let wanted = format!("egress_denied: {refusal}");
        hull.eventually("a refusal being told", || {
            let filters = ["--filter", "type=container", "--format", "{{.Action}}"];
            let events = ["events", "--since", since.trim(), "--until", "0s"].into_iter();
            let told = hull.docker(events.chain(filters)).stdout;
            if told.contains(&wanted) { Ok(()) } else { Err(told) }
        });
    };
    // The host's services are outside; the neighbours are not.
    let service = format!("timeout 10 nc 10.125.0.1 {port}");
    assert_eq!(limited("all", &service).ok(), "hello\n");
    let refused = limited("none", &service);
    assert!(refused.code != 0 && refused.stdout.is_empty(), "{refused}");
    told(&format!("tcp 10.125.0.1:{port}"));
    assert_eq!(
        limited("none", "timeout 10 wget -qO- http://web/").ok(),
        "egress-web\n"
    );
    assert_eq!(
        limited(&format!("10.125.0.1:{port}/tcp"), &service).ok(),
        "hello\n"
    );
    assert_ne!(limited(&format!("10.125.0.1:{port}/udp"), &service).code, 0);
    assert_ne!(limited("example.org", "nslookup debian.org").code, 0);
    told("debian.org");
    let refused = limited("example.org:what", "true").exits(125);
    assert!(refused.stderr.contains("what"), "{refused}");
    Ok(())
}
