//! What is sent to the daemon: a folder's files, what comes on standard input, or a URL alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::{Context as _, bail};
use flate2::Compression;
use flate2::write::GzEncoder;

use super::cache_folder::CacheFolders;
use super::contents::Known;
use super::folder::FolderContext;
use super::local_dockerfile::LocalDockerfile;
use super::need::{self, Question};
use super::options::Arguments;
use super::query::{Place, platform};
use super::selection::Selection;
use super::stdin::{self, Input};
use super::upload::{BodyWriter, Upload};
use crate::api::{Client, Content};
use crate::format::decimal_size;
use crate::progress::Stream;

/// A Dockerfile that is sent alone.
const ONLY_FILE: &str = "Dockerfile";

/// A context on its way.
pub(super) struct BuildContext {
    pub(super) content: Content,
    /// Whether contents are kept there for later contexts, and left out if they are there already.
    pub(super) in_parts: bool,
    pub(super) place: Place,
    pub(super) upload: Upload,
}

/// Opens what the command line names; `caches` are sent before it. How much was sent of the context is told on `report`.
pub(super) async fn open(
    client: &Client,
    arguments: &Arguments,
    build_args: &BTreeMap<String, Option<String>>,
    caches: CacheFolders,
    report: Option<Stream>,
) -> anyhow::Result<BuildContext> {
    let (context, file) = (arguments.context.as_str(), arguments.file.as_deref());
    if context == "-" {
        return from_stdin(file, arguments.compress, caches).await;
    }
    if Path::new(context).is_dir() {
        let folder = fs::canonicalize(context)
            .with_context(|| format!("unable to prepare context: cannot find {context}"))?;
        let dockerfile = match file {
            Some("-") => LocalDockerfile::from_stdin(&folder, stdin::dockerfile().await?)?,
            named => LocalDockerfile::find(&folder, named)?,
        };
        let platform = platform(arguments);
        let question = Question {
            build_args,
            target: arguments.image.target.as_deref(),
            platform: platform.as_deref(),
            pull: arguments.image.pull,
        };
        let needed = need::needed(client, &folder, dockerfile.text.as_deref(), &question).await;
        let packing = FolderContext {
            folder: Some(folder),
            selection: Selection {
                ignore: dockerfile.ignore,
                always: dockerfile.always.into_iter().collect(),
                replaced: names(&dockerfile.added),
                needed,
            },
            added: dockerfile.added,
            known: Known::default(),
        };
        let place = Place {
            dockerfile: Some(dockerfile.name),
            remote: None,
        };
        if arguments.compress {
            return Ok(packed(packing, place, true, caches, report));
        }
        let (packing, in_parts) = with_known(client, packing).await?;
        return Ok(BuildContext {
            in_parts,
            ..packed(packing, place, false, caches, report)
        });
    }
    if is_remote(context) {
        return from_remote(context, file, caches);
    }
    bail!("unable to prepare context: path {context:?} not found");
}

/// Finds out which large files need not be sent; and whether there are any large ones.
async fn with_known(client: &Client, packing: FolderContext) -> anyhow::Result<(FolderContext, bool)> {
    // Meanwhile the command can be interrupted.
    let (packing, files) = tokio::task::spawn_blocking(move || {
        let files = packing.large_files()?;
        anyhow::Ok((packing, files))
    })
    .await??;
    let has_large = !files.is_empty();
    let known = Known::ask(client, files).await;
    Ok((FolderContext { known, ..packing }, has_large))
}

fn names(added: &[(String, Vec<u8>)]) -> BTreeSet<String> {
    added.iter().map(|(name, _)| name.clone()).collect()
}

fn packed(
    packing: FolderContext,
    place: Place,
    compress: bool,
    caches: CacheFolders,
    report: Option<Stream>,
) -> BuildContext {
    let (content, upload) = Upload::start(move |body| {
        caches.pack(body)?;
        let before = body.written();
        pack(&packing, body, compress)?;
        // Before the last of it: the daemon prints nothing of the build until it has that.
        tell(report, body.written().saturating_sub(before))
    });
    BuildContext {
        content,
        in_parts: false,
        place,
        upload,
    }
}

fn pack(packing: &FolderContext, body: &mut BodyWriter, compress: bool) -> anyhow::Result<()> {
    if !compress {
        return packing.pack(body);
    }
    let mut encoder = GzEncoder::new(body, Compression::default());
    packing.pack(&mut encoder)?;
    encoder.finish()?;
    Ok(())
}

fn tell(report: Option<Stream>, bytes: u64) -> anyhow::Result<()> {
    let size = decimal_size(i64::try_from(bytes).unwrap_or(i64::MAX));
    let line = format!("Sending build context to the daemon  {size}\n");
    match report {
        Some(Stream::Output) => io::stdout().write_all(line.as_bytes())?,
        Some(Stream::Error) => io::stderr().write_all(line.as_bytes())?,
        None => {}
    }
    Ok(())
}

async fn from_stdin(
    file: Option<&str>,
    compress: bool,
    caches: CacheFolders,
) -> anyhow::Result<BuildContext> {
    if file == Some("-") {
        bail!("invalid argument: can't use stdin for both build context and dockerfile");
    }
    match stdin::open().await? {
        Input::Archive(head, rest) => {
            let (content, upload) = Upload::start(move |body| {
                caches.pack(body)?;
                io::copy(&mut head.chain(rest), body).context("cannot read standard input")?;
                Ok(())
            });
            let place = Place {
                dockerfile: file.map(str::to_owned),
                remote: None,
            };
            Ok(BuildContext {
                content,
                in_parts: false,
                place,
                upload,
            })
        }
        Input::Dockerfile(text) => {
            let place = Place {
                dockerfile: Some(ONLY_FILE.to_owned()),
                remote: None,
            };
            let (content, upload) = Upload::start(move |body| {
                caches.pack(body)?;
                only_dockerfile(&text, body, compress)
            });
            Ok(BuildContext {
                content,
                in_parts: false,
                place,
                upload,
            })
        }
    }
}

/// A context of nothing but a Dockerfile.
fn only_dockerfile(text: &[u8], body: &mut BodyWriter, compress: bool) -> anyhow::Result<()> {
    let packing = FolderContext {
        folder: None,
        selection: Selection::default(),
        added: vec![(ONLY_FILE.to_owned(), text.to_vec())],
        known: Known::default(),
    };
    pack(&packing, body, compress)
}

fn from_remote(url: &str, file: Option<&str>, caches: CacheFolders) -> anyhow::Result<BuildContext> {
    if file == Some("-") {
        bail!(
            "the daemon fetches {url}, and cannot take a Dockerfile from standard input with it: fetch it yourself, and \
             build the folder"
        );
    }
    let (content, upload) = match caches.is_empty() {
        true => (Content::default(), Upload::default()),
        false => Upload::start(move |body| caches.pack(body)),
    };
    Ok(BuildContext {
        content,
        in_parts: false,
        place: Place {
            dockerfile: file.map(str::to_owned),
            remote: Some(url.to_owned()),
        },
        upload,
    })
}

/// Whether the daemon can fetch it: a Git repository or an archive.
fn is_remote(context: &str) -> bool {
    let schemes = ["http://", "https://", "git://", "ssh://", "git@", "github.com/"];
    schemes.iter().any(|scheme| context.starts_with(scheme))
}
