//! `hull cp`

mod pack;
mod placement;
mod stat;
pub(super) mod unpack;

use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use anyhow::bail;
use clap::Args;
use hyper::Method;

use crate::api::{ApiError, Client, Content, Pending, Target};
use crate::failure::{CommandResult, complain};
use crate::format::decimal_size;
use placement::{Destination, Source, absolute, base_name, place};
use stat::PathStat;
use unpack::Unpacker;

#[derive(Debug, Args)]
#[command(
    override_usage = "hull cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n       hull cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    after_help = "Use '-' as the source to read a tar archive from stdin\nand extract it to a directory destination in a container.\nUse '-' as the destination to stream a tar archive of a\ncontainer source to stdout."
)]
pub(crate) struct Arguments {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,

    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,

    /// Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached
    #[arg(short, long)]
    quiet: bool,

    /// What to copy
    #[arg(value_name = "SRC_PATH")]
    source: String,

    /// Where to
    #[arg(value_name = "DEST_PATH")]
    destination: String,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    if arguments.source.is_empty() {
        return Err(anyhow::anyhow!("source can not be empty").into());
    }
    if arguments.destination.is_empty() {
        return Err(anyhow::anyhow!("destination can not be empty").into());
    }
    let (source, destination) = (split(&arguments.source), split(&arguments.destination));
    match (source, destination) {
        ((Some(container), path), (None, local)) => {
            copy_out(client, &arguments, container, path, local).await?
        }
        ((None, local), (Some(container), path)) => {
            copy_in(client, &arguments, container, local, path).await?
        }
        ((Some(_), _), (Some(_), _)) => {
            return Err(anyhow::anyhow!("copying between containers is not supported").into());
        }
        ((None, _), (None, _)) => {
            return Err(anyhow::anyhow!("must specify at least one container source").into());
        }
    }
    Ok(())
}

/// `CONTAINER:PATH`, or a local path: one that is absolute, begins with a dot or has no colon.
fn split(argument: &str) -> (Option<&str>, &str) {
    match argument.split_once(':') {
        Some((container, path))
            if !argument.starts_with('/') && !container.is_empty() && !container.starts_with('.') =>
        {
            (Some(container), path)
        }
        _ => (None, argument),
    }
}

/// From a container to here.
async fn copy_out(
    client: &Client,
    arguments: &Arguments,
    container: &str,
    path: &str,
    local: &str,
) -> anyhow::Result<()> {
    let destination = match local {
        "-" => None,
        local => {
            let local = absolute(local)?;
            check_output(&local)?;
            Some(local)
        }
    };
    let (mut path, mut name) = (path.to_owned(), None);
    if arguments.follow_link
        && let Ok(stat) = stat(client, container, &path).await
        && stat.is_link()
    {
        (path, name) = placement::follow(&path, &stat.link_target);
    }
    let target = Target::new(&["containers", container, "archive"]).query("path", &path);
    let mut response = client.begin(Method::GET, target).await?;
    let Some(destination) = destination else {
        let mut stdout = io::stdout().lock();
        while let Some(chunk) = response.chunk().await? {
            stdout.write_all(&chunk)?;
        }
        return Ok(stdout.flush()?);
    };
    let stat = PathStat::decode(response.header(stat::HEADER))?;
    let source = Source {
        name: name.unwrap_or_else(|| base_name(&path).to_owned()),
        is_directory: stat.is_directory(),
    };
    let (folder, name) = place(&source, &Destination::local(&destination)?)?;
    let unpacker = Unpacker::new(Path::new(&folder), base_name(&path), &name, arguments.archive)?;
    let copied = receive(&mut response, unpacker).await?;
    summarize(arguments, copied, &destination);
    Ok(())
}

/// Unpacks what the daemon sends; how many bytes that were. What could not be made is told.
pub(super) async fn receive(response: &mut Pending, unpacker: Unpacker) -> anyhow::Result<u64> {
    let (from, mut to) = io::pipe()?;
    let unpacking = thread::spawn(move || unpacker.unpack(io::BufReader::with_capacity(128 << 10, from)));
    let mut received = 0;
    // The thread stops reading when something is wrong, and says what.
    let sent = async {
        while let Some(chunk) = response.chunk().await? {
            if to.write_all(&chunk).is_err() {
                break;
            }
            received += chunk.len() as u64;
        }
        Ok::<_, ApiError>(())
    }
    .await;
    drop(to);
    let unpacked = unpacking
        .join()
        .unwrap_or_else(|_| bail!("the archive could not be unpacked"));
    sent?;
    for warning in unpacked? {
        complain(warning);
    }
    Ok(received)
}

/// From here to a container.
async fn copy_in(
    client: &Client,
    arguments: &Arguments,
    container: &str,
    local: &str,
    path: &str,
) -> anyhow::Result<()> {
    let destination = look_up(client, container, path).await?;
    if local == "-" {
        if !destination.is_directory {
            bail!("destination \"{container}:{path}\" must be a directory");
        }
        let stdin: OwnedFd = rustix::io::dup(rustix::stdio::stdin())?;
        return send(client, arguments, container, &destination.path, File::from(stdin)).await;
    }
    let local = absolute(local)?;
    let source = pack::LocalSource::find(&local, arguments.follow_link)?;
    let (folder, name) = place(&source.describe(), &destination)?;
    let (from, to) = io::pipe()?;
    let packing = thread::spawn(move || pack::pack(&source, &name, to));
    let sent = send(
        client,
        arguments,
        container,
        &folder,
        File::from(OwnedFd::from(from)),
    )
    .await;
    let packed = packing
        .join()
        .unwrap_or_else(|_| bail!("the archive could not be made"));
    match packed {
        // Its reader has gone, which the daemon's answer explains.
        Err(error) if sent.is_ok() => return Err(error),
        packed => {
            sent?;
            summarize(
                arguments,
                packed.unwrap_or_default(),
                &format!("{container}:{}", destination.path),
            );
        }
    }
    Ok(())
}

async fn send(
    client: &Client,
    arguments: &Arguments,
    container: &str,
    folder: &str,
    archive: File,
) -> anyhow::Result<()> {
    let target = Target::new(&["containers", container, "archive"])
        .query("path", folder)
        .query("noOverwriteDirNonDir", "true");
    let target = match arguments.archive {
        true => target.query("copyUIDGID", "true"),
        false => target,
    };
    client
        .begin_with(Method::PUT, target, Content::archive(archive))
        .await?
        .body()
        .await?;
    Ok(())
}

/// What is at the destination in the container; a link is followed.
async fn look_up(client: &Client, container: &str, path: &str) -> anyhow::Result<Destination> {
    let missing = |path: &str| Destination {
        path: path.to_owned(),
        exists: false,
        is_directory: false,
    };
    // An error means that there is nothing, or is told again by what follows.
    let Ok(mut stat) = stat(client, container, path).await else {
        return Ok(missing(path));
    };
    let mut path = path.to_owned();
    if stat.is_link() {
        path = stat.link_target.clone();
        stat = match self::stat(client, container, &path).await {
            Ok(stat) => stat,
            Err(_) => return Ok(missing(&path)),
        };
    }
    if !stat.is_directory() && !stat.is_file() {
        bail!(
            "destination \"{container}:{path}\" must be a directory or a regular file: {}",
            stat.kind_refused()
        );
    }
    Ok(Destination {
        is_directory: stat.is_directory(),
        exists: true,
        path,
    })
}

async fn stat(client: &Client, container: &str, path: &str) -> anyhow::Result<PathStat> {
    let target = Target::new(&["containers", container, "archive"]).query("path", path);
    let response = client.begin(Method::HEAD, target).await?;
    PathStat::decode(response.header(stat::HEADER))
}

/// Refuses to write where nothing can be written, before anything is asked for.
fn check_output(path: &str) -> anyhow::Result<()> {
    let parent = Path::new(path.trim_end_matches("/.").trim_end_matches('/')).parent();
    if let Some(parent) = parent
        && !parent.exists()
    {
        bail!(
            "invalid output path: directory {:?} does not exist",
            parent.display().to_string()
        );
    }
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_dir() && !metadata.is_file() => {
            bail!("invalid output path: {path:?} must be a directory or a regular file")
        }
        _ => Ok(()),
    }
}

fn summarize(arguments: &Arguments, copied: u64, destination: &str) {
    if !arguments.quiet && io::stdout().is_terminal() {
        let size = decimal_size(i64::try_from(copied).unwrap_or(i64::MAX));
        complain(format_args!("Successfully copied {size} to {destination}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_names_a_container_unless_it_is_a_path() {
        assert_eq!(split("box:/etc"), (Some("box"), "/etc"));
        assert_eq!(split("box:"), (Some("box"), ""));
        assert_eq!(split("/a:b"), (None, "/a:b"));
        assert_eq!(split("./a:b"), (None, "./a:b"));
        assert_eq!(split("file"), (None, "file"));
        assert_eq!(split("-"), (None, "-"));
    }
}
