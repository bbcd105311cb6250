//! Dockerfiles: any text is read or refused, and what is read is printed as the same Dockerfile.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| dockerfile::fuzzing::dockerfile(text));
