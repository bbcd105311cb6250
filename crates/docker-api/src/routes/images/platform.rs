//! Platforms that requests name: `OS/ARCHITECTURE[/VARIANT]`, or Docker's JSON of the same.

use serde::Deserialize;

use crate::error::ApiError;
use crate::query::Params;

/// A platform as Docker's clients encode it (OCI image specification, image-index.md). What else it may hold is for Windows.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Encoded {
    os: String,
    architecture: String,
    variant: String,
}

/// The platform of the parameter `platform`, if there is one.
pub(in crate::routes) fn one(params: &Params) -> Result<Option<String>, ApiError> {
    match &all(params, "platform")?[..] {
        [] => Ok(None),
        [platform] => Ok(Some(platform.clone())),
        _ => Err(ApiError::bad_request(
            "multiple platform parameters are not supported in this API version",
        )),
    }
}

/// All platforms of a parameter.
pub(super) fn all(params: &Params, name: &str) -> Result<Vec<String>, ApiError> {
    let values = params.texts(name).iter().filter(|value| !value.is_empty());
    values.map(|value| read(value)).collect()
}

fn read(text: &str) -> Result<String, ApiError> {
    if !text.starts_with('{') {
        return Ok(text.to_owned());
    }
    let Encoded {
        os,
        architecture,
        variant,
    } = serde_json::from_str(text)
        .map_err(|error| ApiError::bad_request(format!("failed to parse platform: {error}")))?;
    if os.is_empty() || architecture.is_empty() {
        return Err(ApiError::bad_request("both OS and Architecture must be provided"));
    }
    Ok(match variant.as_str() {
        "" => format!("{os}/{architecture}"),
        variant => format!("{os}/{architecture}/{variant}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn platforms_are_read_in_both_forms() {
        for (text, platform) in [
            ("linux/amd64", "linux/amd64"),
            (r#"{"os":"linux","architecture":"amd64"}"#, "linux/amd64"),
            (
                r#"{"architecture":"arm","os":"linux","variant":"v7","os.version":"1"}"#,
                "linux/arm/v7",
            ),
        ] {
            assert_eq!(read(text).unwrap(), platform);
        }
        for text in ["{", r#"{"os":"linux"}"#, r#"{"os":1}"#, "{}"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
