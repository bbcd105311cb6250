//! `--build-arg` and `--label`.

use std::collections::BTreeMap;
use std::env;

use anyhow::bail;

/// The time that an image and its files are said to be of; see <https://reproducible-builds.org/specs/source-date-epoch/>.
const EPOCH: &str = "SOURCE_DATE_EPOCH";

/// Build arguments. A name alone has the value it has here; one that has none here stays without one, so that the
/// Dockerfile's default holds.
pub(super) fn build_args(given: &[String]) -> anyhow::Result<BTreeMap<String, Option<String>>> {
    let mut arguments = BTreeMap::new();
    if let Ok(epoch) = env::var(EPOCH) {
        arguments.insert(EPOCH.to_owned(), Some(epoch));
    }
    for argument in given {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), env::var(argument).ok()),
        };
        if name.is_empty() {
            bail!(
                "invalid build argument '{argument}': write NAME=VALUE, or NAME for its value in the environment"
            );
        }
        arguments.insert(name.to_owned(), value);
    }
    Ok(arguments)
}

/// Labels; a name alone has an empty value.
pub(super) fn labels(given: &[String]) -> anyhow::Result<BTreeMap<&str, &str>> {
    let mut labels = BTreeMap::new();
    for label in given {
        let (name, value) = label.split_once('=').unwrap_or((label, ""));
        if name.is_empty() {
            bail!("invalid label '{label}': write NAME=VALUE");
        }
        labels.insert(name, value);
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_argument_has_its_value_from_the_environment_or_none() {
        let given = ["A=1", "PATH", "NO_SUCH_VARIABLE", "A=b=c", "E="].map(str::to_owned);
        let mut arguments = build_args(&given).unwrap();
        arguments.remove(EPOCH);
        let expected = [
            ("A", Some("b=c".to_owned())),
            ("E", Some(String::new())),
            ("NO_SUCH_VARIABLE", None),
            ("PATH", env::var("PATH").ok()),
        ];
        assert_eq!(
            arguments,
            expected.map(|(name, value)| (name.to_owned(), value)).into()
        );
        assert!(build_args(&["=1".to_owned()]).is_err());
    }

    #[test]
    fn a_label_without_value_is_empty() {
        let given = ["a=1", "b", "c=d=e"].map(str::to_owned);
        assert_eq!(
            labels(&given).unwrap(),
            [("a", "1"), ("b", ""), ("c", "d=e")].into()
        );
        assert!(labels(&["=x".to_owned()]).is_err());
    }
}
