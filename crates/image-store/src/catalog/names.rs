//! The names that lead to images, and finding an image by one.

use super::images::{ImageRow, image, image_layers};
use super::{Catalog, CatalogError, ImageLayerRow};
use crate::digest::Digest;
use rusqlite::{OptionalExtension, Transaction, params};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

/// What a removal changed in the catalog.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    /// Names that lead nowhere any more, in order.
    pub(crate) names: Vec<String>,
    /// Images that are gone, with their layers, bottom first.
    pub(crate) images: Vec<(ImageRow, Vec<ImageLayerRow>)>,
}

/// All manifests with one configuration, and the names that lead to them.
#[derive(Debug, Clone)]
pub(crate) struct NamesOfImage {
    /// The configuration.
    pub(crate) id: Digest,
    /// In order.
    pub(crate) names: BTreeSet<String>,
}

impl Catalog {
    /// The manifest that a full name leads to.
    pub(crate) fn by_name(&self, name: &str) -> Result<Option<Digest>, CatalogError> {
        self.read("look up a name in", |transaction| {
            let mut statement = transaction.prepare_cached("SELECT manifest FROM name WHERE name = ?1")?;
            statement.query_row(params![name], |row| row.get(0)).optional()
        })
    }

    /// `manifest`, if a name of `repository` leads to it.
    pub(crate) fn by_manifest_in(
        &self,
        repository: &str,
        manifest: &Digest,
    ) -> Result<Option<Digest>, CatalogError> {
        let names = self.read("look up a digest in", |transaction| {
            let mut statement = transaction.prepare_cached("SELECT name FROM name WHERE manifest = ?1")?;
            let names = statement.query_map(params![manifest], |row| row.get::<_, String>(0))?;
            names.collect::<Result<Vec<_>, _>>()
        })?;
        Ok(names
            .iter()
            .any(|name| repository_of(name) == repository)
            .then_some(*manifest))
    }

    /// The images whose identifiers begin with these hexadecimal digits, each with one of its manifests: one
    /// that has a name, if there is one.
    pub(crate) fn by_id(&self, digits: &str) -> Result<BTreeMap<Digest, Digest>, CatalogError> {
        self.read("look up an identifier in", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT image.config, image.manifest FROM image LEFT JOIN name ON name.manifest = image.manifest \
                 WHERE image.config >= ?1 AND image.config < ?1 || 'g' \
                 ORDER BY name.name IS NULL, image.manifest",
            )?;
            let mut rows = statement.query(params![format!("sha256:{digits}")])?;
            let mut found = BTreeMap::new();
            while let Some(row) = rows.next()? {
                found.entry(row.get(0)?).or_insert(row.get(1)?);
            }
            Ok(found)
        })
    }

    /// The names that lead to the image with this configuration.
    pub(crate) fn names_of(&self, config: &Digest) -> Result<BTreeSet<String>, CatalogError> {
        self.read("list the names of", |transaction| names_of(transaction, config))
    }

    /// When a name with a tag was last given to the image with this configuration, if that was kept.
    pub(crate) fn last_tagged(&self, config: &Digest) -> Result<Option<SystemTime>, CatalogError> {
        self.read("look up an image in", |transaction| {
            let mut statement =
                transaction.prepare_cached("SELECT max(tagged) FROM image WHERE config = ?1")?;
            let nanoseconds: Option<i64> = statement.query_row(params![config], |row| row.get(0))?;
            let since = nanoseconds.and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
            Ok(since.map(|since| SystemTime::UNIX_EPOCH + Duration::from_nanos(since)))
        })
    }

    /// The full names of `repository` and their manifests.
    pub(crate) fn names_in(&self, repository: &str) -> Result<Vec<(String, Digest)>, CatalogError> {
        self.read("list the names of", |transaction| {
            let mut statement = transaction.prepare_cached(
                "SELECT name, manifest FROM name WHERE name > ?1 || ':' AND name < ?1 || ';' ORDER BY name",
            )?;
            let rows = statement.query_map(params![repository], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let mut names: Vec<(String, Digest)> = rows.collect::<Result<_, _>>()?;
            names.retain(|(name, _)| repository_of(name) == repository);
            Ok(names)
        })
    }

    /// Lets names lead to the image with this manifest; false if there is none.
    pub(crate) fn point(&self, names: &[String], manifest: &Digest) -> Result<bool, CatalogError> {
        self.write("change a name in", |transaction| {
            let exists = image(transaction, manifest)?.is_some();
            if exists {
                point(transaction, names, manifest)?;
            }
            Ok(exists)
        })
    }

    /// Removes what `decide` chooses among the names of the image with configuration `id`, and the image itself
    /// if it says so. Nothing changes between the two.
    pub(crate) fn remove<E>(
        &self,
        id: &Digest,
        decide: impl Fn(&NamesOfImage) -> Result<(Vec<String>, bool), E>,
    ) -> Result<Result<Removed, E>, CatalogError> {
        self.write_to_free("remove an image from", |transaction| {
            let names = NamesOfImage {
                id: *id,
                names: names_of(transaction, id)?,
            };
            let (names, delete) = match decide(&names) {
                Ok(decision) => decision,
                Err(refusal) => return Ok(Err(refusal)),
            };
            let mut statement = transaction.prepare_cached("DELETE FROM name WHERE name = ?1")?;
            for name in &names {
                statement.execute(params![name])?;
            }
            let images = if delete {
                delete_images(transaction, id)?
            } else {
                Vec::new()
            };
            Ok(Ok(Removed { names, images }))
        })
    }
}

/// The part of a full name before its tag or digest.
pub(crate) fn repository_of(name: &str) -> &str {
    let name = name.split_once('@').map_or(name, |(repository, _)| repository);
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => name,
    }
}

pub(super) fn point(
    transaction: &Transaction<'_>,
    names: &[String],
    manifest: &Digest,
) -> rusqlite::Result<()> {
    let mut statement =
        transaction.prepare_cached("INSERT OR REPLACE INTO name (name, manifest) VALUES (?1, ?2)")?;
    for name in names {
        statement.execute(params![name, manifest])?;
    }
    if names.iter().any(|name| !name.contains('@')) {
        let mut statement = transaction.prepare_cached("UPDATE image SET tagged = ?1 WHERE manifest = ?2")?;
        statement.execute(params![nanoseconds(SystemTime::now()), manifest])?;
    }
    Ok(())
}

/// Since 1970, as far as SQLite's integers reach: until 2262. `None` for a clock that is set to before 1970.
fn nanoseconds(time: SystemTime) -> Option<i64> {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    i64::try_from(since.as_nanos()).ok()
}

fn names_of(transaction: &Transaction<'_>, config: &Digest) -> rusqlite::Result<BTreeSet<String>> {
    let mut statement = transaction.prepare_cached(
        "SELECT name.name FROM image JOIN name ON name.manifest = image.manifest WHERE image.config = ?1",
    )?;
    statement.query_map(params![config], |row| row.get(0))?.collect()
}

fn delete_images(
    transaction: &Transaction<'_>,
    config: &Digest,
) -> rusqlite::Result<Vec<(ImageRow, Vec<ImageLayerRow>)>> {
    let mut statement = transaction.prepare_cached("SELECT manifest FROM image WHERE config = ?1")?;
    let manifests = statement.query_map(params![config], |row| row.get(0))?;
    let manifests: Vec<Digest> = manifests.collect::<Result<_, _>>()?;
    let mut images = Vec::new();
    for manifest in manifests {
        if let Some(row) = image(transaction, &manifest)? {
            images.push((row, image_layers(transaction, &manifest)?));
        }
        transaction.execute("DELETE FROM image WHERE manifest = ?1", params![manifest])?;
    }
    Ok(images)
}
