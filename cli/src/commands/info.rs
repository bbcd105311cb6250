//! `hull info`

use std::fmt::Write;

use anyhow::anyhow;
use bollard_stubs::models::SystemInfo;
use bytes::Bytes;
use clap::Args;
use serde_json::Value;

use super::print;
use crate::api::{ApiError, Client, Target};
use crate::failure::{CommandResult, Failure, complain};
use crate::format::binary_size;
use crate::template::Template;

#[derive(Debug, Args)]
#[command(override_usage = "hull info [OPTIONS]")]
pub(crate) struct Arguments {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let answer = client.get_bytes(Target::new(&["info"])).await;
    match arguments.format.as_deref() {
        None | Some("") => describe(client, answer),
        Some("json") => {
            let bytes = answer?;
            Ok(print(&format!("{}\n", std::str::from_utf8(&bytes)?.trim()))?)
        }
        Some(text) => {
            let template = Template::parse(text)?;
            let value: Value = serde_json::from_slice(&answer?)?;
            Ok(print(&(template.render(&value)? + "\n"))?)
        }
    }
}

/// What is known of this side is said even when the other cannot be reached.
fn describe(client: &Client, answer: Result<Bytes, ApiError>) -> CommandResult {
    let mut text = String::new();
    let _ = writeln!(text, "Client: hull");
    let _ = writeln!(text, " Version: {}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, " Host: {}", client.endpoint().address);
    let _ = writeln!(text, "\nServer:");
    match answer {
        Ok(bytes) => {
            let info: SystemInfo = serde_json::from_slice(&bytes)?;
            text.push_str(&server(&info));
            text.push_str(&paths(&serde_json::from_slice(&bytes)?));
            print(&text)?;
            for warning in info.warnings.iter().flatten() {
                complain(warning);
            }
            Ok(())
        }
        Err(error) => {
            print(&text)?;
            Err(Failure::new(1, anyhow!(error)))
        }
    }
}

fn server(info: &SystemInfo) -> String {
    let number = |value: Option<i64>| Some(value.unwrap_or(0).to_string());
    let lines: [(usize, &str, Option<String>); 22] = [
        (1, "Containers", number(info.containers)),
        (2, "Running", number(info.containers_running)),
        (2, "Paused", number(info.containers_paused)),
        (2, "Stopped", number(info.containers_stopped)),
        (1, "Images", number(info.images)),
        (1, "Server Version", info.server_version.clone()),
        (1, "Storage Driver", info.driver.clone()),
        (1, "Logging Driver", info.logging_driver.clone()),
        (
            1,
            "Cgroup Driver",
            info.cgroup_driver.map(|driver| driver.to_string()),
        ),
        (
            1,
            "Cgroup Version",
            info.cgroup_version.map(|version| version.to_string()),
        ),
        (1, "Default Runtime", info.default_runtime.clone()),
        (
            1,
            "Security Options",
            info.security_options.as_ref().map(|options| options.join(", ")),
        ),
        (1, "Kernel Version", info.kernel_version.clone()),
        (1, "Operating System", info.operating_system.clone()),
        (1, "OSType", info.os_type.clone()),
        (1, "Architecture", info.architecture.clone()),
        (1, "CPUs", number(info.ncpu)),
        (1, "Total Memory", info.mem_total.map(binary_size)),
        (1, "Name", info.name.clone()),
        (1, "ID", info.id.clone()),
        (1, "Root Dir", info.docker_root_dir.clone()),
        (
            1,
            "Live Restore Enabled",
            info.live_restore_enabled.map(|enabled| enabled.to_string()),
        ),
    ];
    let mut text = String::new();
    for (indent, name, value) in lines {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{:indent$}{name}: {value}", "");
        }
    }
    text
}

/// Where things lie, as far as the daemon tells it; Docker's does not.
fn paths(info: &Value) -> String {
    let Some(paths) = info["Paths"].as_object() else {
        return String::new();
    };
    let mut text = " Paths:\n".to_owned();
    for (name, value) in paths {
        let value = match value {
            Value::Array(values) => values
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            value => value.as_str().unwrap_or_default().to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name}: {value}");
    }
    text
}
