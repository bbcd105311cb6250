//! `hull image prune`, `hull container prune`, `hull volume prune` and `hull system prune`

use anyhow::anyhow;
use bollard_stubs::models::{
    ContainerPruneResponse, ImageDeleteResponseItem, ImagePruneResponse, VolumePruneResponse,
};
use clap::Args;

use super::confirm::confirm;
use super::filters::{self, Filter};
use super::print;
use crate::api::{ApiError, Client, Target};
use crate::failure::CommandResult;
use crate::format::decimal_size;

const SURE: &str = "Are you sure you want to continue?";

#[derive(Debug, Args)]
#[command(override_usage = "hull image prune [OPTIONS]")]
pub(crate) struct ImageArguments {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,

    /// Provide filter values (e.g. "until=10m")
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull container prune [OPTIONS]")]
pub(crate) struct ContainerArguments {
    /// Provide filter values (e.g. "until=10m")
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull system prune [OPTIONS]")]
pub(crate) struct SystemArguments {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,

    /// Provide filter values (e.g. "label=<key>=<value>")
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,

    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull volume prune [OPTIONS]")]
pub(crate) struct VolumeArguments {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,

    /// Provide filter values (e.g. "label=<label>")
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

/// What is gone, for people.
#[derive(Debug, Default)]
struct Report {
    text: String,
    reclaimed: i64,
}

pub(crate) async fn images(client: &Client, arguments: ImageArguments) -> CommandResult {
    let what = if arguments.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    if !arguments.force && !confirm(&format!("WARNING! This will remove {what}.\n{SURE}"))? {
        return Err(anyhow!("image prune has been cancelled").into());
    }
    let mut report = Report::default();
    report
        .prune_images(client, arguments.all, arguments.filter)
        .await?;
    Ok(report.print()?)
}

pub(crate) async fn containers(client: &Client, arguments: ContainerArguments) -> CommandResult {
    if !arguments.force
        && !confirm(&format!(
            "WARNING! This will remove all stopped containers.\n{SURE}"
        ))?
    {
        return Err(anyhow!("container prune has been cancelled").into());
    }
    let mut report = Report::default();
    report.prune_containers(client, &arguments.filter).await?;
    Ok(report.print()?)
}

pub(crate) async fn volumes(client: &Client, arguments: VolumeArguments) -> CommandResult {
    let which = if arguments.all { "all" } else { "anonymous" };
    let warning = format!(
        "WARNING! This will remove {which} local volumes not used by at least one container.\n{SURE}"
    );
    if !arguments.force && !confirm(&warning)? {
        return Err(anyhow!("volume prune has been cancelled").into());
    }
    let mut report = Report::default();
    report
        .prune_volumes(client, arguments.all, arguments.filter)
        .await?;
    Ok(report.print()?)
}

pub(crate) async fn system(client: &Client, arguments: SystemArguments) -> CommandResult {
    let images = if arguments.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    let volumes = match arguments.volumes {
        true => "  - all anonymous volumes not used by at least one container\n",
        false => "",
    };
    let warning = format!(
        "WARNING! This will remove:\n  - all stopped containers\n{volumes}  - {images}\n\n{}{SURE}",
        items(&arguments.filter)
    );
    if !arguments.force && !confirm(&warning)? {
        return Err(anyhow!("system prune has been cancelled").into());
    }
    let mut report = Report::default();
    report.prune_containers(client, &arguments.filter).await?;
    if arguments.volumes {
        report
            .prune_volumes(client, false, arguments.filter.clone())
            .await?;
    }
    report
        .prune_images(client, arguments.all, arguments.filter)
        .await?;
    Ok(report.print()?)
}

/// What the warning says of filters.
fn items(filters: &[Filter]) -> String {
    if filters.is_empty() {
        return String::new();
    }
    let lines: String = filters.iter().map(|filter| format!("  - {filter}\n")).collect();
    format!("  Items to be pruned will be filtered with:\n{lines}\n")
}

impl Report {
    async fn prune_containers(&mut self, client: &Client, filters: &[Filter]) -> Result<(), ApiError> {
        let target =
            Target::new(&["containers", "prune"]).option("filters", filters::parameter(filters).as_deref());
        let pruned: ContainerPruneResponse = client.post_for(target).await?;
        let ids = pruned.containers_deleted.unwrap_or_default();
        if !ids.is_empty() {
            self.text.push_str("Deleted Containers:\n");
            self.text.extend(ids.into_iter().map(|id| id + "\n"));
            self.text.push('\n');
        }
        self.reclaimed += pruned.space_reclaimed.unwrap_or_default();
        Ok(())
    }

    async fn prune_images(
        &mut self,
        client: &Client,
        all: bool,
        mut filters: Vec<Filter>,
    ) -> Result<(), ApiError> {
        filters.push(Filter::dangling(!all));
        let target =
            Target::new(&["images", "prune"]).option("filters", filters::parameter(&filters).as_deref());
        let pruned: ImagePruneResponse = client.post_for(target).await?;
        let removed = pruned.images_deleted.unwrap_or_default();
        if !removed.is_empty() {
            self.text.push_str("Deleted Images:\n");
            self.text.extend(removed.into_iter().filter_map(line));
            self.text.push('\n');
        }
        self.reclaimed += pruned.space_reclaimed.unwrap_or_default();
        Ok(())
    }

    async fn prune_volumes(
        &mut self,
        client: &Client,
        all: bool,
        mut filters: Vec<Filter>,
    ) -> Result<(), ApiError> {
        if all {
            filters.push(Filter::all());
        }
        let target =
            Target::new(&["volumes", "prune"]).option("filters", filters::parameter(&filters).as_deref());
        let pruned: VolumePruneResponse = client.post_for(target).await?;
        let names = pruned.volumes_deleted.unwrap_or_default();
        if !names.is_empty() {
            self.text.push_str("Deleted Volumes:\n");
            self.text.extend(names.into_iter().map(|name| name + "\n"));
            self.text.push('\n');
        }
        self.reclaimed += pruned.space_reclaimed.unwrap_or_default();
        Ok(())
    }

    fn print(self) -> std::io::Result<()> {
        let size = decimal_size(self.reclaimed);
        print(&format!("{}Total reclaimed space: {size}\n", self.text))
    }
}

fn line(item: ImageDeleteResponseItem) -> Option<String> {
    let deleted = item.deleted.map(|id| format!("deleted: {id}\n"));
    item.untagged
        .map(|name| format!("untagged: {name}\n"))
        .or(deleted)
}
