//! The JSON form of an instruction's arguments.

use serde_json::Value;

/// What arguments look like.
pub(super) enum Json {
    /// An array of strings.
    Strings(Vec<String>),
    /// An array that holds something else.
    Other,
    /// No array: the words stand for themselves.
    No,
}

pub(super) fn read(text: &str) -> Json {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Json::No;
    }
    let Ok(values) = serde_json::from_str::<Vec<Value>>(text) else {
        return Json::No;
    };
    let strings = values.into_iter().map(|value| match value {
        Value::String(string) => Some(string),
        _ => None,
    });
    strings.collect::<Option<_>>().map_or(Json::Other, Json::Strings)
}

/// Whether the text would be read as the JSON form.
pub(crate) fn is_array(text: &str) -> bool {
    !matches!(read(text), Json::No)
}
