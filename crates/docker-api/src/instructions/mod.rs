//! Dockerfile instructions that change how the containers of an image run: those of `commit --change` and
//! `import --change` (Dockerfile reference).

mod health;
mod words;

use engine::ImageConfig;

use crate::error::ApiError;

/// The highest port.
const PORTS: std::ops::RangeInclusive<u16> = 1..=u16::MAX;

/// Carries out the instructions of several texts, one after the other.
pub(crate) fn apply(config: &mut ImageConfig, changes: &[String]) -> Result<(), ApiError> {
    let mut target = Target {
        config,
        has_command: false,
    };
    for line in lines(changes) {
        target
            .apply(&line)
            .map_err(|why| ApiError::bad_request(format!("invalid change '{line}': {why}")))?;
    }
    Ok(())
}

/// The instructions: one a line, or on several that end in `\`; without comments.
fn lines(changes: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for change in changes {
        let mut begun = String::new();
        for line in change.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.strip_suffix('\\') {
                Some(part) => begun.push_str(part),
                None => lines.push(std::mem::take(&mut begun) + line),
            }
        }
        lines.extend(Some(begun).filter(|begun| !begun.is_empty()));
    }
    lines
}

struct Target<'a> {
    config: &'a mut ImageConfig,
    /// Whether one of the instructions gave it a command.
    has_command: bool,
}

impl Target<'_> {
    fn apply(&mut self, line: &str) -> Result<(), String> {
        let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        if rest.is_empty() {
            return Err("it has no argument".into());
        }
        match instruction.to_ascii_uppercase().as_str() {
            "CMD" => {
                self.config.command = Some(command(rest)?);
                self.has_command = true;
            }
            "ENTRYPOINT" => {
                self.config.entrypoint = Some(command(rest)?).filter(|words| !words.is_empty());
                // The command was meant for another entrypoint.
                if !self.has_command {
                    self.config.command = None;
                }
            }
            "ENV" => {
                for (name, value) in self.pairs(rest)? {
                    let prefix = format!("{name}=");
                    let same = |variable: &&mut String| variable.starts_with(&prefix);
                    let value = format!("{prefix}{value}");
                    match self.config.env.iter_mut().find(same) {
                        Some(variable) => *variable = value,
                        None => self.config.env.push(value),
                    }
                }
            }
            "LABEL" => self.config.labels.extend(self.pairs(rest)?),
            "EXPOSE" => {
                for word in words::split(rest)? {
                    let ports = ports(&self.expand(&word)?)?;
                    self.config.exposed_ports.extend(ports);
                }
            }
            "VOLUME" => {
                let volumes = match list(rest)? {
                    Some(volumes) => volumes,
                    None => words::split(rest)?,
                };
                for volume in volumes {
                    match self.expand(&volume)?.trim() {
                        "" => return Err("VOLUME specified can not be an empty string".into()),
                        volume => drop(self.config.volumes.insert(volume.to_owned())),
                    }
                }
            }
            "USER" => self.config.user = self.expand(rest)?,
            "WORKDIR" => self.config.working_dir = below(&self.config.working_dir, &self.expand(rest)?),
            "STOPSIGNAL" => self.config.stop_signal = self.expand(rest)?,
            "ONBUILD" => self.config.on_build.push(trigger(rest)?),
            "HEALTHCHECK" => {
                let read = |text: &str| {
                    let listed = list(text)?;
                    let is_line = listed.is_none();
                    let line = || Some(text.to_owned()).filter(|text| !text.is_empty());
                    Ok((is_line, listed.unwrap_or_else(|| line().into_iter().collect())))
                };
                self.config.health_check = Some(health::read(rest, read)?);
            }
            other => return Err(format!("{other} is not a valid change command")),
        }
        Ok(())
    }

    fn expand(&self, word: &str) -> Result<String, String> {
        words::expand(word, &self.config.env)
    }

    /// `name=value` each; or one name, a blank, and a value. All of one instruction see the variables that were there
    /// before it.
    fn pairs(&self, text: &str) -> Result<Vec<(String, String)>, String> {
        let words = words::split(text)?;
        match words.first() {
            Some(first) if !first.contains('=') => {
                let (name, value) = text.split_once(char::is_whitespace).ok_or("it has no value")?;
                Ok(vec![(self.expand(name)?, self.expand(value.trim())?)])
            }
            _ => words
                .iter()
                .map(|word| match word.split_once('=') {
                    Some((name, value)) if !name.is_empty() => Ok((self.expand(name)?, self.expand(value)?)),
                    _ => Err(format!("'{word}' is no name=value")),
                })
                .collect(),
        }
    }
}

/// A command: a JSON list, or a line for a shell.
fn command(text: &str) -> Result<Vec<String>, String> {
    Ok(list(text)?.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.to_owned()]))
}

/// A JSON list of strings. What is no JSON list is a text that only looks like one.
fn list(text: &str) -> Result<Option<Vec<String>>, String> {
    let Ok(items) = serde_json::from_str::<Vec<serde_json::Value>>(text) else {
        return Ok(None);
    };
    let strings = items.into_iter().map(|item| match item {
        serde_json::Value::String(text) => Ok(text),
        other => Err(format!("{other} in the list is no string")),
    });
    strings.collect::<Result<_, _>>().map(Some)
}

/// `PORT[-PORT][/PROTOCOL]`
fn ports(text: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("invalid containerPort: {text}");
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("invalid proto: {protocol}"));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| {
        let port = text.parse::<u16>().ok();
        port.filter(|port| PORTS.contains(port)).ok_or_else(wrong)
    };
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(wrong());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// A working directory as seen from another one, `.` and `..` carried out on the text.
fn below(current: &str, path: &str) -> String {
    let current = if path.starts_with('/') { "" } else { current };
    let mut names = Vec::new();
    for name in current.split('/').chain(path.split('/')) {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

/// An instruction for a later build.
fn trigger(text: &str) -> Result<String, String> {
    let name = text.split_whitespace().next().unwrap_or_default();
    match name.to_ascii_uppercase().as_str() {
        "ONBUILD" => Err("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed".into()),
        other @ ("FROM" | "MAINTAINER") => Err(format!("{other} isn't allowed as an ONBUILD trigger")),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(mut config: ImageConfig, changes: &[&str]) -> Result<ImageConfig, ApiError> {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply(&mut config, &changes)?;
        Ok(config)
    }

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn instructions_change_the_configuration() {
        let config = changed(
            ImageConfig::default(),
            &[
                "ENTRYPOINT /bin/x --y\n# a comment\nCMD [\"sh\", \"-l\"]",
                "ENV A=1 B='two words'",
                "ENV A=3 \\\n  D=$A$MISSING",
                "ENV C four five",
                "EXPOSE 80 53/udp 7000-7002/tcp",
                "LABEL k=v \"two words\"=\"$C\"",
                "USER 1:2",
                "WORKDIR /w",
                "workdir ../x/./y",
                "VOLUME /a /b",
                "VOLUME [\"/with blank\"]",
                "STOPSIGNAL SIGINT",
                "ONBUILD RUN make",
                "HEALTHCHECK --interval=5s CMD [\"true\"]",
            ],
        )
        .unwrap();
        assert_eq!(config.command, words(&["sh", "-l"]));
        assert_eq!(config.entrypoint, words(&["/bin/sh", "-c", "/bin/x --y"]));
        assert_eq!(config.env, ["A=3", "B=two words", "D=1", "C=four five"]);
        let ports: Vec<_> = config.exposed_ports.iter().map(String::as_str).collect();
        assert_eq!(ports, ["53/udp", "7000/tcp", "7001/tcp", "7002/tcp", "80/tcp"]);
        let volumes: Vec<_> = config.volumes.iter().map(String::as_str).collect();
        assert_eq!(volumes, ["/a", "/b", "/with blank"]);
        assert_eq!(config.labels["k"], "v");
        assert_eq!(config.labels["two words"], "four five");
        assert_eq!(
            (config.user.as_str(), config.working_dir.as_str()),
            ("1:2", "/x/y")
        );
        assert_eq!(config.stop_signal, "SIGINT");
        assert_eq!(config.on_build, ["RUN make"]);
        let check = config.health_check.unwrap();
        assert_eq!(
            (check.test, check.interval),
            (words(&["CMD", "true"]).unwrap(), 5_000_000_000)
        );
    }

    #[test]
    fn what_a_container_has_stays_unless_it_is_changed() {
        let container = ImageConfig {
            command: words(&["old"]),
            entrypoint: words(&["/old"]),
            env: vec!["PATH=/bin".into()],
            working_dir: "/srv".into(),
            ..ImageConfig::default()
        };
        let changed = |changes| changed(container.clone(), changes).unwrap();
        assert_eq!(changed(&[]), container);
        assert_eq!(changed(&["ENV PATH=$PATH:/x"]).env, ["PATH=/bin:/x"]);
        assert_eq!(changed(&["WORKDIR www"]).working_dir, "/srv/www");
        assert_eq!(changed(&["CMD new"]).entrypoint, container.entrypoint);
        assert_eq!(changed(&["ENTRYPOINT [\"/new\"]"]).command, None);
        let both = changed(&["CMD [\"new\"]", "ENTRYPOINT [\"/new\"]"]);
        assert_eq!(both.command, words(&["new"]));
        assert_eq!(changed(&["ENTRYPOINT []"]).entrypoint, None);
        // As Docker does, with what only looks like a list.
        assert_eq!(changed(&["CMD [x"]).command, words(&["/bin/sh", "-c", "[x"]));
    }

    #[test]
    fn what_is_no_change_is_refused() {
        for line in [
            "RUN true",
            "COPY a b",
            "CMD",
            "CMD [1]",
            "ENV A",
            "ENV A=1 B",
            "LABEL 'x",
            "ENV =1",
            "EXPOSE 0",
            "EXPOSE 1-x",
            "EXPOSE 9-8",
            "EXPOSE 80/icmp",
            "EXPOSE 70000",
            "VOLUME [\"\"]",
            "ONBUILD FROM x",
            "ONBUILD ONBUILD RUN x",
            "HEALTHCHECK x",
            "HEALTHCHECK CMD",
            "ENV A=${B:=x}",
        ] {
            let error = changed(ImageConfig::default(), &[line]).unwrap_err();
            assert!(error.message().contains(line), "{line}: {error}");
        }
    }
}
