//! Volumes: folders that outlive containers.

mod api;
mod fill;
mod store;
pub(crate) mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;

pub(crate) use fill::{Fill, begin as begin_fills};
pub(crate) use store::{VolumeHold, Volumes};

/// A volume to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeCreate {
    /// Its name; `None` has one made up, and makes the volume an anonymous one.
    pub name: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// A volume at the moment it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its name was made up: such a volume goes with the container it was made for.
    pub anonymous: bool,
    /// Its folder on the host.
    pub mountpoint: PathBuf,
    /// The ids of the containers that mount it.
    pub users: Vec<String>,
}
