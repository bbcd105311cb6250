//! `hull search`

use bollard_stubs::models::ImageSearchResponseItem;
use clap::Args;
use hyper::Method;

use super::filters::{self, Filter};
use super::print;
use crate::api::{Client, Content, Target};
use crate::credentials;
use crate::failure::CommandResult;
use crate::format::{ListFormat, Row, ellipsis};

const TABLE: &str = "{{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

const HEADERS: [(&str, &str); 5] = [
    ("Name", "NAME"),
    ("Description", "DESCRIPTION"),
    ("StarCount", "STARS"),
    ("IsOfficial", "OFFICIAL"),
    ("IsAutomated", "AUTOMATED"),
];

/// The width of a description when it is cut.
const DESCRIPTION_WIDTH: usize = 45;

#[derive(Debug, Args)]
#[command(override_usage = "hull search [OPTIONS] TERM")]
pub(crate) struct Arguments {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Pretty-print search using a Go template
    #[arg(long)]
    format: Option<String>,

    /// Max number of search results
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u32>,

    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,

    /// What to look for; a registry may stand in front
    term: String,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let format = ListFormat::parse(arguments.format.as_deref(), TABLE, false)?;
    let limit = arguments.limit.map(|limit| limit.to_string());
    let target = Target::new(&["images", "search"])
        .query("term", &arguments.term)
        .option("limit", limit.as_deref())
        .option("filters", filters::parameter(&arguments.filter).as_deref());
    let auth = credentials::auth_header(&arguments.term)?;
    let content = Content::default().with_registry_auth(&auth);
    let response = client.begin_with(Method::GET, target, content).await?;
    let mut found: Vec<ImageSearchResponseItem> = response.json().await?;
    found.sort_by_key(|item| std::cmp::Reverse(item.star_count));
    let rows: Vec<Row> = found
        .into_iter()
        .map(|item| row(item, arguments.no_trunc))
        .collect();
    Ok(print(&format.render(&HEADERS, &rows)?)?)
}

fn row(item: ImageSearchResponseItem, whole: bool) -> Row {
    let description = item.description.unwrap_or_default().replace(['\n', '\r'], " ");
    let mark = |on: Option<bool>| if on == Some(true) { "[OK]" } else { "" };
    Row::new([
        ("Name", item.name.unwrap_or_default().into()),
        (
            "Description",
            if whole {
                description
            } else {
                ellipsis(&description, DESCRIPTION_WIDTH)
            }
            .into(),
        ),
        (
            "StarCount",
            item.star_count.unwrap_or_default().to_string().into(),
        ),
        ("IsOfficial", mark(item.is_official).into()),
        ("IsAutomated", mark(item.is_automated).into()),
    ])
}
