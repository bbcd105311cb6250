//! What is mounted for a command.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use builder::CommandMount;
use sandbox::{ContainerSpec, FOLDERS_TAG, FolderSpec, Mount, MountSource, TmpfsFlags};

use super::caches::CacheFolder;
use crate::Result;
use crate::engine::Shared;

/// The caches of a command.
pub(super) struct Caches {
    /// Their folders, which are nobody else's meanwhile if they are not to be shared.
    pub(super) folders: Vec<CacheFolder>,
    /// Which of the folders is whose.
    pub(super) places: HashMap<String, usize>,
}

impl Caches {
    /// Takes each once, in one order for all commands: so nobody waits for somebody who waits for him.
    pub(super) async fn take(shared: &Arc<Shared>, mounts: &[CommandMount]) -> Result<Self> {
        let mut wanted = BTreeMap::new();
        for mount in mounts {
            if let CommandMount::Cache {
                id,
                sharing,
                mode,
                owner,
                ..
            } = mount
            {
                wanted.entry(id).or_insert((*sharing, *mode, *owner));
            }
        }
        let (mut folders, mut places) = (Vec::new(), HashMap::new());
        for (id, (sharing, mode, owner)) in wanted {
            places.insert(id.clone(), folders.len());
            folders.push(shared.builds.caches.take(id, sharing, mode, owner).await?);
        }
        Ok(Self { folders, places })
    }
}

pub(super) fn add_mounts(
    container: &mut ContainerSpec,
    shared_folders: &mut Vec<FolderSpec>,
    mounts: &[CommandMount],
    folders: &[CacheFolder],
    places: &HashMap<String, usize>,
) {
    for (number, mount) in mounts.iter().enumerate() {
        let (target, source, read_only) = match mount {
            CommandMount::Cache {
                id,
                target,
                read_only,
                ..
            } => {
                let Some(folder) = places.get(id).and_then(|place| folders.get(*place)) else {
                    continue;
                };
                let name = format!("c{number}");
                shared_folders.push(FolderSpec {
                    name: name.clone(),
                    path: folder.path.clone(),
                    beneath: PathBuf::new(),
                    recursive: false,
                    read_only: *read_only,
                });
                let source = MountSource::Shared {
                    tag: FOLDERS_TAG.into(),
                    path: name,
                };
                (target, source, *read_only)
            }
            CommandMount::Tmpfs { target, size } => {
                let source = MountSource::Tmpfs {
                    options: size.map(|size| format!("size={size}")).unwrap_or_default(),
                    flags: TmpfsFlags {
                        no_exec: false,
                        no_suid: true,
                        no_dev: true,
                    },
                };
                (target, source, false)
            }
        };
        container.mounts.push(Mount {
            target: target.clone(),
            source,
            read_only,
        });
    }
}
