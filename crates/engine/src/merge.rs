//! A container from what was asked for and what its image says.

use image_store::DockerConfig;
use oci_spec::image::ImageConfiguration;

use crate::{ContainerCreate, EngineError, HealthCheck, Result};

/// The search path of a container whose image sets none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Merges what the image says into what was asked for, which wins, and answers what is executed.
pub(crate) fn merge(
    create: &mut ContainerCreate,
    image: &ImageConfiguration,
    docker: DockerConfig,
) -> Result<Vec<String>> {
    let empty = oci_spec::image::Config::default();
    let config = image.config().as_ref().unwrap_or(&empty);
    let args = command(create, config)?;
    create.env = environment(config.env().as_deref().unwrap_or_default(), &create.env);
    let or_image = |mine: &mut String, image: &Option<String>| {
        if mine.is_empty() {
            mine.push_str(image.as_deref().unwrap_or_default());
        }
    };
    or_image(&mut create.working_dir, config.working_dir());
    or_image(&mut create.user, config.user());
    or_image(&mut create.stop_signal, config.stop_signal());
    for (key, value) in config.labels().iter().flatten() {
        create.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    create
        .exposed_ports
        .extend(config.exposed_ports().iter().flatten().cloned());
    create.volumes.extend(config.volumes().iter().flatten().cloned());
    if create.shell.is_empty() {
        create.shell = docker.shell.unwrap_or_default();
    }
    if let Some(check) = docker.healthcheck {
        create.health = std::mem::take(&mut create.health).or(HealthCheck::of_image(check));
    }
    Ok(args)
}

fn command(create: &mut ContainerCreate, image: &oci_spec::image::Config) -> Result<Vec<String>> {
    // Docker's CLI clears the entrypoint with one empty word.
    let cleared = create
        .entrypoint
        .as_ref()
        .is_some_and(|words| words.iter().all(String::is_empty));
    if create.entrypoint.is_none() {
        create.entrypoint = image.entrypoint().clone();
        if create.command.as_ref().is_none_or(Vec::is_empty) {
            create.command = image.cmd().clone();
        }
    }
    if cleared {
        create.entrypoint = None;
    }
    let args: Vec<String> = create
        .entrypoint
        .iter()
        .flatten()
        .chain(create.command.iter().flatten())
        .cloned()
        .collect();
    if args.is_empty() {
        return Err(EngineError::Invalid("no command specified".into()));
    }
    Ok(args)
}

/// The variables asked for, and then those of the image that are not among them, in Docker's order; a name without a value takes a variable away.
pub(crate) fn environment(image: &[String], asked: &[String]) -> Vec<String> {
    let name = |variable: &String| variable.split('=').next().unwrap_or_default().to_owned();
    let named: Vec<String> = asked.iter().map(name).collect();
    let mut env = Vec::new();
    overlay(&mut env, asked);
    env.extend(
        image
            .iter()
            .filter(|variable| !named.contains(&name(variable)))
            .cloned(),
    );
    if !env.iter().any(|variable| variable.starts_with("PATH=")) {
        env.insert(0, DEFAULT_PATH.into());
    }
    env
}

/// Sets variables, in place of those of the same name; a name without a value takes one away.
pub(crate) fn overlay(env: &mut Vec<String>, over: &[String]) {
    for variable in over {
        let name = variable.split('=').next().unwrap_or_default();
        let same = |other: &String| other.split('=').next() == Some(name);
        match (env.iter().position(same), variable.contains('=')) {
            (Some(index), true) => env[index] = variable.clone(),
            (Some(index), false) => drop(env.remove(index)),
            (None, true) => env.push(variable.clone()),
            (None, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(config: serde_json::Value) -> ImageConfiguration {
        let image = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        serde_json::from_value(image).unwrap()
    }

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn args(entrypoint: Option<Vec<String>>, command: Option<Vec<String>>) -> Result<Vec<String>> {
        let image = image(serde_json::json!({ "Entrypoint": ["/entry", "-x"], "Cmd": ["run"] }));
        merge(
            &mut ContainerCreate {
                entrypoint,
                command,
                ..ContainerCreate::default()
            },
            &image,
            DockerConfig::default(),
        )
    }

    #[test]
    fn entrypoint_and_command_are_dockers() {
        assert_eq!(args(None, None).unwrap(), ["/entry", "-x", "run"]);
        assert_eq!(args(None, words(&["stop"])).unwrap(), ["/entry", "-x", "stop"]);
        assert_eq!(args(words(&["sh"]), None).unwrap(), ["sh"]);
        assert_eq!(
            args(words(&["sh"]), words(&["-c", "id"])).unwrap(),
            ["sh", "-c", "id"]
        );
        assert_eq!(args(words(&[""]), words(&["id"])).unwrap(), ["id"]);
        assert_eq!(
            args(words(&[]), None).unwrap_err().to_string(),
            "no command specified"
        );
    }

    #[test]
    fn what_was_asked_for_wins_over_the_image() {
        let image = image(serde_json::json!({
            "Cmd": ["x"], "Env": ["A=1", "B=2", "C=3"], "User": "web", "WorkingDir": "/srv",
            "Labels": { "l": "image", "m": "image" }, "StopSignal": "SIGQUIT",
        }));
        let mut create = ContainerCreate {
            env: vec!["B=two".into(), "C".into(), "D".into(), "E==".into()],
            user: "root".into(),
            labels: [("l".to_owned(), "asked".to_owned())].into(),
            ..ContainerCreate::default()
        };
        merge(&mut create, &image, DockerConfig::default()).unwrap();
        assert_eq!(create.env, [DEFAULT_PATH, "B=two", "E==", "A=1"]);
        assert_eq!(
            (create.user.as_str(), create.working_dir.as_str()),
            ("root", "/srv")
        );
        assert_eq!(create.stop_signal, "SIGQUIT");
        assert_eq!(create.labels["l"], "asked");
        assert_eq!(create.labels["m"], "image");
    }
}
