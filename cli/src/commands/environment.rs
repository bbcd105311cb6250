//! Environment variables from `-e` and `--env-file`, and labels from the like.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The files' variables first, then the given ones, so that those win.
pub(super) fn collect(files: &[PathBuf], given: Vec<String>) -> anyhow::Result<Vec<String>> {
    let mut variables = Vec::new();
    for path in files {
        // A name alone takes the value it has here, and nothing when it has none.
        variables.extend(read_file(path, complete)?);
    }
    for variable in given {
        variables.push(complete(&variable)?.unwrap_or(variable));
    }
    Ok(variables)
}

/// The files' labels first, then the given ones, so that those win.
pub(super) fn collect_labels(files: &[PathBuf], given: Vec<String>) -> anyhow::Result<Vec<String>> {
    let mut labels = Vec::new();
    for path in files {
        // As with Docker a name alone is none in a file.
        let with_value = |label: &str| Ok(label.contains('=').then(|| label.to_owned()));
        labels.extend(read_file(path, with_value)?);
    }
    labels.extend(given);
    Ok(labels)
}

fn read_file(
    path: &Path,
    complete: impl Fn(&str) -> anyhow::Result<Option<String>>,
) -> anyhow::Result<Vec<String>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read env file {}", path.display()))?;
    parse_file(&bytes, path, complete)
}

/// A line a variable, as it stands, without quotes or continuation (Docker's `--env-file`).
fn parse_file(
    bytes: &[u8],
    path: &Path,
    complete: impl Fn(&str) -> anyhow::Result<Option<String>>,
) -> anyhow::Result<Vec<String>> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(bytes)
        .with_context(|| format!("env file {} contains invalid utf8 bytes", path.display()))?;
    let mut variables = Vec::new();
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, _) = line.split_once('=').unwrap_or((line, ""));
        if name.is_empty() {
            bail!(
                "poorly formatted environment: no variable name on line '{line}' of {}",
                path.display()
            );
        }
        if name.contains(char::is_whitespace) {
            bail!(
                "poorly formatted environment: variable '{name}' contains whitespaces in {}",
                path.display()
            );
        }
        variables.extend(complete(line)?);
    }
    Ok(variables)
}

/// `NAME=value` as it is; `NAME` with its value from our own environment, if it has one.
fn complete(variable: &str) -> anyhow::Result<Option<String>> {
    if variable.contains('=') {
        if variable.starts_with('=') {
            bail!("invalid environment variable: {variable}");
        }
        return Ok(Some(variable.to_owned()));
    }
    if variable.is_empty() {
        bail!("invalid environment variable: it is empty");
    }
    Ok(env::var(variable).ok().map(|value| format!("{variable}={value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Vec<String>> {
        parse_file(text.as_bytes(), Path::new("file.env"), complete)
    }

    #[test]
    fn files_keep_values_as_they_stand() {
        let text = "\u{feff}# comment\n\nA=1 # no comment\n  B=\"quoted\"\nC=\nNO_SUCH_VARIABLE_HERE\n";
        assert_eq!(parse(text).unwrap(), ["A=1 # no comment", "B=\"quoted\"", "C="]);
    }

    #[test]
    fn a_name_alone_takes_its_value_from_here() {
        let path = env::var("PATH").unwrap();
        assert_eq!(parse("PATH\n").unwrap(), [format!("PATH={path}")]);
        assert_eq!(
            collect(&[], vec!["PATH".into()]).unwrap(),
            [format!("PATH={path}")]
        );
    }

    #[test]
    fn labels_of_files_come_first_and_have_values() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("labels");
        fs::write(&file, "# comment\na=1\nPATH\n").unwrap();
        let labels = collect_labels(&[file], vec!["b".into()]).unwrap();
        assert_eq!(labels, ["a=1", "b"]);
        assert!(collect_labels(&["/nonexistent".into()], Vec::new()).is_err());
    }

    #[test]
    fn a_given_name_without_value_stays_a_name() {
        let given = vec!["NO_SUCH_VARIABLE_HERE".to_owned()];
        assert_eq!(collect(&[], given.clone()).unwrap(), given);
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for text in ["my name=x\n", "=x\n"] {
            assert!(
                parse(text).unwrap_err().to_string().contains("poorly formatted"),
                "{text}"
            );
        }
        assert!(collect(&[], vec!["=x".into()]).is_err());
        assert!(parse_file(b"A=\xff\n", Path::new("f"), complete).is_err());
    }
}
