//! `hull top`

use clap::Args;
use serde::Deserialize;

use super::print;
use crate::api::{Client, Target};
use crate::failure::CommandResult;
use crate::format::Table;

/// Docker's least width of a column of processes.
const COLUMN: usize = 20;

#[derive(Debug, Args)]
#[command(override_usage = "hull top CONTAINER [ps OPTIONS]")]
pub(crate) struct Arguments {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,

    /// What `ps` would be told: -ef, aux, or -o with the names of columns
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ps OPTIONS"
    )]
    options: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Top {
    titles: Vec<String>,
    processes: Vec<Vec<String>>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let options = Some(arguments.options.join(" ")).filter(|options| !options.is_empty());
    let target =
        Target::new(&["containers", &arguments.container, "top"]).option("ps_args", options.as_deref());
    let top: Top = client.get(target).await?;
    let mut table = Table::with_columns_of(COLUMN);
    table.push(&top.titles.join("\t"));
    for process in &top.processes {
        // What a process calls itself is its own.
        let cells: Vec<String> = process
            .iter()
            .map(|cell| cell.replace(char::is_control, " "))
            .collect();
        table.push(&cells.join("\t"));
    }
    print(&table.render())?;
    Ok(())
}
