//! `hull context export` and `import`

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;

use anyhow::{Context, bail};
use clap::Args;

use super::check_free;
use crate::commands::print_line;
use crate::contexts::{self, DEFAULT, Store};
use crate::failure::{CommandResult, complain};

/// Stands for a standard stream.
const STREAM: &str = "-";

#[derive(Debug, Args)]
#[command(override_usage = "hull context export [OPTIONS] CONTEXT [FILE|-]")]
pub(super) struct ExportArguments {
    /// Its name
    #[arg(value_name = "CONTEXT")]
    name: String,

    /// Where to; CONTEXT.dockercontext without it
    #[arg(value_name = "FILE|-")]
    file: Option<String>,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull context import CONTEXT FILE|-")]
pub(super) struct ImportArguments {
    /// Its name to be
    #[arg(value_name = "CONTEXT")]
    name: String,

    /// What was exported
    #[arg(value_name = "FILE|-")]
    file: String,
}

pub(super) fn export(store: &Store, arguments: ExportArguments) -> CommandResult {
    Ok(write(store, arguments)?)
}

fn write(store: &Store, ExportArguments { name, file }: ExportArguments) -> anyhow::Result<()> {
    if name == DEFAULT {
        bail!("context {DEFAULT:?} cannot be exported: it is what this host's configuration says");
    }
    store.get(&name)?;
    let file = file.unwrap_or_else(|| format!("{name}.dockercontext"));
    if file == STREAM {
        let stdout = io::stdout();
        if stdout.is_terminal() {
            bail!("cowardly refusing to export to a terminal, specify a file path");
        }
        contexts::export(store, &name, BufWriter::new(stdout.lock()))?.flush()?;
        return Ok(());
    }
    // It has secrets, and stands for no file that is there.
    let created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&file);
    let created = created.with_context(|| format!("cannot write {file}"))?;
    contexts::export(store, &name, BufWriter::new(created))?.flush()?;
    complain(format_args!("Written file {file:?}"));
    Ok(())
}

pub(super) fn import(store: &Store, arguments: ImportArguments) -> CommandResult {
    let ImportArguments { name, file } = arguments;
    check_free(store, &name)?;
    let (mut meta, tls) = if file == STREAM {
        contexts::import(&file, io::stdin().lock())?
    } else {
        let archive = File::open(&file).with_context(|| format!("cannot read {file}"))?;
        contexts::import(&file, BufReader::new(archive))?
    };
    meta.name.clone_from(&name);
    store.put_tls(&name, &tls)?;
    store.put(&meta)?;
    print_line(&name)?;
    complain(format_args!("Successfully imported context {name:?}"));
    Ok(())
}
