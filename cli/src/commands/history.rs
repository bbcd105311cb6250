//! `hull history`

use bollard_stubs::models::ImageHistoryResponseItem;
use clap::{ArgAction, Args};

use super::platform::Platform;
use super::print;
use crate::api::{Client, Target};
use crate::failure::CommandResult;
use crate::format::{ListFormat, Row, ago, decimal_size, ellipsis, local_time_rfc3339, short_id};
use crate::time;

const TABLE: &str = "{{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

const HEADERS: [(&str, &str); 6] = [
    ("ID", "IMAGE"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedBy", "CREATED BY"),
    ("Size", "SIZE"),
    ("Comment", "COMMENT"),
];

/// The width of a step's command when it is cut.
const COMMAND_WIDTH: usize = 45;

#[derive(Debug, Args)]
#[command(override_usage = "hull history [OPTIONS] IMAGE")]
pub(crate) struct Arguments {
    /// Format output using a Go template, or 'table', 'table TEMPLATE' or 'json'
    #[arg(long)]
    format: Option<String>,

    /// Print sizes and dates in human readable format (default true)
    #[arg(
        short = 'H',
        long,
        value_name = "BOOL",
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        hide_possible_values = true,
        hide_default_value = true
    )]
    human: bool,

    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,

    /// Show the history only if the image is for this platform, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Only show image IDs
    #[arg(short, long)]
    quiet: bool,

    /// Name or ID
    image: String,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let format = ListFormat::parse(arguments.format.as_deref(), TABLE, arguments.quiet)?;
    let platform = arguments.platform.as_ref().map(Platform::json);
    let target =
        Target::new(&["images", &arguments.image, "history"]).option("platform", platform.as_deref());
    let steps: Vec<ImageHistoryResponseItem> = client.get(target).await?;
    let now = time::now();
    let rows: Vec<Row> = steps.iter().map(|step| row(step, &arguments, now)).collect();
    Ok(print(&format.render(&HEADERS, &rows)?)?)
}

fn row(step: &ImageHistoryResponseItem, arguments: &Arguments, now: i64) -> Row {
    let truncate = !arguments.no_trunc;
    let at = local_time_rfc3339(step.created);
    // Tabs would tear the table.
    let command = step.created_by.replace('\t', " ");
    Row::new([
        ("ID", if truncate { short_id(&step.id) } else { &step.id }.into()),
        (
            "CreatedSince",
            match (step.created <= 0, arguments.human) {
                (true, true) => "N/A".into(),
                (false, true) => ago(step.created, now).into(),
                (_, false) => at.clone().into(),
            },
        ),
        ("CreatedAt", at.into()),
        (
            "CreatedBy",
            if truncate {
                ellipsis(&command, COMMAND_WIDTH)
            } else {
                command
            }
            .into(),
        ),
        (
            "Size",
            if arguments.human {
                decimal_size(step.size)
            } else {
                step.size.to_string()
            }
            .into(),
        ),
        ("Comment", step.comment.as_str().into()),
    ])
}
