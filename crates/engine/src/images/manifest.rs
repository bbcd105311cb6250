//! Manifests as registries send them.

use ::registry::{ImageIndex, NoSuchPlatform, Platform, choose_platform};
use image_store::BlobDescriptor;
use oci_spec::image::{Descriptor, ImageManifest};

use super::failure::ImageFailure;
use crate::ErrorKind;

/// The largest configuration that is read, in bytes.
pub(crate) const CONFIG_MAX: u64 = 4 << 20;

const INDEX_TYPES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFEST_TYPES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const CONFIG_TYPES: [&str; 3] = [
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
    // What very old registries stored for lack of a name.
    "application/octet-stream",
];
/// Manifests of the first schema are signed JSON.
const OLD_TYPE: &str = "application/vnd.docker.distribution.manifest.v1";

/// What a manifest turned out to be.
#[derive(Debug)]
pub(crate) enum Manifest {
    /// An image's.
    Image(Parts),
    /// A list of such, for several platforms.
    Index(Box<ImageIndex>),
}

/// What an image's manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) config: BlobDescriptor,
    /// Bottom first.
    pub(crate) layers: Vec<BlobDescriptor>,
}

/// Reads a manifest; `image` is its name in messages.
pub(crate) fn read(image: &str, media_type: &str, bytes: &[u8]) -> Result<Manifest, ImageFailure> {
    let refuse = |what: String| {
        ImageFailure::new(
            ErrorKind::InvalidParameter,
            format!("cannot pull {image}: its manifest {what}"),
        )
    };
    if INDEX_TYPES.contains(&media_type) {
        let index: Box<ImageIndex> =
            serde_json::from_slice(bytes).map_err(|error| refuse(format!("is no index: {error}")))?;
        return Ok(Manifest::Index(index));
    }
    if media_type.starts_with(OLD_TYPE) {
        return Err(refuse(
            "has Docker's schema 1, which nothing writes since 2016: push it again with a newer client"
                .to_owned(),
        ));
    }
    if !MANIFEST_TYPES.contains(&media_type) {
        return Err(refuse(format!(
            "has the media type {media_type:?}, which is none of an image"
        )));
    }
    let manifest: ImageManifest =
        serde_json::from_slice(bytes).map_err(|error| refuse(format!("is not understood: {error}")))?;
    let config = descriptor(manifest.config()).map_err(&refuse)?;
    if !CONFIG_TYPES.contains(&config.media_type.as_str()) {
        return Err(refuse(format!(
            "names a configuration of the type {:?}: it is an artifact, not a container image",
            config.media_type
        )));
    }
    if config.size > CONFIG_MAX {
        return Err(refuse(format!(
            "names a configuration of {} bytes, more than {CONFIG_MAX}",
            config.size
        )));
    }
    let layers = manifest
        .layers()
        .iter()
        .map(descriptor)
        .collect::<Result<_, _>>()
        .map_err(refuse)?;
    Ok(Manifest::Image(Parts { config, layers }))
}

fn descriptor(descriptor: &Descriptor) -> Result<BlobDescriptor, String> {
    let digest = descriptor.digest().to_string();
    Ok(BlobDescriptor {
        media_type: descriptor.media_type().to_string(),
        digest: digest
            .parse()
            .map_err(|error| format!("names {digest}: {error}"))?,
        size: descriptor.size(),
    })
}

/// The image of an index for a platform.
pub(crate) fn choose(
    image: &str,
    index: &ImageIndex,
    platform: &Platform,
) -> Result<Descriptor, ImageFailure> {
    choose_platform(index, platform).map_err(|error: NoSuchPlatform| {
        ImageFailure::new(ErrorKind::NotFound, format!("cannot pull {image}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn manifest(config_type: &str, size: u64) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{config_type}","digest":"{DIGEST}","size":{size}}},"layers":[]}}"#
        )
    }

    #[test]
    fn docker_and_oci_manifests_are_the_same_to_us() {
        for (manifest_type, config_type) in MANIFEST_TYPES.iter().zip([
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.container.image.v1+json",
        ]) {
            let text = manifest(config_type, 2);
            let Manifest::Image(parts) = read("a", manifest_type, text.as_bytes()).unwrap() else {
                panic!("no image")
            };
            assert_eq!((parts.config.size, parts.layers.len()), (2, 0));
        }
    }

    #[test]
    fn what_is_no_image_is_refused_by_what_it_is() {
        let oci = MANIFEST_TYPES[0];
        for (media_type, text, says) in [
            ("text/html", manifest(CONFIG_TYPES[0], 2), "text/html"),
            (
                oci,
                manifest("application/vnd.cncf.helm.config.v1+json", 2),
                "artifact",
            ),
            (oci, manifest(CONFIG_TYPES[0], CONFIG_MAX + 1), "more than"),
            (oci, "{}".to_owned(), "not understood"),
            (INDEX_TYPES[0], "[]".to_owned(), "no index"),
            (
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                String::new(),
                "schema 1",
            ),
        ] {
            let error = read("a:1", media_type, text.as_bytes()).unwrap_err();
            assert!(
                error.message.contains("a:1") && error.message.contains(says),
                "{error}"
            );
        }
    }
}
