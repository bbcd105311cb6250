//! What is done with the image when it is built.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use hyper::Method;

use super::output::{Output, OutputKind};
use crate::api::{Client, Target};
use crate::commands::archive_file;
use crate::commands::cp::{receive, unpack::Unpacker};
use crate::commands::push::Push;
use crate::credentials::RemoteName;
use crate::progress::Show;
use crate::terminal;

/// What was built.
#[derive(Debug, Clone, Copy)]
pub(super) struct Built<'a> {
    pub(super) id: &'a str,
    pub(super) tags: &'a [String],
}

/// Refuses what could not be delivered, before anything is built.
pub(super) fn check(outputs: &[Output], tags: &[String]) -> anyhow::Result<()> {
    let to_stdout = outputs.iter().filter(|output| output.is_stdout()).count();
    if to_stdout > 1 {
        bail!("only one output can go to standard output: give the others a dest");
    }
    if to_stdout > 0 && terminal::stdout_is_terminal() {
        bail!("cowardly refusing to write an archive to a terminal: name a file with dest=FILE, or redirect");
    }
    if tags.is_empty() && outputs.iter().any(|output| output.kind == OutputKind::Push) {
        bail!("an image needs a name to be pushed: give it one with -t");
    }
    Ok(())
}

impl Output {
    /// Brings the image where it is to go.
    pub(super) async fn deliver(&self, client: &Client, built: Built<'_>, show: Show) -> anyhow::Result<()> {
        match &self.kind {
            OutputKind::Image => Ok(()),
            OutputKind::Push => push(client, built, show).await,
            OutputKind::ImageArchive(path) => {
                let asked = Target::new(&["images", "get"]);
                // By its names, so that whoever loads the archive has them, too.
                let target = match built.tags {
                    [] => asked.query("names", built.id),
                    tags => tags.iter().fold(asked, |target, tag| target.query("names", tag)),
                };
                let ask = client.begin(Method::GET, target);
                archive_file::deliver(ask, path.as_deref(), "failed to save the image").await
            }
            OutputKind::FilesArchive(path) => {
                let ask = client.begin(Method::GET, files(built.id));
                archive_file::deliver(ask, path.as_deref(), "failed to save the image's files").await
            }
            OutputKind::Folder(path) => unpack(client, built.id, path).await,
        }
    }
}

async fn push(client: &Client, built: Built<'_>, show: Show) -> anyhow::Result<()> {
    for image in built.tags {
        let (_, tag) = RemoteName::split(image);
        let push = Push {
            image,
            tag: Some(tag.unwrap_or("latest")),
            platform: None,
            show,
        };
        push.run(client)
            .await
            .with_context(|| format!("failed to push {image}"))?;
    }
    Ok(())
}

async fn unpack(client: &Client, id: &str, folder: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let unpacker = Unpacker::new(folder, "/", "/", false)?;
    let mut response = client.begin(Method::GET, files(id)).await?;
    receive(&mut response, unpacker)
        .await
        .with_context(|| format!("failed to write the image's files to {}", folder.display()))?;
    Ok(())
}

/// An archive of an image's files, as a container would see them.
fn files(id: &str) -> Target {
    Target::new(&["hull", "images", id, "files"])
}
