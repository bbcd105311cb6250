//! API versions: which ones are spoken, and how a request names the one it wants.
//!
//! A path may begin with `/vMAJOR.MINOR`; without it the newest version is meant. The rules and the words of the
//! refusals are those of Docker's version middleware.

use std::fmt;

use crate::error::ApiError;

/// A version of the Docker Engine API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion {
    /// Before the dot.
    pub major: u32,
    /// After the dot.
    pub minor: u32,
}

impl ApiVersion {
    /// The newest version that is spoken.
    pub const NEWEST: Self = Self { major: 1, minor: 51 };
    /// The oldest version that is spoken.
    pub const OLDEST: Self = Self { major: 1, minor: 24 };

    /// From 1.42 on, multiplexed streams have a content type of their own.
    pub(crate) const MULTIPLEXED_CONTENT_TYPE: Self = Self { major: 1, minor: 42 };

    /// Reads `1.41`. More parts than two are ignored, as Docker does.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next().map_or(Some(0), |minor| minor.parse().ok())?;
        Some(Self { major, minor })
    }

    fn check(self) -> Result<Self, ApiError> {
        if self < Self::OLDEST {
            return Err(ApiError::bad_request(format!(
                "client version {self} is too old. Minimum supported API version is {}, please upgrade your \
                 client to a newer version",
                Self::OLDEST
            )));
        }
        if self > Self::NEWEST {
            return Err(ApiError::bad_request(format!(
                "client version {self} is too new. Maximum supported API version is {}",
                Self::NEWEST
            )));
        }
        Ok(self)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// The version that a request path asks for, and the path without it.
///
/// A path without a version comes back whole and with the newest version.
pub(crate) fn negotiate(path: &str) -> Result<(ApiVersion, &str), ApiError> {
    let Some(versioned) = path.strip_prefix("/v") else {
        return Ok((ApiVersion::NEWEST, path));
    };
    let end = versioned.find('/').unwrap_or(versioned.len());
    let (version, rest) = versioned.split_at(end);
    if version.is_empty() || !version.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Ok((ApiVersion::NEWEST, path)); // `/volumes` begins like a version
    }
    let version = ApiVersion::parse(version)
        .ok_or_else(|| ApiError::bad_request(format!("invalid API version `{version}` in the path")))?;
    Ok((version.check()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &str) -> String {
        negotiate(path).unwrap_err().message().to_owned()
    }

    #[test]
    fn a_path_without_a_version_means_the_newest() {
        assert_eq!(negotiate("/_ping").unwrap(), (ApiVersion::NEWEST, "/_ping"));
        assert_eq!(negotiate("/volumes").unwrap(), (ApiVersion::NEWEST, "/volumes"));
        assert_eq!(negotiate("/v/x").unwrap(), (ApiVersion::NEWEST, "/v/x"));
    }

    #[test]
    fn the_version_is_taken_off_the_path() {
        let v1_41 = ApiVersion { major: 1, minor: 41 };
        assert_eq!(
            negotiate("/v1.41/containers/json").unwrap(),
            (v1_41, "/containers/json")
        );
        assert_eq!(negotiate("/v1.24/_ping").unwrap(), (ApiVersion::OLDEST, "/_ping"));
        assert_eq!(negotiate("/v1.51/info").unwrap(), (ApiVersion::NEWEST, "/info"));
    }

    #[test]
    fn versions_compare_by_number_not_by_text() {
        let parse = |text| ApiVersion::parse(text).unwrap();
        assert!(parse("1.9") < parse("1.24"));
        assert!(parse("2.0") > parse("1.51"));
    }

    #[test]
    fn a_version_out_of_range_is_refused_in_dockers_words() {
        assert_eq!(
            refusal("/v1.52/info"),
            "client version 1.52 is too new. Maximum supported API version is 1.51"
        );
        assert_eq!(
            refusal("/v1.23/info"),
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client \
             to a newer version"
        );
    }

    #[test]
    fn a_version_that_is_no_number_is_refused() {
        assert!(refusal("/v1./info").contains("invalid API version"));
        assert!(refusal("/v99999999999.1/info").contains("invalid API version"));
    }
}
