//! The networks on disk, and their addresses.
//!
//! ```text
//! <root>/networks/<id>.json     what is known of a network
//! ```
//! A network appears and goes with its file.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use network::{HostNetworks, HostSettings, Refusal, Subnet};
use tokio::sync::{OnceCell, mpsc};

use super::record::{NetworkRecord, refused};
use super::spare::Spares;
use crate::folder::{make_folder, read_json, sync_folder, write_json};
use crate::{EngineError, Result};

/// How many refusals wait to be told.
const REFUSALS: usize = 256;

/// The networks of an engine.
#[derive(Debug)]
pub(crate) struct Networks {
    folder: PathBuf,
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Held by whoever makes or removes one.
    pub(super) changing: tokio::sync::Mutex<()>,
    settings: HostSettings,
    host: OnceCell<Arc<HostNetworks>>,
    pub(super) spares: Spares,
    /// Where the host tells what containers are refused, and where that is heard until somebody takes it.
    refused: mpsc::Sender<Refusal>,
    refusals: Mutex<Option<mpsc::Receiver<Refusal>>>,
}

#[derive(Debug)]
struct Entry {
    record: NetworkRecord,
    subnets: Vec<Subnet>,
    /// How many containers run in it, or are about to, and the place in reserve.
    members: usize,
}

impl Entry {
    fn new(record: NetworkRecord) -> Result<Entry> {
        let subnets = record.subnets.iter().map(|subnet| subnet.addresses());
        Ok(Entry {
            subnets: subnets.collect::<Result<_>>()?,
            members: 0,
            record,
        })
    }
}

impl Networks {
    /// Reads the networks.
    pub(crate) fn open(folder: PathBuf, settings: HostSettings) -> Result<Networks> {
        make_folder(&folder)?;
        let mut entries = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(EngineError::io("read the folder", &folder))? {
            let path = entry.map_err(EngineError::io("read the folder", &folder))?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                remove_remnant(&path);
                continue;
            }
            match read_json::<NetworkRecord>(&path).and_then(Entry::new) {
                Ok(entry) => drop(entries.insert(entry.record.id.clone(), entry)),
                // One damaged network must not keep the others from being used.
                Err(error) => tracing::error!(file = %path.display(), %error, "a network cannot be read"),
            }
        }
        let (refused, refusals) = mpsc::channel(REFUSALS);
        Ok(Networks {
            refused,
            refusals: Mutex::new(Some(refusals)),
            folder,
            entries: Mutex::new(entries),
            changing: tokio::sync::Mutex::default(),
            settings,
            host: OnceCell::new(),
            spares: Spares::default(),
        })
    }

    /// What the host does for them.
    pub(crate) async fn host(&self) -> Result<&Arc<HostNetworks>> {
        let open = || async { HostNetworks::open(self.settings.clone(), self.refused.clone()).map(Arc::new) };
        Ok(self.host.get_or_try_init(open).await?)
    }

    /// What containers are refused, for the first who asks.
    pub(super) fn take_refusals(&self) -> Option<mpsc::Receiver<Refusal>> {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.take()
    }

    /// The same, if anything was asked of it.
    pub(super) fn opened_host(&self) -> Option<&Arc<HostNetworks>> {
        self.host.get()
    }

    /// All, in the order of their ids.
    pub(crate) fn all(&self) -> Vec<NetworkRecord> {
        self.entries()
            .values()
            .map(|entry| entry.record.clone())
            .collect()
    }

    /// The network with this name or id, or the beginning of an id that no other has.
    pub(crate) fn find(&self, name: &str) -> Result<NetworkRecord> {
        let entries = self.entries();
        let named = entries.values().find(|entry| entry.record.name == name);
        if let Some(entry) = named.or_else(|| entries.get(name)) {
            return Ok(entry.record.clone());
        }
        let mut beginning = entries
            .range(name.to_owned()..)
            .take_while(|(id, _)| !name.is_empty() && id.starts_with(name));
        match (beginning.next(), beginning.next()) {
            (Some((_, entry)), None) => Ok(entry.record.clone()),
            (Some(_), Some(_)) => Err(EngineError::Invalid(format!(
                "network {name} is ambiguous (2 matches found based on ID prefix)"
            ))),
            (None, _) => Err(EngineError::NoSuchNetwork(name.to_owned())),
        }
    }

    /// The network of containers whose creators name none.
    pub(crate) fn find_default(&self) -> Option<NetworkRecord> {
        let entries = self.entries();
        let found = entries.values().find(|entry| entry.record.is_default());
        found.map(|entry| entry.record.clone())
    }

    /// Subnets that a new network must not meet.
    pub(super) fn subnets(&self) -> Vec<IpNet> {
        let entries = self.entries();
        let subnets = entries.values().flat_map(|entry| &entry.record.subnets);
        subnets.filter_map(|subnet| subnet.subnet).collect()
    }

    /// Writes a new network down.
    pub(super) fn insert(&self, record: NetworkRecord) -> Result<()> {
        let entry = Entry::new(record)?;
        write_json(&self.folder, &file_name(&entry.record.id), &entry.record, true)?;
        self.entries().insert(entry.record.id.clone(), entry);
        Ok(())
    }

    /// Removes a network that nobody runs in.
    pub(super) fn remove(&self, id: &str) -> Result<()> {
        let mut entries = self.entries();
        let Some(entry) = entries.get(id) else {
            return Err(EngineError::NoSuchNetwork(id.to_owned()));
        };
        if entry.members > 0 {
            return Err(EngineError::Forbidden(format!(
                "error while removing network: network {} has active endpoints",
                entry.record.name
            )));
        }
        let path = self.folder.join(file_name(id));
        fs::remove_file(&path).map_err(EngineError::io("remove", &path))?;
        sync_folder(&self.folder)?;
        entries.remove(id);
        Ok(())
    }

    /// Takes addresses in a network, those asked for or free ones, one of each of its subnets: each with the length of its prefix.
    pub(super) fn take(&self, id: &str, asked: &[IpAddr]) -> Result<Vec<IpNet>> {
        let mut entries = self.entries();
        let entry = entries
            .get_mut(id)
            .ok_or_else(|| EngineError::NoSuchNetwork(id.to_owned()))?;
        let taken = take_all(&mut entry.subnets, asked)?;
        entry.members += 1;
        Ok(taken)
    }

    /// How many containers run in a network, or are about to, and the place in reserve.
    pub(super) fn members(&self, id: &str) -> usize {
        self.entries().get(id).map_or(0, |entry| entry.members)
    }

    /// Takes the very addresses that a container has that runs already.
    pub(super) fn take_again(&self, id: &str, addresses: &[IpNet]) {
        if let Some(entry) = self.entries().get_mut(id) {
            entry.members += 1;
            for address in addresses {
                let subnet = entry
                    .subnets
                    .iter_mut()
                    .find(|subnet| subnet.subnet().contains(&address.addr()));
                // It is taken already where two containers were let have one, which is over now.
                let _ = subnet.map(|subnet| subnet.take_this(address.addr()));
            }
        }
    }

    /// Gives them back.
    pub(super) fn give_back(&self, id: &str, addresses: &[IpNet]) {
        if let Some(entry) = self.entries().get_mut(id) {
            entry.members = entry.members.saturating_sub(1);
            for address in addresses {
                for subnet in &mut entry.subnets {
                    subnet.give_back(address.addr());
                }
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One address of each subnet family; what was taken before one could not be had is given back.
fn take_all(subnets: &mut [Subnet], asked: &[IpAddr]) -> Result<Vec<IpNet>> {
    let mut taken: Vec<IpNet> = Vec::new();
    let mut failure = None;
    for ipv4 in [true, false] {
        let asked = asked.iter().copied().find(|address| address.is_ipv4() == ipv4);
        let mut family = subnets
            .iter_mut()
            .filter(|subnet| subnet.gateway().is_ipv4() == ipv4);
        let one = match asked {
            None => family.next().map(|subnet| {
                let address = subnet.take().map_err(refused)?;
                with_prefix(subnet, address)
            }),
            Some(address) => Some(take_this(family, address)),
        };
        match one.transpose() {
            Ok(one) => taken.extend(one),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let Some(failure) = failure else {
        return Ok(taken);
    };
    for address in taken {
        for subnet in subnets.iter_mut() {
            subnet.give_back(address.addr());
        }
    }
    Err(failure)
}

fn take_this<'a>(family: impl Iterator<Item = &'a mut Subnet>, address: IpAddr) -> Result<IpNet> {
    let mut refusal = None;
    for subnet in family {
        if subnet.subnet().contains(&address) {
            subnet.take_this(address).map_err(refused)?;
            return with_prefix(subnet, address);
        }
        refusal.get_or_insert(format!(
            "invalid config for network: invalid endpoint settings: address {address} is not in subnet {}",
            subnet.subnet()
        ));
    }
    let none = || {
        let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        format!("no configured subnet contains the address {address}: the network has no {family} addresses")
    };
    Err(EngineError::Invalid(refusal.unwrap_or_else(none)))
}

fn with_prefix(subnet: &Subnet, address: IpAddr) -> Result<IpNet> {
    IpNet::new(address, subnet.subnet().prefix_len())
        .map_err(|error| EngineError::Internal(format!("address {address}: {error}")))
}

fn file_name(id: &str) -> String {
    format!("{id}.json")
}

/// What a crash left of a file that was being written.
fn remove_remnant(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(file = %path.display(), %error, "a remnant of a network stays");
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::SubnetConfig;
    use crate::networks::record::complete;

    fn record(id: &str, name: &str, subnets: &[&str]) -> NetworkRecord {
        let subnet = |text: &&str| complete(SubnetConfig::default(), text.parse().unwrap()).unwrap();
        NetworkRecord {
            id: id.into(),
            name: name.into(),
            created: Timestamp::now(),
            internal: false,
            ipv6: false,
            attachable: false,
            subnets: subnets.iter().map(subnet).collect(),
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
            bridge: "hullb0".into(),
        }
    }

    fn open(folder: &Path) -> Networks {
        Networks::open(folder.join("networks"), HostSettings::default()).unwrap()
    }

    #[test]
    fn a_network_is_found_by_name_id_and_beginning_also_by_the_next_engine() {
        let folder = tempfile::tempdir().unwrap();
        let networks = open(folder.path());
        networks.insert(record("abc1", "web", &["10.0.0.0/24"])).unwrap();
        networks.insert(record("abd2", "db", &["10.0.1.0/24"])).unwrap();
        fs::write(folder.path().join("networks/x.json.new"), "{").unwrap();
        fs::write(folder.path().join("networks/y.json"), "{").unwrap();
        for networks in [networks, open(folder.path())] {
            for name in ["web", "abc1", "abc"] {
                assert_eq!(networks.find(name).unwrap().name, "web");
            }
            assert!(networks.find("ab").unwrap_err().to_string().contains("ambiguous"));
            assert_eq!(
                networks.find("nope").unwrap_err().to_string(),
                "network nope not found"
            );
            assert!(networks.find("").is_err());
        }
        assert!(!folder.path().join("networks/x.json.new").exists());
    }

    #[test]
    fn addresses_are_taken_in_each_family_or_in_none() {
        let folder = tempfile::tempdir().unwrap();
        let networks = open(folder.path());
        networks
            .insert(record("a", "web", &["10.0.0.0/24", "fd00::/64"]))
            .unwrap();
        let taken = |asked: &[&str]| {
            let asked: Vec<IpAddr> = asked.iter().map(|address| address.parse().unwrap()).collect();
            let taken = networks.take("a", &asked)?;
            Ok::<_, EngineError>(taken.iter().map(IpNet::to_string).collect::<Vec<_>>())
        };
        assert_eq!(taken(&[]).unwrap(), ["10.0.0.2/24", "fd00::2/64"]);
        assert_eq!(taken(&["10.0.0.9"]).unwrap(), ["10.0.0.9/24", "fd00::3/64"]);
        let error = taken(&["fd00::2", "10.0.0.5"]).unwrap_err();
        assert_eq!(error.to_string(), "Address already in use: fd00::2");
        // The IPv4 address went back.
        assert_eq!(
            taken(&["10.0.0.5", "fd00::5"]).unwrap(),
            ["10.0.0.5/24", "fd00::5/64"]
        );
        let error = taken(&["10.0.1.5"]).unwrap_err().to_string();
        assert!(error.contains("not in subnet 10.0.0.0/24"), "{error}");
    }

    #[test]
    fn a_network_that_somebody_runs_in_stays() {
        let folder = tempfile::tempdir().unwrap();
        let networks = open(folder.path());
        networks.insert(record("a", "web", &["10.0.0.0/24"])).unwrap();
        let taken = networks.take("a", &[]).unwrap();
        let error = networks.remove("a").unwrap_err().to_string();
        assert_eq!(
            error,
            "error while removing network: network web has active endpoints"
        );
        networks.give_back("a", &taken);
        networks.remove("a").unwrap();
        assert!(open(folder.path()).all().is_empty());
    }
}
