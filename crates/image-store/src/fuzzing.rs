//! Doors for the fuzzers in `fuzz/`, which build with `--cfg fuzzing`: hostile bytes without a store around them.

use crate::digest::Digest;
use crate::layer::{LayerError, convert};
use crate::manifest::{ConfigContents, ManifestContents, parse};
use erofs::{Limits, Options, Summary, Writer};
use oci_spec::image::ImageIndex;
use std::fs::File;

/// Writes the files of a layer's archive to `image`, an empty file.
pub fn convert_layer(archive: &[u8], image: &File, limits: Limits) -> Result<Summary, LayerError> {
    let options = Options {
        limits,
        ..Options::default()
    };
    let scratch = tempfile::tempfile().map_err(LayerError::Scratch)?;
    let mut writer = Writer::with_scratch(image, options, scratch);
    convert(tar_stream::Reader::new(archive), &mut writer)?;
    Ok(writer.finish()?.1)
}

/// Reads a document as each kind that it may be.
pub fn documents(content: &[u8]) {
    let digest = Digest::of(content);
    let _ = parse::<ImageIndex>(content, "index");
    let layers = match ManifestContents::parse(content, &digest) {
        Ok(manifest) => manifest.layers.len(),
        Err(_) => 0,
    };
    for layers in [layers, 1] {
        if let Ok(config) = ConfigContents::parse(content, &digest, layers) {
            assert_eq!(config.diff_ids.len(), layers);
        }
    }
}
