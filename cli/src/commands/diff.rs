//! `hull diff`

use anyhow::bail;
use clap::Args;
use serde::Deserialize;

use super::print;
use crate::api::{Client, Target};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull diff CONTAINER")]
pub(crate) struct Arguments {
    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Change {
    path: String,
    kind: u8,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let target = Target::new(&["containers", &arguments.container, "changes"]);
    let changes: Option<Vec<Change>> = client.get(target).await?;
    Ok(print(&lines(changes.as_deref().unwrap_or_default())?)?)
}

fn lines(changes: &[Change]) -> anyhow::Result<String> {
    let mut lines = String::new();
    for change in changes {
        lines.push_str(match change.kind {
            0 => "C ",
            1 => "A ",
            2 => "D ",
            other => bail!("the daemon tells of a change of the unknown kind {other}"),
        });
        lines.push_str(&change.path);
        lines.push('\n');
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_a_letter_and_a_path() {
        let changes: Vec<Change> = serde_json::from_str(
            r#"[{"Path":"/etc","Kind":0},{"Path":"/a b","Kind":1},{"Path":"/x","Kind":2}]"#,
        )
        .unwrap();
        assert_eq!(lines(&changes).unwrap(), "C /etc\nA /a b\nD /x\n");
    }
}
