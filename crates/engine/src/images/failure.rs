//! Why something was not done with an image, in Docker's words where it has any.

use ::registry::RegistryError;
use image_store::StoreError;

use crate::{EngineError, ErrorKind};

/// A failure that several clients may be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ImageFailure {
    /// Its kind.
    pub kind: ErrorKind,
    /// What was tried, why it failed, and what to do.
    pub message: String,
}

impl ImageFailure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
        }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// A registry's answer to a pull of `image`. A registry that has no such image, or shows it to others only, has
    /// texts of Docker's own, which programs look for.
    pub(crate) fn of_pull(image: &str, name: &str, error: &RegistryError) -> Self {
        match error {
            RegistryError::NotFound { detail, .. } if !is_about_the_name(detail.as_str()) => Self::new(
                ErrorKind::NotFound,
                format!("manifest for {image} not found: manifest unknown: {error}"),
            ),
            RegistryError::NotFound { .. }
            | RegistryError::Unauthorized { .. }
            | RegistryError::Forbidden { .. } => Self::new(
                ErrorKind::NotFound,
                format!(
                    "pull access denied for {name}, repository does not exist or may require 'docker login': {error}"
                ),
            ),
            error => Self::of_registry(error),
        }
    }

    /// A registry's answer to a push of `name`.
    pub(crate) fn of_push(name: &str, error: &RegistryError) -> Self {
        match error {
            RegistryError::Unauthorized { .. } => {
                Self::new(ErrorKind::Unauthorized, format!("unauthorized: {error}"))
            }
            RegistryError::Forbidden { .. } => Self::new(
                ErrorKind::Forbidden,
                format!("denied: requested access to the resource {name} is denied: {error}"),
            ),
            error => Self::of_registry(error),
        }
    }

    /// Why something could not be downloaded from a web server.
    pub(crate) fn of_download(error: &RegistryError) -> Self {
        let kind = match (error, error.status()) {
            (RegistryError::Config(_), _) => ErrorKind::InvalidParameter,
            (_, Some(404 | 410)) => ErrorKind::NotFound,
            (_, Some(400..=499)) => ErrorKind::InvalidParameter,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }

    /// Any other answer.
    pub(crate) fn of_registry(error: &RegistryError) -> Self {
        let kind = match error {
            RegistryError::Config(_) => ErrorKind::InvalidParameter,
            RegistryError::Unauthorized { .. } => ErrorKind::Unauthorized,
            RegistryError::Forbidden { .. } => ErrorKind::Forbidden,
            RegistryError::NotFound { .. } => ErrorKind::NotFound,
            RegistryError::TooManyRequests { .. } => ErrorKind::TooManyRequests,
            _ => ErrorKind::Internal,
        };
        let prefix = match kind {
            ErrorKind::TooManyRequests => "toomanyrequests: ",
            _ => "",
        };
        Self::new(kind, format!("{prefix}{error}"))
    }
}

/// Whether a registry's 404 says that there is no such repository, rather than no such tag in it (OCI distribution
/// specification, "Error codes").
fn is_about_the_name(detail: &str) -> bool {
    let detail = detail.to_ascii_lowercase();
    ["name_unknown", "name unknown", "repository name not known"]
        .iter()
        .any(|words| detail.contains(words))
}

impl From<EngineError> for ImageFailure {
    fn from(error: EngineError) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

impl From<StoreError> for ImageFailure {
    fn from(error: StoreError) -> Self {
        EngineError::from_store(error).into()
    }
}
