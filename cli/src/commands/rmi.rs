//! `hull rmi`

use bollard_stubs::models::ImageDeleteResponseItem;
use clap::Args;

use super::platform::Platform;
use super::print_line;
use crate::api::{Client, Target};
use crate::failure::{CommandResult, Failure, complain};

#[derive(Debug, Args)]
#[command(override_usage = "hull rmi [OPTIONS] IMAGE [IMAGE...]")]
pub(crate) struct Arguments {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,

    /// Do not delete untagged parents (hull's images have none: each keeps its layers itself)
    #[arg(long)]
    no_prune: bool,

    /// Remove the image only if it is for this platform, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<Platform>,

    /// Names or IDs
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let platforms: Vec<String> = arguments.platform.iter().map(Platform::json).collect();
    let mut failed = false;
    // One behind the other: a name may be gone with the one before it.
    for image in &arguments.images {
        let target = Target::new(&["images", image])
            .flag("force", arguments.force)
            .flag("noprune", arguments.no_prune);
        let target = platforms
            .iter()
            .fold(target, |target, platform| target.query("platforms", platform));
        match client.delete_for::<Vec<ImageDeleteResponseItem>>(target).await {
            Ok(removed) => {
                for item in removed {
                    if let Some(id) = item.deleted {
                        print_line(&format!("Deleted: {id}"))?;
                    } else if let Some(name) = item.untagged {
                        print_line(&format!("Untagged: {name}"))?;
                    }
                }
            }
            Err(error) => {
                // What is not there need not be removed, when it is to be gone in any case.
                failed |= !(arguments.force && error.is_not_found());
                complain(error);
            }
        }
    }
    if failed { Err(Failure::silent(1)) } else { Ok(()) }
}
