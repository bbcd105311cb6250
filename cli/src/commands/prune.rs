//! `hull image prune`, `hull container prune`, `hull network prune`, `hull volume prune` and `hull system prune`

use anyhow::anyhow;
use bollard_stubs::models::{
    ContainerPruneResponse, ImageDeleteResponseItem, ImagePruneResponse, NetworkPruneResponse,
    VolumePruneResponse,
};
use clap::Args;
use serde::de::DeserializeOwned;

use super::build_cache::prune_unused;
use super::confirm::confirm;
use super::filters::{self, Filter};
use super::print;
use crate::api::{ApiError, Client, Target};
use crate::failure::CommandResult;
use crate::format::decimal_size;

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

#[derive(Debug, Args)]
#[command(override_usage = "hull network prune [OPTIONS]")]
pub(crate) struct NetworkArguments {
    /// Provide filter values (e.g. "until=10m")
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
    let what = format!("remove {}.", which_images(arguments.all));
    ask(arguments.force, "image prune", &what)?;
    let mut report = Report::default();
    report
        .prune_images(client, arguments.all, arguments.filter)
        .await?;
    Ok(report.print()?)
}

pub(crate) async fn containers(client: &Client, arguments: ContainerArguments) -> CommandResult {
    let what = "remove all stopped containers.";
    ask(arguments.force, "container prune", what)?;
    let mut report = Report::default();
    report.prune_containers(client, &arguments.filter).await?;
    Ok(report.print()?)
}

/// Networks take no space, so none is told.
pub(crate) async fn networks(client: &Client, arguments: NetworkArguments) -> CommandResult {
    let what = "remove all custom networks not used by at least one container.";
    ask(arguments.force, "network prune", what)?;
    let mut report = Report::default();
    report.prune_networks(client, &arguments.filter).await?;
    Ok(print(&report.text)?)
}

pub(crate) async fn volumes(client: &Client, arguments: VolumeArguments) -> CommandResult {
    let which = if arguments.all { "all" } else { "anonymous" };
    let what = format!("remove {which} local volumes not used by at least one container.");
    ask(arguments.force, "volume prune", &what)?;
    let mut report = Report::default();
    report
        .prune_volumes(client, arguments.all, arguments.filter)
        .await?;
    Ok(report.print()?)
}

pub(crate) async fn system(client: &Client, arguments: SystemArguments) -> CommandResult {
    let (images, items) = (which_images(arguments.all), items(&arguments.filter));
    let volumes = match arguments.volumes {
        true => "  - all anonymous volumes not used by at least one container\n",
        false => "",
    };
    let networks = "  - all networks not used by at least one container\n";
    // Records of the build cache have no labels: who asks for things by these asks for none of them.
    let with_cache = arguments.filter.iter().all(Filter::is_age);
    let cache = match (with_cache, arguments.all) {
        (false, _) => "",
        (true, true) => "  - all build cache\n",
        (true, false) => "  - unused build cache\n",
    };
    let what =
        format!("remove:\n  - all stopped containers\n{networks}{volumes}  - {images}\n{cache}{items}");
    ask(arguments.force, "system prune", &what)?;
    let mut report = Report::default();
    report.prune_containers(client, &arguments.filter).await?;
    report.prune_networks(client, &arguments.filter).await?;
    if arguments.volumes {
        report
            .prune_volumes(client, false, arguments.filter.clone())
            .await?;
    }
    report
        .prune_images(client, arguments.all, arguments.filter.clone())
        .await?;
    if with_cache {
        let cache = prune_unused(client, arguments.all, &arguments.filter).await?;
        report.add("build cache objects", cache.caches_deleted, cache.space_reclaimed);
    }
    Ok(report.print()?)
}

/// Has the user agree to what a command will do, unless it was told not to ask.
fn ask(force: bool, command: &str, what: &str) -> CommandResult {
    let question = format!("WARNING! This will {what}\nAre you sure you want to continue?");
    if !force && !confirm(&question)? {
        return Err(anyhow!("{command} has been cancelled").into());
    }
    Ok(())
}

/// What the warning says of images.
fn which_images(all: bool) -> &'static str {
    if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    }
}

/// What the warning says of filters.
fn items(filters: &[Filter]) -> String {
    if filters.is_empty() {
        return String::new();
    }
    let lines: String = filters.iter().map(|filter| format!("  - {filter}\n")).collect();
    format!("\n  Items to be pruned will be filtered with:\n{lines}")
}

impl Report {
    async fn prune_containers(&mut self, client: &Client, filters: &[Filter]) -> Result<(), ApiError> {
        let pruned: ContainerPruneResponse = prune(client, "containers", filters).await?;
        self.add("Containers", pruned.containers_deleted, pruned.space_reclaimed);
        Ok(())
    }

    async fn prune_images(
        &mut self,
        client: &Client,
        all: bool,
        mut filters: Vec<Filter>,
    ) -> Result<(), ApiError> {
        filters.push(Filter::dangling(!all));
        let pruned: ImagePruneResponse = prune(client, "images", &filters).await?;
        let lines = pruned.images_deleted.into_iter().flatten().filter_map(line);
        self.add("Images", Some(lines.collect()), pruned.space_reclaimed);
        Ok(())
    }

    async fn prune_networks(&mut self, client: &Client, filters: &[Filter]) -> Result<(), ApiError> {
        let pruned: NetworkPruneResponse = prune(client, "networks", filters).await?;
        self.add("Networks", pruned.networks_deleted, None);
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
        let pruned: VolumePruneResponse = prune(client, "volumes", &filters).await?;
        self.add("Volumes", pruned.volumes_deleted, pruned.space_reclaimed);
        Ok(())
    }

    fn add(&mut self, what: &str, deleted: Option<Vec<String>>, reclaimed: Option<i64>) {
        if let Some(lines) = deleted.filter(|lines| !lines.is_empty()) {
            self.text += &format!("Deleted {what}:\n{}\n\n", lines.join("\n"));
        }
        self.reclaimed += reclaimed.unwrap_or_default();
    }

    fn print(self) -> std::io::Result<()> {
        let size = decimal_size(self.reclaimed);
        print(&format!("{}Total reclaimed space: {size}\n", self.text))
    }
}

async fn prune<T: DeserializeOwned>(client: &Client, what: &str, filters: &[Filter]) -> Result<T, ApiError> {
    let filters = filters::parameter(filters);
    let target = Target::new(&[what, "prune"]).option("filters", filters.as_deref());
    client.post_for(target).await
}

fn line(item: ImageDeleteResponseItem) -> Option<String> {
    let deleted = item.deleted.map(|id| format!("deleted: {id}"));
    item.untagged.map(|name| format!("untagged: {name}")).or(deleted)
}
