//! The configuration of an image in the making (image-spec, config.md, and what Docker adds to it).

use std::time::Duration;

use dockerfile::{CommandLine, Healthcheck, Platform, Variables};
use serde_json::{Map, Value, json};

/// What shell forms are run with.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// What a configuration says of the platform.
const PLATFORM: [&str; 5] = ["architecture", "os", "os.version", "os.features", "variant"];

/// A configuration, and the steps that led to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Config {
    /// What stands beside `config`: the platform.
    platform: Map<String, Value>,
    author: Option<String>,
    /// `config`
    values: Map<String, Value>,
    history: Vec<Value>,
    /// Whether the stage has said itself what is run: a new entrypoint takes the base image's command away.
    has_command: bool,
}

impl Config {
    /// Of nothing.
    pub(super) fn scratch(platform: &Platform) -> Self {
        let mut of = Map::new();
        of.insert("architecture".into(), platform.architecture.as_str().into());
        of.insert("os".into(), platform.os.as_str().into());
        if let Some(variant) = &platform.variant {
            of.insert("variant".into(), variant.as_str().into());
        }
        Self {
            platform: of,
            ..Self::default()
        }
    }

    /// Of an image with this configuration, which has this many layers. An image that does not tell how it was made gets steps
    /// of which nothing is known.
    pub(super) fn of_image(document: &Map<String, Value>, layers: usize) -> Self {
        let mut history = match document.get("history") {
            Some(Value::Array(history)) => history.clone(),
            _ => Vec::new(),
        };
        let made_layer = |step: &&Value| step.get("empty_layer") != Some(&Value::Bool(true));
        let told = history.iter().filter(made_layer).count();
        history.extend((told..layers).map(|_| json!({})));
        let values = match document.get("config") {
            Some(Value::Object(values)) => values.clone(),
            _ => Map::new(),
        };
        let platform = PLATFORM.iter().filter_map(|name| {
            let value = document.get(*name)?;
            Some(((*name).to_owned(), value.clone()))
        });
        Self {
            platform: platform.collect(),
            author: document.get("author").and_then(Value::as_str).map(str::to_owned),
            values,
            history,
            has_command: false,
        }
    }

    /// The same at the beginning of a stage that goes on from it. The triggers were for this one.
    pub(super) fn begin_stage(mut self) -> Self {
        self.has_command = false;
        self.values.remove("OnBuild");
        self
    }

    /// The configuration of the images between: nothing but the platform, and a mark.
    pub(super) fn bare(&self) -> Map<String, Value> {
        let mut document = self.platform.clone();
        document.insert("config".into(), json!({ "Labels": { STEP_LABEL: "" } }));
        document
    }

    /// The whole document. Steps without a time, and the image, get `created`.
    pub(super) fn document(&self, created: Option<&str>) -> Map<String, Value> {
        let mut document = self.platform.clone();
        if let Some(author) = &self.author {
            document.insert("author".into(), author.as_str().into());
        }
        let mut history = self.history.clone();
        if let Some(created) = created {
            document.insert("created".into(), created.into());
            for step in history.iter_mut().filter_map(Value::as_object_mut) {
                if step.remove(PENDING).is_some() {
                    step.insert("created".into(), created.into());
                }
            }
        }
        document.insert("config".into(), self.values.clone().into());
        document.insert("history".into(), history.into());
        document
    }

    /// Notes a step: when its layer was made, if it made one.
    pub(super) fn note(&mut self, text: &str, layer: Option<&str>) {
        let mut step = Map::new();
        match layer {
            Some(created) => drop(step.insert("created".into(), created.into())),
            None => {
                step.insert(PENDING.into(), true.into());
                step.insert("empty_layer".into(), true.into());
            }
        }
        step.insert("created_by".into(), text.into());
        if let Some(author) = &self.author {
            step.insert("author".into(), author.as_str().into());
        }
        self.history.push(step.into());
    }

    fn text(&self, name: &str) -> &str {
        self.values.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn list(&self, name: &str) -> Vec<String> {
        let list = self.values.get(name).and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }

    fn members(&mut self, name: &str) -> &mut Map<String, Value> {
        let value = self
            .values
            .entry(name)
            .or_insert_with(|| Value::Object(Map::new()));
        if !value.is_object() {
            *value = Value::Object(Map::new());
        }
        match value {
            Value::Object(members) => members,
            // It has just been made one.
            _ => unreachable!("a member that is an object"),
        }
    }

    pub(super) fn environment(&self) -> Vec<String> {
        self.list("Env")
    }

    pub(super) fn set_environment(&mut self, variables: &Variables) {
        self.values.insert("Env".into(), variables.to_list().into());
    }

    pub(super) fn triggers(&self) -> Vec<String> {
        self.list("OnBuild")
    }

    pub(super) fn add_trigger(&mut self, text: &str) {
        let mut triggers = self.triggers();
        triggers.push(text.to_owned());
        self.values.insert("OnBuild".into(), triggers.into());
    }

    /// What shell forms are run with.
    pub(super) fn shell(&self) -> Vec<String> {
        match self.list("Shell") {
            shell if shell.is_empty() => SHELL.map(str::to_owned).to_vec(),
            shell => shell,
        }
    }

    pub(super) fn set_shell(&mut self, words: Vec<String>) {
        self.values.insert("Shell".into(), words.into());
    }

    pub(super) fn user(&self) -> &str {
        self.text("User")
    }

    pub(super) fn set_user(&mut self, user: &str) {
        self.values.insert("User".into(), user.into());
    }

    /// An absolute path.
    pub(super) fn working_directory(&self) -> &str {
        match self.text("WorkingDir") {
            "" => "/",
            path => path,
        }
    }

    pub(super) fn set_working_directory(&mut self, path: &str) {
        self.values.insert("WorkingDir".into(), path.into());
    }

    pub(super) fn set_command(&mut self, arguments: Vec<String>) {
        self.has_command = true;
        self.values.insert("Cmd".into(), arguments.into());
    }

    pub(super) fn set_entrypoint(&mut self, arguments: Vec<String>) {
        self.values.insert("Entrypoint".into(), arguments.into());
        if !self.has_command {
            self.values.remove("Cmd");
        }
    }

    pub(super) fn set_label(&mut self, name: &str, value: &str) {
        self.members("Labels").insert(name.into(), value.into());
    }

    pub(super) fn add_port(&mut self, name: String) {
        self.members("ExposedPorts").insert(name, json!({}));
    }

    pub(super) fn add_volume(&mut self, path: &str) {
        self.members("Volumes").insert(path.into(), json!({}));
    }

    pub(super) fn set_stop_signal(&mut self, signal: &str) {
        self.values.insert("StopSignal".into(), signal.into());
    }

    pub(super) fn set_author(&mut self, author: &str) {
        self.author = Some(author.to_owned());
    }

    pub(super) fn set_health_check(&mut self, check: &Healthcheck) {
        let nanoseconds =
            |time: Option<Duration>| time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        let value = match check {
            Healthcheck::None => json!({ "Test": ["NONE"] }),
            Healthcheck::Command(command) => {
                let mut value = Map::new();
                value.insert("Test".into(), command.test().into());
                for (name, time) in [
                    ("Interval", command.interval),
                    ("Timeout", command.timeout),
                    ("StartPeriod", command.start_period),
                    ("StartInterval", command.start_interval),
                ] {
                    if let Some(time) = nanoseconds(time) {
                        value.insert(name.into(), time.into());
                    }
                }
                if let Some(retries) = command.retries {
                    value.insert("Retries".into(), retries.into());
                }
                value.into()
            }
        };
        self.values.insert("Healthcheck".into(), value);
    }

    /// The arguments of `CMD` or `ENTRYPOINT`.
    pub(super) fn arguments(&self, command: &CommandLine) -> Vec<String> {
        command.arguments(&self.shell())
    }
}

/// The label of images between steps, which no list shows.
pub const STEP_LABEL: &str = "hull.build.step";
/// A step whose time is that of the image.
const PENDING: &str = "hull.pending";

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::of_image(&serde_json::from_str(text).unwrap(), 1)
    }

    #[test]
    fn an_entrypoint_takes_the_base_images_command_away_but_not_the_stages_own() {
        let below = config(r#"{ "config": { "Cmd": ["a"] } }"#);
        let mut stage = below.clone();
        stage.set_entrypoint(vec!["e".into()]);
        assert_eq!(stage.document(None)["config"].get("Cmd"), None);
        let mut stage = below;
        stage.set_command(vec!["c".into()]);
        stage.set_entrypoint(vec!["e".into()]);
        assert_eq!(stage.document(None)["config"]["Cmd"], json!(["c"]));
    }

    #[test]
    fn steps_without_a_layer_have_the_time_of_the_image() {
        let mut config = config(r#"{ "os": "linux", "rootfs": {} }"#);
        config.note("RUN a", Some("2026-01-01T00:00:00Z"));
        config.note("ENV b=c", None);
        let document = config.document(Some("2026-01-02T00:00:00Z"));
        assert_eq!(
            document["history"],
            json!([
                {},
                { "created": "2026-01-01T00:00:00Z", "created_by": "RUN a" },
                { "created": "2026-01-02T00:00:00Z", "created_by": "ENV b=c", "empty_layer": true },
            ])
        );
        assert_eq!(document["os"], "linux");
        assert_eq!(document.get("rootfs"), None);
    }
}
