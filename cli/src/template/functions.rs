//! The functions that a template can call: Go's own, and those that Docker adds.

use serde_json::Value;

use super::printf::printf;
use super::value::{compare, display, equal, is_true};

/// Arguments in, a value or a reason out.
pub(super) type Function = fn(&[Value]) -> Result<Value, String>;

/// The function of that name.
pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "and" => and,
        "eq" => eq,
        "ge" => |arguments| order(arguments).map(|order| order.is_ge().into()),
        "gt" => |arguments| order(arguments).map(|order| order.is_gt().into()),
        "index" => index,
        "join" => join,
        "json" => json,
        "le" => |arguments| order(arguments).map(|order| order.is_le().into()),
        "len" => len,
        "lower" => |arguments| text(arguments).map(|text| text.to_lowercase().into()),
        "lt" => |arguments| order(arguments).map(|order| order.is_lt().into()),
        "ne" => |arguments| pair(arguments).map(|(left, right)| (!equal(left, right)).into()),
        "not" => |arguments| Ok((!is_true(one(arguments)?)).into()),
        "or" => or,
        "pad" => pad,
        "print" => |arguments| Ok(print(arguments).into()),
        "printf" => |arguments| printf(arguments).map(Value::from),
        "println" => |arguments| Ok(spaced(arguments, "\n").into()),
        "slice" => slice,
        "split" => split,
        "title" => |arguments| text(arguments).map(|text| title(text).into()),
        "truncate" => truncate,
        "upper" => |arguments| text(arguments).map(|text| text.to_uppercase().into()),
        _ => return None,
    })
}

/// The first argument that decides, else the last.
fn and(arguments: &[Value]) -> Result<Value, String> {
    let decides = arguments.iter().find(|argument| !is_true(argument));
    decides
        .or(arguments.last())
        .cloned()
        .ok_or_else(|| wrong_count(1, 0))
}

fn or(arguments: &[Value]) -> Result<Value, String> {
    let decides = arguments.iter().find(|argument| is_true(argument));
    decides
        .or(arguments.last())
        .cloned()
        .ok_or_else(|| wrong_count(1, 0))
}

/// Whether the first equals any of the others.
fn eq(arguments: &[Value]) -> Result<Value, String> {
    match arguments {
        [first, others @ ..] if !others.is_empty() => {
            Ok(others.iter().any(|other| equal(first, other)).into())
        }
        _ => Err("missing argument for comparison".to_owned()),
    }
}

fn order(arguments: &[Value]) -> Result<std::cmp::Ordering, String> {
    let (left, right) = pair(arguments)?;
    compare(left, right)
}

/// The element at the indexes and keys, one within the other. A key that is not there gives nothing.
fn index(arguments: &[Value]) -> Result<Value, String> {
    let (collection, keys) = arguments.split_first().ok_or_else(|| wrong_count(1, 0))?;
    let mut found = collection;
    for key in keys {
        found = match (found, key) {
            (Value::Object(entries), Value::String(key)) => entries.get(key).unwrap_or(&Value::Null),
            (Value::Array(elements), Value::Number(_)) => {
                let position = size(key)?;
                elements
                    .get(position)
                    .ok_or_else(|| format!("index out of range: {position}"))?
            }
            _ => return Err(format!("cannot index {} with {}", display(found), display(key))),
        };
    }
    Ok(found.clone())
}

fn join(arguments: &[Value]) -> Result<Value, String> {
    match pair(arguments)? {
        (Value::Array(elements), Value::String(separator)) => {
            let texts: Vec<String> = elements.iter().map(display).collect();
            Ok(texts.join(separator).into())
        }
        (Value::Null, Value::String(_)) => Ok("".into()),
        (other, _) => Err(format!(
            "join wants a list and a separator, not {}",
            display(other)
        )),
    }
}

fn json(arguments: &[Value]) -> Result<Value, String> {
    Ok(one(arguments)?.to_string().into())
}

fn len(arguments: &[Value]) -> Result<Value, String> {
    match one(arguments)? {
        Value::String(text) => Ok(text.len().into()),
        Value::Array(elements) => Ok(elements.len().into()),
        Value::Object(entries) => Ok(entries.len().into()),
        Value::Null => Ok(0.into()),
        other => Err(format!("len of {}", display(other))),
    }
}

fn pad(arguments: &[Value]) -> Result<Value, String> {
    let [Value::String(text), before, after] = arguments else {
        return Err("pad wants a string and two numbers".to_owned());
    };
    if text.is_empty() {
        return Ok("".into());
    }
    let (before, after) = (padding(before)?, padding(after)?);
    Ok(format!("{}{text}{}", " ".repeat(before), " ".repeat(after)).into())
}

fn padding(value: &Value) -> Result<usize, String> {
    const MOST: usize = 4096;
    let width = size(value)?;
    if width > MOST {
        return Err(format!("padding {width} is more than {MOST}"));
    }
    Ok(width)
}

/// `text[from:to]`, or a part of a list; the end may be left out.
fn slice(arguments: &[Value]) -> Result<Value, String> {
    let (item, bounds) = arguments.split_first().ok_or_else(|| wrong_count(1, 0))?;
    let from = bounds.first().map_or(Ok(0), size)?;
    let outside = || format!("slice bounds out of range of {}", display(item));
    match item {
        Value::String(text) => {
            let to = bounds.get(1).map_or(Ok(text.len()), size)?;
            Ok(text.get(from..to).ok_or_else(outside)?.into())
        }
        Value::Array(elements) => {
            let to = bounds.get(1).map_or(Ok(elements.len()), size)?;
            Ok(elements.get(from..to).ok_or_else(outside)?.into())
        }
        other => Err(format!("slice of {}", display(other))),
    }
}

fn split(arguments: &[Value]) -> Result<Value, String> {
    match pair(arguments)? {
        (Value::String(text), Value::String(separator)) => Ok(text
            .split(separator.as_str())
            .map(str::to_owned)
            .collect::<Vec<_>>()
            .into()),
        _ => Err("split wants two strings".to_owned()),
    }
}

fn truncate(arguments: &[Value]) -> Result<Value, String> {
    match pair(arguments)? {
        (Value::String(text), length) => Ok(text.chars().take(size(length)?).collect::<String>().into()),
        _ => Err("truncate wants a string and a number".to_owned()),
    }
}

/// Go's `print`: spaces only between two arguments of which neither is a string.
fn print(arguments: &[Value]) -> String {
    let mut text = String::new();
    for (index, argument) in arguments.iter().enumerate() {
        if index > 0 && !argument.is_string() && !arguments[index - 1].is_string() {
            text.push(' ');
        }
        text.push_str(&display(argument));
    }
    text
}

fn spaced(arguments: &[Value], end: &str) -> String {
    let texts: Vec<String> = arguments.iter().map(display).collect();
    texts.join(" ") + end
}

fn title(text: &str) -> String {
    let mut at_start = true;
    text.chars()
        .map(|character| {
            let here = if at_start {
                character.to_ascii_uppercase()
            } else {
                character
            };
            at_start = !character.is_alphanumeric();
            here
        })
        .collect()
}

fn one(arguments: &[Value]) -> Result<&Value, String> {
    match arguments {
        [only] => Ok(only),
        _ => Err(wrong_count(1, arguments.len())),
    }
}

fn pair(arguments: &[Value]) -> Result<(&Value, &Value), String> {
    match arguments {
        [left, right] => Ok((left, right)),
        _ => Err(wrong_count(2, arguments.len())),
    }
}

fn text(arguments: &[Value]) -> Result<&str, String> {
    let value = one(arguments)?;
    value
        .as_str()
        .ok_or_else(|| format!("expected string; found {}", display(value)))
}

fn size(value: &Value) -> Result<usize, String> {
    value
        .as_u64()
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| format!("expected a number from 0 on; found {}", display(value)))
}

fn wrong_count(wanted: usize, given: usize) -> String {
    format!("wrong number of args: want {wanted} got {given}")
}
