//! The options that say what a container may do.

use std::fs;

use anyhow::{Context, bail};
use bollard_stubs::models::{DeviceMapping, HostConfig};
use clap::Args;
use serde_json::Value;

/// What a container may do beyond what every container may, or not.
#[derive(Debug, Args)]
pub(super) struct SecurityOptions {
    /// Add Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_add: Vec<String>,

    /// Drop Linux capabilities
    #[arg(long, value_name = "CAPABILITY")]
    cap_drop: Vec<String>,

    /// Add a device of the microVM's kernel to the container
    #[arg(long, value_name = "PATH[:TARGET][:rwm]", value_parser = parse_device)]
    device: Vec<DeviceMapping>,

    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "RULE")]
    device_cgroup_rule: Vec<String>,

    /// Add additional groups to join
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,

    /// Give extended privileges to this container: all that its microVM has
    #[arg(long)]
    privileged: bool,

    /// Security Options
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
}

impl SecurityOptions {
    /// Adds what the daemon is told of them.
    pub(super) fn apply(&self, host: &mut HostConfig) -> anyhow::Result<()> {
        let list = |values: &[String]| (!values.is_empty()).then(|| values.to_vec());
        host.cap_add = list(&self.cap_add);
        host.cap_drop = list(&self.cap_drop);
        host.devices = (!self.device.is_empty()).then(|| self.device.clone());
        host.device_cgroup_rules = list(&self.device_cgroup_rule);
        host.group_add = list(&self.group_add);
        host.privileged = Some(self.privileged);
        let mut options = Vec::new();
        for option in &self.security_opt {
            match split(option)? {
                // What the daemon hides otherwise is a matter of its own in the API.
                ("systempaths", "unconfined") => {
                    host.masked_paths = Some(Vec::new());
                    host.readonly_paths = Some(Vec::new());
                }
                ("seccomp", profile) if !matches!(profile, "unconfined" | "builtin") => {
                    let text = fs::read_to_string(profile)
                        .with_context(|| format!("opening seccomp profile ({profile}) failed"))?;
                    let json: Value = serde_json::from_str(&text)
                        .with_context(|| format!("compacting json for seccomp profile ({profile}) failed"))?;
                    options.push(format!("seccomp={json}"));
                }
                _ => options.push(option.clone()),
            }
        }
        host.security_opt = list(&options);
        Ok(())
    }
}

fn split(option: &str) -> anyhow::Result<(&str, &str)> {
    match option.split_once(['=', ':']) {
        Some(parts) => Ok(parts),
        None if option == "no-new-privileges" => Ok((option, "")),
        None => bail!("Invalid --security-opt: {option:?}"),
    }
}

/// `PATH`, `PATH:TARGET`, `PATH:RIGHTS` or `PATH:TARGET:RIGHTS`.
fn parse_device(text: &str) -> Result<DeviceMapping, String> {
    let is_rights = |text: &str| !text.is_empty() && text.chars().all(|letter| "rwm".contains(letter));
    let parts: Vec<&str> = text.split(':').collect();
    let (path, target, rights) = match parts[..] {
        [path] => (path, path, "rwm"),
        [path, rights] if is_rights(rights) => (path, path, rights),
        [path, target] => (path, target, "rwm"),
        [path, target, rights] if is_rights(rights) => (path, target, rights),
        _ => return Err(format!("invalid device specification: {text}")),
    };
    if !path.starts_with('/') || !target.starts_with('/') {
        return Err(format!(
            "bad format for path: {text}: a device has an absolute path"
        ));
    }
    Ok(DeviceMapping {
        path_on_host: Some(path.to_owned()),
        path_in_container: Some(target.to_owned()),
        cgroup_permissions: Some(rights.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_may_have_another_place_and_fewer_rights() {
        let device = |text: &str| {
            parse_device(text).map(|device| {
                [
                    device.path_on_host,
                    device.path_in_container,
                    device.cgroup_permissions,
                ]
                .map(Option::unwrap_or_default)
                .join(" ")
            })
        };
        assert_eq!(device("/dev/fuse").unwrap(), "/dev/fuse /dev/fuse rwm");
        assert_eq!(device("/dev/fuse:r").unwrap(), "/dev/fuse /dev/fuse r");
        assert_eq!(device("/dev/fuse:/f").unwrap(), "/dev/fuse /f rwm");
        assert_eq!(device("/dev/fuse:/f:rw").unwrap(), "/dev/fuse /f rw");
        for text in ["fuse", "/dev/fuse:f", "/dev/fuse:/f:x", "a:b:c:d"] {
            assert!(device(text).is_err(), "{text}");
        }
    }
}
