//! `hull version`

use std::fmt::Write;

use anyhow::anyhow;
use bollard_stubs::models::SystemVersion;
use clap::Args;
use serde_json::{Value, json};

use super::print;
use crate::api::{API_VERSION, ApiError, Client, Target};
use crate::failure::{CommandResult, Failure};
use crate::template::Template;

#[derive(Debug, Args)]
#[command(override_usage = "hull version [OPTIONS]")]
pub(crate) struct Arguments {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let format = arguments.format.as_deref();
    let template = match format {
        None | Some("") | Some("json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    // A question about versions starts nothing.
    let client = client.without_start();
    let answer: Result<SystemVersion, ApiError> = client.get(Target::new(&["version"])).await;
    let (server, failure) = match answer {
        Ok(server) => (Some(server), None),
        Err(error) => (None, Some(error)),
    };
    let text = match (&template, format) {
        (Some(template), _) => template.render(&as_json(server.as_ref()))? + "\n",
        (None, Some("json")) => format!("{}\n", as_json(server.as_ref())),
        (None, _) => as_text(server.as_ref()),
    };
    print(&text)?;
    failure.map_or(Ok(()), |error| Err(Failure::new(1, anyhow!(error))))
}

fn platform() -> (&'static str, &'static str) {
    (std::env::consts::OS, architecture(std::env::consts::ARCH))
}

/// Go's name of an architecture, which Docker shows.
fn architecture(rust_name: &str) -> &str {
    match rust_name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn as_json(server: Option<&SystemVersion>) -> Value {
    let (os, arch) = platform();
    json!({
        "Client": {
            "Version": env!("CARGO_PKG_VERSION"),
            "ApiVersion": API_VERSION,
            "Os": os,
            "Arch": arch,
        },
        "Server": server,
    })
}

fn as_text(server: Option<&SystemVersion>) -> String {
    let (os, arch) = platform();
    let mut text = String::from("Client: hull\n");
    line(&mut text, 1, "Version", 18, env!("CARGO_PKG_VERSION"));
    line(&mut text, 1, "API version", 18, API_VERSION);
    line(&mut text, 1, "OS/Arch", 18, &format!("{os}/{arch}"));
    let Some(server) = server else { return text };
    let field = |value: &Option<String>| value.clone().unwrap_or_default();
    let platform_name = server.platform.as_ref().map(|platform| platform.name.clone());
    let _ = writeln!(text, "\nServer: {}", platform_name.unwrap_or_default());
    text.push_str(" Engine:\n");
    line(&mut text, 2, "Version", 17, &field(&server.version));
    let minimum = field(&server.min_api_version);
    line(
        &mut text,
        2,
        "API version",
        17,
        &format!("{} (minimum version {minimum})", field(&server.api_version)),
    );
    line(
        &mut text,
        2,
        "OS/Arch",
        17,
        &format!("{}/{}", field(&server.os), field(&server.arch)),
    );
    line(&mut text, 2, "Kernel", 17, &field(&server.kernel_version));
    for component in server
        .components
        .iter()
        .flatten()
        .filter(|component| component.name != "Engine")
    {
        let _ = writeln!(text, " {}:", component.name);
        line(&mut text, 2, "Version", 17, &component.version);
    }
    text
}

/// ` Name:      value`, the value at a column of its own.
fn line(text: &mut String, indent: usize, name: &str, width: usize, value: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{:indent$}{:width$} {value}", "", format!("{name}:"));
}
