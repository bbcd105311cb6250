//! Sizes: three digits with powers of 1000 for disks, four with powers of 1024 for memory, as
//! Docker has it.

use thiserror::Error;

const DECIMAL_UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
const BINARY_UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// A size that is none.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("invalid size: '{0}' (a number and one of b, k, m, g, t, p: 512m)")]
pub(crate) struct SizeError(String);

/// `4.26MB`.
pub(crate) fn decimal_size(bytes: i64) -> String {
    scaled(bytes, 1000.0, &DECIMAL_UNITS, 3)
}

/// `3.832GiB`.
pub(crate) fn binary_size(bytes: i64) -> String {
    scaled(bytes, 1024.0, &BINARY_UNITS, 4)
}

fn scaled(bytes: i64, base: f64, units: &[&str], digits: usize) -> String {
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", significant(value, digits), units[unit])
}

/// `digits` significant digits and no zero at the end of a fraction.
fn significant(value: f64, digits: usize) -> String {
    let whole = if value >= 1.0 {
        value.log10().floor() as usize + 1
    } else {
        1
    };
    let text = format!("{value:.*}", digits.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// `512m`, `1.5g`, `1048576`: bytes, with powers of 1024.
pub(crate) fn parse_memory(text: &str) -> Result<i64, SizeError> {
    let invalid = || SizeError(text.to_owned());
    let lower = text.trim().to_ascii_lowercase();
    let end = lower
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(lower.len());
    let (number, unit) = lower.split_at(end);
    let power = match unit.trim_start() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return Err(invalid()),
    };
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let bytes = number * 1024_f64.powi(power);
    if bytes > i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(bytes as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_sizes_have_three_digits() {
        for (bytes, expected) in [
            (0, "0B"),
            (999, "999B"),
            (1000, "1kB"),
            (1_234, "1.23kB"),
            (4_261_000, "4.26MB"),
            (42_600_000, "42.6MB"),
            (426_000_000, "426MB"),
            (1_100_000_000, "1.1GB"),
        ] {
            assert_eq!(decimal_size(bytes), expected);
        }
    }

    #[test]
    fn memory_sizes_have_four_digits() {
        assert_eq!(binary_size(512 << 20), "512MiB");
        assert_eq!(binary_size(4_114_841_600), "3.832GiB");
    }

    #[test]
    fn memory_is_read_with_and_without_units() {
        for (text, expected) in [
            ("100", 100),
            ("32b", 32),
            ("512m", 512 << 20),
            ("512MiB", 512 << 20),
            ("1.5g", 3 << 29),
            ("1 GB", 1 << 30),
        ] {
            assert_eq!(parse_memory(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "m", "-1m", "1x", "1..5g", "99999999p"] {
            assert!(parse_memory(text).is_err(), "{text}");
        }
    }
}
