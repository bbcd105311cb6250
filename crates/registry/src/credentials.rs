//! What a user shows a registry. Nothing here can be printed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a user shows a registry; the same four that Docker's `X-Registry-Auth` can hold.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub enum Credentials {
    /// Nothing: public images.
    #[default]
    Anonymous,
    /// A user and a password (or a personal access token in its place).
    Basic {
        /// The user's name.
        username: String,
        /// The user's password.
        password: String,
    },
    /// A refresh token from an earlier login; it is traded for short-lived tokens by an OAuth2 POST.
    IdentityToken(String),
    /// A bearer token that is shown to the registry as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic([hidden])",
            Self::IdentityToken(_) => "IdentityToken([hidden])",
            Self::RegistryToken(_) => "RegistryToken([hidden])",
        })
    }
}

impl Credentials {
    /// Every string that must not appear in a message.
    pub(crate) fn secrets(&self) -> Vec<String> {
        match self {
            Self::Anonymous => Vec::new(),
            Self::Basic { username, password } => vec![password.clone(), encode(username, password)],
            Self::IdentityToken(token) | Self::RegistryToken(token) => vec![token.clone()],
        }
    }
}

/// The credentials of HTTP's basic scheme (RFC 7617, section 2).
pub(crate) fn encode(username: &str, password: &str) -> String {
    STANDARD.encode(format!("{username}:{password}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_printed() {
        let all = [
            Credentials::Basic {
                username: "ann".into(),
                password: "hunter2".into(),
            },
            Credentials::IdentityToken("hunter2".into()),
            Credentials::RegistryToken("hunter2".into()),
        ];
        for credentials in all {
            assert!(!format!("{credentials:?}").contains("hunter2"));
            assert!(credentials.secrets().contains(&"hunter2".to_string()));
        }
    }
}
