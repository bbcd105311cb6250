//! One more layer on top of an image: a new image.

use crate::blob::BlobId;
use crate::digest::Digest;
use crate::image::Image;
use crate::ingest::{Ingest, StoredLayer};
use crate::manifest::parse;
use crate::reading::digests_of;
use crate::reference::Reference;
use crate::store::{ImageStore, Result, StoreError};
use serde_json::{Map, Value, json};
use std::io::Read;

/// What a configuration says of the platform (image-spec, config.md). All else of the image below describes that image.
const PLATFORM: [&str; 5] = ["architecture", "os", "os.version", "os.features", "variant"];

/// What is to be said of an image that is made of another one and a layer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Addition {
    /// When it was made (RFC 3339).
    pub created: String,
    /// Who made it; may be empty.
    pub author: String,
    /// What made it; may be empty.
    pub created_by: String,
    /// A comment on it; may be empty.
    pub comment: String,
    /// How its containers are to run: `config` of its configuration (image-spec, config.md).
    pub config: Value,
}

impl ImageStore {
    /// Makes an image of the layers of `base` and, on top of them, one of a tar archive with whiteouts, compressed or not.
    /// An archive without entries makes no layer. Nothing of it shows before all of it is there.
    pub fn append(
        &self,
        base: &Image,
        input: impl Read,
        reference: Option<&Reference>,
        addition: &Addition,
    ) -> Result<Image> {
        if let Some(reference) = reference.filter(|reference| reference.digest().is_some()) {
            return Err(StoreError::ReferenceWithDigest(reference.clone()));
        }
        let ingest = self.ingest()?;
        let (id, manifest) = digests_of(base)?;
        let mut layers = self.layers_below(&ingest, &id, &manifest, base.layers.len())?;
        let below = parse(&self.shared.document(&id, &id)?, "its configuration");
        let below: Map<String, Value> = below.map_err(|error| damaged(id, error.to_string()))?;
        let count = layers.len();
        ingest.put_on_top(&mut layers, input)?;
        let history = history(&below, count, addition, layers.len() == count);
        let config = configuration(&below, addition, history, &layers);
        ingest.put_generated(config.to_string().as_bytes(), &layers)?;
        ingest.commit(reference.map(std::slice::from_ref).unwrap_or_default())
    }

    /// The layers of an image, of which it has this many, held by the ingest.
    pub(crate) fn layers_below(
        &self,
        ingest: &Ingest,
        id: &Digest,
        manifest: &Digest,
        count: usize,
    ) -> Result<Vec<StoredLayer>> {
        let rows = self.shared.catalog.image_layers(manifest)?;
        // One that was removed meanwhile has none.
        if rows.len() != count {
            return Err(damaged(
                *id,
                "it was removed while something was made of it".into(),
            ));
        }
        let stored = rows.into_iter().map(|row| {
            let missing = || damaged(*id, format!("its layer {} is missing", row.blob));
            let found = ingest.find_layer(&row.blob)?.ok_or_else(missing)?;
            Ok(StoredLayer {
                blob: BlobId {
                    digest: found.digest,
                    size: found.size,
                },
                diff_id: row.diff_id,
                compression: ingest.compression_of(&found.digest)?,
            })
        });
        stored.collect()
    }
}

fn damaged(id: Digest, what: String) -> StoreError {
    StoreError::Damaged { id, what }
}

/// The steps of the image below and the one that is added. Images without a history, or with too short a one, get steps
/// of which nothing is known: the steps are counted off against the layers.
fn history(below: &Map<String, Value>, layers: usize, addition: &Addition, is_empty: bool) -> Vec<Value> {
    let mut steps = match below.get("history") {
        Some(Value::Array(steps)) => steps.clone(),
        _ => Vec::new(),
    };
    let made_layer = |step: &&Value| step.get("empty_layer") != Some(&Value::Bool(true));
    let told = steps.iter().filter(made_layer).count();
    steps.extend((told..layers).map(|_| json!({})));
    let mut step = Map::new();
    step.insert("created".into(), addition.created.as_str().into());
    for (name, value) in [
        ("author", &addition.author),
        ("created_by", &addition.created_by),
        ("comment", &addition.comment),
    ] {
        if !value.is_empty() {
            step.insert(name.into(), value.as_str().into());
        }
    }
    if is_empty {
        step.insert("empty_layer".into(), true.into());
    }
    steps.push(step.into());
    steps
}

fn configuration(
    below: &Map<String, Value>,
    addition: &Addition,
    history: Vec<Value>,
    layers: &[StoredLayer],
) -> Value {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
    let mut document = Map::new();
    for name in PLATFORM {
        if let Some(value) = below.get(name) {
            document.insert(name.into(), value.clone());
        }
    }
    document.insert("created".into(), addition.created.as_str().into());
    if !addition.author.is_empty() {
        document.insert("author".into(), addition.author.as_str().into());
    }
    document.insert("config".into(), addition.config.clone());
    document.insert("history".into(), history.into());
    document.insert("rootfs".into(), json!({ "type": "layers", "diff_ids": diff_ids }));
    document.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_which_nothing_is_known_stand_for_layers_without_a_history() {
        let addition = Addition {
            created: "2026-01-02T03:04:05Z".into(),
            comment: "c".into(),
            ..Addition::default()
        };
        let below = |history: Value| match json!({ "history": history }) {
            Value::Object(below) => below,
            _ => Map::new(),
        };
        let last = json!({ "created": "2026-01-02T03:04:05Z", "comment": "c" });
        let told = below(json!([{ "created_by": "a" }, { "empty_layer": true }]));
        assert_eq!(
            history(&told, 2, &addition, false),
            [
                json!({ "created_by": "a" }),
                json!({ "empty_layer": true }),
                json!({}),
                last.clone()
            ]
        );
        assert_eq!(
            history(&below(Value::Null), 1, &addition, false),
            [json!({}), last]
        );
        let empty = history(&Map::new(), 0, &addition, true);
        assert_eq!(empty[0]["empty_layer"], true);
    }
}
