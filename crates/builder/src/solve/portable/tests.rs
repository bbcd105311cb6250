use image_store::{BlobDescriptor, Digest};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::document::{MOST, configuration};
use super::*;

const TIME: &str = "2026-01-02T03:04:05Z";

fn layer(content: &[u8]) -> BlobDescriptor {
    BlobDescriptor {
        media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
        digest: Digest::of(content),
        size: content.len() as u64,
    }
}

fn parse(steps: Value, layers: usize) -> Result<PortableCache, CacheFormatError> {
    let diff_ids: Vec<Digest> = (0..layers).map(|number| Digest::of(&[number as u8])).collect();
    let document = json!({ "rootfs": { "diff_ids": diff_ids }, "hull.build.cache.v1": { "steps": steps } });
    let layers: Vec<BlobDescriptor> = (0..layers).map(|number| layer(&[number as u8])).collect();
    PortableCache::parse(&layers, document.to_string().as_bytes())
}

#[test]
fn what_a_cache_says_is_checked() {
    let key = Digest::of(b"key");
    let step = |layer: usize| json!([{ "key": key, "layer": layer, "created": TIME }]);
    let cache = parse(step(1), 2).unwrap();
    let (blob, diff_id) = cache.steps[&key].layer.clone().unwrap();
    assert_eq!((blob, diff_id), (layer(&[1]), Digest::of(&[1])));
    let image = json!([{ "key": key, "isImage": true, "created": TIME }]);
    assert_eq!(parse(image, 0).unwrap().images[&key], TIME);
    for (steps, layers) in [
        (step(2), 2),
        (json!([{ "key": key, "created": "yesterday" }]), 0),
        (json!([{ "key": "../../x", "created": TIME }]), 0),
        (json!([{ "key": key, "layer": -1, "created": TIME }]), 2),
        (json!("x"), 0),
    ] {
        assert!(parse(steps.clone(), layers).is_err(), "{steps}");
    }
    let many: Vec<Value> = (0..=MOST)
        .map(|number| json!({ "key": Digest::of(&number.to_le_bytes()), "created": TIME }))
        .collect();
    assert!(matches!(parse(many.into(), 0), Err(CacheFormatError::Damaged(_))));
}

#[test]
fn documents_that_do_not_belong_together_are_no_cache() {
    let config = configuration(&[], &[&Digest::of(b"a").to_string()]);
    assert!(matches!(
        PortableCache::parse(&[], &config),
        Err(CacheFormatError::Damaged(_))
    ));
    let image =
        json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
    assert!(matches!(
        PortableCache::parse(&[], image.to_string().as_bytes()),
        Err(CacheFormatError::None)
    ));
    let long = vec![b' '; MOST_CACHE_BYTES as usize + 1];
    assert!(matches!(
        CacheManifest::parse(&long),
        Err(CacheFormatError::TooLarge { .. })
    ));
    let config = json!({ "mediaType": "x", "digest": Digest::of(b""), "size": MOST_CACHE_BYTES + 1 });
    assert!(matches!(
        CacheManifest::parse(json!({ "config": config }).to_string().as_bytes()),
        Err(CacheFormatError::TooLarge { .. })
    ));
}

proptest! {
    #[test]
    fn no_document_is_too_odd(text in ".{0,200}", layers in 0_usize..3) {
        let _ = CacheManifest::parse(text.as_bytes());
        let _ = PortableCache::parse(&vec![layer(b""); layers], text.as_bytes());
    }
}
