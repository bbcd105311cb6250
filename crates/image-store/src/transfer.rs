//! Images as archives.

use crate::image::Image;
use crate::reference::Reference;
use crate::store::{ImageStore, Result};
use oci_spec::image::ImageConfiguration;
use std::io::{Read, Write};

/// An image that came out of an archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The image.
    pub image: Image,
    /// The full names that the archive gave it. May be empty.
    pub references: Vec<String>,
}

impl ImageStore {
    /// Writes the images with these names or identifiers as one archive that is an OCI layout and a
    /// docker-archive in one, as Docker 25 and later do. An image that is named by a tag keeps that tag; an
    /// identifier gives an image without a name; a repository without a tag gives all its tags.
    pub fn save(&self, names: &[&str], output: impl Write) -> Result<()> {
        let _ = (names, output);
        todo!()
    }

    /// Reads an archive of either kind, compressed or not, from a stream, and adds all its images.
    pub fn load(&self, input: impl Read) -> Result<Vec<Loaded>> {
        let _ = input;
        todo!()
    }

    /// Makes an image of one layer from the tar archive of a root file system, compressed or not. `config` is
    /// its configuration but for `rootfs`, which is filled in here.
    pub fn import(
        &self,
        input: impl Read,
        reference: Option<&Reference>,
        config: ImageConfiguration,
    ) -> Result<Image> {
        let _ = (input, reference, config);
        todo!()
    }
}
