//! `hull build`
//!
//! ```text
//! options ─► context (folder, standard input, URL) ─► POST /build ─► what the daemon says ─► outputs, ID file
//! ```
//!
//! The Dockerfile is read here only to find out which files of the context are needed.

mod cache;
mod cache_folder;
mod contents;
mod context;
mod deliver;
mod folder;
mod id_file;
mod local_dockerfile;
mod need;
mod options;
mod output;
mod query;
mod secrets;
mod selection;
mod ssh;
mod stdin;
#[cfg(test)]
mod tests;
mod unsupported;
mod upload;
mod variables;

use anyhow::bail;
use hyper::Method;
use serde_json::Value;

use super::print_line;
use crate::api::{Client, Content, Target};
use crate::credentials;
use crate::failure::{CommandResult, Failure, complain};
use crate::progress::{self, ProgressError, Show, Stream};
use crate::signals;
use cache::CacheFrom;
use cache_folder::CacheFolders;
use context::BuildContext;
use deliver::Built;
use options::Progress;
use ssh::Agents;

pub(crate) use options::Arguments;

/// The header with all credentials (Docker Engine API, "Build an image").
const CREDENTIALS_HEADER: &str = "x-registry-config";

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let built = signals::until_ended(build(client, &arguments)).await?;
    built.map_err(failure)
}

/// A command of the build that failed gives its exit code, as with Docker.
fn failure(error: anyhow::Error) -> Failure {
    let code = match error.downcast_ref() {
        Some(ProgressError::Failed { code, .. }) => u8::try_from(*code).ok().filter(|code| *code > 0),
        _ => None,
    };
    Failure::new(code.unwrap_or(1), error)
}

async fn build(client: &Client, arguments: &Arguments) -> anyhow::Result<()> {
    unsupported::check(arguments)?;
    let outputs = arguments.outputs();
    let tags = query::tags(arguments, &outputs)?;
    deliver::check(&outputs, &tags)?;
    let stdout_is_taken = outputs.iter().any(output::Output::is_stdout);
    let progress = arguments.progress();
    let show = progress.show(stdout_is_taken);
    let build_args = variables::build_args(&arguments.build_arg)?;
    let secrets = secrets::header(&arguments.secret)?;
    let agents = Agents::find(&arguments.ssh)?;
    if let Some(path) = &arguments.iidfile {
        id_file::clear(path)?;
    }
    let caches = CacheFolders::find(arguments.image.cache_from.iter().filter_map(CacheFrom::folder));
    let has_caches = !caches.is_empty();
    let context = context::open(client, arguments, &build_args, caches, report_on(show)).await?;
    let target = query::target(arguments, &build_args, &tags, &context.place)?
        .flag("cachearchive", has_caches)
        .flag("contextparts", context.in_parts);
    let sent = send(client, agents.tell(target), context, secrets.as_deref(), show);
    let id = tokio::select! {
        sent = sent => sent?,
        error = agents.lend_or_fail(client) => return Err(error),
    };
    let built = Built { id: &id, tags: &tags };
    for output in &outputs {
        output.deliver(client, built, show).await?;
    }
    for cache in &arguments.image.cache_to {
        cache.deliver(client, &id).await?;
    }
    if let Some(path) = &arguments.iidfile {
        id_file::write(path, &id)?;
    }
    match (progress == Progress::Quiet, stdout_is_taken) {
        (true, false) => print_line(&id)?,
        (true, true) => complain(&id),
        (false, _) => {}
    }
    Ok(())
}

/// Has the daemon build; the image's ID.
async fn send(
    client: &Client,
    target: Target,
    context: BuildContext,
    secrets: Option<&str>,
    show: Show,
) -> anyhow::Result<String> {
    let mut content = with_credentials(context.content)?;
    if let Some(secrets) = secrets {
        content = content.with_secret(secrets::HEADER, secrets);
    }
    let followed = async {
        let response = client.begin_with(Method::POST, target, content).await?;
        progress::follow(response, show).await
    };
    match followed.await {
        Ok(values) => image_id(&values),
        // What could not be read here is the cause of what the daemon says.
        Err(error) => Err(context.upload.failure().unwrap_or_else(|| error.into())),
    }
}

fn with_credentials(content: Content) -> anyhow::Result<Content> {
    let (header, errors) = credentials::config_header()?;
    for error in errors {
        complain(format_args!("warning: {error}"));
    }
    Ok(content.with_secret(CREDENTIALS_HEADER, &header))
}

/// Where to tell how large the context is.
fn report_on(show: Show) -> Option<Stream> {
    match show {
        Show::All(stream) | Show::Lines(stream) => Some(stream),
        Show::Json(_) | Show::Nothing | Show::OnFailure => None,
    }
}

/// The last ID among what the daemon says beside its text.
fn image_id(values: &[Value]) -> anyhow::Result<String> {
    let id = values.iter().rev().find_map(|value| value.get("ID")?.as_str());
    match id {
        Some(id) => Ok(id.to_owned()),
        None => bail!("the daemon did not say which image it built: look for it with `hull images`"),
    }
}
