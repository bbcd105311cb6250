//! Names of images: what is read is printed and read again to the same thing.
#![no_main]

use image_store::Reference;
use libfuzzer_sys::fuzz_target;
use registry::ManifestReference;

fuzz_target!(|text: &str| {
    if let Ok(reference) = text.parse::<Reference>() {
        let printed = reference.to_string();
        let again: Reference = printed.parse().expect("what is printed is a reference");
        // The tag that is meant when none is said is printed: they are the same names, not the same values.
        assert_eq!(again.to_string(), printed);
        assert_eq!(again.tag(), reference.tag());
        let stored = reference.storage_name();
        let again: Reference = stored.parse().expect("the name in the store is a reference");
        assert_eq!(again.storage_name(), stored);
        let remote = reference.in_registry();
        let again: Reference = remote
            .to_string()
            .parse()
            .expect("the name in a registry is a reference");
        assert_eq!(again.in_registry().to_string(), remote.to_string());
        if let Some(tagged) = reference.with_tag(reference.tag()) {
            assert_eq!(tagged.tag(), reference.tag());
        }
    }
    if let Ok(reference) = text.parse::<ManifestReference>() {
        let again: ManifestReference = reference
            .to_string()
            .parse()
            .expect("what is printed is a tag or digest");
        assert_eq!(again, reference);
    }
});
