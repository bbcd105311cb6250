//! The steps that led to an image.

use std::collections::HashMap;

use image_store::{Digest, Image};
use serde_json::Value;

use super::document::{StepRecord, member};

/// The steps of a build: what a cache of it can hold. It keeps nothing of the store.
#[derive(Debug, Clone, Default)]
pub struct Trail {
    /// The target's stage first.
    pub(in crate::solve) stages: Vec<StageTrail>,
}

/// The steps that led to the end of a stage, those of the stages that it begins with among them.
#[derive(Debug, Clone)]
pub(in crate::solve) struct StageTrail {
    /// An image that has all layers.
    pub(in crate::solve) image: Option<Image>,
    pub(in crate::solve) links: Vec<Link>,
}

/// One step.
#[derive(Debug, Clone)]
pub(in crate::solve) struct Link {
    pub(in crate::solve) key: Digest,
    pub(in crate::solve) made: Made,
    pub(in crate::solve) created: String,
}

/// What a step has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::solve) enum Made {
    /// The layer with this digest.
    Layer(String),
    /// No layer.
    Nothing,
    /// The whole image.
    Image,
}

impl Link {
    /// As a document tells it; `None` if it is not known where its layer is.
    pub(super) fn record(&self, index_of: impl FnOnce(&str) -> Option<usize>) -> Option<StepRecord> {
        let layer = match &self.made {
            Made::Layer(diff_id) => Some(index_of(diff_id)?),
            Made::Nothing | Made::Image => None,
        };
        Some(StepRecord {
            key: self.key,
            layer,
            is_image: self.made == Made::Image,
            created: self.created.clone(),
        })
    }
}

/// What the configuration of an image says of the steps that led to it: a name and a value.
pub(in crate::solve) fn inline(links: &[Link], image: Option<&Image>) -> (String, Value) {
    let mut places = HashMap::new();
    let layers = image.map(|image| image.layers.as_slice()).unwrap_or_default();
    for (index, layer) in layers.iter().enumerate() {
        places.entry(layer.diff_id.as_str()).or_insert(index);
    }
    let records = links
        .iter()
        .filter_map(|link| link.record(|diff_id| places.get(diff_id).copied()));
    member(&records.collect::<Vec<_>>())
}
