//! `hull inspect`

use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::Value;

use super::platform::Platform;
use super::print;
use crate::api::{ApiError, Client, Target};
use crate::failure::{CommandResult, Failure, complain};
use crate::format::indented;
use crate::template::Template;

#[derive(Debug, Args)]
#[command(override_usage = "hull inspect [OPTIONS] NAME|ID [NAME|ID...]")]
pub(crate) struct Arguments {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,

    /// Display total file sizes if the type is container
    #[arg(short, long)]
    size: bool,

    /// Only look for objects of this type: container, image, network or volume
    #[arg(long = "type", value_name = "TYPE", hide_possible_values = true)]
    kind: Option<Kind>,

    #[arg(skip)]
    platform: Option<Platform>,

    /// Names or IDs
    #[arg(required = true, value_name = "NAME|ID")]
    names: Vec<String>,
}

/// `hull image inspect`
#[derive(Debug, Args)]
#[command(override_usage = "hull image inspect [OPTIONS] IMAGE [IMAGE...]")]
pub(crate) struct ImageArguments {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,

    /// Inspect the image only if it is for this platform, such as linux/amd64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Names or IDs
    #[arg(required = true, value_name = "IMAGE")]
    names: Vec<String>,
}

/// `hull container inspect`
#[derive(Debug, Args)]
#[command(override_usage = "hull container inspect [OPTIONS] CONTAINER [CONTAINER...]")]
pub(crate) struct ContainerArguments {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,

    /// Display total file sizes
    #[arg(short, long)]
    size: bool,

    /// Names or IDs
    #[arg(required = true, value_name = "CONTAINER")]
    names: Vec<String>,
}

impl From<ImageArguments> for Arguments {
    fn from(arguments: ImageArguments) -> Self {
        Self {
            format: arguments.format,
            size: false,
            kind: Some(Kind::Image),
            platform: arguments.platform,
            names: arguments.names,
        }
    }
}

/// `hull network inspect`
#[derive(Debug, Args)]
#[command(override_usage = "hull network inspect [OPTIONS] NETWORK [NETWORK...]")]
pub(crate) struct NetworkArguments {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,

    /// Verbose output for diagnostics, which is the same here
    #[arg(short, long)]
    verbose: bool,

    /// Names or IDs
    #[arg(required = true, value_name = "NETWORK")]
    names: Vec<String>,
}

impl From<NetworkArguments> for Arguments {
    fn from(arguments: NetworkArguments) -> Self {
        Self {
            format: arguments.format,
            size: false,
            kind: Some(Kind::Network),
            platform: None,
            names: arguments.names,
        }
    }
}

/// `hull volume inspect`
#[derive(Debug, Args)]
#[command(override_usage = "hull volume inspect [OPTIONS] VOLUME [VOLUME...]")]
pub(crate) struct VolumeArguments {
    /// Format output using a Go template, or 'json'
    #[arg(short, long)]
    format: Option<String>,

    /// Names
    #[arg(required = true, value_name = "VOLUME")]
    names: Vec<String>,
}

impl From<VolumeArguments> for Arguments {
    fn from(arguments: VolumeArguments) -> Self {
        Self {
            format: arguments.format,
            size: false,
            kind: Some(Kind::Volume),
            platform: None,
            names: arguments.names,
        }
    }
}

impl From<ContainerArguments> for Arguments {
    fn from(arguments: ContainerArguments) -> Self {
        Self {
            format: arguments.format,
            size: arguments.size,
            kind: Some(Kind::Container),
            platform: None,
            names: arguments.names,
        }
    }
}

/// What can be inspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

/// How the objects are written.
enum Output {
    /// One indented list.
    List,
    /// One list in a line.
    Line,
    /// The template for each.
    Template(Template),
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let output = match arguments.format.as_deref() {
        None | Some("") => Output::List,
        Some("json") => Output::Line,
        Some(template) => Output::Template(Template::parse(template)?),
    };
    let mut objects = Vec::new();
    let mut failures = Vec::new();
    for name in &arguments.names {
        match find(client, name, &arguments).await {
            Ok(Some(object)) => objects.push(object),
            Ok(None) => failures.push(format!("Error: No such object: {name}")),
            Err(error) => failures.push(error.to_string()),
        }
    }
    print(&render(&output, &objects)?)?;
    if failures.is_empty() {
        return Ok(());
    }
    for failure in failures {
        complain(failure);
    }
    Err(Failure::silent(1))
}

async fn find(client: &Client, name: &str, arguments: &Arguments) -> Result<Option<Bytes>, ApiError> {
    for kind in [Kind::Container, Kind::Image, Kind::Network, Kind::Volume] {
        if arguments.kind.is_some_and(|wanted| wanted != kind) {
            continue;
        }
        let target = match kind {
            Kind::Container => Target::new(&["containers", name, "json"]).flag("size", arguments.size),
            Kind::Network => Target::new(&["networks", name]),
            Kind::Volume => Target::new(&["volumes", name]),
            Kind::Image => {
                let platform = arguments.platform.as_ref().map(Platform::json);
                Target::new(&["images", name, "json"]).option("platform", platform.as_deref())
            }
        };
        match client.get_bytes(target).await {
            // Another kind of object may have the name.
            Err(error) if error.is_not_found() && arguments.kind.is_none() => {}
            found => return found.map(Some),
        }
    }
    Ok(None)
}

fn render(output: &Output, objects: &[Bytes]) -> anyhow::Result<String> {
    let mut texts = Vec::with_capacity(objects.len());
    for object in objects {
        texts.push(std::str::from_utf8(object)?.trim());
    }
    let mut rendered = String::new();
    match output {
        Output::List => {
            rendered = indented(&format!("[{}]", texts.join(",")));
            rendered.push('\n');
        }
        Output::Line => rendered = format!("[{}]\n", texts.join(",")),
        Output::Template(template) => {
            for text in texts {
                let value: Value = serde_json::from_str(text)?;
                rendered.push_str(&template.render(&value)?);
                rendered.push('\n');
            }
        }
    }
    Ok(rendered)
}
