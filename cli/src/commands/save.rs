//! `hull save`

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use hyper::Method;
use tempfile::NamedTempFile;

use crate::api::{Client, Pending, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull save [OPTIONS] IMAGE [IMAGE...]")]
pub(crate) struct Arguments {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Names or IDs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    match &arguments.output {
        None if io::stdout().is_terminal() => Err(anyhow::anyhow!(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect"
        )
        .into()),
        None => {
            let response = ask(client, &arguments.images).await?;
            Ok(copy(response, &mut io::stdout().lock()).await?)
        }
        Some(path) => Ok(save_to(client, &arguments.images, path).await?),
    }
}

async fn ask(client: &Client, images: &[String]) -> anyhow::Result<Pending> {
    let target = images
        .iter()
        .fold(Target::new(&["images", "get"]), |target, image| {
            target.query("names", image)
        });
    Ok(client.begin(Method::GET, target).await?)
}

/// A file appears under its name when all of it is there.
async fn save_to(client: &Client, images: &[String], path: &Path) -> anyhow::Result<()> {
    let cannot = || format!("failed to save image: cannot write {}", path.display());
    if let Ok(metadata) = fs::metadata(path)
        && !metadata.is_file()
    {
        // A pipe or a device has no other name to be written under.
        if metadata.is_dir() {
            bail!("failed to save image: {} is a directory", path.display());
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .open(path)
            .with_context(cannot)?;
        return copy(ask(client, images).await?, &mut file).await;
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = NamedTempFile::new_in(folder).with_context(cannot)?;
    copy(ask(client, images).await?, &mut file).await?;
    file.persist(path).with_context(cannot)?;
    Ok(())
}

async fn copy(mut response: Pending, output: &mut impl Write) -> anyhow::Result<()> {
    while let Some(chunk) = response.chunk().await? {
        output.write_all(&chunk).context("cannot write the archive")?;
    }
    Ok(output.flush()?)
}
