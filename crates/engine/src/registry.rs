//! Which containers there are, and what they are called.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::container::Live;
use crate::ids::{new_id, short};
use crate::{EngineError, Result, names};

/// The containers of an engine.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    containers: BTreeMap<String, Arc<Live>>,
    /// Ids by name, also of containers that are being made.
    names: HashMap<String, String>,
}

/// A name and an id that nobody else gets; given back when dropped, unless it was [kept](Reservation::keep).
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    registry: &'a Registry,
    pub(crate) id: String,
    pub(crate) name: String,
}

impl Registry {
    /// Reserves a name, made up if none is given, and an id.
    pub(crate) fn reserve(&self, name: Option<&str>) -> Result<Reservation<'_>> {
        let name = name
            .filter(|name| !name.is_empty())
            .map(names::check)
            .transpose()?;
        let mut entries = self.entries();
        let name = match name {
            Some(name) => match entries.names.get(name) {
                None => name.to_owned(),
                Some(id) => {
                    return Err(EngineError::NameInUse {
                        name: name.to_owned(),
                        id: id.clone(),
                    });
                }
            },
            None => names::make_up(|name| !entries.names.contains_key(name))?,
        };
        // The short id names a folder and the host, so it is nobody else's either.
        let id = loop {
            let id = new_id().map_err(EngineError::io("read", "random numbers"))?;
            if !entries.names.values().any(|other| short(other) == short(&id)) {
                break id;
            }
        };
        entries.names.insert(name.clone(), id.clone());
        Ok(Reservation {
            registry: self,
            id,
            name,
        })
    }

    /// Adds a container that was found on the disk.
    pub(crate) fn insert(&self, live: Arc<Live>) {
        let mut entries = self.entries();
        entries
            .names
            .insert(live.record().name.clone(), live.id().to_owned());
        entries.containers.insert(live.id().to_owned(), live);
    }

    /// Takes a further name for a container, until one of its names is [given back](Registry::give_back).
    pub(crate) fn take_name(&self, live: &Live, name: &str) -> Result<String> {
        let name = names::check(name)?;
        let mut entries = self.entries();
        if let Some(id) = entries.names.get(name) {
            return Err(EngineError::NameInUse {
                name: name.to_owned(),
                id: id.clone(),
            });
        }
        entries.names.insert(name.to_owned(), live.id().to_owned());
        Ok(name.to_owned())
    }

    /// Frees a name.
    pub(crate) fn give_back(&self, name: &str) {
        self.entries().names.remove(name);
    }

    pub(crate) fn remove(&self, live: &Live) {
        let mut entries = self.entries(); // One that is in no list has nothing here, and somebody else may have its name.
        if entries.containers.remove(live.id()).is_some() {
            entries.names.remove(&live.record().name);
        }
    }

    /// The container with this id, name, or prefix of its id.
    pub(crate) fn find(&self, name: &str) -> Result<Arc<Live>> {
        let missing = || EngineError::NoSuchContainer(name.to_owned());
        if name.is_empty() {
            return Err(EngineError::Invalid(
                "invalid container name or ID: value is empty".into(),
            ));
        }
        let entries = self.entries();
        if let Some(live) = entries.containers.get(name) {
            return Ok(live.clone());
        }
        if let Some(id) = entries.names.get(name.strip_prefix('/').unwrap_or(name)) {
            return entries.containers.get(id).cloned().ok_or_else(missing);
        }
        let mut matching = entries
            .containers
            .range(name.to_owned()..)
            .take_while(|(id, _)| id.starts_with(name))
            .map(|(_, live)| live);
        match (matching.next(), matching.next()) {
            (Some(live), None) => Ok(live.clone()),
            (None, _) => Err(missing()),
            (Some(_), Some(_)) => Err(EngineError::AmbiguousId(name.to_owned())),
        }
    }

    /// All containers, in no order that means anything.
    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        self.entries().containers.values().cloned().collect()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation<'_> {
    /// The container is made.
    pub(crate) fn keep(self, live: Arc<Live>) {
        self.registry.insert(live);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut entries = self.registry.entries();
        if !entries.containers.contains_key(&self.id) {
            entries.names.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Events;
    use crate::folder::{ContainerFolder, ContainerRecord, StateRecord};
    use crate::{ContainerCreate, VmSize};

    fn live(id: &str, name: &str) -> Arc<Live> {
        let record = ContainerRecord {
            id: id.into(),
            name: name.into(),
            created: jiff::Timestamp::UNIX_EPOCH,
            image_id: String::new(),
            layers: Vec::new(),
            config: ContainerCreate::default(),
            args: Vec::new(),
            mounts: Vec::new(),
            nameless_volumes: Vec::new(),
            vm: VmSize::default(),
            blank_disk_bytes: None,
        };
        Live::new(
            record,
            ContainerFolder::new("/nonexistent".into()),
            StateRecord::default(),
            Events::default(),
        )
    }

    #[test]
    fn a_name_is_reserved_until_it_is_given_back_or_its_container_goes() {
        let registry = Registry::default();
        let first = registry.reserve(Some("web")).unwrap();
        let error = registry.reserve(Some("/web")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "Conflict. The container name \"/web\" is already in use by container \"{}\". You have to remove \
                 (or rename) that container to be able to reuse that name.",
                first.id
            )
        );
        assert!(matches!(
            registry.find("web"),
            Err(EngineError::NoSuchContainer(_))
        ));
        drop(first);
        let kept = registry.reserve(Some("web")).unwrap();
        let container = live(&kept.id, "web");
        kept.keep(container.clone());
        assert!(registry.reserve(Some("web")).is_err());
        assert!(Arc::ptr_eq(&registry.find("/web").unwrap(), &container));
        registry.remove(&container);
        assert!(registry.reserve(Some("web")).is_ok());
    }

    #[test]
    fn a_container_is_found_by_id_name_and_unambiguous_prefix() {
        let registry = Registry::default();
        for (id, name) in [("aa11", "one"), ("aa22", "two"), ("bb33", "aa")] {
            registry.insert(live(id, name));
        }
        let found = |name: &str| registry.find(name).map(|live| live.record().name.clone());
        assert_eq!(found("aa11").unwrap(), "one");
        assert_eq!(found("two").unwrap(), "two");
        assert_eq!(found("b").unwrap(), "aa");
        assert_eq!(found("aa").unwrap(), "aa");
        assert_eq!(
            found("a").unwrap_err().to_string(),
            "multiple IDs found with provided prefix: a"
        );
        assert_eq!(found("c").unwrap_err().to_string(), "No such container: c");
        assert!(found("").is_err());
    }
}
