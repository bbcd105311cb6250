//! Which registry an image's name belongs to.

use std::fmt;

/// What `config.json` calls Docker Hub.
pub(crate) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

const DOCKER_HUB: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

/// An image's name as a registry knows it. The daemon checks its grammar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RemoteName<'a> {
    domain: &'a str,
    path: &'a str,
    /// With its `:` or `@` in front; empty when there is none.
    suffix: &'a str,
}

impl<'a> RemoteName<'a> {
    /// Splits `[DOMAIN/]PATH[:TAG][@DIGEST]`. The part before the first slash is a registry when
    /// it looks like one.
    pub(crate) fn parse(image: &'a str) -> Self {
        let (domain, rest) = match image.split_once('/') {
            Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) => (first, rest),
            _ => (DOCKER_HUB, image),
        };
        let domain = if domain == "index.docker.io" {
            DOCKER_HUB
        } else {
            domain
        };
        let end = rest.find('@').unwrap_or(rest.len());
        let name_end = match rest[..end].rfind(':') {
            Some(colon) if !rest[colon..end].contains('/') => colon,
            _ => end,
        };
        Self {
            domain,
            path: &rest[..name_end],
            suffix: &rest[name_end..],
        }
    }

    /// A name as it was typed, without its tag or digest, and these.
    pub(crate) fn split(image: &'a str) -> (&'a str, Option<&'a str>) {
        let suffix = Self::parse(image).suffix;
        match suffix.is_empty() {
            true => (image, None),
            // One byte of a colon or an at sign.
            false => (&image[..image.len() - suffix.len()], Some(&suffix[1..])),
        }
    }

    /// A name as it was typed, with the tag that is meant.
    pub(crate) fn with_tag(image: &'a str) -> String {
        match Self::split(image) {
            (name, None) => format!("{name}:{DEFAULT_TAG}"),
            _ => image.to_owned(),
        }
    }

    /// The whole name of what was pulled or pushed: with the tag that is meant, unless all were.
    pub(crate) fn transferred(&self, all_tags: bool) -> String {
        match all_tags {
            true => self.repository(),
            false => self.to_string(),
        }
    }

    /// The whole name without a tag or digest.
    fn repository(&self) -> String {
        let namespace = if self.domain == DOCKER_HUB && !self.path.contains('/') {
            "library/"
        } else {
            ""
        };
        format!("{}/{namespace}{}", self.domain, self.path)
    }

    /// Whether it names neither a tag nor a digest.
    pub(crate) fn is_only_name(&self) -> bool {
        self.suffix.is_empty()
    }
}

impl fmt::Display for RemoteName<'_> {
    /// The whole name, with the tag that is meant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository())?;
        match self.suffix {
            "" => write!(f, ":{DEFAULT_TAG}"),
            suffix => f.write_str(suffix),
        }
    }
}

/// The name under which `config.json` keeps the credentials for an image's registry.
pub(crate) fn registry_key(image: &str) -> &str {
    match RemoteName::parse(image).domain {
        DOCKER_HUB => DOCKER_HUB_KEY,
        domain => domain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_a_registry_knows_them() {
        for (image, whole) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("me/app:1", "docker.io/me/app:1"),
            ("index.docker.io/library/a", "docker.io/library/a:latest"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("ghcr.io/a/b@sha256:00", "ghcr.io/a/b@sha256:00"),
            ("localhost/a:1@sha256:00", "localhost/a:1@sha256:00"),
        ] {
            assert_eq!(RemoteName::parse(image).to_string(), whole);
        }
    }

    #[test]
    fn a_name_is_split_where_its_tag_or_digest_begins() {
        for (image, parts) in [
            ("a", ("a", None)),
            ("localhost:5000/a", ("localhost:5000/a", None)),
            ("localhost:5000/a:1", ("localhost:5000/a", Some("1"))),
            ("a@sha256:00", ("a", Some("sha256:00"))),
            ("a:1@sha256:00", ("a", Some("1@sha256:00"))),
        ] {
            assert_eq!(RemoteName::split(image), parts);
        }
    }

    #[test]
    fn credentials_are_looked_up_by_registry() {
        assert_eq!(registry_key("busybox:1"), DOCKER_HUB_KEY);
        assert_eq!(registry_key("docker.io/me/app"), DOCKER_HUB_KEY);
        assert_eq!(registry_key("localhost:5000/a:1"), "localhost:5000");
    }
}
