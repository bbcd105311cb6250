//! The files that are known to be whole.

use super::CatalogError;
use crate::catalog::Catalog;
use crate::digest::Digest;
use rusqlite::{OptionalExtension, Row, Transaction, params};

/// A blob that was verified when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlobRow {
    pub(crate) digest: Digest,
    /// In bytes.
    pub(crate) size: u64,
    /// The digest of the archive in it, if it is a layer.
    pub(crate) diff_id: Option<Digest>,
}

/// A layer's file system image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerRow {
    pub(crate) diff_id: Digest,
    /// The sizes of its files in bytes.
    pub(crate) files_size: u64,
    /// The length of the image in bytes.
    pub(crate) image_size: u64,
    /// What it takes on the disk in bytes: less than its length if it has holes.
    pub(crate) disk_size: u64,
    /// [`erofs::checksum`] of it.
    pub(crate) checksum: u32,
}

impl BlobRow {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            digest: row.get(0)?,
            size: row.get(1)?,
            diff_id: row.get(2)?,
        })
    }
}

impl LayerRow {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            diff_id: row.get(0)?,
            files_size: row.get(1)?,
            image_size: row.get(2)?,
            disk_size: row.get(3)?,
            checksum: row.get(4)?,
        })
    }
}

impl Catalog {
    pub(crate) fn blob(&self, digest: &Digest) -> Result<Option<BlobRow>, CatalogError> {
        self.read("look up a blob in", |transaction| blob(transaction, digest))
    }

    pub(crate) fn layer(&self, diff_id: &Digest) -> Result<Option<LayerRow>, CatalogError> {
        self.read("look up a layer in", |transaction| layer(transaction, diff_id))
    }

    /// Tells of files that have just got their names.
    pub(crate) fn add_files(&self, blobs: &[BlobRow], layers: &[LayerRow]) -> Result<(), CatalogError> {
        self.write("add files to", |transaction| {
            blobs.iter().try_for_each(|row| add_blob(transaction, row))?;
            layers.iter().try_for_each(|row| add_layer(transaction, row))
        })
    }

    pub(crate) fn blobs(&self) -> Result<Vec<BlobRow>, CatalogError> {
        self.read("list the blobs of", |transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT digest, size, diff_id FROM blob ORDER BY 1")?;
            statement.query_map([], BlobRow::of)?.collect()
        })
    }

    pub(crate) fn layers(&self) -> Result<Vec<LayerRow>, CatalogError> {
        self.read("list the layers of", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT diff_id, files_size, image_size, disk_size, checksum FROM layer ORDER BY 1",
            )?;
            statement.query_map([], LayerRow::of)?.collect()
        })
    }

    /// Forgets those of these files that no image needs, and returns them.
    pub(crate) fn forget_unused(
        &self,
        blobs: &[Digest],
        layers: &[Digest],
    ) -> Result<(Vec<Digest>, Vec<Digest>), CatalogError> {
        self.write_to_free("remove files from", |transaction| {
            let forget = |digests: &[Digest], used: &str, delete: &str| {
                let (mut used, mut delete) = (
                    transaction.prepare_cached(used)?,
                    transaction.prepare_cached(delete)?,
                );
                let mut unused = Vec::new();
                for digest in digests {
                    if !used.exists(params![digest])? {
                        delete.execute(params![digest])?;
                        unused.push(*digest);
                    }
                }
                Ok::<_, rusqlite::Error>(unused)
            };
            Ok((
                forget(
                    blobs,
                    "SELECT 1 FROM image_layer WHERE blob = ?1 UNION ALL \
                     SELECT 1 FROM image WHERE manifest = ?1 UNION ALL \
                     SELECT 1 FROM image WHERE config = ?1",
                    "DELETE FROM blob WHERE digest = ?1",
                )?,
                forget(
                    layers,
                    "SELECT 1 FROM image_layer WHERE diff_id = ?1",
                    "DELETE FROM layer WHERE diff_id = ?1",
                )?,
            ))
        })
    }

    /// Forgets a damaged blob; false if it was not known any more.
    pub(crate) fn forget_blob(&self, digest: &Digest) -> Result<bool, CatalogError> {
        self.write_to_free("remove a blob from", |transaction| {
            Ok(transaction.execute("DELETE FROM blob WHERE digest = ?1", params![digest])? > 0)
        })
    }

    /// Forgets a damaged layer; false if it was not known any more.
    pub(crate) fn forget_layer(&self, diff_id: &Digest) -> Result<bool, CatalogError> {
        self.write_to_free("remove a layer from", |transaction| {
            Ok(transaction.execute("DELETE FROM layer WHERE diff_id = ?1", params![diff_id])? > 0)
        })
    }
}

pub(super) fn blob(transaction: &Transaction<'_>, digest: &Digest) -> rusqlite::Result<Option<BlobRow>> {
    let mut statement =
        transaction.prepare_cached("SELECT digest, size, diff_id FROM blob WHERE digest = ?1")?;
    statement.query_row(params![digest], BlobRow::of).optional()
}

pub(super) fn layer(transaction: &Transaction<'_>, diff_id: &Digest) -> rusqlite::Result<Option<LayerRow>> {
    let mut statement = transaction.prepare_cached(
        "SELECT diff_id, files_size, image_size, disk_size, checksum FROM layer WHERE diff_id = ?1",
    )?;
    statement.query_row(params![diff_id], LayerRow::of).optional()
}

pub(super) fn add_blob(transaction: &Transaction<'_>, row: &BlobRow) -> rusqlite::Result<()> {
    let mut statement = transaction
        .prepare_cached("INSERT OR REPLACE INTO blob (digest, size, diff_id) VALUES (?1, ?2, ?3)")?;
    statement.execute(params![row.digest, row.size, row.diff_id])?;
    Ok(())
}

fn add_layer(transaction: &Transaction<'_>, row: &LayerRow) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO layer (diff_id, files_size, image_size, disk_size, checksum) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let sizes = [row.files_size, row.image_size, row.disk_size];
    statement.execute(params![row.diff_id, sizes[0], sizes[1], sizes[2], row.checksum])?;
    Ok(())
}
