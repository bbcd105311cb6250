//! What an imported image is to be: its platform, and the Dockerfile instructions that change its configuration.

use std::collections::HashMap;

use engine::{ImageConfiguration, PlatformName};
use jiff::Timestamp;
use oci_spec::image::{
    Arch, Config, ConfigBuilder, HistoryBuilder, ImageConfigurationBuilder, Os, RootFsBuilder,
};

use super::platform;
use crate::error::ApiError;
use crate::query::Params;

/// What a configuration is built from, one instruction after the other.
#[derive(Debug, Default)]
struct Draft {
    user: Option<String>,
    exposed_ports: Vec<String>,
    env: Vec<String>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    volumes: Vec<String>,
    working_dir: Option<String>,
    labels: HashMap<String, String>,
    stop_signal: Option<String>,
}

/// Reads `changes`, `message` and `platform` for an image that is made of what `source` has.
pub(super) fn read(params: &Params, source: &str) -> Result<ImageConfiguration, ApiError> {
    let mut draft = Draft::default();
    for change in params.texts("changes") {
        for line in change.lines().map(str::trim).filter(|line| !line.is_empty()) {
            draft
                .apply(line)
                .map_err(|why| ApiError::bad_request(format!("invalid change '{line}': {why}")))?;
        }
    }
    let platform = platform::one(params)?.unwrap_or_else(|| format!("linux/{}", std::env::consts::ARCH));
    let platform = PlatformName::parse(&platform)?;
    let now = Timestamp::now().to_string();
    let comment = match params.text("message") {
        Some(message) => message.to_owned(),
        None => format!("Imported from {source}"),
    };
    let invalid = |error| ApiError::bad_request(format!("invalid configuration: {error}"));
    let history = HistoryBuilder::default()
        .created(&now)
        .comment(comment)
        .build()
        .map_err(invalid)?;
    let mut builder = ImageConfigurationBuilder::default();
    if !platform.variant.is_empty() {
        builder = builder.variant(platform.variant);
    }
    builder
        .created(now)
        .os(Os::from(platform.os.as_str()))
        .architecture(Arch::from(platform.architecture.as_str()))
        .config(draft.build().map_err(invalid)?)
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids(Vec::<String>::new())
                .build()
                .map_err(invalid)?,
        )
        .history(vec![history])
        .build()
        .map_err(invalid)
}

impl Draft {
    /// Applies one instruction.
    fn apply(&mut self, line: &str) -> Result<(), String> {
        let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        if rest.is_empty() {
            return Err("it has no argument".into());
        }
        match instruction.to_ascii_uppercase().as_str() {
            "CMD" => self.cmd = Some(command(rest)?),
            "ENTRYPOINT" => self.entrypoint = Some(command(rest)?),
            "ENV" => {
                for (name, value) in pairs(rest)? {
                    let prefix = format!("{name}=");
                    self.env.retain(|variable| !variable.starts_with(&prefix));
                    self.env.push(prefix + &value);
                }
            }
            "LABEL" => self.labels.extend(pairs(rest)?),
            "EXPOSE" => {
                for port in rest.split_whitespace() {
                    let port = if port.contains('/') {
                        port.to_owned()
                    } else {
                        format!("{port}/tcp")
                    };
                    self.exposed_ports.push(port);
                }
            }
            "VOLUME" => match list(rest)? {
                Some(volumes) => self.volumes.extend(volumes),
                None => self.volumes.extend(rest.split_whitespace().map(str::to_owned)),
            },
            "USER" => self.user = Some(rest.to_owned()),
            "WORKDIR" => self.working_dir = Some(rest.to_owned()),
            "STOPSIGNAL" => self.stop_signal = Some(rest.to_owned()),
            other => return Err(format!("{other} is not a valid change command")),
        }
        Ok(())
    }

    fn build(self) -> Result<Config, oci_spec::OciSpecError> {
        let mut config = ConfigBuilder::default();
        if let Some(user) = self.user {
            config = config.user(user);
        }
        if !self.exposed_ports.is_empty() {
            config = config.exposed_ports(self.exposed_ports);
        }
        if !self.env.is_empty() {
            config = config.env(self.env);
        }
        if let Some(entrypoint) = self.entrypoint {
            config = config.entrypoint(entrypoint);
        }
        if let Some(cmd) = self.cmd {
            config = config.cmd(cmd);
        }
        if !self.volumes.is_empty() {
            config = config.volumes(self.volumes);
        }
        if let Some(working_dir) = self.working_dir {
            config = config.working_dir(working_dir);
        }
        if !self.labels.is_empty() {
            config = config.labels(self.labels);
        }
        if let Some(signal) = self.stop_signal {
            config = config.stop_signal(signal);
        }
        config.build()
    }
}

/// A command: a JSON list, or a line for a shell.
fn command(text: &str) -> Result<Vec<String>, String> {
    Ok(list(text)?.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.to_owned()]))
}

/// A JSON list of strings, if it looks like one.
fn list(text: &str) -> Result<Option<Vec<String>>, String> {
    if !text.starts_with('[') {
        return Ok(None);
    }
    serde_json::from_str(text)
        .map(Some)
        .map_err(|error| format!("it is no JSON list of strings: {error}"))
}

/// `name=value` each, quoted as in a shell; or one name, a blank, and a value.
fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let words = shlex::split(text).ok_or("a quote is not closed")?;
    match words.first() {
        Some(first) if !first.contains('=') => {
            let (name, value) = text.split_once(char::is_whitespace).ok_or("it has no value")?;
            Ok(vec![(name.to_owned(), value.trim().to_owned())])
        }
        _ => words
            .iter()
            .map(|word| match word.split_once('=') {
                Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
                _ => Err(format!("'{word}' is no name=value")),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(lines: &[&str]) -> Result<Draft, String> {
        let mut draft = Draft::default();
        for line in lines {
            draft.apply(line)?;
        }
        Ok(draft)
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = draft(&[
            "CMD [\"sh\", \"-l\"]",
            "entrypoint /bin/x --y",
            "ENV A=1 B='two words'",
            "ENV A=3",
            "ENV C four five",
            "EXPOSE 80 53/udp",
            "LABEL k=v",
            "USER 1:2",
            "WORKDIR /w",
            "VOLUME /a /b",
            "STOPSIGNAL SIGINT",
        ])
        .unwrap()
        .build()
        .unwrap();
        let list = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
        assert_eq!(*config.cmd(), list(&["sh", "-l"]));
        assert_eq!(*config.entrypoint(), list(&["/bin/sh", "-c", "/bin/x --y"]));
        assert_eq!(*config.env(), list(&["B=two words", "A=3", "C=four five"]));
        assert_eq!(*config.exposed_ports(), list(&["80/tcp", "53/udp"]));
        assert_eq!(*config.volumes(), list(&["/a", "/b"]));
        assert_eq!(config.labels().as_ref().unwrap()["k"], "v");
        assert_eq!(config.user().as_deref(), Some("1:2"));
        assert_eq!(config.working_dir().as_deref(), Some("/w"));
        assert_eq!(config.stop_signal().as_deref(), Some("SIGINT"));
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for line in [
            "RUN true",
            "CMD",
            "CMD [1]",
            "ENV A",
            "ENV A=1 B",
            "LABEL 'x",
            "ENV =1",
        ] {
            assert!(draft(&[line]).is_err(), "{line}");
        }
    }
}
