//! Extended headers (POSIX.1-2017 pax, "pax Extended Header"): `LENGTH KEY=VALUE\n` records that overrule
//! fields of the entry behind them. Values are any bytes, newlines included.

use crate::Timestamp;

/// The records of one extended header, in their order.
#[derive(Debug, Default)]
pub(crate) struct PaxRecords(Vec<(Vec<u8>, Vec<u8>)>);

impl PaxRecords {
    /// Reads all records; `None` when the header is malformed.
    pub(crate) fn parse(mut rest: &[u8]) -> Option<Self> {
        let mut records = Vec::new();
        while !rest.is_empty() {
            let digits = rest.iter().position(|byte| *byte == b' ')?;
            let length = parse_number(&rest[..digits])?;
            let record = rest.get(digits + 1..usize::try_from(length).ok()?)?;
            let record = record.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
            rest = &rest[length as usize..];
        }
        Some(Self(records))
    }

    /// The value of `key`; of several the last. An empty one takes back what was said before, so that the
    /// header counts.
    pub(crate) fn get(&self, key: &str) -> Option<&[u8]> {
        self.iter()
            .rev()
            .find(|(name, _)| *name == key.as_bytes())
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty())
    }

    /// All records.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
    }
}

/// A decimal number of ASCII digits only.
pub(crate) fn parse_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time like `1700000000.123456789` or `-1.5`: seconds since 1970 with any number of decimals.
pub(crate) fn parse_time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, decimals) = match text.iter().position(|byte| *byte == b'.') {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &b""[..]),
    };
    let seconds = i64::try_from(parse_number(whole)?).ok()?;
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = decimals.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanoseconds: 0,
        },
        (true, nanoseconds) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_hold_any_bytes_and_the_last_of_a_key_counts() {
        let records = PaxRecords::parse(b"8 a=one\n8 a=two\n12 b=x\ny=z\n\n").unwrap();
        assert_eq!(records.get("a"), Some(&b"two"[..]));
        assert_eq!(records.get("b"), Some(&b"x\ny=z\n"[..]));
        assert_eq!(records.get("c"), None);
        let taken_back = PaxRecords::parse(b"8 a=one\n5 a=\n").unwrap();
        assert_eq!(taken_back.get("a"), None);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"8 a=one"[..],
            b"99 a=one\n",
            b"x a=b\n",
            b"6 abc\n",
            b"0 a=b\n",
            b"2 a=b\n",
            b" a=b\n",
            b"9 a=one\n",
        ] {
            assert!(PaxRecords::parse(bad).is_none(), "{}", bad.escape_ascii());
        }
        assert!(PaxRecords::parse(b"").is_some());
    }

    #[test]
    fn times_have_decimals_and_signs() {
        let time = |text: &str| parse_time(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(time("1700000000.12345678999"), Some((1_700_000_000, 123_456_789)));
        assert_eq!(time("5"), Some((5, 0)));
        assert_eq!(time("5."), Some((5, 0)));
        assert_eq!(time("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time("-3"), Some((-3, 0)));
        for bad in ["", "-", ".5", "1.x", "+1", "1e3", "99999999999999999999"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }
}
