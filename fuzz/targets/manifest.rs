//! Manifests, indexes and configurations, as a registry's client and as the store read them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    registry::fuzzing::manifest(bytes);
    image_store::fuzzing::documents(bytes);
});
