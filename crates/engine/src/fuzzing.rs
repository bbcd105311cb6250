//! Doors for the fuzzers in `fuzz/`, which build with `--cfg fuzzing`: hostile requests without containers.

use bytes::Bytes;
use image_store::DockerConfig;
use oci_spec::image::ImageConfiguration;

use crate::detach::DetachKeys;
use crate::host::Host;
use crate::{ContainerCreate, Result, creation, merge, signals};

/// Checks what a container is to be as making one does, with an image that says nothing; the error's text.
pub fn check(mut create: ContainerCreate) -> std::result::Result<(), String> {
    let mut checked = || -> Result<()> {
        creation::check(&create)?;
        merge::merge(
            &mut create,
            &ImageConfiguration::default(),
            DockerConfig::default(),
        )?;
        create.health.check()?;
        signals::parse(&create.stop_signal)?;
        creation::vm_size(&create, &Host::look()).map(drop)
    };
    checked().map_err(|error| error.to_string())
}

/// What a terminal's detach keys let pass of pieces of input, and whether they were typed; nothing if the keys are none.
pub fn typed(keys: &str, pieces: &[&[u8]]) -> Option<(Vec<u8>, bool)> {
    let mut keys = DetachKeys::parse(Some(keys)).ok()?;
    let mut passed = Vec::new();
    for piece in pieces {
        let typed = keys.scan(&Bytes::copy_from_slice(piece));
        passed.extend_from_slice(&typed.pass);
        if typed.detached {
            return Some((passed, true));
        }
    }
    Some((passed, false))
}
