//! COPY, ADD and WORKDIR: layers of files.

use std::sync::Arc;

use dockerfile::{Add, Copy, ExpandedFiles, ExpandedSource, Span};
use tokio_util::sync::CancellationToken;

use super::BuildError;
use super::cache::Key;
use super::host::Host;
use super::layering::blocking;
use super::sources::{Excluded, Wanted};
use super::stage::StageBuild;
use crate::{
    Context, ContextBuilder, ContextLimits, CopyOptions, FetchOptions, FileTree, GitReference, LastLink,
    LayerTree, Times, copy, fetch, fetch_git, lookup, resolve_git, resolve_owner, source_digest,
};

/// What one COPY or ADD is, ready to be made on any thread.
struct Copying {
    instruction: &'static str,
    files: ExpandedFiles,
    /// Where its paths are.
    tree: Arc<dyn FileTree>,
    wanted: Vec<Wanted>,
    excluded: Option<Excluded>,
    destination: String,
    owner: Option<crate::Owner>,
    times: Times,
    token: CancellationToken,
}

impl Copying {
    fn options(&self) -> CopyOptions<'_> {
        CopyOptions {
            instruction: self.instruction,
            owner: self.owner,
            chmod: self.files.chmod.clone(),
            excludes: self.excluded.as_ref().map(|excluded| excluded as _),
            token: self.token.clone(),
            ..CopyOptions::to(self.destination.as_bytes(), self.times)
        }
    }

    /// Hands the sources on.
    fn with_sources<T>(&self, work: impl FnOnce(&[crate::Source<'_>]) -> T) -> T {
        let matchers: Vec<_> = self
            .wanted
            .iter()
            .map(|wanted| move |path: &[u8]| wanted.matches(path))
            .collect();
        let sources = self.wanted.iter().zip(&matchers);
        let sources: Vec<_> = sources
            .map(|(wanted, matches)| wanted.source(&*self.tree, matches))
            .collect();
        work(&sources)
    }

    /// What it is, and what it copies.
    fn add_to(&self, key: &mut Key) -> Result<(), BuildError> {
        let files = &self.files;
        key.add(&self.destination);
        key.add(format!(
            "{:?} {:?} {} {}",
            self.owner, files.chmod, files.link, files.parents
        ));
        key.add_all(&files.exclude);
        let digest = self.with_sources(|sources| source_digest(sources, &self.options()))?;
        key.add(digest.to_string());
        Ok(())
    }
}

/// Refuses `--checksum` for what is no file of the web.
fn no_checksum(checksum: Option<&str>) -> Result<(), BuildError> {
    match checksum {
        None => Ok(()),
        Some(_) => Err(BuildError::Pattern(
            "checksum can't be specified for non-HTTP(S) sources".into(),
        )),
    }
}

impl<H: Host> StageBuild<H> {
    pub(super) async fn copy(&mut self, copy: &Copy, span: Span) -> Result<(), BuildError> {
        let expanded = self.scope.copy(copy)?;
        let tree: Arc<dyn FileTree> = match &copy.from {
            None => self.shared.request.context.clone(),
            Some(from) => {
                let origin = self.shared.graph.origin(from)?;
                let base = self
                    .shared
                    .base(&origin, self.index)
                    .await
                    .map_err(|error| error.at(span))?;
                Arc::new(base.tree().clone())
            }
        };
        self.bring("COPY", expanded.files, tree, Vec::new(), None).await
    }

    pub(super) async fn add(&mut self, add: &Add) -> Result<(), BuildError> {
        let expanded = self.scope.add(add)?;
        let (mut files, checksum) = (expanded.files, expanded.checksum.as_deref());
        // A file of the web stays as it is unless something else is said.
        let unpack = expanded.unpack.unwrap_or(false);
        let (mut fetched, mut local) = (Vec::new(), Vec::new());
        for source in std::mem::take(&mut files.sources) {
            match &source {
                ExpandedSource::Path(path) if path.starts_with("http://") || path.starts_with("https://") => {
                    fetched.push(
                        self.download(path, checksum, unpack, expanded.keep_git_dir)
                            .await?,
                    );
                }
                ExpandedSource::Path(path) if path.parse::<GitReference>().is_ok() => {
                    no_checksum(checksum)?;
                    fetched.push(self.clone_repository(path, expanded.keep_git_dir).await?);
                }
                _ => local.push(source),
            }
        }
        if !local.is_empty() {
            no_checksum(checksum)?;
        }
        files.sources = local;
        let context = self.shared.request.context.clone();
        self.bring("ADD", files, context, fetched, expanded.unpack).await
    }

    /// A file of the web, or a repository there.
    async fn download(
        &self,
        url: &str,
        checksum: Option<&str>,
        unpack: bool,
        keep_git_dir: bool,
    ) -> Result<Wanted, BuildError> {
        if url.parse::<GitReference>().is_ok() {
            no_checksum(checksum)?;
            return self.clone_repository(url, keep_git_dir).await;
        }
        let checksum = checksum.map(str::parse).transpose();
        let options = FetchOptions {
            checksum: checksum.map_err(|error| BuildError::Pattern(format!("--checksum: {error}")))?,
            ..FetchOptions::default()
        };
        let builder = &self.shared.builder;
        let fetched = fetch(&builder.registry, url, None, &options, &builder.folder).await?;
        let fetched = fetched.ok_or_else(|| BuildError::Ended(format!("{url} was not sent")))?;
        Ok(Wanted::File {
            tree: fetched.context,
            name: fetched.name,
            unpack,
        })
    }

    async fn clone_repository(&self, text: &str, keep_git_dir: bool) -> Result<Wanted, BuildError> {
        let reference: GitReference = text
            .parse()
            .map_err(|error| BuildError::Pattern(format!("{error}")))?;
        let builder = self.shared.builder.clone();
        let options = crate::GitOptions {
            keep_git_dir,
            token: self.shared.run.token.clone(),
            ..builder.git.clone()
        };
        let tree = blocking(move || {
            let commit = resolve_git(&reference, &options, &builder.folder)?;
            Ok(fetch_git(&reference, &commit, &options, &builder.folder)?)
        })
        .await?;
        let name = "/".to_owned();
        Ok(Wanted::File {
            tree,
            name,
            unpack: false,
        })
    }

    /// Copies files, from the cache or by making their layer.
    async fn bring(
        &mut self,
        instruction: &'static str,
        files: ExpandedFiles,
        tree: Arc<dyn FileTree>,
        fetched: Vec<Wanted>,
        unpack: Option<bool>,
    ) -> Result<(), BuildError> {
        let text = format!("{instruction} {} {}", names(&files, &fetched), files.destination);
        let (shared, stage, time) = (self.shared.clone(), self.state.tree.clone(), self.shared.time());
        let destination = self.absolute(&files.destination);
        let times = match shared.latest() {
            Some(time) => Times::All(time),
            None => Times::Kept { created: time },
        };
        let mut key = Key::new("copy");
        let (copying, key) = blocking(move || {
            let unpack = unpack.unwrap_or(instruction == "ADD");
            let mut wanted = fetched;
            wanted.extend(Wanted::all(&files, unpack, time, &shared.builder.folder)?);
            let owner = files.chown.as_deref().map(|owner| resolve_owner(&stage, owner));
            let copying = Copying {
                instruction,
                owner: owner.transpose()?,
                excluded: Excluded::of(&files.exclude)?,
                files,
                tree,
                wanted,
                destination,
                times,
                token: shared.run.token.clone(),
            };
            copying.add_to(&mut key)?;
            Ok((copying, key))
        })
        .await?;
        let mut of_image = self.key("copied");
        of_image.add(key.digest().to_string());
        let key = of_image;
        if self.take_cached(&key, &text).await? {
            return Ok(());
        }
        self.make_layer(&key, &text, move |state, output, folder| {
            let nothing = LayerTree::new(Vec::new());
            let stage = if copying.files.link { &nothing } else { &state.tree };
            let options = copying.options();
            copying.with_sources(|sources| copy(stage, sources, &options, folder, output))?;
            Ok(())
        })
        .await
    }

    /// A path, from the working directory if it is relative. A slash at its end stays.
    pub(super) fn absolute(&self, path: &str) -> String {
        let is_folder = path.ends_with('/') || path == "." || path.ends_with("/.");
        let whole = match path.starts_with('/') {
            true => dockerfile::pattern::clean(path),
            false => dockerfile::pattern::clean(&format!("{}/{path}", self.state.config.working_directory())),
        };
        match is_folder && !whole.ends_with('/') {
            true => format!("{whole}/"),
            false => whole,
        }
    }

    /// WORKDIR: the folder is made where it is missing.
    pub(super) async fn work_in(&mut self, path: &str) -> Result<(), BuildError> {
        let path = match self.absolute(path) {
            path if path.len() > 1 => path.trim_end_matches('/').to_owned(),
            path => path,
        };
        self.state.config.set_working_directory(&path);
        let text = format!("WORKDIR {path}");
        let (tree, of, user) = (
            self.state.tree.clone(),
            path.clone(),
            self.state.config.user().to_owned(),
        );
        let (is_there, owner) = blocking(move || {
            let found = lookup(&tree, of.as_bytes(), LastLink::Follow)?;
            let owner = (!user.is_empty())
                .then(|| resolve_owner(&tree, &user))
                .transpose()?;
            Ok((found.is_some_and(|found| found.node.is_directory()), owner))
        })
        .await?;
        if is_there {
            self.state.config.note(&text, None);
            return Ok(());
        }
        let mut key = self.key("folder");
        key.add(&path);
        key.add(format!("{owner:?}"));
        if self.take_cached(&key, &text).await? {
            return Ok(());
        }
        let (time, token) = (self.shared.time(), self.shared.run.token.clone());
        self.make_layer(&key, &text, move |state, output, folder| {
            let empty: Context = ContextBuilder::new(folder, ContextLimits::default())?.finish()?;
            let source = crate::Source {
                tree: &empty,
                base: Vec::new(),
                what: crate::What::Path(b"/".to_vec()),
                parents: false,
                unpack: false,
            };
            let options = CopyOptions {
                owner,
                token,
                ..CopyOptions::to(format!("{path}/").as_bytes(), Times::Kept { created: time })
            };
            copy(&state.tree, &[source], &options, folder, output)?;
            Ok(())
        })
        .await
    }
}

/// The sources, for people.
fn names(files: &ExpandedFiles, fetched: &[Wanted]) -> String {
    let local = files.sources.iter().map(|source| match source {
        ExpandedSource::Path(path) => path.clone(),
        ExpandedSource::Inline { name, .. } => name.clone(),
    });
    let fetched = fetched.iter().filter_map(|wanted| match wanted {
        Wanted::File { name, .. } => Some(name.clone()),
        Wanted::Path { .. } | Wanted::Pattern { .. } => None,
    });
    fetched.chain(local).collect::<Vec<_>>().join(" ")
}
