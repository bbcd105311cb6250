//! `hull push`

use clap::Args;
use hyper::Method;

use super::platform::Platform;
use super::print_line;
use crate::api::{Client, Content, Target};
use crate::credentials::{self, RemoteName};
use crate::failure::CommandResult;
use crate::progress::{self, Show};

#[derive(Debug, Args)]
#[command(override_usage = "hull push [OPTIONS] NAME[:TAG]")]
pub(crate) struct Arguments {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,

    /// Push the image only if it is for this platform, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,

    /// What to push
    #[arg(value_name = "NAME[:TAG]")]
    image: String,
}

/// What is pushed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Push<'a> {
    /// The name as it was typed, which says whose credentials are sent along.
    pub(super) image: &'a str,
    /// All tags without one.
    pub(super) tag: Option<&'a str>,
    /// Platform as the API takes it.
    pub(super) platform: Option<&'a str>,
    pub(super) show: Show,
}

impl Push<'_> {
    /// Pushes it, with the credentials that are kept for its registry.
    pub(super) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let auth = credentials::auth_header(self.image)?;
        let (name, _) = RemoteName::split(self.image);
        let target = Target::new(&["images", name, "push"])
            .option("tag", self.tag)
            .option("platform", self.platform);
        let content = Content::default().with_registry_auth(&auth);
        let response = client.begin_with(Method::POST, target, content).await?;
        progress::follow(response, self.show).await?;
        Ok(())
    }
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let image = arguments.image.as_str();
    let (_, tag) = RemoteName::split(image);
    let tag = match (tag, arguments.all_tags) {
        (Some(_), true) => {
            return Err(anyhow::anyhow!("tag can't be used with --all-tags/-a").into());
        }
        (Some(tag), false) => Some(tag),
        (None, true) => None,
        (None, false) => {
            if !arguments.quiet {
                print_line("Using default tag: latest")?;
            }
            Some("latest")
        }
    };
    let platform = arguments.platform.map(|platform| platform.json());
    Push {
        image,
        tag,
        platform: platform.as_deref(),
        show: Show::unless(arguments.quiet),
    }
    .run(client)
    .await?;
    if arguments.quiet {
        print_line(&RemoteName::parse(image).transferred(arguments.all_tags))?;
    }
    Ok(())
}
