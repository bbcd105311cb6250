//! Devices of a request, and rules for more of them.

use bollard_stubs::models::DeviceMapping;
use engine::{Device, DeviceAccess, DeviceKind, DeviceRule};

use crate::error::ApiError;

/// A device of the microVM with its node in the container, which is at the same place unless it is said.
pub(super) fn read(mapping: DeviceMapping) -> Result<Device, ApiError> {
    let path = mapping.path_on_host.unwrap_or_default();
    let target = mapping
        .path_in_container
        .filter(|target| !target.is_empty())
        .unwrap_or_else(|| path.clone());
    if !path.starts_with('/') || !target.starts_with('/') || target.ends_with('/') {
        return Err(ApiError::bad_request(format!(
            "invalid device `{path}` at `{target}`: both are absolute paths"
        )));
    }
    let permissions = mapping.cgroup_permissions.filter(|letters| !letters.is_empty());
    let access = access(permissions.as_deref().unwrap_or("rwm"))
        .ok_or_else(|| ApiError::bad_request(format!("invalid permissions of the device `{path}`")))?;
    Ok(Device { path, target, access })
}

/// The same as [`read`] takes it.
pub(crate) fn describe(device: &Device) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(device.path.clone()),
        path_in_container: Some(device.target.clone()),
        cgroup_permissions: Some(letters(device.access)),
    }
}

/// `TYPE MAJOR:MINOR ACCESS`, as in `c 10:200 rwm`; the type is `c`, `b` or `a`, and `*` is every number.
pub(super) fn read_rule(text: &str) -> Result<DeviceRule, ApiError> {
    let parse = || {
        let mut words = text.split(' ');
        let (kind, numbers, letters) = (words.next()?, words.next()?, words.next()?);
        let (major, minor) = numbers.split_once(':')?;
        let number = |text: &str| match text {
            "*" => Some(None),
            text => Some(Some(text.parse().ok()?)),
        };
        let rule = DeviceRule {
            kind: match kind {
                "a" => None,
                "b" => Some(DeviceKind::Block),
                "c" => Some(DeviceKind::Character),
                _ => return None,
            },
            major: number(major)?,
            minor: number(minor)?,
            access: access(letters)?,
        };
        words.next().is_none().then_some(rule)
    };
    parse().ok_or_else(|| ApiError::bad_request(format!("invalid device cgroup rule format: '{text}'")))
}

/// The same as [`read_rule`] takes it.
pub(crate) fn describe_rule(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        None => 'a',
        Some(DeviceKind::Block) => 'b',
        Some(DeviceKind::Character) => 'c',
    };
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    format!(
        "{kind} {}:{} {}",
        number(rule.major),
        number(rule.minor),
        letters(rule.access)
    )
}

fn access(letters: &str) -> Option<DeviceAccess> {
    let mut access = DeviceAccess::default();
    for letter in letters.chars() {
        let right = match letter {
            'r' => &mut access.read,
            'w' => &mut access.write,
            'm' => &mut access.make,
            _ => return None,
        };
        // A letter that comes twice is a slip.
        if std::mem::replace(right, true) {
            return None;
        }
    }
    (!letters.is_empty()).then_some(access)
}

fn letters(access: DeviceAccess) -> String {
    [(access.read, 'r'), (access.write, 'w'), (access.make, 'm')]
        .into_iter()
        .filter_map(|(set, letter)| set.then_some(letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_at_its_own_place_with_all_rights_unless_it_is_said() {
        let mapping = |path: &str, target: &str, rights: &str| DeviceMapping {
            path_on_host: Some(path.into()),
            path_in_container: Some(target.into()),
            cgroup_permissions: Some(rights.into()),
        };
        let device = read(mapping("/dev/fuse", "", "")).unwrap();
        assert_eq!(describe(&device), mapping("/dev/fuse", "/dev/fuse", "rwm"));
        let device = read(mapping("/dev/fuse", "/f", "r")).unwrap();
        assert_eq!(describe(&device), mapping("/dev/fuse", "/f", "r"));
        for (path, target, rights) in [
            ("fuse", "", ""),
            ("/dev/fuse", "f", ""),
            ("/dev/fuse", "/", ""),
            ("/dev/fuse", "", "rx"),
            ("/dev/fuse", "", "rr"),
        ] {
            assert!(
                read(mapping(path, target, rights)).is_err(),
                "{path} {target} {rights}"
            );
        }
    }

    #[test]
    fn rules_are_read_and_described() {
        for text in ["c 10:200 rwm", "b *:* r", "a *:5 w"] {
            assert_eq!(describe_rule(&read_rule(text).unwrap()), text);
        }
        for text in [
            "",
            "c 10:200",
            "d 1:1 r",
            "c 1 r",
            "c x:1 r",
            "c 1:1 x",
            "c 1:1 r w",
            "c -1:1 r",
        ] {
            assert!(read_rule(text).is_err(), "{text}");
        }
    }
}
