//! Which network devices the microVM has.

use std::fs;
use std::io;
use std::path::Path;

use rustix::io::Errno;

use crate::os_error::{During, OsError};

/// Where the kernel lists the interfaces of the agent's network namespace.
pub(super) const INTERFACES: &str = "/sys/class/net";

/// The indices of the virtio network devices' interfaces, in the order of the devices' slots: in that order the kernel
/// has found the devices and given them numbers.
pub(super) fn find(interfaces: &Path) -> Result<Vec<u32>, OsError> {
    let list = || interfaces.display().to_string();
    let mut found = Vec::new();
    for entry in errno(fs::read_dir(interfaces)).during("list the interfaces in", list())? {
        let path = errno(entry).during("list the interfaces in", list())?.path();
        let device = path.join("device");
        let device = match errno(fs::read_link(&device)) {
            // The loopback interface, say.
            Err(Errno::NOENT) => continue,
            link => link.during("read the link", device.display().to_string())?,
        };
        if let Some(slot) = slot(&device) {
            found.push((slot, index(&path)?));
        }
    }
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, index)| index).collect())
}

/// The number of a virtio device.
fn slot(device: &Path) -> Option<u32> {
    device.file_name()?.to_str()?.strip_prefix("virtio")?.parse().ok()
}

fn index(interface: &Path) -> Result<u32, OsError> {
    let file = interface.join("ifindex");
    let text = errno(fs::read_to_string(&file));
    text.and_then(|text| text.trim().parse().map_err(|_| Errno::INVAL))
        .during("read a number from", file.display().to_string())
}

fn errno<T>(result: io::Result<T>) -> Result<T, Errno> {
    result.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn devices_are_found_in_the_order_of_their_slots() {
        let root = std::env::temp_dir().join(format!("slots-{}", std::process::id()));
        // As the kernel may list them, with a loopback and a device of another bus among them.
        let listed = [
            ("eth1", Some("virtio10"), "3"),
            ("lo", None, "1"),
            ("eth0", Some("virtio9"), "2"),
            ("eth3", Some("0000:00:01.0"), "5"),
            ("eth2", Some("virtio11"), "4"),
        ];
        for (name, device, index) in listed {
            fs::create_dir_all(root.join(name)).unwrap();
            fs::write(root.join(name).join("ifindex"), format!("{index}\n")).unwrap();
            if let Some(device) = device {
                symlink(format!("../../../{device}"), root.join(name).join("device")).unwrap();
            }
        }
        assert_eq!(find(&root).unwrap(), [2, 3, 4]);
        fs::write(root.join("eth0/ifindex"), "two").unwrap();
        let error = find(&root).unwrap_err().to_string();
        assert!(error.contains("eth0/ifindex: Invalid argument"), "{error}");
        fs::remove_dir_all(root).unwrap();
    }
}
