//! How Go prints, compares and judges values.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::Value;

/// As Go's `%v` prints it.
pub(super) fn display(value: &Value) -> String {
    let mut text = String::new();
    write_to(&mut text, value);
    text
}

fn write_to(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("<no value>"),
        Value::Bool(truth) => text.push_str(if *truth { "true" } else { "false" }),
        // Writing to a string cannot fail, here and below.
        Value::Number(number) => drop(write!(text, "{number}")),
        Value::String(string) => text.push_str(string),
        Value::Array(elements) => {
            text.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                write_to(text, element);
            }
            text.push(']');
        }
        Value::Object(entries) => {
            text.push_str("map[");
            for (index, (key, element)) in entries.iter().enumerate() {
                if index > 0 {
                    text.push(' ');
                }
                text.push_str(key);
                text.push(':');
                write_to(text, element);
            }
            text.push(']');
        }
    }
}

/// Go templates' truth: what is empty or zero is false.
pub(super) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(string) => !string.is_empty(),
        Value::Array(elements) => !elements.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
    }
}

/// The order of two values of the same kind.
pub(super) fn compare(left: &Value, right: &Value) -> Result<Ordering, String> {
    let order = match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64().partial_cmp(&right.as_f64()),
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    };
    order.ok_or_else(|| "incompatible types for comparison".to_owned())
}

/// Whether two values are equal; numbers by their value.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    compare(left, right).map_or_else(|_| left == right, Ordering::is_eq)
}
