//! The catalog: a SQLite database that says which images are complete, which names lead to them, and which
//! files are known to be whole.
//!
//! A file gets its name in the store before the catalog tells of it, and loses its row before it goes: whatever
//! has a row is there. SQLite's write-ahead log makes every change whole or nothing, also after a crash.

mod files;
mod images;
mod names;

pub(crate) use files::{BlobRow, LayerRow};
pub(crate) use images::{ImageLayerRow, ImageRow, NamedImage};
pub(crate) use names::{NamesOfImage, Removed, repository_of};

use crate::digest::Digest;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The form of the database that is written (`PRAGMA user_version`).
const VERSION: u32 = 2;
/// Room that is kept free for the catalog, in bytes: on a full disk images can still be removed.
const RESERVE: usize = 256 * 1024;
/// How long another process may keep the database from us.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

/// `image` rows are complete images by their manifest; an image without a row in `name` is dangling. `blob` and
/// `layer` rows are files that were verified when they were written. `image.tagged` is when a name with a tag was last
/// given to the image, in nanoseconds since 1970.
const SCHEMA: &str = "
    CREATE TABLE blob (
        digest TEXT PRIMARY KEY,
        size INTEGER NOT NULL,
        diff_id TEXT
    ) WITHOUT ROWID;
    CREATE TABLE layer (
        diff_id TEXT PRIMARY KEY,
        files_size INTEGER NOT NULL,
        image_size INTEGER NOT NULL,
        disk_size INTEGER NOT NULL,
        checksum INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE image (
        manifest TEXT PRIMARY KEY,
        media_type TEXT NOT NULL,
        config TEXT NOT NULL,
        config_media_type TEXT NOT NULL,
        created TEXT,
        size INTEGER NOT NULL,
        labels TEXT NOT NULL,
        tagged INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX image_by_config ON image (config);
    CREATE TABLE image_layer (
        manifest TEXT NOT NULL REFERENCES image ON DELETE CASCADE,
        position INTEGER NOT NULL,
        media_type TEXT NOT NULL,
        blob TEXT NOT NULL,
        blob_size INTEGER NOT NULL,
        diff_id TEXT NOT NULL,
        files_size INTEGER NOT NULL,
        PRIMARY KEY (manifest, position)
    ) WITHOUT ROWID;
    CREATE INDEX image_layer_by_blob ON image_layer (blob);
    CREATE INDEX image_layer_by_diff_id ON image_layer (diff_id);
    CREATE TABLE name (
        name TEXT PRIMARY KEY,
        manifest TEXT NOT NULL REFERENCES image ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE INDEX name_by_manifest ON name (manifest);
";

/// From version 1, which did not keep when an image was tagged.
const FROM_VERSION_1: &str = "ALTER TABLE image ADD COLUMN tagged INTEGER;";

/// Why the catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The database cannot be read or written.
    #[error("cannot {action} the catalog {}: {source}", .path.display())]
    Database {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It is not what this program writes.
    #[error(
        "the catalog {} is damaged: {source}; move it away (with its -wal and -shm files) and pull or load the images again",
        .path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rusqlite::Error,
    },
    /// A newer program wrote it.
    #[error(
        "the catalog {} has version {version}, this program knows {VERSION}: use a hull that is as new as the one that \
         wrote it, or another state root",
        .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

/// The opened database. One connection serves all threads, one after the other: no query takes long.
#[derive(Debug)]
pub(crate) struct Catalog {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Catalog {
    /// Opens the database, makes it if there is none.
    pub(crate) fn open(path: &Path) -> Result<Self, CatalogError> {
        let failed = |source| classify(path, "open", source);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        configure(&connection).map_err(failed)?;
        let catalog = Self {
            connection: Mutex::new(connection),
            path: path.to_owned(),
        };
        let version = catalog.write("open", |transaction| {
            let version: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let change = match version {
                0 => SCHEMA,
                1 => FROM_VERSION_1,
                version => return Ok(version),
            };
            transaction.execute_batch(change)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            Ok(VERSION)
        })?;
        catalog.keep_reserve();
        match version {
            VERSION => Ok(catalog),
            version => Err(CatalogError::Version {
                path: path.to_owned(),
                version,
            }),
        }
    }

    /// Queries that see one state of the database.
    pub(crate) fn read<T>(
        &self,
        action: &'static str,
        query: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        self.within(TransactionBehavior::Deferred, action, query)
    }

    /// Changes that happen all or not at all, and are on the disk when this returns.
    pub(crate) fn write<T>(
        &self,
        action: &'static str,
        change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        self.within(TransactionBehavior::Immediate, action, change)
    }

    /// Like [`Catalog::write`], for changes by which room becomes free: on a full disk they take what was kept for
    /// them.
    pub(crate) fn write_to_free<T>(
        &self,
        action: &'static str,
        change: impl Fn(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        match self.write(action, &change) {
            Err(CatalogError::Database { source, .. }) if is_full(&source) => {
                // The reserve comes back when the store is opened again, or with the next change that fits.
                let _ = fs::remove_file(self.reserve());
                self.write(action, &change)
            }
            result => {
                self.keep_reserve();
                result
            }
        }
    }

    fn reserve(&self) -> PathBuf {
        self.path.with_extension("reserve")
    }

    /// Takes room for the day on which there is none. Where there is none now, there is no reserve.
    fn keep_reserve(&self) {
        let path = self.reserve();
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == RESERVE as u64) {
            return;
        }
        if fs::write(&path, vec![0xff; RESERVE]).is_err() {
            let _ = fs::remove_file(&path);
        }
    }

    fn within<T>(
        &self,
        behavior: TransactionBehavior,
        action: &'static str,
        body: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, CatalogError> {
        let mut connection = self.lock();
        let run = || {
            let transaction = connection.transaction_with_behavior(behavior)?;
            let result = body(&transaction)?;
            transaction.commit()?;
            Ok(result)
        };
        run().map_err(|source| classify(&self.path, action, source))
    }

    /// What SQLite's own check finds; empty when it finds nothing.
    pub(crate) fn problems(&self) -> Result<Vec<String>, CatalogError> {
        self.read("check", |transaction| {
            let mut statement = transaction.prepare("PRAGMA integrity_check(20)")?;
            let mut found: Vec<String> = statement
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            found.retain(|line| line != "ok");
            let mut statement = transaction.prepare("PRAGMA foreign_key_check")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            for table in rows {
                found.push(format!("a row of `{}` belongs to no image", table?));
            }
            Ok(found)
        })
    }

    /// A transaction is rolled back when its body panics, so a poisoned lock guards nothing broken.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn configure(connection: &Connection) -> rusqlite::Result<()> {
    let _mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn is_full(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        // A write-ahead log that cannot grow its index is an I/O error.
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen)
    )
}

fn classify(path: &Path, action: &'static str, source: rusqlite::Error) -> CatalogError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => CatalogError::Damaged { path, source },
        _ => CatalogError::Database { action, path, source },
    }
}

impl ToSql for Digest {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Digest {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(FromSqlError::other)
    }
}
