//! What the engine does with volumes for clients.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::store::VolumeRecord;
use super::{Volume, VolumeCreate};
use crate::container::Live;
use crate::engine::{Shared, complete};
use crate::events::EventKind;
use crate::streams::blocking;
use crate::{Engine, EngineError, MountKind, Result};

impl Engine {
    /// Makes a volume; answers the one that is there if the name is taken.
    pub async fn create_volume(&self, create: VolumeCreate) -> Result<Volume> {
        let shared = self.shared.clone();
        complete(async move {
            let work = shared.clone();
            let (record, made) = blocking("make a volume", move || work.volumes.create(create)).await?;
            if made {
                shared.tell_volume("create", &record.name);
            }
            Ok(shared.describe_volume(record))
        })
        .await
    }

    /// All volumes, in the order of their names.
    pub async fn volumes(&self) -> Result<Vec<Volume>> {
        let shared = &self.shared;
        let mut users = shared.volume_users();
        let describe = |record: VolumeRecord| {
            let users = users.remove(&record.name).unwrap_or_default();
            shared.describe_used(record, users)
        };
        Ok(shared.volumes.all().into_iter().map(describe).collect())
    }

    /// One volume.
    pub async fn volume(&self, name: &str) -> Result<Volume> {
        Ok(self.shared.describe_volume(self.shared.volumes.get(name)?))
    }

    /// How many bytes the files of a volume take.
    pub async fn volume_size(&self, name: &str) -> Result<u64> {
        let (volumes, name) = (self.shared.volumes.clone(), name.to_owned());
        volumes.get(&name)?;
        blocking("look at a volume", move || volumes.size(&name)).await
    }

    /// Removes a volume that no container mounts. With `force` one that is not there is no error.
    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let (shared, name) = (self.shared.clone(), name.to_owned());
        complete(async move {
            match shared.remove_volume(name).await {
                Err(EngineError::NoSuchVolume(_)) if force => Ok(()),
                removed => removed,
            }
        })
        .await
    }

    /// Removes the volumes that no container mounts and that `select` says yes to; their names, and how many bytes they
    /// took.
    pub async fn prune_volumes(&self, select: impl Fn(&Volume) -> bool) -> Result<(Vec<String>, u64)> {
        let (mut removed, mut reclaimed) = (Vec::new(), 0_u64);
        for volume in self.volumes().await? {
            if !volume.users.is_empty() || !select(&volume) {
                continue;
            }
            let size = self.volume_size(&volume.name).await.unwrap_or_default();
            match self.remove_volume(&volume.name, false).await {
                Ok(()) => {
                    removed.push(volume.name);
                    reclaimed = reclaimed.saturating_add(size);
                }
                // Taken or removed meanwhile.
                Err(EngineError::VolumeInUse { .. } | EngineError::NoSuchVolume(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.shared.events.prune(EventKind::Volume, reclaimed);
        Ok((removed, reclaimed))
    }
}

impl Shared {
    /// Removes the volumes that went with a container, but for those that another one mounts.
    pub(crate) async fn remove_volumes_of(self: &Arc<Self>, live: &Live) {
        for name in live.record().nameless_volumes.clone() {
            match self.remove_volume(name.clone()).await {
                Ok(()) | Err(EngineError::VolumeInUse { .. } | EngineError::NoSuchVolume(_)) => {}
                Err(error) => {
                    tracing::warn!(volume = name, %error, "a volume that went with its container stays")
                }
            }
        }
    }

    async fn remove_volume(self: &Arc<Self>, name: String) -> Result<()> {
        let shared = self.clone();
        let record = blocking("remove a volume", move || {
            shared.volumes.remove(&name, |name| shared.users_of(name))
        })
        .await?;
        self.tell_volume("destroy", &record.name);
        Ok(())
    }

    pub(crate) fn tell_volume(&self, action: &str, name: &str) {
        let attributes = BTreeMap::from([("driver".to_owned(), "local".to_owned())]);
        self.events.publish(EventKind::Volume, action, name, attributes);
    }

    fn users_of(&self, name: &str) -> Vec<String> {
        self.volume_users().remove(name).unwrap_or_default()
    }

    /// The ids of the containers that mount each volume.
    fn volume_users(&self) -> HashMap<String, Vec<String>> {
        let mut users: HashMap<String, Vec<String>> = HashMap::new();
        for live in self.registry.all() {
            let record = live.record();
            for point in record
                .mounts
                .iter()
                .filter(|point| point.kind == MountKind::Volume)
            {
                let ids = users.entry(point.name.clone()).or_default();
                if ids.last().map(String::as_str) != Some(live.id()) {
                    ids.push(live.id().to_owned());
                }
            }
        }
        users
    }

    fn describe_volume(&self, record: VolumeRecord) -> Volume {
        let users = self.users_of(&record.name);
        self.describe_used(record, users)
    }

    fn describe_used(&self, record: VolumeRecord, users: Vec<String>) -> Volume {
        Volume {
            mountpoint: self.volumes.data(&record.name),
            name: record.name,
            created: record.created,
            labels: record.labels,
            anonymous: record.anonymous,
            users,
        }
    }
}
