//! Platforms: `linux/arm64`, `linux/arm/v7`.

use crate::diagnostic::quoted;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// What a machine is, in Go's names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// The operating system.
    pub os: String,
    /// The architecture.
    pub architecture: String,
    /// The variant of the architecture, e.g. `v7`.
    pub variant: Option<String>,
}

/// A platform that is none.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("failed to parse platform \"{0}\": write it as os/architecture, e.g. linux/amd64")]
pub struct PlatformError(String);

impl Platform {
    /// Linux on an architecture, in Go's name of it.
    pub fn linux(architecture: &str) -> Self {
        let (architecture, variant) = normal(architecture, None);
        Platform {
            os: "linux".to_owned(),
            architecture,
            variant,
        }
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    /// Reads `os/architecture[/variant]`, or one of the two alone: the other is that of Linux on x86-64.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            let allowed = |next: char| next.is_ascii_alphanumeric() || "-_.".contains(next);
            !part.is_empty() && part.len() <= 64 && part.chars().all(allowed)
        };
        if !parts.iter().all(is_word) {
            return Err(PlatformError(quoted(text)));
        }
        let (os, architecture, variant) = match parts.as_slice() {
            [one] if is_os(one) => (*one, "amd64", None),
            [one] if is_architecture(one) => ("linux", *one, None),
            [os, architecture] => (*os, *architecture, None),
            [os, architecture, variant] => (*os, *architecture, Some(*variant)),
            _ => return Err(PlatformError(quoted(text))),
        };
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let (architecture, variant) = normal(architecture, variant);
        Ok(Platform {
            os,
            architecture,
            variant,
        })
    }
}

fn is_os(word: &str) -> bool {
    [
        "linux", "windows", "darwin", "macos", "freebsd", "netbsd", "openbsd", "wasip1",
    ]
    .contains(&word.to_ascii_lowercase().as_str())
}

fn is_architecture(word: &str) -> bool {
    let (architecture, _) = normal(word, None);
    [
        "386", "amd64", "arm", "arm64", "loong64", "mips64le", "ppc64le", "riscv64", "s390x", "wasm",
    ]
    .contains(&architecture.as_str())
}

/// The one name of architectures that have several.
fn normal(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let variant = variant.map(str::to_ascii_lowercase);
    let (architecture, variant) = match (architecture.to_ascii_lowercase().as_str(), variant.as_deref()) {
        ("i386", _) => ("386", None),
        ("x86_64" | "x86-64" | "amd64", Some("v1")) => ("amd64", None),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", Some("8" | "v8")) => ("arm64", None),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", Some("v7")),
        ("armel", _) => ("arm", Some("v6")),
        ("arm", None | Some("7")) => ("arm", Some("v7")),
        ("arm", Some("5")) => ("arm", Some("v5")),
        ("arm", Some("6")) => ("arm", Some("v6")),
        ("arm", Some("8")) => ("arm", Some("v8")),
        (other, variant) => return (other.to_owned(), variant.map(str::to_owned)),
    };
    (architecture.to_owned(), variant.map(str::to_owned))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_have_one_name() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("linux", "linux/amd64"),
            ("Linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("armhf", "linux/arm/v7"),
            ("linux/riscv64", "linux/riscv64"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "/", "linux/", "a/b/c/d", "bogus", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }
}
