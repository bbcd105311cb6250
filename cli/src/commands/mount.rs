//! `--mount`

use std::path::Path;
use std::str::FromStr;

use bollard_stubs::models::{
    Mount, MountBindOptions, MountBindOptionsPropagationEnum as Propagation, MountTmpfsOptions, MountType,
    MountVolumeOptions, MountVolumeOptionsDriverConfig,
};

use super::csv;
use crate::format::parse_memory;

/// The value of a `--mount`: `type=TYPE,source=SOURCE,target=TARGET` and what else the type takes, fields in quotation
/// marks where they hold commas.
#[derive(Debug, Clone)]
pub(super) struct MountOption(pub(super) Mount);

impl FromStr for MountOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut reader = Reader::default();
        for field in csv::fields(text) {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key, Some(value)),
                None => (field.as_str(), None),
            };
            reader.field(&key.to_lowercase(), value, &field)?;
        }
        reader.finish().map(Self)
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    mount: Mount,
    bind: Option<MountBindOptions>,
    volume: Option<MountVolumeOptions>,
    tmpfs: Option<MountTmpfsOptions>,
}

impl Reader {
    fn field(&mut self, key: &str, value: Option<&str>, field: &str) -> Result<(), String> {
        // What is a switch may stand without a value.
        match key {
            "readonly" | "ro" => return set(&mut self.mount.read_only, key, value),
            "volume-nocopy" => return set(&mut self.volume().no_copy, key, value),
            "bind-nonrecursive" => return set(&mut self.bind().non_recursive, key, value),
            "bind-create-src" => return set(&mut self.bind().create_mountpoint, key, value),
            _ => {}
        }
        let value = value
            .filter(|value| !value.is_empty())
            .ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))?;
        match key {
            "type" => self.mount.typ = Some(mount_type(value)?),
            "source" | "src" => self.mount.source = Some(value.to_owned()),
            "target" | "dst" | "destination" => self.mount.target = Some(value.to_owned()),
            "consistency" => self.mount.consistency = Some(value.to_owned()),
            "bind-propagation" => self.bind().propagation = Some(propagation(value)?),
            "bind-recursive" => self.recursive(value)?,
            "volume-subpath" => self.volume().subpath = Some(value.to_owned()),
            "volume-label" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                let labels = self.volume().labels.get_or_insert_default();
                labels.insert(name.to_owned(), value.to_owned());
            }
            "volume-driver" => self.driver().name = Some(value.to_owned()),
            "volume-opt" => {
                let (name, value) = value.split_once('=').unwrap_or((value, ""));
                let options = self.driver().options.get_or_insert_default();
                options.insert(name.to_owned(), value.to_owned());
            }
            "tmpfs-size" => {
                let size = parse_memory(value).map_err(|_| format!("invalid value for {key}: {value}"))?;
                self.tmpfs().size_bytes = Some(size);
            }
            "tmpfs-mode" => {
                let mode = i64::from_str_radix(value, 8);
                self.tmpfs().mode = Some(mode.map_err(|_| format!("invalid value for {key}: {value}"))?);
            }
            _ => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
        Ok(())
    }

    /// `bind-recursive`, in the words of the API.
    fn recursive(&mut self, value: &str) -> Result<(), String> {
        match value {
            "enabled" => {}
            "disabled" => self.bind().non_recursive = Some(true),
            "writable" => self.bind().read_only_non_recursive = Some(true),
            "readonly" => self.bind().read_only_force_recursive = Some(true),
            _ => {
                return Err(format!(
                    "invalid value for bind-recursive: {value} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
                ));
            }
        }
        Ok(())
    }

    fn bind(&mut self) -> &mut MountBindOptions {
        self.bind.get_or_insert_default()
    }

    fn volume(&mut self) -> &mut MountVolumeOptions {
        self.volume.get_or_insert_default()
    }

    fn driver(&mut self) -> &mut MountVolumeOptionsDriverConfig {
        self.volume().driver_config.get_or_insert_default()
    }

    fn tmpfs(&mut self) -> &mut MountTmpfsOptions {
        self.tmpfs.get_or_insert_default()
    }

    fn finish(mut self) -> Result<Mount, String> {
        let kind = *self.mount.typ.get_or_insert(MountType::VOLUME);
        if self.mount.target.is_none() {
            return Err("target is required".into());
        }
        let given = [
            ("bind-*", MountType::BIND, self.bind.is_some()),
            ("volume-*", MountType::VOLUME, self.volume.is_some()),
            ("tmpfs-*", MountType::TMPFS, self.tmpfs.is_some()),
        ];
        if let Some((options, _, _)) = given.iter().find(|(_, own, given)| *given && *own != kind) {
            return Err(format!("cannot mix '{options}' options with mount type '{kind}'"));
        }
        if kind == MountType::BIND {
            self.mount.source = self.mount.source.map(|source| absolute(&source)).transpose()?;
        }
        Ok(Mount {
            bind_options: self.bind,
            volume_options: self.volume,
            tmpfs_options: self.tmpfs,
            ..self.mount
        })
    }
}

/// A path that only this process knows what it is relative to.
fn absolute(source: &str) -> Result<String, String> {
    if !source.starts_with('.') {
        return Ok(source.to_owned());
    }
    let failed = |error: std::io::Error| format!("cannot use {source} as a source: {error}");
    let path = std::path::absolute(Path::new(source)).map_err(failed)?;
    Ok(path.display().to_string())
}

fn set(switch: &mut Option<bool>, key: &str, value: Option<&str>) -> Result<(), String> {
    *switch = Some(match value {
        None | Some("1" | "true") => true,
        Some("0" | "false") => false,
        Some(value) => return Err(format!("invalid value for {key}: {value}")),
    });
    Ok(())
}

fn mount_type(value: &str) -> Result<MountType, String> {
    match value.to_lowercase().as_str() {
        "bind" => Ok(MountType::BIND),
        "volume" => Ok(MountType::VOLUME),
        "tmpfs" => Ok(MountType::TMPFS),
        _ => Err(format!(
            "hull does not support the mount type '{value}' (bind, volume or tmpfs)"
        )),
    }
}

fn propagation(value: &str) -> Result<Propagation, String> {
    match value.to_lowercase().as_str() {
        "private" => Ok(Propagation::PRIVATE),
        "rprivate" => Ok(Propagation::RPRIVATE),
        "shared" => Ok(Propagation::SHARED),
        "rshared" => Ok(Propagation::RSHARED),
        "slave" => Ok(Propagation::SLAVE),
        "rslave" => Ok(Propagation::RSLAVE),
        _ => Err(format!("invalid value for bind-propagation: {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Mount, String> {
        text.parse::<MountOption>().map(|option| option.0)
    }

    #[test]
    fn every_form_is_read() {
        let bind = read("type=bind,src=/a,dst=/b,readonly,bind-nonrecursive=true").unwrap();
        assert_eq!(
            (bind.source.as_deref(), bind.target.as_deref()),
            (Some("/a"), Some("/b"))
        );
        assert_eq!(bind.read_only, Some(true));
        assert_eq!(bind.bind_options.unwrap().non_recursive, Some(true));
        let volume =
            read("source=v,target=/v,volume-nocopy,volume-subpath=x,\"volume-label=a=b,c\"").unwrap();
        assert_eq!(volume.typ, Some(MountType::VOLUME));
        let options = volume.volume_options.unwrap();
        assert_eq!(
            (options.no_copy, options.subpath.as_deref()),
            (Some(true), Some("x"))
        );
        assert_eq!(options.labels.unwrap()["a"], "b,c");
        let tmpfs = read("type=tmpfs,destination=/t,tmpfs-size=1m,tmpfs-mode=1777").unwrap();
        let options = tmpfs.tmpfs_options.unwrap();
        assert_eq!((options.size_bytes, options.mode), (Some(1 << 20), Some(0o1777)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_named() {
        for (text, named) in [
            ("type=bind,src=/a", "target is required"),
            ("type=nfs,dst=/a", "nfs"),
            ("dst=/a,colour=red", "colour"),
            ("dst", "key=value"),
            ("type=tmpfs,dst=/a,volume-nocopy", "cannot mix"),
            ("dst=/a,ro=perhaps", "perhaps"),
            ("type=bind,src=/a,dst=/b,bind-propagation=x", "bind-propagation"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
