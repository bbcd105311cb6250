//! Names of images: as a registry knows them, and as people write them.

use image_store::{Digest, Reference};

use crate::{EngineError, Result};

/// An image in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RemoteImage {
    /// The whole reference, its registry in front.
    pub(crate) reference: Reference,
    /// `HOST[:PORT]`.
    pub(crate) host: String,
    /// The repository in it.
    pub(crate) path: String,
}

impl RemoteImage {
    /// Reads a name; one without a registry is Docker Hub's.
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let reference = parse(name)?.in_registry();
        let repository = reference.storage_repository();
        let (host, path) = repository.split_once('/').unwrap_or(("", &repository));
        Ok(Self {
            host: host.to_owned(),
            path: path.to_owned(),
            reference,
        })
    }

    /// The digest or the tag that is meant.
    pub(crate) fn tag_or_digest(&self) -> String {
        match self.reference.digest() {
            Some(digest) => digest.to_string(),
            None => self.reference.tag().to_owned(),
        }
    }

    /// As people write it.
    pub(crate) fn familiar(&self) -> String {
        familiar(&self.reference.storage_name()).to_owned()
    }

    /// The repository as people write it.
    pub(crate) fn familiar_repository(&self) -> String {
        familiar(&self.reference.storage_repository()).to_owned()
    }

    /// The names that an image gets by being pulled by this one: its tag, and its digest in the repository.
    pub(crate) fn names(&self, digest: Digest) -> Vec<Reference> {
        let by_digest = self.reference.with_digest(digest);
        match self.reference.digest() {
            Some(_) => vec![by_digest],
            None => vec![self.reference.clone(), by_digest],
        }
    }
}

/// Reads a reference.
pub(crate) fn parse(name: &str) -> Result<Reference> {
    name.parse()
        .map_err(|error| EngineError::Invalid(format!("{error}")))
}

/// A full name as people write it: without the registry and the namespace that are meant when none are named.
pub fn familiar(name: &str) -> &str {
    match name.strip_prefix("docker.io/") {
        Some(path) => path.strip_prefix("library/").unwrap_or(path),
        None => name,
    }
}

/// The first twelve digits of a digest or an identifier.
pub(crate) fn short(digest: &str) -> &str {
    let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
    digits.get(..12).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_registry_is_docker_hubs() {
        let image = RemoteImage::parse("busybox").unwrap();
        assert_eq!(
            (image.host.as_str(), image.path.as_str()),
            ("docker.io", "library/busybox")
        );
        assert_eq!(
            (image.familiar().as_str(), image.tag_or_digest().as_str()),
            ("busybox:latest", "latest")
        );
        let image = RemoteImage::parse("localhost:5000/a/b:1").unwrap();
        assert_eq!(
            (image.host.as_str(), image.path.as_str()),
            ("localhost:5000", "a/b")
        );
        assert_eq!(image.familiar_repository(), "localhost:5000/a/b");
        assert!(matches!(RemoteImage::parse("A"), Err(EngineError::Invalid(_))));
    }

    #[test]
    fn the_default_registry_and_namespace_are_not_shown() {
        assert_eq!(familiar("docker.io/library/alpine:3"), "alpine:3");
        assert_eq!(familiar("docker.io/me/app:1"), "me/app:1");
        assert_eq!(familiar("localhost/busybox:latest"), "localhost/busybox:latest");
        assert_eq!(familiar("library/a"), "library/a");
    }

    #[test]
    fn a_pull_by_tag_names_the_digest_too() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let names = |name: &str| {
            let names = RemoteImage::parse(name).unwrap().names(digest);
            names.iter().map(Reference::storage_name).collect::<Vec<_>>()
        };
        assert_eq!(
            names("localhost:5000/a:1"),
            [
                "localhost:5000/a:1".to_owned(),
                format!("localhost:5000/a@{digest}")
            ]
        );
        assert_eq!(
            names(&format!("a@{digest}")),
            [format!("docker.io/library/a@{digest}")]
        );
    }
}
