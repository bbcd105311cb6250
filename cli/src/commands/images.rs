//! `hull images`

use bollard_stubs::models::ImageSummary;
use clap::Args;

use super::filters::{self, Filter};
use super::print;
use crate::api::{Client, Target};
use crate::failure::CommandResult;
use crate::format::{ListFormat, Row, ago, decimal_size, local_time, short_id};
use crate::time;

const TABLE: &str = "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

const TABLE_WITH_DIGESTS: &str =
    "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}";

const HEADERS: [(&str, &str); 10] = [
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("ID", "IMAGE ID"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("Containers", "CONTAINERS"),
    ("SharedSize", "SHARED SIZE"),
    ("UniqueSize", "UNIQUE SIZE"),
];

const NONE: &str = "<none>";
const NOT_KNOWN: &str = "N/A";

#[derive(Debug, Args)]
#[command(override_usage = "hull images [OPTIONS] [REPOSITORY[:TAG]]")]
pub(crate) struct Arguments {
    /// Show all images
    #[arg(short, long)]
    all: bool,

    /// Show digests
    #[arg(long)]
    digests: bool,

    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Format output using a Go template, or 'table', 'table TEMPLATE' or 'json'
    #[arg(long)]
    format: Option<String>,

    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,

    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,

    /// Only images of this name
    #[arg(value_name = "REPOSITORY[:TAG]")]
    repository: Option<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let table = if arguments.digests {
        TABLE_WITH_DIGESTS
    } else {
        TABLE
    };
    let format = ListFormat::parse(arguments.format.as_deref(), table, arguments.quiet)?;
    let mut conditions = arguments.filter;
    conditions.extend(arguments.repository.map(Filter::reference));
    let target = Target::new(&["images", "json"])
        .flag("all", arguments.all)
        .option("filters", filters::parameter(&conditions).as_deref());
    let images: Vec<ImageSummary> = client.get(target).await?;
    let now = time::now();
    let rows: Vec<Row> = images
        .iter()
        .flat_map(|image| rows(image, !arguments.no_trunc, now))
        .collect();
    print(&format.render(&HEADERS, &rows)?)?;
    Ok(())
}

/// A row for each name, or one for an image without.
fn rows(image: &ImageSummary, truncate: bool, now: i64) -> Vec<Row> {
    if image.repo_tags.is_empty() {
        let digest = image
            .repo_digests
            .first()
            .and_then(|digest| digest.split_once('@'));
        let (repository, digest) = digest.unwrap_or((NONE, NONE));
        return vec![row(image, repository, NONE, digest, truncate, now)];
    }
    let names = image.repo_tags.iter().map(|name| split_tag(name));
    names
        .map(|(repository, tag)| {
            row(
                image,
                repository,
                tag,
                digest_of(image, repository),
                truncate,
                now,
            )
        })
        .collect()
}

/// A colon before the last slash belongs to the registry's port.
fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, NONE),
    }
}

fn digest_of<'a>(image: &'a ImageSummary, repository: &str) -> &'a str {
    let digests = image
        .repo_digests
        .iter()
        .filter_map(|digest| digest.split_once('@'));
    let mut own = digests.filter(|(name, _)| *name == repository);
    own.next().map_or(NONE, |(_, digest)| digest)
}

fn row(image: &ImageSummary, repository: &str, tag: &str, digest: &str, truncate: bool, now: i64) -> Row {
    let id = if truncate { short_id(&image.id) } else { &image.id };
    let containers = if image.containers < 0 {
        NOT_KNOWN.to_owned()
    } else {
        image.containers.to_string()
    };
    let known_size = |size: i64| {
        if size < 0 {
            NOT_KNOWN.to_owned()
        } else {
            decimal_size(size)
        }
    };
    let unique = if image.shared_size < 0 {
        -1
    } else {
        image.size - image.shared_size
    };
    Row::new([
        ("Repository", repository.into()),
        ("Tag", tag.into()),
        ("Digest", digest.into()),
        ("ID", id.into()),
        ("CreatedSince", created_since(image.created, now).into()),
        ("CreatedAt", local_time(image.created).into()),
        ("Size", decimal_size(image.size).into()),
        ("Containers", containers.into()),
        ("SharedSize", known_size(image.shared_size).into()),
        ("UniqueSize", known_size(unique).into()),
    ])
    .with_labels(&image.labels)
}

/// An image that does not say when it was made has no age.
fn created_since(created: i64, now: i64) -> String {
    if created <= 0 {
        return NOT_KNOWN.to_owned();
    }
    ago(created, now)
}

#[cfg(test)]
mod tests {
    use super::split_tag;

    #[test]
    fn a_registrys_port_is_no_tag() {
        assert_eq!(
            split_tag("localhost/busybox:latest"),
            ("localhost/busybox", "latest")
        );
        assert_eq!(split_tag("registry:5000/app"), ("registry:5000/app", "<none>"));
        assert_eq!(split_tag("registry:5000/app:1"), ("registry:5000/app", "1"));
    }
}
