//! `--volume` and `--tmpfs`.

use std::collections::HashMap;
use std::path::Path;

use anyhow::bail;

/// Volumes as the API takes them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Volumes {
    /// `SOURCE:TARGET[:OPTIONS]`, a host folder or a named volume.
    pub(super) binds: Vec<String>,
    /// Paths in the container that get a volume without a name.
    pub(super) anonymous: Vec<String>,
}

impl Volumes {
    /// Reads the values of `--volume`. A source that begins with a dot is relative to `here`,
    /// which only the client knows.
    pub(super) fn parse(values: &[String], here: &Path) -> anyhow::Result<Self> {
        let mut volumes = Self::default();
        for value in values {
            match value.split(':').collect::<Vec<_>>()[..] {
                [target] if target.starts_with('/') => volumes.anonymous.push(target.to_owned()),
                [source, target] | [source, target, _] if !source.is_empty() && target.starts_with('/') => {
                    let rest = &value[source.len()..];
                    volumes.binds.push(format!("{}{rest}", absolute(source, here)?));
                }
                _ => bail!(
                    "invalid volume specification: '{value}' (SOURCE:TARGET[:ro], with a target that begins with /)"
                ),
            }
        }
        Ok(volumes)
    }
}

fn absolute(source: &str, here: &Path) -> anyhow::Result<String> {
    if !source.starts_with('.') {
        return Ok(source.to_owned());
    }
    let mut path = here.to_owned();
    for component in Path::new(source).components() {
        match component {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                path.pop();
            }
            other => path.push(other),
        }
    }
    match path.into_os_string().into_string() {
        Ok(path) => Ok(path),
        Err(path) => bail!("cannot use {path:?} as a volume: the API takes UTF-8 only"),
    }
}

/// Reads the values of `--tmpfs`: `PATH[:OPTIONS]`.
pub(super) fn tmpfs(values: &[String]) -> HashMap<String, String> {
    let split = |value: &String| {
        let (path, options) = value.split_once(':').unwrap_or((value, ""));
        (path.to_owned(), options.to_owned())
    };
    values.iter().map(split).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> anyhow::Result<Volumes> {
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        Volumes::parse(&values, Path::new("/home/me"))
    }

    #[test]
    fn sources_are_absolute_names_stay_names() {
        let volumes = parse(&[
            ".:/src",
            "./a/../b:/b:ro",
            "/x:/x",
            "data:/data",
            "/anonymous",
            "../up:/up",
        ]);
        assert_eq!(
            volumes.unwrap(),
            Volumes {
                binds: [
                    "/home/me:/src",
                    "/home/me/b:/b:ro",
                    "/x:/x",
                    "data:/data",
                    "/home/up:/up"
                ]
                .map(str::to_owned)
                .into(),
                anonymous: vec!["/anonymous".to_owned()],
            }
        );
    }

    #[test]
    fn a_target_that_is_not_absolute_is_refused() {
        for value in ["", ":", "a", "a:b", ":/x", "/a:/b:ro:more"] {
            assert!(parse(&[value]).is_err(), "{value}");
        }
    }

    #[test]
    fn tmpfs_options_may_be_left_out() {
        let mounts = tmpfs(&["/run".to_owned(), "/tmp:size=1m,mode=1777".to_owned()]);
        assert_eq!(mounts["/run"], "");
        assert_eq!(mounts["/tmp"], "size=1m,mode=1777");
    }
}
