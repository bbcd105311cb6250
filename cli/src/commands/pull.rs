//! `hull pull`, and what `run` and `create` pull.

use std::str::FromStr;

use clap::Args;
use hyper::Method;

use super::print_line;
use crate::api::{Client, Content, Target};
use crate::credentials::{self, RemoteName};
use crate::failure::CommandResult;
use crate::progress::{self, Show};

#[derive(Debug, Args)]
#[command(override_usage = "hull pull [OPTIONS] NAME[:TAG|@DIGEST]")]
pub(crate) struct Arguments {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,

    /// Pull the image for this platform, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,

    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,

    /// What to pull
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,
}

/// When `run` and `create` pull.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    /// In any case.
    Always,
    /// When the image is not there.
    #[default]
    Missing,
    /// In no case.
    Never,
}

/// A policy nobody knows.
#[derive(Debug, thiserror::Error)]
#[error("invalid pull option: '{0}': must be one of \"always\", \"missing\" or \"never\"")]
pub(crate) struct PolicyError(String);

impl FromStr for PullPolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        match text {
            "always" => Ok(Self::Always),
            "missing" | "" => Ok(Self::Missing),
            "never" => Ok(Self::Never),
            other => Err(PolicyError(other.to_owned())),
        }
    }
}

/// An image's name as the API takes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pull<'a> {
    pub(super) image: &'a str,
    pub(super) platform: Option<&'a str>,
    pub(super) all_tags: bool,
    pub(super) show: Show,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let image = arguments.image.as_str();
    let name = RemoteName::parse(image);
    if arguments.all_tags && !name.is_only_name() {
        return Err(anyhow::anyhow!("tag can't be used with --all-tags/-a").into());
    }
    if name.is_only_name() && !arguments.all_tags && !arguments.quiet {
        print_line("Using default tag: latest")?;
    }
    Pull {
        image,
        platform: arguments.platform.as_deref(),
        all_tags: arguments.all_tags,
        show: Show::unless(arguments.quiet),
    }
    .run(client)
    .await?;
    Ok(print_line(&name.transferred(arguments.all_tags))?)
}

impl Pull<'_> {
    /// Pulls it, with the credentials that are kept for its registry.
    pub(super) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let auth = credentials::auth_header(self.image)?;
        let (name, tag) = RemoteName::split(self.image);
        let tag = if self.all_tags {
            ""
        } else {
            tag.unwrap_or("latest")
        };
        let target = Target::new(&["images", "create"])
            .query("fromImage", name)
            .query("tag", tag)
            .option("platform", self.platform);
        let content = Content::default().with_registry_auth(&auth);
        let response = client.begin_with(Method::POST, target, content).await?;
        progress::follow(response, self.show).await?;
        Ok(())
    }
}
