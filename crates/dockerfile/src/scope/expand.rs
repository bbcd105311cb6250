//! What the words of each instruction become. `RUN`, `CMD`, `ENTRYPOINT`, `SHELL`, `HEALTHCHECK` and `MAINTAINER` are not
//! expanded: their text is for a shell, or stands as it is. Only `EXPOSE` splits what its variables hold into words.

use super::stage::{Expanded, ScopeError, StageScope};
use crate::instruction::{
    Add, Copy, Files, Instruction, Label, Mode, Mount, MountError, MountSpec, Port, Source, Words,
};
use crate::position::Word;

/// A `COPY`, ready to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpandedCopy {
    /// What is copied from, as written: a stage, an image or a named context.
    pub from: Option<String>,
    /// What is copied.
    pub files: ExpandedFiles,
}

/// An `ADD`, ready to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpandedAdd {
    /// The digest of the source.
    pub checksum: Option<String>,
    /// Whether `.git` of a repository is kept.
    pub keep_git_dir: bool,
    /// Whether archives are unpacked; `None` for local ones only.
    pub unpack: Option<bool>,
    /// What is added.
    pub files: ExpandedFiles,
}

/// What `COPY` and `ADD` have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct ExpandedFiles {
    /// The sources in their order.
    pub sources: Vec<ExpandedSource>,
    /// Where they go: a folder when it ends in a slash. From the working directory when it is relative.
    pub destination: String,
    /// `user[:group]`, names or numbers.
    pub chown: Option<String>,
    /// The mode of the files.
    pub chmod: Option<Mode>,
    /// Whether the files are a layer that does not depend on those below.
    pub link: bool,
    /// Whether the folders above a source are kept.
    pub parents: bool,
    /// What is left out, for [`Ignore::new`](crate::pattern::Ignore::new).
    pub exclude: Vec<String>,
}

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExpandedSource {
    /// A path, pattern or, with `ADD`, URL.
    Path(String),
    /// A file that stands in the Dockerfile.
    Inline {
        /// Its name.
        name: String,
        /// What it holds.
        content: String,
    },
}

impl StageScope {
    /// The words of a `COPY`.
    pub fn copy(&self, copy: &Copy) -> Result<ExpandedCopy, ScopeError> {
        let files = self.files(&copy.files)?;
        let is_url = |path: &str| path.starts_with("http://") || path.starts_with("https://");
        for (source, word) in files.sources.iter().zip(&copy.files.words) {
            if matches!(source, ExpandedSource::Path(path) if is_url(path)) {
                let what = "source can't be a URL for COPY: use ADD".to_owned();
                return Err(ScopeError::new(word.span, what));
            }
        }
        Ok(ExpandedCopy {
            from: copy.from.as_ref().map(|from| from.value.clone()),
            files,
        })
    }

    /// The words of an `ADD`.
    pub fn add(&self, add: &Add) -> Result<ExpandedAdd, ScopeError> {
        Ok(ExpandedAdd {
            checksum: self.optional(add.checksum.as_ref())?,
            keep_git_dir: add.keep_git_dir.unwrap_or(false),
            unpack: add.unpack,
            files: self.files(&add.files)?,
        })
    }

    fn files(&self, files: &Files) -> Result<ExpandedFiles, ScopeError> {
        let source = |source: Source<'_>| match source {
            Source::Path(word) => Ok(ExpandedSource::Path(self.word(word)?)),
            Source::Inline(heredoc) => Ok(ExpandedSource::Inline {
                name: heredoc.name.clone(),
                content: match heredoc.expand {
                    true => self.content(&heredoc.text(), heredoc.body.span)?,
                    false => heredoc.text(),
                },
            }),
        };
        let mode = |word: &Word| {
            let text = self.word(word)?;
            Mode::parse(&text).map_err(|error| ScopeError::mode(word.span, &error))
        };
        Ok(ExpandedFiles {
            sources: files.sources().map(source).collect::<Result<_, _>>()?,
            destination: self.word(&files.destination)?,
            chown: self.optional(files.chown.as_ref())?,
            chmod: files.chmod.as_ref().map(mode).transpose()?,
            link: files.link.unwrap_or(false),
            parents: files.parents.unwrap_or(false),
            exclude: files
                .exclude
                .iter()
                .map(|word| self.word(word))
                .collect::<Result<_, _>>()?,
        })
    }

    fn optional(&self, word: Option<&Word>) -> Result<Option<String>, ScopeError> {
        let text = word.map(|word| self.word(word)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    }

    /// The labels of a `LABEL`.
    pub fn labels(&self, label: &Label) -> Result<Expanded, ScopeError> {
        self.key_values(&label.labels)
    }

    /// The ports of an `EXPOSE`.
    pub fn ports(&self, words: &[Word]) -> Result<Vec<Port>, ScopeError> {
        let mut ports = Vec::new();
        for word in words {
            for text in self.split(word)? {
                ports.push(Port::parse(&text).map_err(|error| ScopeError::port(word.span, &error))?);
            }
        }
        Ok(ports)
    }

    /// The paths of a `VOLUME`.
    pub fn volumes(&self, volume: &Words) -> Result<Vec<String>, ScopeError> {
        volume.words.iter().map(|word| self.word(word)).collect()
    }

    /// What a `--mount` of a `RUN` mounts.
    pub fn mount(&self, mount: &Mount) -> Result<MountSpec, ScopeError> {
        let span = mount
            .options
            .first()
            .map(|option| option.span)
            .unwrap_or_default();
        // An error of the expansion keeps its own words.
        let mut failed = None;
        let spec = mount.spec(|value| {
            self.expand_at(value, span).or_else(|error| {
                failed = Some(error);
                Ok(String::new())
            })
        });
        match failed {
            Some(error) => Err(error),
            None => spec.map_err(|error: MountError| ScopeError::mount(span, &error)),
        }
    }

    /// Walks over any instruction, for what is wrong with its words alone.
    pub(crate) fn pass(&mut self, instruction: &Instruction) -> Result<(), ScopeError> {
        match instruction {
            Instruction::Add(add) => drop(self.add(add)?),
            Instruction::Arg(arg) => drop(self.declare(arg)?),
            Instruction::Copy(copy) => drop(self.copy(copy)?),
            Instruction::Env(env) => drop(self.set_environment(env)?),
            Instruction::Expose(ports) => drop(self.ports(ports)?),
            Instruction::Label(label) => drop(self.labels(label)?),
            Instruction::Run(run) => {
                for mount in &run.mounts {
                    self.mount(mount)?;
                }
            }
            Instruction::Volume(volume) => drop(self.volumes(volume)?),
            Instruction::StopSignal(word) | Instruction::User(word) | Instruction::Workdir(word) => {
                drop(self.word(word)?);
            }
            _ => {}
        }
        Ok(())
    }
}
