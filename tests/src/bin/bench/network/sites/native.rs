//! Network namespaces of the host, in the root of the peers.

use std::process::{Child, Stdio};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};

use super::Guests;
use crate::network::bridge::{Bridge, Interface, ip};
use crate::network::control::Guest;
use crate::network::guest;
use crate::peers::peer;

/// Two namespaces, each with a process that serves, until it is dropped.
pub(in crate::network) struct Native {
    pub(in crate::network) guests: Guests,
    // In the order in which they have to go.
    _namespaces: [Namespace; 2],
    _bridge: Bridge,
}

impl Native {
    /// Makes the namespaces, and waits until they serve.
    pub(in crate::network) fn start() -> Result<Native> {
        let bridge = Bridge::make("benchn", 1)?;
        let namespaces = [Namespace::start(&bridge, 2)?, Namespace::start(&bridge, 3)?];
        Ok(Native {
            guests: [Guest::at(bridge.address(2))?, Guest::at(bridge.address(3))?],
            _namespaces: namespaces,
            _bridge: bridge,
        })
    }
}

/// A network namespace with what runs in it, until it is dropped.
struct Namespace {
    name: String,
    veth: Option<Interface>,
    server: Option<Child>,
}

impl Namespace {
    fn start(bridge: &Bridge, number: u8) -> Result<Namespace> {
        let name = format!("benchn{number}");
        ip(&format!("netns add {name}"))?;
        // What fails from here on leaves nothing behind.
        let mut namespace = Namespace {
            name,
            veth: None,
            server: None,
        };
        let name = &namespace.name;
        namespace.veth = Some(bridge.add_veth(name, name)?);
        let (address, length) = (bridge.address(number), Bridge::PREFIX_LEN);
        ip(&format!("-n {name} address add {address}/{length} dev eth0"))?;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} link set eth0 up"))?;
        let server = peer("/ip", &["netns", "exec", name, "/bench", guest::ARGUMENT])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        namespace.server = Some(server);
        Ok(namespace)
    }

    /// Ends all processes in it: those that the server has started, too.
    fn end_processes(&self) -> Result<()> {
        let pids = String::from_utf8(ip(&format!("netns pids {}", self.name))?.stdout)?;
        for pid in pids.split_whitespace() {
            if let Some(pid) = Pid::from_raw(pid.parse()?) {
                // It may have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = self.end_processes() {
            eprintln!(
                "processes in the network namespace {} are left: {error:#}",
                self.name
            );
        }
        if let Some(mut server) = self.server.take() {
            let _ = server.kill();
            let _ = server.wait();
        }
        self.veth = None;
        let _ = ip(&format!("netns delete {}", self.name));
    }
}
