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

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let image = arguments.image.as_str();
    let (name, tag) = RemoteName::split(image);
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
    let auth = credentials::auth_header(image)?;
    let platform = arguments.platform.map(|platform| platform.json());
    let target = Target::new(&["images", name, "push"])
        .option("tag", tag)
        .option("platform", platform.as_deref());
    let content = Content::default().with_registry_auth(&auth);
    let response = client.begin_with(Method::POST, target, content).await?;
    progress::follow(response, Show::unless(arguments.quiet)).await?;
    if arguments.quiet {
        print_line(&RemoteName::parse(image).transferred(arguments.all_tags))?;
    }
    Ok(())
}
