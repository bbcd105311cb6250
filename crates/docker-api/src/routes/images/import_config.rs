//! What an imported image is to be: its platform, and the Dockerfile instructions that change its configuration.

use engine::{ImageConfig, ImportRequest, PlatformName};

use super::platform;
use crate::error::ApiError;
use crate::instructions;
use crate::query::Params;

/// Reads `repo`, `tag`, `changes`, `message` and `platform` for an image that is made of what `source` has.
pub(super) fn read(params: &Params, source: &str) -> Result<ImportRequest, ApiError> {
    let mut config = ImageConfig::default();
    instructions::apply(&mut config, params.texts("changes"))?;
    let platform = platform::one(params)?.unwrap_or_else(|| format!("linux/{}", std::env::consts::ARCH));
    let comment = match params.text("message") {
        Some(message) => message.to_owned(),
        None => format!("Imported from {source}"),
    };
    Ok(ImportRequest {
        name: params.image_name(),
        platform: PlatformName::parse(&platform)?,
        comment,
        config,
    })
}
