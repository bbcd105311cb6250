//! Sizes as people write them: `10m`, `1.5 GB`, `64KiB`.

/// What a letter of a size stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Powers of 1000, as for files of a log.
    Decimal,
    /// Powers of 1024, as for memory and disks.
    Binary,
}

/// A size that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It begins with no number.
    #[error("invalid size: '{0}'")]
    Number(String),
    /// It ends with no unit.
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
}

/// The bytes of a size whose units are powers of 1024, as for memory and disks.
pub fn binary_size(text: &str) -> Result<u64, SizeError> {
    parse(text, Unit::Binary)
}

/// The bytes of a size; the forms are those that Docker takes.
pub(crate) fn parse(text: &str, unit: Unit) -> Result<u64, SizeError> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let size: f64 = number.parse().map_err(|_| SizeError::Number(text.to_owned()))?;
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix).to_ascii_lowercase();
    let factor = factor(&suffix, unit).ok_or(SizeError::Suffix(suffix))?;
    // A number that is too large becomes the largest there is.
    Ok((size * factor) as u64)
}

fn factor(suffix: &str, unit: Unit) -> Option<f64> {
    let thousand: f64 = match unit {
        Unit::Decimal => 1000.0,
        Unit::Binary => 1024.0,
    };
    let mut letters = suffix.chars();
    let power = match letters.next() {
        None => return Some(1.0),
        Some('b') => return letters.next().is_none().then_some(1.0),
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return None,
    };
    matches!(letters.as_str(), "" | "b" | "ib").then(|| thousand.powi(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_powers_of_the_unit() {
        for (text, decimal, binary) in [
            ("0", 0, 0),
            ("42", 42, 42),
            ("42b", 42, 42),
            ("10k", 10_000, 10_240),
            ("1.5 MB", 1_500_000, 3 << 19),
            ("2GiB", 2_000_000_000, 2 << 30),
            ("1t", 1_000_000_000_000, 1 << 40),
        ] {
            assert_eq!(parse(text, Unit::Decimal), Ok(decimal), "{text}");
            assert_eq!(parse(text, Unit::Binary), Ok(binary), "{text}");
        }
        assert_eq!(parse("99999999999p", Unit::Binary), Ok(u64::MAX));
    }

    #[test]
    fn what_is_no_size_is_told() {
        for text in ["", "x", "-1", "1.2.3", ".", " 1"] {
            assert_eq!(
                parse(text, Unit::Binary),
                Err(SizeError::Number(text.into())),
                "{text}"
            );
        }
        for (text, suffix) in [
            ("1x", "x"),
            ("1mm", "mm"),
            ("1bb", "bb"),
            ("1kibi", "kibi"),
            ("1  k", " k"),
        ] {
            assert_eq!(
                parse(text, Unit::Binary),
                Err(SizeError::Suffix(suffix.into())),
                "{text}"
            );
        }
    }
}
