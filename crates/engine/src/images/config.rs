//! How the containers of an image run, as its configuration says it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use image_store::ImageHealthCheck;

use crate::{ContainerCreate, Result, merge, signals};

/// `config` of an image's configuration (image-spec, config.md), with the fields that Docker adds to it. What is not set
/// is not written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    /// `user[:group]`, names or numbers.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Such as `80/tcp`.
    #[serde(with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Its arguments, or what is executed where there is no entrypoint.
    #[serde(rename = "Cmd", skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Where containers get volumes.
    #[serde(with = "set", skip_serializing_if = "BTreeSet::is_empty")]
    pub volumes: BTreeSet<String>,
    /// An absolute path.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels of the image, and of its containers.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that asks containers to stop: a name or a number.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// How to find out whether a container does what it is there for.
    #[serde(rename = "Healthcheck", skip_serializing_if = "Option::is_none")]
    pub health_check: Option<ImageHealthCheck>,
    /// What commands in shell form are run with; none is `/bin/sh -c`.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
    /// Dockerfile instructions for builds on top of the image.
    #[serde(deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
}

impl ImageConfig {
    /// How the containers of an image run that is made of a container.
    pub fn of_container(container: &ContainerCreate) -> Self {
        Self {
            user: container.user.clone(),
            exposed_ports: container.exposed_ports.clone(),
            env: container.env.clone(),
            entrypoint: container.entrypoint.clone(),
            command: container.command.clone(),
            volumes: container.volumes.clone(),
            working_dir: container.working_dir.clone(),
            labels: container.labels.clone(),
            stop_signal: container.stop_signal.clone(),
            health_check: container.health.for_image(),
            shell: container.shell.clone(),
            ..Self::default()
        }
    }

    /// The one in an image's whole configuration.
    pub(crate) fn in_document(document: &[u8]) -> serde_json::Result<Self> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Document {
            config: Option<ImageConfig>,
        }
        Ok(serde_json::from_slice::<Document>(document)?
            .config
            .unwrap_or_default())
    }

    /// Takes over what is not said here: Docker's rules for a commit.
    pub(crate) fn complete_from(&mut self, below: &Self) {
        let or_below = |own: &mut String, below: &String| {
            if own.is_empty() {
                own.clone_from(below);
            }
        };
        or_below(&mut self.user, &below.user);
        or_below(&mut self.working_dir, &below.working_dir);
        or_below(&mut self.stop_signal, &below.stop_signal);
        self.exposed_ports.extend(below.exposed_ports.iter().cloned());
        self.volumes.extend(below.volumes.iter().cloned());
        let own = std::mem::replace(&mut self.env, below.env.clone());
        merge::overlay(&mut self.env, &own);
        for (name, value) in &below.labels {
            self.labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        let is_empty = |words: &Option<Vec<String>>| words.as_ref().is_none_or(Vec::is_empty);
        // A new entrypoint has nothing to do with the old one's arguments.
        if is_empty(&self.entrypoint) {
            if is_empty(&self.command) {
                self.command.clone_from(&below.command);
            }
            if self.entrypoint.is_none() {
                self.entrypoint.clone_from(&below.entrypoint);
            }
        }
        if self.shell.is_empty() {
            self.shell.clone_from(&below.shell);
        }
        if self.health_check.is_none() {
            self.health_check.clone_from(&below.health_check);
        }
    }

    /// Refuses what no container could run with.
    pub(crate) fn check(&self) -> Result<()> {
        if !self.stop_signal.is_empty() {
            signals::parse(&self.stop_signal)?;
        }
        Ok(())
    }

    /// As it is in an image's configuration.
    pub(crate) fn to_json(&self) -> Result<Value> {
        serde_json::to_value(self).map_err(|error| crate::EngineError::Internal(error.to_string()))
    }
}

/// Go writes what is empty as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Sets as Go has them: an object whose values are empty objects.
mod set {
    use super::*;

    pub(super) fn serialize<S: Serializer>(set: &BTreeSet<String>, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(set.iter().map(|name| (name, Map::new())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeSet<String>, D::Error> {
        let names: BTreeMap<String, Value> = or_default(from)?;
        Ok(names.into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn a_configuration_is_written_as_images_have_it_and_read_again() {
        let config = json!({
            "User": "u", "ExposedPorts": { "80/tcp": {} }, "Env": ["A=1"], "Cmd": ["c"], "Volumes": { "/v": {} },
            "WorkingDir": "/w", "Labels": { "l": "1" }, "StopSignal": "SIGINT",
            "Healthcheck": { "Test": ["CMD", "true"], "Interval": 5 }, "OnBuild": ["RUN x"],
        });
        let read: ImageConfig = serde_json::from_value(config.clone()).unwrap();
        assert_eq!(read.to_json().unwrap(), config);
        let of_go = json!({ "Env": null, "Volumes": null, "Labels": null, "Cmd": null, "Hostname": "h" });
        let read: ImageConfig = serde_json::from_value(of_go).unwrap();
        assert_eq!(read.to_json().unwrap(), json!({}));
        assert_eq!(
            ImageConfig::in_document(br#"{"config":null}"#).unwrap(),
            ImageConfig::default()
        );
    }

    #[test]
    fn what_is_not_said_is_the_containers() {
        let container = ImageConfig::of_container(&ContainerCreate {
            user: "web".into(),
            env: vec!["A=1".into(), "B=2".into()],
            entrypoint: words(&["/entry"]),
            command: words(&["run"]),
            labels: [
                ("l".to_owned(), "old".to_owned()),
                ("m".to_owned(), "1".to_owned()),
            ]
            .into(),
            volumes: ["/v".to_owned()].into(),
            ..ContainerCreate::default()
        });
        let mut config = ImageConfig {
            env: vec!["B=3".into()],
            labels: [("l".to_owned(), "new".to_owned())].into(),
            ..ImageConfig::default()
        };
        config.complete_from(&container);
        assert_eq!(config.env, ["A=1", "B=3"]);
        assert_eq!(
            (config.labels["l"].as_str(), config.labels["m"].as_str()),
            ("new", "1")
        );
        assert_eq!((config.user.as_str(), config.volumes.len()), ("web", 1));
        assert_eq!(
            (config.entrypoint, config.command),
            (words(&["/entry"]), words(&["run"]))
        );
    }

    #[test]
    fn a_new_entrypoint_goes_without_the_old_arguments() {
        let container = ImageConfig {
            entrypoint: words(&["/entry"]),
            command: words(&["run"]),
            ..ImageConfig::default()
        };
        let complete = |entrypoint, command| {
            let mut config = ImageConfig {
                entrypoint,
                command,
                ..ImageConfig::default()
            };
            config.complete_from(&container);
            (config.entrypoint, config.command)
        };
        assert_eq!(complete(words(&["/new"]), None), (words(&["/new"]), None));
        assert_eq!(
            complete(None, words(&["stop"])),
            (words(&["/entry"]), words(&["stop"]))
        );
        assert_eq!(complete(words(&[]), None), (words(&[]), words(&["run"])));
    }
}
