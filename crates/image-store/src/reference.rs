//! Names of images, in Docker's grammar (github.com/distribution/reference): `[DOMAIN/]PATH[:TAG][@DIGEST]`.

use crate::digest::{Digest, DigestError};
use std::fmt;
use std::str::FromStr;

const DEFAULT_TAG: &str = "latest";
const DOCKER_HUB: &str = "docker.io";
const OLD_DOCKER_HUB: &str = "index.docker.io";
/// Images that were made or loaded here, not pulled.
const LOCALHOST: &str = "localhost";
/// The longest registry, and the longest path in it, in bytes.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A name of an image as somebody typed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    domain: Option<String>,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text is no reference.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// It does not follow the grammar.
    #[error("invalid reference format: `{}`: {what}", .text.escape_debug())]
    Format {
        /// The text.
        text: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Its digest cannot be checked.
    #[error("invalid reference format: {0}")]
    Digest(#[from] DigestError),
}

impl Reference {
    /// The registry, if one was given.
    pub fn domain(&self) -> Option<&str> {
        self.domain.as_deref()
    }

    /// The tag; `latest` if none was given.
    pub fn tag(&self) -> &str {
        self.tag.as_deref().unwrap_or(DEFAULT_TAG)
    }

    /// Whether a tag was given.
    pub fn has_tag(&self) -> bool {
        self.tag.is_some()
    }

    /// The repository's path in its registry as it was typed: without `library/` for Docker Hub's own.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same repository with this tag and no digest; `None` when it is no tag.
    pub fn with_tag(&self, tag: &str) -> Option<Self> {
        is_tag(tag).then(|| Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// The same repository with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The name as a registry has it: one without a registry is Docker Hub's.
    pub fn in_registry(&self) -> Self {
        if self.domain.is_some() {
            return self.clone();
        }
        Self {
            domain: Some(DOCKER_HUB.to_owned()),
            path: hub_path(&self.path).to_owned(),
            ..self.clone()
        }
    }

    /// The digest, if one was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The full repositories that this name may mean, the first that exists counts: a name without a
    /// registry is looked for among local images, then among those of Docker Hub.
    pub fn repositories(&self) -> Vec<String> {
        let hub = |path: &str| match path.contains('/') {
            true => format!("{DOCKER_HUB}/{path}"),
            false => format!("{DOCKER_HUB}/library/{path}"),
        };
        match &self.domain {
            Some(domain) if domain == DOCKER_HUB => vec![hub(&self.path)],
            Some(domain) => vec![format!("{domain}/{}", self.path)],
            None => vec![format!("{LOCALHOST}/{}", self.path), hub(&self.path)],
        }
    }

    /// The full repository in which an image with this name is stored, `localhost` for the domain if none was
    /// given.
    pub fn storage_repository(&self) -> String {
        self.repositories().swap_remove(0)
    }

    /// The full name under which an image with this name is stored: `DOMAIN/PATH:TAG`, or `DOMAIN/PATH@DIGEST`
    /// if it has a digest.
    pub fn storage_name(&self) -> String {
        match &self.digest {
            None => format!("{}:{}", self.storage_repository(), self.tag()),
            Some(digest) => format!("{}@{digest}", self.storage_repository()),
        }
    }
}

impl fmt::Display for Reference {
    /// As it was typed, with the tag that is meant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(domain) = &self.domain {
            write!(f, "{domain}/")?;
        }
        f.write_str(&self.path)?;
        match (&self.tag, &self.digest) {
            (Some(tag), Some(digest)) => write!(f, ":{tag}@{digest}"),
            (None, Some(digest)) => write!(f, "@{digest}"),
            _ => write!(f, ":{}", self.tag()),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let wrong = |what| ReferenceError::Format {
            text: text.chars().take(300).collect(),
            what,
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("a tag is letters, digits, `_`, `.` and `-`, at most 128"));
        }
        let (domain, path) = split_domain(name);
        if domain.is_some_and(|domain| !is_domain(domain)) {
            return Err(wrong("the part before the first `/` is no host name"));
        }
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(wrong("repository name must be lowercase"));
        }
        if !path.split('/').all(is_path_component) {
            return Err(wrong(
                "a name is lowercase letters and digits, with single separators between them",
            ));
        }
        if domain.is_none() && path.len() == 64 && path.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(wrong("64 hexadecimal digits are an identifier, not a name"));
        }
        let domain = domain.map(|domain| {
            if domain == OLD_DOCKER_HUB {
                DOCKER_HUB
            } else {
                domain
            }
            .to_owned()
        });
        let path = match domain.as_deref() {
            Some(DOCKER_HUB) => hub_path(path),
            _ => path,
        };
        // Each by itself: a short name is valid under every registry that it may mean, or under none.
        if path.len() > MAX_NAME || domain.as_ref().is_some_and(|domain| domain.len() > MAX_NAME) {
            return Err(wrong("a name has at most 255 characters"));
        }
        Ok(Self {
            domain,
            path: path.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

/// A path on Docker Hub without the `library/` of its official images; a repository with more parts that begins like one is
/// another.
fn hub_path(path: &str) -> &str {
    match path.strip_prefix("library/") {
        Some(name) if !name.contains('/') => name,
        _ => path,
    }
}

/// The part before the first slash is a registry if it looks like one.
fn split_domain(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == LOCALHOST
                || first.contains(['.', ':'])
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

/// `HOST[:PORT]`, the host a name or an IPv6 address in brackets.
fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address.len() > 1 && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    host.split('.').all(|label| {
        let ends = [label.bytes().next(), label.bytes().last()];
        ends.into_iter()
            .all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let runs: Vec<&[u8]> = component
        .as_bytes()
        .chunk_by(|a, b| is_word(a) == is_word(b))
        .collect();
    let is_separator =
        |run: &[u8]| matches!(run, b"." | b"_" | b"__") || run.iter().all(|byte| *byte == b'-');
    let word_ends = [runs.first(), runs.last()]
        .into_iter()
        .all(|run| run.is_some_and(|run| is_word(&run[0])));
    word_ends && runs.iter().all(|run| is_word(&run[0]) || is_separator(run))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=MAX_TAG).contains(&tag.len())
        && tag.bytes().next().is_some_and(is_word)
        && tag
            .bytes()
            .all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> Reference {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn short_names_mean_local_images_first_then_docker_hub() {
        let busybox = parse("busybox");
        assert_eq!(
            busybox.repositories(),
            ["localhost/busybox", "docker.io/library/busybox"]
        );
        assert_eq!(busybox.storage_name(), "localhost/busybox:latest");
        assert_eq!(parse("a/b:1").repositories(), ["localhost/a/b", "docker.io/a/b"]);
    }

    #[test]
    fn full_names_mean_themselves() {
        for (text, repository) in [
            ("docker.io/busybox", "docker.io/library/busybox"),
            ("index.docker.io/library/busybox", "docker.io/library/busybox"),
            ("docker.io/a/b", "docker.io/a/b"),
            ("localhost/busybox", "localhost/busybox"),
            ("localhost:5000/a/b", "localhost:5000/a/b"),
            ("ghcr.io/a/b/c", "ghcr.io/a/b/c"),
            ("[::1]:5000/a", "[::1]:5000/a"),
        ] {
            assert_eq!(parse(text).repositories(), [repository], "{text}");
        }
    }

    #[test]
    fn only_an_official_image_goes_without_its_library() {
        let printed = |text: &str| parse(text).to_string();
        assert_eq!(printed("docker.io/library/a"), printed("docker.io/a"));
        let nested = printed("docker.io/library/library/a");
        assert!(nested.contains("library/library/a"), "{nested}");
        assert_eq!(printed(&nested), nested);
    }

    #[test]
    fn tags_and_digests_are_split_off() {
        let full = parse(&format!("localhost:5000/a:1.2-x_Y@{DIGEST}"));
        assert_eq!(
            (full.tag(), full.digest()),
            ("1.2-x_Y", Some(&DIGEST.parse().unwrap()))
        );
        assert_eq!(full.storage_name(), format!("localhost:5000/a@{DIGEST}"));
        let tagged = full.with_tag("2").unwrap();
        assert_eq!(tagged.storage_name(), "localhost:5000/a:2");
        assert!(full.with_tag("-").is_none());
        assert_eq!(
            parse("a").in_registry().storage_name(),
            "docker.io/library/a:latest"
        );
        assert_eq!(parse("library/a").in_registry(), parse("docker.io/a"));
        assert_eq!(parse("localhost:5000/a").tag(), "latest");
        assert_eq!(parse("a").to_string(), "a:latest");
        assert_eq!(parse(&format!("a@{DIGEST}")).to_string(), format!("a@{DIGEST}"));
    }

    #[test]
    fn separators_stand_between_words() {
        for good in ["a.b", "a_b", "a__b", "a-b", "a---b", "a1/b2/c3"] {
            parse(good);
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "a..b",
            "a___b",
            "-a",
            "a-",
            ".a",
            "a.",
            "a._b",
            "A",
            "a:",
            "a:-x",
            "a b",
            "a@",
            "a@sha256:12",
            "a:b:c",
            "../a",
            "a/../b",
            "ä",
            "a:ä",
            "-.x/a",
            "x:y/a",
            ".../a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert!(DIGEST[7..].parse::<Reference>().is_err());
        assert!("a".repeat(256).parse::<Reference>().is_err());
        assert!(format!("a:{}", "t".repeat(129)).parse::<Reference>().is_err());
    }
}
