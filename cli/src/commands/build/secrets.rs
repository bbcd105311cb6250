//! `--secret`: what a build may read and no layer keeps. Secrets travel in a header, which nobody logs.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use thiserror::Error;

use crate::commands::csv;

/// The header: base64 (for URLs) of a JSON object from names to contents in base64.
pub(super) const HEADER: &str = "x-hull-build-secrets";
/// How much all secrets of a build may hold, in bytes: a header is not long.
const LIMIT: usize = 96 << 10;

/// `id=NAME[,src=FILE][,env=VARIABLE]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretSpec {
    id: String,
    source: Source,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    /// A variable of that name if there is one, else a file.
    Named,
    File(PathBuf),
    Variable(String),
}

/// What describes no secret.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum SecretError {
    /// It has no name.
    #[error("a secret needs a name: write id=NAME,src=FILE or id=NAME,env=VARIABLE")]
    NoId,
    /// A field nobody knows.
    #[error("unexpected field '{0}' of a secret: it has id, src, env and type (file or env)")]
    Field(String),
    /// Two sources.
    #[error("the secret {0} is to come from a file and from a variable: choose one")]
    TwoSources(String),
}

impl FromStr for SecretSpec {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let (mut id, mut file, mut variable, mut is_variable) = (String::new(), None, None, false);
        for field in csv::fields(text) {
            match field.split_once('=') {
                Some(("id", value)) => id = value.to_owned(),
                Some(("src" | "source", value)) => file = Some(value.to_owned()),
                Some(("env", value)) => variable = Some(value.to_owned()),
                Some(("type", "file")) => {}
                Some(("type", "env")) => is_variable = true,
                _ => return Err(SecretError::Field(field)),
            }
        }
        if id.is_empty() {
            return Err(SecretError::NoId);
        }
        if is_variable && variable.is_none() {
            variable = Some(file.take().unwrap_or_else(|| id.clone()));
        }
        let source = match (file, variable) {
            (None, None) => Source::Named,
            (Some(file), None) => Source::File(file.into()),
            (None, Some(variable)) => Source::Variable(variable),
            (Some(_), Some(_)) => return Err(SecretError::TwoSources(id)),
        };
        Ok(Self { id, source })
    }
}

/// The header's value; none without secrets.
pub(super) fn header(secrets: &[SecretSpec]) -> anyhow::Result<Option<String>> {
    let mut contents = BTreeMap::new();
    let mut size = 0;
    for secret in secrets {
        let content = secret.read()?;
        size += content.len();
        if size > LIMIT {
            bail!(
                "the secrets of a build may hold {} KiB together, and with {} they hold more: put large files into the \
                 build context or a volume",
                LIMIT >> 10,
                secret.id
            );
        }
        if contents.insert(&secret.id, STANDARD.encode(content)).is_some() {
            bail!("there are two secrets with the id {}", secret.id);
        }
    }
    if contents.is_empty() {
        return Ok(None);
    }
    Ok(Some(URL_SAFE.encode(serde_json::to_vec(&contents)?)))
}

impl SecretSpec {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        match &self.source {
            Source::Named => match env::var_os(&self.id) {
                Some(value) => Ok(value.into_encoded_bytes()),
                None => self.read_file(&PathBuf::from(&self.id)),
            },
            Source::File(path) => self.read_file(path),
            Source::Variable(name) => match env::var_os(name) {
                Some(value) => Ok(value.into_encoded_bytes()),
                None => bail!(
                    "the secret {} is to come from the variable {name}, which is not set",
                    self.id
                ),
            },
        }
    }

    fn read_file(&self, path: &PathBuf) -> anyhow::Result<Vec<u8>> {
        let cannot = || format!("cannot read the secret {} from {}", self.id, path.display());
        let mut content = Vec::new();
        // One byte more than there may be, which is then too many.
        let limit = LIMIT as u64 + 1;
        let file = File::open(path).with_context(cannot)?;
        file.take(limit).read_to_end(&mut content).with_context(cannot)?;
        Ok(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<SecretSpec, SecretError> {
        text.parse()
    }

    fn decoded(secrets: &[SecretSpec]) -> BTreeMap<String, Vec<u8>> {
        let header = header(secrets).unwrap().unwrap();
        let map: BTreeMap<String, String> =
            serde_json::from_slice(&URL_SAFE.decode(header).unwrap()).unwrap();
        map.into_iter()
            .map(|(id, content)| (id, STANDARD.decode(content).unwrap()))
            .collect()
    }

    #[test]
    fn a_secret_comes_from_a_file_or_a_variable() {
        let source = |text: &str| spec(text).map(|secret| secret.source);
        assert_eq!(source("id=a,src=/f"), Ok(Source::File("/f".into())));
        assert_eq!(source("type=file,id=a,source=/f"), Ok(Source::File("/f".into())));
        assert_eq!(source("id=a,env=V"), Ok(Source::Variable("V".into())));
        assert_eq!(source("id=a,type=env"), Ok(Source::Variable("a".into())));
        assert_eq!(source("id=a,type=env,src=V"), Ok(Source::Variable("V".into())));
        assert_eq!(source("id=a"), Ok(Source::Named));
        assert_eq!(source("src=/f"), Err(SecretError::NoId));
        assert_eq!(source("id=a,x=1"), Err(SecretError::Field("x=1".into())));
        assert_eq!(
            source("id=a,src=f,env=V"),
            Err(SecretError::TwoSources("a".into()))
        );
    }

    #[test]
    fn the_header_holds_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("s");
        std::fs::write(&file, b"\x00\xffsecret\n").unwrap();
        let file = format!("id=file,src={}", file.display());
        let secrets = [spec(&file).unwrap(), spec("id=path,env=PATH").unwrap()];
        let expected = [
            ("file".to_owned(), b"\x00\xffsecret\n".to_vec()),
            ("path".to_owned(), env::var("PATH").unwrap().into_bytes()),
        ];
        assert_eq!(decoded(&secrets), expected.into());
        assert_eq!(header(&[]).unwrap(), None);
        let twice = [secrets[0].clone(), secrets[0].clone()];
        assert!(
            header(&twice)
                .unwrap_err()
                .to_string()
                .contains("two secrets with the id file")
        );
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = header(&[spec("id=a,src=/nonexistent/f").unwrap()]).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "cannot read the secret a from /nonexistent/f: No such file or directory (os error 2)"
        );
        let error = header(&[spec("id=a,env=NO_SUCH_VARIABLE").unwrap()]).unwrap_err();
        assert!(error.to_string().contains("NO_SUCH_VARIABLE"), "{error}");
    }

    #[test]
    fn too_much_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let secret = |name: &str, size: usize| {
            let file = folder.path().join(name);
            std::fs::write(&file, vec![b'x'; size]).unwrap();
            spec(&format!("id={name},src={}", file.display())).unwrap()
        };
        let (half, rest, more) = (
            secret("half", LIMIT / 2),
            secret("rest", LIMIT - LIMIT / 2),
            secret("more", 1),
        );
        assert!(header(&[half.clone(), rest.clone()]).is_ok());
        let error = header(&[half, rest, more]).unwrap_err().to_string();
        assert!(error.contains("96 KiB") && error.contains("more"), "{error}");
        assert!(header(&[secret("huge", LIMIT * 3)]).is_err());
    }
}
