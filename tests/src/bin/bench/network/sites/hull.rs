//! Containers of hull on the default bridge.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Output};

use anyhow::{Context, Result};

use super::Guests;
use crate::Places;
use crate::network::control::Guest;
use crate::network::{guest, prepare};
use crate::peers::run;

const IMAGE: &str = "localhost/bench-network:latest";

/// Two containers that serve, until it is dropped.
pub(in crate::network) struct Hull {
    pub(in crate::network) guests: Guests,
    _containers: Containers,
}

impl Hull {
    /// Makes their image, starts them, and waits until they serve.
    pub(in crate::network) fn start(places: &Places) -> Result<Hull> {
        let mut containers = Containers {
            hull: places.hull.clone(),
            names: Vec::new(),
        };
        let archive = places.peers.join(prepare::TAR).display().to_string();
        containers.hull(&["import", &archive, IMAGE])?;
        Ok(Hull {
            guests: [containers.add()?, containers.add()?],
            _containers: containers,
        })
    }
}

/// Containers with their image, until it is dropped.
struct Containers {
    hull: PathBuf,
    names: Vec<String>,
}

impl Containers {
    fn hull(&self, arguments: &[&str]) -> Result<Output> {
        run(Command::new(&self.hull).args(arguments))
    }

    /// What a container has printed on both streams.
    fn log(&self, name: &str) -> String {
        match self.hull(&["logs", name]) {
            Ok(output) => String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            Err(error) => format!("{error:#}"),
        }
    }

    /// Starts one more, and waits until it serves.
    fn add(&mut self) -> Result<Guest> {
        let name = format!("bench-network-{}-{}", std::process::id(), self.names.len());
        self.names.push(name.clone());
        let serve = ["/bench", guest::ARGUMENT];
        let run = ["run", "-d", "--name", &name, "--tmpfs", "/tmp", IMAGE];
        self.hull(&[&run[..], &serve].concat())?;
        let address = self.hull(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", &name])?;
        let address = String::from_utf8(address.stdout)?;
        let address: Ipv4Addr = address
            .trim()
            .parse()
            .with_context(|| format!("the container {name} has the address '{address}'"))?;
        Guest::at(address).with_context(|| format!("the container {name} printed: {}", self.log(&name)))
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        let names: Vec<_> = self.names.iter().map(String::as_str).collect();
        for removal in [[&["rm", "-f"], &names[..]].concat(), vec!["rmi", "-f", IMAGE]] {
            if let Err(error) = self.hull(&removal) {
                eprintln!("{error:#}");
            }
        }
    }
}
