//! `hull events`

use std::collections::BTreeMap;

use anyhow::{Context, bail};
use clap::Args;
use hyper::Method;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::{Value, json};

use super::filters::{self, Filter};
use super::{print, print_line};
use crate::api::{Client, Target};
use crate::failure::CommandResult;
use crate::template::Template;
use crate::time;

/// The longest event that is read, in bytes: labels can be long, and nothing else in it is.
const MAX_EVENT: usize = 16 << 20;

#[derive(Debug, Args)]
#[command(override_usage = "hull events [OPTIONS]")]
pub(crate) struct Arguments {
    /// Filter output based on conditions provided
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<Filter>,

    /// Format output using a Go template, or 'json'
    #[arg(long)]
    format: Option<String>,

    /// Show all events created since timestamp
    #[arg(long, value_name = "TIME")]
    since: Option<String>,

    /// Stream events until this timestamp
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    status: String,
    id: String,
    from: String,
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Action")]
    action: String,
    #[serde(rename = "Actor")]
    actor: Actor,
    scope: String,
    time: i64,
    #[serde(rename = "timeNano")]
    time_nano: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Attributes")]
    attributes: BTreeMap<String, String>,
}

/// How events are written.
enum Output {
    /// A line for people.
    Line,
    /// As they came.
    Json,
    /// The template for each.
    Template(Template),
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let output = match arguments.format.as_deref() {
        None | Some("") => Output::Line,
        Some("json" | "{{json .}}") => Output::Json,
        Some(template) => Output::Template(Template::parse(template)?),
    };
    let since = arguments.since.as_deref().map(time::api_time).transpose()?;
    let until = arguments.until.as_deref().map(time::api_time).transpose()?;
    let target = Target::new(&["events"])
        .option("since", since.as_deref())
        .option("until", until.as_deref())
        .option("filters", filters::parameter(&arguments.filter).as_deref());
    let mut events = client.begin(Method::GET, target).await?;
    let mut received = Vec::new();
    while let Some(bytes) = events.chunk().await? {
        received.extend_from_slice(&bytes);
        while let Some(end) = received.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = received.drain(..=end).collect();
            write(&output, std::str::from_utf8(&line)?.trim_end())?;
        }
        if received.len() > MAX_EVENT {
            return Err(too_long().into());
        }
    }
    Ok(())
}

fn too_long() -> anyhow::Error {
    anyhow::anyhow!("the daemon sent an event of more than {MAX_EVENT} bytes")
}

fn write(output: &Output, line: &str) -> anyhow::Result<()> {
    if line.is_empty() {
        return Ok(());
    }
    if let Output::Json = output {
        return Ok(print_line(line)?);
    }
    let event: Event = serde_json::from_str(line).context("the daemon sent an event that is none")?;
    if event.kind.is_empty() {
        bail!("the daemon sent an event that is about nothing: {line}");
    }
    match output {
        Output::Template(template) => print_line(&template.render(&event.fields())?)?,
        Output::Line | Output::Json => print(&event.line(&TimeZone::system()))?,
    }
    Ok(())
}

impl Event {
    /// What a template can name.
    fn fields(&self) -> Value {
        json!({
            "Status": self.status,
            "ID": self.id,
            "From": self.from,
            "Type": self.kind,
            "Action": self.action,
            "Actor": { "ID": self.actor.id, "Attributes": self.actor.attributes },
            "Scope": self.scope,
            "Time": self.time,
            "TimeNano": self.time_nano,
        })
    }

    /// `2026-11-21T10:00:00.123456789Z container start ID (image=busybox, name=x)`
    fn line(&self, zone: &TimeZone) -> String {
        let moment = Timestamp::from_nanosecond(self.time_nano.into()).unwrap_or_default();
        let moment = moment.to_zoned(zone.clone());
        let offset = match moment.offset().is_zero() {
            true => "Z".to_owned(),
            false => moment.strftime("%:z").to_string(),
        };
        let attributes = match self.actor.attributes.is_empty() {
            true => String::new(),
            false => {
                let pairs = self.actor.attributes.iter();
                let pairs: Vec<String> = pairs.map(|(name, value)| format!("{name}={value}")).collect();
                format!(" ({})", pairs.join(", "))
            }
        };
        format!(
            "{}{offset} {} {} {}{attributes}\n",
            moment.strftime("%Y-%m-%dT%H:%M:%S.%9f"),
            self.kind,
            self.action,
            self.actor.id
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"status":"start","id":"abc","from":"busybox","Type":"container","Action":"start","Actor":{"ID":"abc","Attributes":{"name":"web","image":"busybox"}},"scope":"local","time":5,"timeNano":5000000001}"#;

    #[test]
    fn an_event_is_a_line_with_its_attributes_in_order() {
        let event: Event = serde_json::from_str(LINE).unwrap();
        assert_eq!(
            event.line(&TimeZone::UTC),
            "1970-01-01T00:00:05.000000001Z container start abc (image=busybox, name=web)\n"
        );
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert!(
            event
                .line(&zone)
                .starts_with("1970-01-01T02:00:05.000000001+02:00 ")
        );
    }

    #[test]
    fn templates_name_what_dockers_do() {
        let event: Event = serde_json::from_str(LINE).unwrap();
        let template = Template::parse("{{.Type}} {{.Action}} {{.Actor.Attributes.name}} {{.Time}}").unwrap();
        assert_eq!(template.render(&event.fields()).unwrap(), "container start web 5");
    }
}
