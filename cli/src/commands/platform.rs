//! The platform of an image, for commands that look at images that are there.

use std::str::FromStr;

use serde_json::json;

/// `OS/ARCH[/VARIANT]`, or one of the first two alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Platform {
    os: String,
    architecture: String,
    variant: String,
}

/// What is no platform.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no platform: write OS/ARCH or OS/ARCH/VARIANT, such as linux/amd64")]
pub(crate) struct PlatformError(String);

impl FromStr for Platform {
    type Err = PlatformError;

    /// Names are not checked further: the daemon knows them, with the other names that they have.
    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (os, architecture, variant) = match parts[..] {
            _ if parts.contains(&"") => return Err(PlatformError(text.to_owned())),
            [os @ ("linux" | "windows" | "darwin" | "freebsd")] => (os, std::env::consts::ARCH, ""),
            [architecture] => ("linux", architecture, ""),
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => return Err(PlatformError(text.to_owned())),
        };
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        })
    }
}

impl Platform {
    /// As the API takes it (Docker Engine API, "Push an image", `platform`).
    pub(crate) fn json(&self) -> String {
        let mut platform = json!({ "architecture": self.architecture, "os": self.os });
        if !self.variant.is_empty() {
            platform["variant"] = self.variant.as_str().into();
        }
        platform.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_written_as_the_api_takes_them() {
        let json = |text: &str| text.parse::<Platform>().unwrap().json();
        assert_eq!(json("linux/amd64"), r#"{"architecture":"amd64","os":"linux"}"#);
        assert_eq!(json("arm64"), r#"{"architecture":"arm64","os":"linux"}"#);
        assert_eq!(
            json("linux/arm/v7"),
            r#"{"architecture":"arm","os":"linux","variant":"v7"}"#
        );
        assert!(json("linux").contains(std::env::consts::ARCH));
        for text in ["", "/", "linux/", "a/b/c/d"] {
            let error = text.parse::<Platform>().unwrap_err().to_string();
            assert!(error.contains("linux/amd64"), "{error}");
        }
    }
}
