//! Which CPUs of its microVM a container may use.

use std::fmt;

use crate::{EngineError, Result};

/// The highest number that is taken for that of a CPU, whether there is one or not.
const MAX_NUMBER: u32 = 8192;

/// CPUs by their numbers, a bit each; none are all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CpuSet(u64);

impl CpuSet {
    /// The CPUs of a list such as `0-2,5`, of which there are this many.
    pub(crate) fn parse(list: &str, there_are: usize) -> Result<CpuSet> {
        let invalid = || EngineError::Invalid(format!("Invalid value {list} for cpuset cpus"));
        let ranges = parse(list).ok_or_else(invalid)?;
        let mut set = 0;
        for (first, last) in ranges {
            if last as usize >= there_are.min(64) {
                return Err(EngineError::Invalid(format!(
                    "Requested CPUs are not available - requested {list}, available: {}",
                    available(there_are)
                )));
            }
            set |= (first..=last).fold(0, |set, number| set | 1 << number);
        }
        Ok(CpuSet(set))
    }

    /// How many CPUs there must be.
    pub(crate) fn least(self) -> u8 {
        (u64::BITS - self.0.leading_zeros()) as u8
    }

    /// The bits; `None` if it is all.
    pub(crate) fn bits(self) -> Option<u64> {
        (self.0 != 0).then_some(self.0)
    }
}

/// Refuses memory nodes that a microVM does not have: there is one.
pub(crate) fn check_memory_nodes(list: &str) -> Result<()> {
    let Some(ranges) = parse(list) else {
        return Err(EngineError::Invalid(format!(
            "Invalid value {list} for cpuset mems"
        )));
    };
    if ranges.iter().any(|(_, last)| *last > 0) {
        return Err(EngineError::Invalid(format!(
            "Requested memory nodes are not available - requested {list}, available: 0"
        )));
    }
    Ok(())
}

/// The ranges of a list, which may be empty; `None` if it is none.
fn parse(list: &str) -> Option<Vec<(u32, u32)>> {
    if list.is_empty() {
        return Some(Vec::new());
    }
    let number = |text: &str| text.parse().ok().filter(|number| *number <= MAX_NUMBER);
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (number(first)?, number(last)?);
        (first <= last).then_some((first, last))
    };
    list.split(',').map(range).collect()
}

fn available(count: usize) -> impl fmt::Display {
    match count {
        0 | 1 => "0".to_owned(),
        count => format!("0-{}", count - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_cpus_and_how_many_there_must_be() {
        for (list, bits, least) in [
            ("", None, 0),
            ("0", Some(1), 1),
            ("1", Some(2), 2),
            ("0-2,5", Some(0b10_0111), 6),
            ("3,3,1-3", Some(0b1110), 4),
        ] {
            let set = CpuSet::parse(list, 8).unwrap();
            assert_eq!((set.bits(), set.least()), (bits, least), "{list}");
        }
        assert_eq!(CpuSet::parse("0-63", 64).unwrap().bits(), Some(u64::MAX));
    }

    #[test]
    fn cpus_and_nodes_that_are_not_there_are_refused_in_dockers_words() {
        let refusal = |list, count| CpuSet::parse(list, count).unwrap_err().to_string();
        assert_eq!(
            refusal("9", 2),
            "Requested CPUs are not available - requested 9, available: 0-1"
        );
        assert_eq!(
            refusal("0-100", 1),
            "Requested CPUs are not available - requested 0-100, available: 0"
        );
        assert!(refusal("64", 128).contains("not available"));
        for list in ["x", "-1", "1-", "2-1", "0,", "0,,1", "99999", "0-99999999999"] {
            assert_eq!(refusal(list, 2), format!("Invalid value {list} for cpuset cpus"));
            assert!(check_memory_nodes(list).is_err(), "{list}");
        }
        assert!(check_memory_nodes("").is_ok() && check_memory_nodes("0").is_ok());
        assert_eq!(
            check_memory_nodes("0-1").unwrap_err().to_string(),
            "Requested memory nodes are not available - requested 0-1, available: 0"
        );
    }
}
