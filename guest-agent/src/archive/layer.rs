//! The writable layer as an OCI image layer: overlayfs's marks become those of the OCI image spec ("Image Layer
//! Filesystem Changeset", section "Whiteouts").

use std::fs::File;

use guest_protocol::ContainerSpec;
use rustix::fs::FileType;

use super::Result;
use super::changes::{Covered, is_opaque, is_whiteout};
use super::pack::Packer;
use super::trees::Layers;
use super::walk::{join, walk};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Answers [`guest_protocol::Task::Layer`].
pub(super) fn layer(container: &ContainerSpec, layers: &Layers, output: File) -> Result<()> {
    let covered = Covered::of(container);
    let mut packer = Packer::new(container, output);
    walk(&layers.upper, b"", &mut |found| {
        if covered.contains(found.path) {
            return Ok(false);
        }
        if is_whiteout(&found.stat) {
            let above = &found.path[..found.path.len() - found.name().len()];
            packer.add_marker([above, WHITEOUT, found.name()].concat())?;
            return Ok(false);
        }
        packer.add(found, b"")?;
        let is_directory = found.kind() == FileType::Directory;
        if is_directory && is_opaque(&layers.upper, found.path)? {
            packer.add_marker(join(found.path, OPAQUE))?;
        }
        Ok(is_directory)
    })?;
    packer.finish()
}
