//! The options of a `--mount`, put together.

use super::mount::{MountError, MountSpec, Owner, Sharing, unknown};
use crate::diagnostic::{did_you_mean, quoted};
use crate::pattern::clean;
use std::path::Path;

const KINDS: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];
/// The most bytes that a `size=` may say.
const MAX_SIZE: f64 = 9.0e18;

#[derive(Default)]
pub(super) struct Parts {
    kind: Option<&'static str>,
    from: String,
    source: String,
    target: String,
    id: String,
    env: Option<String>,
    read_only: Option<bool>,
    required: bool,
    sharing: Option<Sharing>,
    size: Option<u64>,
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

impl Parts {
    fn kind(&self) -> &'static str {
        self.kind.unwrap_or("bind")
    }

    pub(super) fn set(&mut self, key: &str, value: Option<String>) -> Result<(), MountError> {
        let Some(value) = value else {
            return self.set_flag(key);
        };
        let invalid = || MountError::Value {
            key: key.to_owned(),
            value: quoted(&value),
        };
        let number = |radix| u32::from_str_radix(&value, radix).map_err(|_| invalid());
        let truth = || parse_bool(&value).ok_or_else(invalid);
        match key {
            "type" => self.kind = Some(kind_of(&value)?),
            "readonly" | "ro" => self.read_only = Some(truth()?),
            "readwrite" | "rw" => self.read_only = Some(!truth()?),
            "required" => {
                self.expect(key, &["secret", "ssh"])?;
                self.required = truth()?;
            }
            "size" => {
                self.expect(key, &["tmpfs"])?;
                self.size = Some(parse_size(&value).ok_or_else(invalid)?);
            }
            "env" => {
                self.expect(key, &["secret"])?;
                self.env = Some(value);
            }
            "sharing" => self.sharing = Some(sharing_of(&value)?),
            "mode" => self.mode = Some(number(8)?),
            "uid" => self.uid = Some(number(10)?),
            "gid" => self.gid = Some(number(10)?),
            "from" => self.from = value,
            "source" | "src" => self.source = value,
            "target" | "dst" | "destination" => self.target = value,
            "id" => self.id = value,
            _ => return Err(unknown(key, &format!("{key}={value}"))),
        }
        Ok(())
    }

    fn set_flag(&mut self, key: &str) -> Result<(), MountError> {
        match key {
            "readonly" | "ro" => self.read_only = Some(true),
            "readwrite" | "rw" => self.read_only = Some(false),
            "required" => {
                self.expect(key, &["secret", "ssh"])?;
                self.required = true;
            }
            _ => return Err(MountError::NoValue(quoted(key))),
        }
        Ok(())
    }

    /// The type stands in front of what only some types have.
    fn expect(&self, key: &str, kinds: &[&str]) -> Result<(), MountError> {
        match kinds.contains(&self.kind()) {
            true => Ok(()),
            false => Err(MountError::Unexpected {
                key: key.to_owned(),
                kind: self.kind(),
            }),
        }
    }

    fn check(&self) -> Result<(), MountError> {
        let kind = self.kind();
        let refuse = |what: String| Err(MountError::Combination(what));
        if matches!(kind, "bind" | "tmpfs") {
            for (name, there) in [
                ("mode", self.mode.is_some()),
                ("uid", self.uid.is_some()),
                ("gid", self.gid.is_some()),
            ] {
                if there {
                    return refuse(format!("{name} not allowed for \"{kind}\" type mounts"));
                }
            }
        }
        if self.sharing.is_some() && kind != "cache" {
            return refuse(format!("invalid cache sharing set for {kind} mount"));
        }
        if matches!(kind, "tmpfs" | "secret" | "ssh") && !self.from.is_empty() {
            return refuse(format!("{kind} mount should not have a from"));
        }
        if kind == "secret" {
            if self.source.is_empty() && self.target.is_empty() && self.id.is_empty() {
                return refuse("invalid secret mount. one of source, target required".to_owned());
            }
            if !self.source.is_empty() && !self.id.is_empty() {
                return refuse("both source and id can't be set".to_owned());
            }
        }
        if kind == "ssh" && !self.source.is_empty() {
            return refuse("ssh does not support source".to_owned());
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<MountSpec, MountError> {
        self.check()?;
        let owner = Owner {
            uid: self.uid.unwrap_or(0),
            gid: self.gid.unwrap_or(0),
        };
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(match self.kind() {
            "cache" => MountSpec::Cache {
                id: named(self.id).unwrap_or_else(|| clean(&self.target)),
                from: named(self.from),
                source: self.source,
                target: self.target,
                read_only: self.read_only.unwrap_or(false),
                sharing: self.sharing.unwrap_or_default(),
                mode: self.mode.unwrap_or(0o755),
                owner,
            },
            "tmpfs" => MountSpec::Tmpfs {
                target: self.target,
                size: self.size,
            },
            "secret" => {
                let id = named(self.source)
                    .or(named(self.id))
                    .unwrap_or_else(|| base(&self.target));
                let default = self.env.is_none().then(|| format!("/run/secrets/{}", base(&id)));
                MountSpec::Secret {
                    id,
                    target: named(self.target).or(default),
                    env: self.env,
                    required: self.required,
                    mode: self.mode.unwrap_or(0o400),
                    owner,
                }
            }
            "ssh" => MountSpec::Ssh {
                id: named(self.id).unwrap_or_else(|| "default".to_owned()),
                target: named(self.target),
                required: self.required,
                mode: self.mode.unwrap_or(0o600),
                owner,
            },
            _ => MountSpec::Bind {
                from: named(self.from),
                source: self.source,
                target: self.target,
                read_only: self.read_only.unwrap_or(true),
            },
        })
    }
}

fn kind_of(value: &str) -> Result<&'static str, MountError> {
    let found = KINDS.into_iter().find(|kind| kind.eq_ignore_ascii_case(value));
    found.ok_or_else(|| MountError::Type(quoted(value), did_you_mean(value, KINDS)))
}

fn sharing_of(value: &str) -> Result<Sharing, MountError> {
    match value.to_ascii_lowercase().as_str() {
        "shared" => Ok(Sharing::Shared),
        "private" => Ok(Sharing::Private),
        "locked" => Ok(Sharing::Locked),
        other => Err(MountError::Sharing(
            quoted(value),
            did_you_mean(other, ["shared", "private", "locked"]),
        )),
    }
}

/// What Go's `strconv.ParseBool` takes.
fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// `64m`, `1.5 GiB`: bytes, in powers of 1024, as Docker reads sizes of memory.
fn parse_size(value: &str) -> Option<u64> {
    let end = value
        .find(|next: char| !next.is_ascii_digit() && next != '.')
        .unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    let number: f64 = number
        .starts_with(|first: char| first.is_ascii_digit())
        .then_some(number)?
        .parse()
        .ok()?;
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit
        .strip_suffix("ib")
        .or(unit.strip_suffix('b'))
        .or(unit.strip_suffix('i'))
        .unwrap_or(&unit)
    {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        "p" => 5,
        _ => return None,
    };
    let bytes = number * 1024f64.powi(power);
    // Within the numbers that the conversion keeps.
    (bytes < MAX_SIZE).then_some(bytes as u64)
}

fn base(path: &str) -> String {
    let name = Path::new(path).file_name().and_then(|name| name.to_str());
    name.unwrap_or(path).to_owned()
}
