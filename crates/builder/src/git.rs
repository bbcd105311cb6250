//! ADD of a git repository, and a build context from one.
//!
//! Nothing is ever checked out: a bare repository is fetched by the `git` of the host, and `git archive` streams a commit of it into a
//! [`Context`]. No name that a repository holds is created on the host, no hook and no filter of anybody is run, and submodules are
//! left out.

mod process;
mod reference;

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use tar_stream::Timestamp;
use tokio_util::sync::CancellationToken;

use self::process::Git;
pub use self::reference::{GitReference, GitReferenceError};
use crate::cancellation::{Cancellable, Cancelled};
use crate::context::{Context, ContextAttributes, ContextBuilder, ContextError, ContextLimits};

/// Files of a repository that make a `.git` together with what was fetched.
const GIT_FILES: [&str; 7] = [
    "HEAD",
    "config",
    "objects",
    "refs",
    "packed-refs",
    "shallow",
    "index",
];

/// How a repository is fetched.
#[derive(Debug, Clone)]
pub struct GitOptions {
    /// `--keep-git-dir`.
    pub keep_git_dir: bool,
    /// Whether repositories of this machine (`file://`) may be read. Whoever may build could read all of them.
    pub allow_local: bool,
    /// The largest file that git may write, and the most that a commit may hold, in bytes.
    pub max_bytes: u64,
    /// How long git may take for each of a few steps.
    pub time: Duration,
    /// Ends git, and what is done with what it gives.
    pub token: CancellationToken,
}

impl Default for GitOptions {
    /// No `.git`, no repositories of this machine, 16 GiB, an hour.
    fn default() -> Self {
        Self {
            keep_git_dir: false,
            allow_local: false,
            max_bytes: 16 << 30,
            time: Duration::from_secs(3600),
            token: CancellationToken::new(),
        }
    }
}

/// Why a repository could not be had.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// There is no git.
    #[error(
        "there is no git on the machine that builds; install it there, or send the files with the build context"
    )]
    NoGit,
    /// Git could not be run.
    #[error("cannot run git: {0}")]
    Run(#[source] io::Error),
    /// Git has failed.
    #[error("cannot {action} {remote}: {message}")]
    Failed {
        /// What was tried.
        action: &'static str,
        /// The repository, without a password.
        remote: String,
        /// What git said.
        message: String,
    },
    /// It takes too long.
    #[error("cannot {action} {remote}: it took longer than {} s", .time.as_secs())]
    TooSlow {
        /// What was tried.
        action: &'static str,
        /// The repository, without a password.
        remote: String,
        /// How long there was.
        time: Duration,
    },
    /// Nobody waits for it any more.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A repository of this machine, which is not allowed.
    #[error(
        "{0} is a repository of the machine that builds, which a build may not read; push it to a server"
    )]
    Local(String),
    /// There is no such branch, tag or commit.
    #[error("{remote} has no branch, tag or commit {reference}")]
    NoReference {
        /// The repository, without a password.
        remote: String,
        /// What was asked for.
        reference: String,
    },
    /// What git gave is no context.
    #[error(transparent)]
    Context(#[from] ContextError),
    /// The temporary folder for the repository.
    #[error("cannot use a temporary folder in {folder}: {source}")]
    Temporary {
        /// Where it was to be.
        folder: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The commit that a reference means now, for the cache of builds: 40 or 64 hexadecimal digits. It blocks.
pub fn resolve_git(
    reference: &GitReference,
    options: &GitOptions,
    folder: &Path,
) -> Result<String, GitError> {
    check_allowed(reference, options)?;
    if reference.is_commit() {
        return Ok(reference.reference.clone());
    }
    let temporary = temporary_folder(folder)?;
    let git = Git::new(temporary.path(), reference, options);
    let name = &reference.reference;
    let peeled = format!("{name}^{{}}");
    let listed = git.output("ask", &["ls-remote", "--", &reference.remote, name, &peeled])?;
    let lines = listed.lines().filter_map(|line| line.split_once('\t'));
    // A tag with a message is an object of its own; the commit is what it leads to. Branches count before tags, as in a checkout.
    let rank = |found: &str| match found {
        found if found == "HEAD" || found == name => Some(0),
        found if *found == format!("refs/heads/{name}") => Some(1),
        found if *found == format!("refs/tags/{peeled}") => Some(2),
        found if *found == format!("refs/tags/{name}") => Some(3),
        found if *found == peeled => Some(4),
        _ => None,
    };
    let ranked = lines.filter_map(|(commit, found)| Some((rank(found)?, commit)));
    let best = ranked
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, commit)| commit.to_owned());
    best.ok_or_else(|| GitError::NoReference {
        remote: reference.shown(),
        reference: name.clone(),
    })
}

/// The files of `commit`, which [`resolve_git`] has found, or of the directory in it that the reference names. It blocks.
///
/// Files are 0644 or 0755, of the time of the commit. What is fetched meanwhile lies in a temporary folder in `folder`.
pub fn fetch_git(
    reference: &GitReference,
    commit: &str,
    options: &GitOptions,
    folder: &Path,
) -> Result<Context, GitError> {
    check_allowed(reference, options)?;
    let temporary = temporary_folder(folder)?;
    let git = Git::new(temporary.path(), reference, options);
    let repository = git.repository();
    git.output(
        "make a repository for",
        &["init", "--quiet", "--bare", "--template=", "--", "repository"],
    )?;
    // What the repository says of its own archives must not leave anything out of them.
    let info = repository.join("info");
    let attributes = fs::create_dir_all(&info)
        .and_then(|()| fs::write(info.join("attributes"), "* -export-ignore -export-subst\n"));
    attributes.map_err(temporary_error(folder))?;
    fetch_commit(&git, reference, commit)?;
    let seconds = git.output(
        "read a commit of",
        &["show", "--no-patch", "--format=%ct", commit, "--"],
    )?;
    let mtime = Timestamp {
        seconds: seconds.trim().parse().unwrap_or(0),
        nanoseconds: 0,
    };
    let limits = ContextLimits {
        content_bytes: options.max_bytes,
        ..ContextLimits::default()
    };
    let mut context = ContextBuilder::new(folder, limits)?;
    let tree = format!("{commit}:{}", reference.directory);
    let archive = ["-c", "tar.umask=0022", "archive", "--format=tar", &tree];
    git.run("read", &archive, |output| context.add_tar(output, Some(mtime)))??;
    if options.keep_git_dir && reference.directory.is_empty() {
        git.output("keep", &["read-tree", commit])?;
        git.output("keep", &["update-ref", "--no-deref", "HEAD", commit])?;
        git.output("keep", &["config", "core.bare", "false"])?;
        let mut keeping = Keeping {
            context: &mut context,
            mtime,
            token: &options.token,
        };
        for name in GIT_FILES {
            let kept = keeping.keep(&repository.join(name), &format!(".git/{name}"), 0);
            kept.map_err(temporary_error(folder))??;
        }
    }
    Ok(context.finish()?)
}

/// Only the commit, where the server gives commits by their names; everything, where it does not.
fn fetch_commit(git: &Git<'_>, reference: &GitReference, commit: &str) -> Result<(), GitError> {
    let remote = &reference.remote;
    let shallow = ["fetch", "--quiet", "--no-tags", "--depth=1", "--", remote, commit];
    let Err(refused) = git.output("fetch", &shallow) else {
        return Ok(());
    };
    let everything = [
        "fetch",
        "--quiet",
        "--no-tags",
        "--",
        remote,
        "+refs/heads/*:refs/all/*",
        "+refs/tags/*:refs/all-tags/*",
    ];
    git.output("fetch", &everything).map_err(|_| refused)?;
    let exists = git.output("find", &["cat-file", "-e", &format!("{commit}^{{commit}}")]);
    exists.map(drop).map_err(|_| GitError::NoReference {
        remote: reference.shown(),
        reference: commit.to_owned(),
    })
}

/// The deepest folder in a repository of git's own making.
const MAX_DEPTH: usize = 64;

/// What is made of the repository that git has just made. Only regular files and folders are there to be kept.
struct Keeping<'a> {
    context: &'a mut ContextBuilder,
    mtime: Timestamp,
    token: &'a CancellationToken,
}

impl Keeping<'_> {
    /// Adds a file or a folder.
    fn keep(&mut self, from: &Path, path: &str, depth: usize) -> io::Result<Result<(), ContextError>> {
        let kind = match fs::symlink_metadata(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(())),
            metadata => metadata?.file_type(),
        };
        if kind.is_file() {
            let attributes = self.attributes(0o644);
            let mut content = Cancellable::new(fs::File::open(from)?, self.token);
            let added = self.context.file(path.as_bytes(), attributes, &mut content);
            return Ok(added.map(drop));
        }
        if !kind.is_dir() || depth > MAX_DEPTH {
            return Ok(Ok(()));
        }
        if let Err(error) = self.context.directory(path.as_bytes(), self.attributes(0o755)) {
            return Ok(Err(error));
        }
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Err(error) = self.keep(&from.join(name), &format!("{path}/{name}"), depth + 1)? {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn attributes(&self, mode: u16) -> ContextAttributes {
        ContextAttributes {
            mode,
            mtime: self.mtime,
            xattrs: Vec::new(),
        }
    }
}

fn check_allowed(reference: &GitReference, options: &GitOptions) -> Result<(), GitError> {
    match reference.is_local() && !options.allow_local {
        true => Err(GitError::Local(reference.shown())),
        false => Ok(()),
    }
}

fn temporary_folder(folder: &Path) -> Result<tempfile::TempDir, GitError> {
    tempfile::Builder::new()
        .prefix("git-")
        .tempdir_in(folder)
        .map_err(temporary_error(folder))
}

fn temporary_error(folder: &Path) -> impl FnOnce(io::Error) -> GitError {
    let folder = folder.display().to_string();
    move |source| GitError::Temporary { folder, source }
}
