//! `--output`: where the result of a build goes. In any case it is an image in the daemon's store.

use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

use crate::commands::csv;

/// One `--output`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    pub(super) kind: OutputKind,
    /// Further names of the image.
    pub(super) names: Vec<String>,
}

/// What is made of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OutputKind {
    /// Nothing further.
    Image,
    /// It is pushed under its names.
    Push,
    /// An archive that `load` reads; standard output where there is no path.
    ImageArchive(Option<PathBuf>),
    /// An archive of its files.
    FilesArchive(Option<PathBuf>),
    /// Its files, in a folder.
    Folder(PathBuf),
}

/// What describes no output.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum OutputError {
    /// A type nobody knows.
    #[error("invalid output type '{0}': must be one of docker, image, registry, oci, tar or local")]
    Type(String),
    /// There is no type.
    #[error("invalid output '{0}': write type=TYPE,dest=PATH, or a folder alone")]
    Format(String),
    /// Something that such an output does not have.
    #[error("an output of type {kind} has no '{field}': leave it out")]
    Field {
        /// The type.
        kind: String,
        /// The field as it was given.
        field: String,
    },
    /// A folder is needed.
    #[error("an output of type local needs a folder: write dest=DIR")]
    NoFolder,
}

impl Output {
    /// `--load`
    pub(super) fn docker() -> Self {
        OutputKind::Image.into()
    }

    /// `--push`
    pub(super) fn registry() -> Self {
        OutputKind::Push.into()
    }

    /// Whether it goes to standard output.
    pub(super) fn is_stdout(&self) -> bool {
        matches!(
            self.kind,
            OutputKind::ImageArchive(None) | OutputKind::FilesArchive(None)
        )
    }
}

impl From<OutputKind> for Output {
    fn from(kind: OutputKind) -> Self {
        Self {
            kind,
            names: Vec::new(),
        }
    }
}

/// The fields of an output, as they were given.
#[derive(Default)]
struct Fields {
    kind: Option<String>,
    dest: Option<String>,
    names: Vec<String>,
    push: bool,
}

impl FromStr for Output {
    type Err = OutputError;

    fn from_str(text: &str) -> Result<Self, OutputError> {
        // As with Docker, what is no list of fields is a folder, and `-` an archive of the files.
        if text == "-" {
            return Ok(OutputKind::FilesArchive(None).into());
        }
        if !text.contains('=') && !text.is_empty() {
            return Ok(OutputKind::Folder(text.into()).into());
        }
        let fields = Fields::parse(text)?;
        let Some(kind) = fields.kind.as_deref() else {
            return Err(OutputError::Format(text.to_owned()));
        };
        let dest = fields.dest.as_deref();
        let path = dest.filter(|dest| *dest != "-").map(PathBuf::from);
        let (takes_dest, takes_names, takes_push) = match kind {
            "docker" => (true, true, false),
            "oci" => (true, true, false),
            "image" => (false, true, true),
            "registry" => (false, true, true),
            "tar" | "local" => (true, false, false),
            other => return Err(OutputError::Type(other.to_owned())),
        };
        for (given, taken, field) in [
            (dest.is_some(), takes_dest, "dest"),
            (!fields.names.is_empty(), takes_names, "name"),
            (fields.push, takes_push, "push"),
        ] {
            if given && !taken {
                return Err(OutputError::Field {
                    kind: kind.to_owned(),
                    field: field.to_owned(),
                });
            }
        }
        let kind = match kind {
            "docker" if dest.is_none() => OutputKind::Image,
            "docker" | "oci" => OutputKind::ImageArchive(path),
            "tar" => OutputKind::FilesArchive(path),
            "local" => OutputKind::Folder(path.ok_or(OutputError::NoFolder)?),
            "image" if !fields.push => OutputKind::Image,
            _ => OutputKind::Push,
        };
        Ok(Self {
            kind,
            names: fields.names,
        })
    }
}

impl Fields {
    fn parse(text: &str) -> Result<Self, OutputError> {
        let mut fields = Self::default();
        for field in csv::fields(text) {
            match field.split_once('=') {
                Some(("type", value)) => fields.kind = Some(value.to_owned()),
                Some(("dest", value)) => fields.dest = Some(value.to_owned()),
                // A list of names stands in quotation marks.
                Some(("name" | "ref", value)) => {
                    let names = value.split(',').filter(|name| !name.is_empty());
                    fields.names.extend(names.map(str::to_owned));
                }
                Some(("push", "true")) => fields.push = true,
                Some(("push", "false")) => {}
                _ => {
                    return Err(OutputError::Field {
                        kind: fields.kind.unwrap_or_else(|| "any".to_owned()),
                        field,
                    });
                }
            }
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &str) -> Result<OutputKind, OutputError> {
        text.parse().map(|output: Output| output.kind)
    }

    #[test]
    fn outputs_are_written_as_dockers() {
        for (text, expected) in [
            ("out", OutputKind::Folder("out".into())),
            ("-", OutputKind::FilesArchive(None)),
            ("type=local,dest=out", OutputKind::Folder("out".into())),
            ("type=tar", OutputKind::FilesArchive(None)),
            (
                "type=tar,dest=a.tar",
                OutputKind::FilesArchive(Some("a.tar".into())),
            ),
            (
                "dest=a.tar,type=oci",
                OutputKind::ImageArchive(Some("a.tar".into())),
            ),
            ("type=oci,dest=-", OutputKind::ImageArchive(None)),
            ("type=docker", OutputKind::Image),
            ("type=docker,dest=-", OutputKind::ImageArchive(None)),
            ("type=image,name=a", OutputKind::Image),
            ("type=image,name=a,push=true", OutputKind::Push),
            ("type=registry", OutputKind::Push),
        ] {
            assert_eq!(kind(text), Ok(expected), "{text}");
        }
        let output: Output = r#"type=image,"name=a,b:1",push=true"#.parse().unwrap();
        assert_eq!(output.names, ["a", "b:1"]);
        assert!(kind("type=tar").is_ok_and(|kind| Output::from(kind).is_stdout()));
    }

    #[test]
    fn what_is_no_output_is_told() {
        let field = |kind: &str, field: &str| {
            Err(OutputError::Field {
                kind: kind.into(),
                field: field.into(),
            })
        };
        assert_eq!(kind("type=x,dest=a"), Err(OutputError::Type("x".into())));
        assert_eq!(kind("dest=a"), Err(OutputError::Format("dest=a".into())));
        assert_eq!(kind("type=local"), Err(OutputError::NoFolder));
        assert_eq!(kind("type=local,dest=-"), Err(OutputError::NoFolder));
        assert_eq!(kind("type=tar,name=a"), field("tar", "name"));
        assert_eq!(kind("type=image,dest=a"), field("image", "dest"));
        assert_eq!(kind("type=oci,push=true,dest=a"), field("oci", "push"));
        assert_eq!(
            kind("type=oci,compression=zstd"),
            field("oci", "compression=zstd")
        );
    }
}
