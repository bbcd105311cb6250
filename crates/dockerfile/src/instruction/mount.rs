//! `RUN --mount`: its options as written, and what they mean once their variables are expanded.

use super::mount_parts::Parts;
use crate::diagnostic::{did_you_mean, quoted};
use crate::expansion::{Expander, ExpansionError};
use crate::position::{Located, Word};
use thiserror::Error;

/// One `--mount`, as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Mount {
    /// Its options in their order, at least one.
    pub options: Vec<Located<MountOption>>,
}

/// One option: `ro`, `target=/x`.
#[derive(Debug, Clone, PartialEq)]
pub struct MountOption {
    /// Its name in lower case.
    pub key: String,
    /// What stands behind `=`, unexpanded.
    pub argument: Option<String>,
}

/// A mount, ready to be made. A target that is relative or empty is looked up from the working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSpec {
    /// Files of the build context, a stage or an image.
    Bind {
        /// The stage, image or named context; without one, the build context.
        from: Option<String>,
        /// The path in it.
        source: String,
        /// Where it is mounted.
        target: String,
        /// Whether the command may not write; what it may write is dropped.
        read_only: bool,
    },
    /// A folder that outlives the build.
    Cache {
        /// Its name.
        id: String,
        /// The stage, image or named context that it begins with; without one it begins empty.
        from: Option<String>,
        /// The path in it.
        source: String,
        /// Where it is mounted.
        target: String,
        /// Whether the command may not write.
        read_only: bool,
        /// What builds at the same time may do.
        sharing: Sharing,
        /// The mode of a new one.
        mode: u32,
        /// The owner of a new one.
        owner: Owner,
    },
    /// A file system in memory.
    Tmpfs {
        /// Where it is mounted.
        target: String,
        /// The most bytes it holds.
        size: Option<u64>,
    },
    /// A secret that the client has.
    Secret {
        /// Its name.
        id: String,
        /// The file it is put into; with neither a file nor a variable named, `/run/secrets/<id>`.
        target: Option<String>,
        /// The variable it is put into.
        env: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// The file's mode.
        mode: u32,
        /// The file's owner.
        owner: Owner,
    },
    /// A socket of the client's SSH agent.
    Ssh {
        /// Its name.
        id: String,
        /// The socket; the builder names it when this is `None`.
        target: Option<String>,
        /// Whether the build fails without it.
        required: bool,
        /// The socket's mode.
        mode: u32,
        /// The socket's owner.
        owner: Owner,
    },
}

/// User and group, as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// What builds that run at the same time do with one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// They write at the same time.
    #[default]
    Shared,
    /// Each has one of its own.
    Private,
    /// One waits for the other.
    Locked,
}

/// A mount that is none.
#[derive(Debug, Error, PartialEq)]
pub enum MountError {
    /// Quotes of the comma-separated list do not match.
    #[error("failed to parse csv mounts: {0}")]
    List(&'static str),
    /// An option that no mount has.
    #[error("unexpected key '{key}' in '{field}'{hint}")]
    Unknown {
        /// Its name.
        key: String,
        /// The whole option.
        field: String,
        /// A name that was perhaps meant.
        hint: String,
    },
    /// An option that mounts of this type do not have.
    #[error("unexpected key '{key}' for mount type '{kind}'")]
    Unexpected {
        /// Its name.
        key: String,
        /// The type.
        kind: &'static str,
    },
    /// An option without a value.
    #[error("invalid field '{0}' must be a key=value pair")]
    NoValue(String),
    /// A value that the option does not take.
    #[error("invalid value for {key}: {value}")]
    Value {
        /// The option's name.
        key: String,
        /// The value.
        value: String,
    },
    /// No such type.
    #[error("unsupported mount type \"{0}\"{1}")]
    Type(String, String),
    /// No such way to share.
    #[error("unsupported sharing value \"{0}\"{1}")]
    Sharing(String, String),
    /// What is mounted must be known before anything is built.
    #[error("'from' doesn't support variable expansion, define alias stage instead")]
    VariableFrom,
    /// Options that do not go together.
    #[error("{0}")]
    Combination(String),
    /// A variable could not be expanded.
    #[error(transparent)]
    Expansion(#[from] ExpansionError),
}

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

impl Mount {
    /// Reads the comma-separated list of a flag (RFC 4180: a field in quotes may hold commas).
    pub(crate) fn parse(list: &Word) -> Result<Mount, MountError> {
        let mut options = Vec::new();
        for field in fields(list)? {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (field.as_str(), None),
            };
            let key = key.to_lowercase();
            if !KEYS.contains(&key.as_str()) {
                return Err(unknown(&key, &field));
            }
            if key == "from" && value.as_ref().is_some_and(|value| has_variable(value)) {
                return Err(MountError::VariableFrom);
            }
            options.push(Located::new(MountOption { key, argument: value }, list.span));
        }
        Ok(Mount { options })
    }

    /// The stage, image or named context it mounts.
    pub fn from(&self) -> Option<&str> {
        let from = self.options.iter().rfind(|option| option.key == "from")?;
        from.argument.as_deref().filter(|from| !from.is_empty())
    }

    /// The value of the last option of one of these names.
    pub(crate) fn value(&self, keys: &[&str]) -> Option<&str> {
        let option = self
            .options
            .iter()
            .rfind(|option| keys.contains(&option.key.as_str()))?;
        option.argument.as_deref()
    }

    /// What it means; `expand` expands a value.
    pub fn spec(
        &self,
        mut expand: impl FnMut(&str) -> Result<String, ExpansionError>,
    ) -> Result<MountSpec, MountError> {
        let mut parts = Parts::default();
        for option in &self.options {
            let value = option.argument.as_deref().map(&mut expand).transpose()?;
            parts.set(&option.key, value)?;
        }
        parts.finish()
    }
}

/// Finds what can be found before variables have values.
pub(crate) fn check_mount(mount: &Mount, escape: char) -> Result<(), MountError> {
    let values = || {
        mount
            .options
            .iter()
            .filter_map(|option| option.argument.as_deref())
    };
    if values().any(has_variable) {
        return Ok(());
    }
    let nothing = |_: &str| None;
    let expander = Expander::new(escape, &nothing);
    mount.spec(|value| Ok(expander.expand(value)?.text)).map(|_| ())
}

/// As BuildKit asks: a dollar sign with something behind it.
fn has_variable(value: &str) -> bool {
    value.find('$').is_some_and(|at| at + 1 < value.len())
}

pub(super) fn unknown(key: &str, field: &str) -> MountError {
    MountError::Unknown {
        key: quoted(key),
        field: quoted(field),
        hint: did_you_mean(key, KEYS),
    }
}

/// The fields of one line of comma-separated values.
fn fields(line: &str) -> Result<Vec<String>, MountError> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let field = match rest.strip_prefix('"') {
            Some(inside) => {
                let (field, behind) = quoted_field(inside)?;
                rest = behind;
                field
            }
            None => {
                let (field, behind) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
                if field.contains('"') {
                    return Err(MountError::List("bare \" in non-quoted-field"));
                }
                rest = behind;
                field.to_owned()
            }
        };
        fields.push(field);
        match rest.strip_prefix(',') {
            Some(behind) => rest = behind,
            None => return Ok(fields),
        }
    }
}

/// A field whose first quote is read, and what stands behind its last one.
fn quoted_field(inside: &str) -> Result<(String, &str), MountError> {
    let mut field = String::new();
    let mut rest = inside;
    loop {
        let end = rest
            .find('"')
            .ok_or(MountError::List("extraneous or missing \" in quoted-field"))?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        if let Some(behind) = rest.strip_prefix('"') {
            field.push('"');
            rest = behind;
        } else if rest.is_empty() || rest.starts_with(',') {
            return Ok((field, rest));
        } else {
            return Err(MountError::List("extraneous or missing \" in quoted-field"));
        }
    }
}
