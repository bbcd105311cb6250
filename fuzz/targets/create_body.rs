//! The body of a create request: refused with a reason, or a container that an inspection tells as it was asked for.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Some(create) = docker_api::fuzzing::create(body) else {
        return;
    };
    if let Err(refused) = engine::fuzzing::check(create) {
        assert!(!refused.is_empty());
    }
});
