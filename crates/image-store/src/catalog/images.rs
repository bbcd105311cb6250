//! Complete images.

use super::files::{BlobRow, add_blob, blob, layer};
use super::{Catalog, CatalogError};
use crate::digest::Digest;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// An image without its layers and names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageRow {
    pub(crate) manifest: Digest,
    /// Of the manifest.
    pub(crate) media_type: String,
    /// The configuration, whose digest is the image's identifier.
    pub(crate) config: Digest,
    pub(crate) config_media_type: String,
    pub(crate) created: Option<String>,
    /// The sizes of all layers' files in bytes.
    pub(crate) size: u64,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImageLayerRow {
    pub(crate) media_type: String,
    /// The layer as it came.
    pub(crate) blob: Digest,
    /// Its size in bytes.
    pub(crate) blob_size: u64,
    /// The digest of the uncompressed archive.
    pub(crate) diff_id: Digest,
    /// The sizes of its files in bytes.
    pub(crate) files_size: u64,
}

/// An image that several manifests may lead to, with all their names.
#[derive(Debug, Clone)]
pub(crate) struct NamedImage {
    pub(crate) row: ImageRow,
    /// Full names with tags or digests, in order.
    pub(crate) names: BTreeSet<String>,
}

const IMAGE: &str = "image.manifest, image.media_type, image.config, image.config_media_type, image.created, image.size, image.labels";

impl ImageRow {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            manifest: row.get(0)?,
            media_type: row.get(1)?,
            config: row.get(2)?,
            config_media_type: row.get(3)?,
            created: row.get(4)?,
            size: row.get(5)?,
            labels: serde_json::from_str(row.get_ref(6)?.as_str()?).unwrap_or_default(),
        })
    }
}

impl ImageLayerRow {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            media_type: row.get(0)?,
            blob: row.get(1)?,
            blob_size: row.get(2)?,
            diff_id: row.get(3)?,
            files_size: row.get(4)?,
        })
    }
}

impl Catalog {
    /// Makes an image visible under `names`, unless one of its files is not there (any more): then its digest
    /// is returned. `documents` are its manifest and its configuration.
    pub(crate) fn add_image(
        &self,
        image: &ImageRow,
        layers: &[ImageLayerRow],
        documents: &[BlobRow],
        names: &[String],
    ) -> Result<Option<Digest>, CatalogError> {
        self.write("add an image to", |transaction| {
            for it in layers {
                let has_blob =
                    blob(transaction, &it.blob)?.is_some_and(|row| row.diff_id == Some(it.diff_id));
                if !has_blob || layer(transaction, &it.diff_id)?.is_none() {
                    return Ok(Some(it.blob));
                }
            }
            documents.iter().try_for_each(|row| add_blob(transaction, row))?;
            insert(transaction, image, layers)?;
            super::names::point(transaction, names, &image.manifest)?;
            Ok(None)
        })
    }

    /// The image with this manifest.
    pub(crate) fn image(&self, manifest: &Digest) -> Result<Option<ImageRow>, CatalogError> {
        self.read("look up an image in", |transaction| image(transaction, manifest))
    }

    /// The layers of the image with this manifest, bottom first.
    pub(crate) fn image_layers(&self, manifest: &Digest) -> Result<Vec<ImageLayerRow>, CatalogError> {
        self.read("look up layers in", |transaction| {
            image_layers(transaction, manifest)
        })
    }

    /// All images in the order of their identifiers, each once with the names of all manifests that have its
    /// configuration. Of several manifests one that has a name is told.
    pub(crate) fn images(&self) -> Result<Vec<NamedImage>, CatalogError> {
        // Both tables are read as they lie: joining and sorting there takes SQLite longer.
        let (mut images, names) = self.read("list the images of", |transaction| {
            let mut statement = transaction.prepare_cached(&format!("SELECT {IMAGE} FROM image"))?;
            let images = statement.query_map([], ImageRow::of)?;
            let images: Vec<ImageRow> = images.collect::<Result<_, _>>()?;
            let mut statement = transaction.prepare_cached("SELECT name, manifest FROM name")?;
            let names = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let names: Vec<(String, Digest)> = names.collect::<Result<_, _>>()?;
            Ok((images, names))
        })?;
        let mut names_of: HashMap<Digest, BTreeSet<String>> = HashMap::new();
        for (name, manifest) in names {
            names_of.entry(manifest).or_default().insert(name);
        }
        images.sort_by_key(|image| {
            (
                image.config,
                !names_of.contains_key(&image.manifest),
                image.manifest,
            )
        });
        let mut listed: Vec<NamedImage> = Vec::with_capacity(images.len());
        for row in images {
            let names = names_of.remove(&row.manifest).unwrap_or_default();
            match listed.last_mut().filter(|last| last.row.config == row.config) {
                Some(same) => same.names.extend(names),
                None => listed.push(NamedImage { row, names }),
            }
        }
        Ok(listed)
    }

    /// The configurations of the images that need a blob or a layer.
    pub(crate) fn users_of(&self, digest: &Digest) -> Result<Vec<Digest>, CatalogError> {
        self.read("look up users in", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT config FROM image WHERE manifest = ?1 OR config = ?1 UNION \
                 SELECT image.config FROM image_layer JOIN image USING (manifest) \
                 WHERE image_layer.blob = ?1 OR image_layer.diff_id = ?1",
            )?;
            statement.query_map(params![digest], |row| row.get(0))?.collect()
        })
    }

    /// How many of the layers, from the bottom, some image has in the same places.
    pub(crate) fn shared_layers(&self, layers: &[ImageLayerRow]) -> Result<usize, CatalogError> {
        let is_same = |(a, b): (&ImageLayerRow, &ImageLayerRow)| a.diff_id == b.diff_id;
        self.read("compare layers in", |transaction| {
            let mut statement = transaction
                .prepare_cached("SELECT manifest FROM image_layer WHERE diff_id = ?1 AND position = ?2")?;
            // From the top: few images have an upper layer, and a lower one that many have ends the search.
            for count in (1..=layers.len()).rev() {
                let mut rows = statement.query(params![layers[count - 1].diff_id, count - 1])?;
                while let Some(row) = rows.next()? {
                    let others = image_layers(transaction, &row.get(0)?)?;
                    if others.iter().zip(&layers[..count]).all(is_same) {
                        return Ok(count);
                    }
                }
            }
            Ok(0)
        })
    }

    /// The manifests of all images, with the digests of what they name: configuration, blobs, file systems.
    pub(crate) fn contents(&self) -> Result<Vec<(ImageRow, Vec<ImageLayerRow>)>, CatalogError> {
        self.read("list the contents of", |transaction| {
            let mut statement =
                transaction.prepare_cached(&format!("SELECT {IMAGE} FROM image ORDER BY manifest"))?;
            let rows: Vec<ImageRow> = statement.query_map([], ImageRow::of)?.collect::<Result<_, _>>()?;
            rows.into_iter()
                .map(|row| Ok((image_layers(transaction, &row.manifest)?, row)))
                .map(|pair| pair.map(|(layers, row)| (row, layers)))
                .collect()
        })
    }
}

pub(super) fn image(transaction: &Transaction<'_>, manifest: &Digest) -> rusqlite::Result<Option<ImageRow>> {
    let mut statement =
        transaction.prepare_cached(&format!("SELECT {IMAGE} FROM image WHERE manifest = ?1"))?;
    statement.query_row(params![manifest], ImageRow::of).optional()
}

pub(super) fn image_layers(
    transaction: &Transaction<'_>,
    manifest: &Digest,
) -> rusqlite::Result<Vec<ImageLayerRow>> {
    let mut statement = transaction.prepare_cached(
        "SELECT media_type, blob, blob_size, diff_id, files_size FROM image_layer \
         WHERE manifest = ?1 ORDER BY position",
    )?;
    statement
        .query_map(params![manifest], ImageLayerRow::of)?
        .collect()
}

/// Rows of an image that is there already are left as they are: its manifest is the same.
fn insert(transaction: &Transaction<'_>, image: &ImageRow, layers: &[ImageLayerRow]) -> rusqlite::Result<()> {
    let labels = serde_json::to_string(&image.labels).unwrap_or_else(|_| "{}".to_owned());
    let mut statement = transaction.prepare_cached(
        "INSERT OR IGNORE INTO image (manifest, media_type, config, config_media_type, created, size, labels) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let (media_types, size) = ((&image.media_type, &image.config_media_type), image.size);
    statement.execute(params![
        image.manifest,
        media_types.0,
        image.config,
        media_types.1,
        image.created,
        size,
        labels
    ])?;
    let mut statement = transaction.prepare_cached(
        "INSERT OR IGNORE INTO image_layer \
         (manifest, position, media_type, blob, blob_size, diff_id, files_size) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (position, layer) in (0u32..).zip(layers) {
        let sizes = [layer.blob_size, layer.files_size];
        let (blob, diff_id) = (layer.blob, layer.diff_id);
        statement.execute(params![
            image.manifest,
            position,
            layer.media_type,
            blob,
            sizes[0],
            diff_id,
            sizes[1]
        ])?;
    }
    Ok(())
}
