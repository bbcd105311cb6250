//! How a container's log is kept.

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::folder::ContainerRecord;
use crate::human_size::{self, Unit};
use crate::{EngineError, Result, ids};

/// The most that the attributes of a line take, so that a line with them can be read in one piece.
const MAX_ATTRIBUTES: usize = 64 * 1024;
/// The most files that a log may be kept in.
const MAX_FILES: u32 = 1000;
/// The standards of the driver `local`.
const LOCAL_SIZE: u64 = 20 << 20;
const LOCAL_FILES: u32 = 5;

/// How a container's log is kept: Docker's drivers that keep it here, and their options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSpec {
    /// In which way.
    pub driver: LogDriver,
    /// The options as they were given; [`Engine::create`](crate::Engine::create) checks them.
    pub options: BTreeMap<String, String>,
}

/// Ways to keep a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Files of JSON lines, which anybody may read.
    #[default]
    JsonFile,
    /// Files in a form of our own, with a bound unless another is given.
    Local,
    /// Not at all.
    None,
}

impl LogDriver {
    /// The drivers by their names.
    const NAMES: [(&'static str, LogDriver); 3] = [
        ("json-file", LogDriver::JsonFile),
        ("local", LogDriver::Local),
        ("none", LogDriver::None),
    ];

    /// The driver of this name.
    pub fn named(name: &str) -> Option<LogDriver> {
        let mut names = Self::NAMES.into_iter();
        names.find(|(known, _)| *known == name).map(|(_, driver)| driver)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let mut names = Self::NAMES.into_iter();
        names
            .find(|(_, driver)| *driver == self)
            .map_or("", |(name, _)| name)
    }
}

/// When a log goes on in another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// How many bytes a file has at most, unless a single line is longer.
    pub(crate) size: u64,
    /// How many files there are at most.
    pub(crate) files: u32,
    /// Whether those that are not written to any more are compressed.
    pub(crate) compress: bool,
}

/// What the writer of a log has to know of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogForm {
    /// When it goes on in another file; `None` is never.
    pub(crate) rotation: Option<Rotation>,
    /// Attributes of each line as a JSON object; empty if there are none.
    pub(crate) attributes: Vec<u8>,
}

impl LogSpec {
    /// The form of the log of this container; `None` if none is kept.
    fn form(&self, record: &ContainerRecord) -> Result<Option<LogForm>> {
        let known: &[&str] = match self.driver {
            LogDriver::None => return Ok(None),
            LogDriver::Local => &["max-size", "max-file", "compress"],
            LogDriver::JsonFile => &[
                "max-size",
                "max-file",
                "compress",
                "labels",
                "labels-regex",
                "env",
                "env-regex",
                "tag",
            ],
        };
        self.check_names(known)?;
        let rotation = self
            .rotation()
            .map_err(|why| EngineError::Invalid(format!("failed to initialize logging driver: {why}")))?;
        let attributes = self.attributes(record)?;
        Ok(Some(LogForm { rotation, attributes }))
    }

    /// The form of the log of a container that there is already: what was checked and has grown too long since, by
    /// another name of the container, is left out.
    pub(crate) fn form_of_checked(&self, record: &ContainerRecord) -> Result<Option<LogForm>> {
        let mut form = self.form(record)?;
        if let Some(form) = form
            .as_mut()
            .filter(|form| form.attributes.len() > MAX_ATTRIBUTES)
        {
            form.attributes.clear();
        }
        Ok(form)
    }

    /// Refuses what cannot be.
    pub(crate) fn check(&self, record: &ContainerRecord) -> Result<()> {
        let length = self.form(record)?.map_or(0, |form| form.attributes.len());
        if length > MAX_ATTRIBUTES {
            return Err(EngineError::Invalid(format!(
                "the labels and variables that --log-opt asks for take {length} bytes in each line, and \
                 {MAX_ATTRIBUTES} is the most: ask for fewer"
            )));
        }
        Ok(())
    }

    fn check_names(&self, known: &[&str]) -> Result<()> {
        for (name, value) in &self.options {
            let why = match (name.as_str(), value.as_str()) {
                (name, _) if known.contains(&name) => continue,
                // A write to the page cache is all that a container waits for.
                ("mode", "" | "blocking") => continue,
                ("mode", "non-blocking") | ("max-buffer-size", _) => format!(
                    "hull does not support the log opt '{name}={value}': output is never dropped, leave it out"
                ),
                ("mode", mode) => format!("logger: logging mode not supported: {mode}"),
                (name, _) if self.driver == LogDriver::Local => {
                    format!("unknown log opt '{name}' for log driver local")
                }
                (name, _) => format!("unknown log opt '{name}' for {} log driver", self.driver.name()),
            };
            return Err(EngineError::Invalid(why));
        }
        Ok(())
    }

    fn rotation(&self) -> Result<Option<Rotation>, String> {
        let option = |name| self.options.get(name).map(String::as_str);
        let (unit, size, files, compress) = match self.driver {
            LogDriver::Local => (Unit::Binary, Some(LOCAL_SIZE), LOCAL_FILES, true),
            _ => (Unit::Decimal, None, 1, false),
        };
        let size = match option("max-size") {
            None => size,
            // Docker's word for a log without a bound.
            Some("-1") => None,
            Some(text) => match human_size::parse(text, unit).map_err(|error| error.to_string())? {
                0 => return Err("max-size must be a positive number".into()),
                size => Some(size),
            },
        };
        let files = match option("max-file") {
            None => files,
            Some(text) => match text.parse::<i64>() {
                Err(_) => return Err(format!("strconv.Atoi: parsing {text:?}: invalid syntax")),
                Ok(count) if count < 1 => return Err("max-file cannot be less than 1".into()),
                Ok(count) => u32::try_from(count)
                    .ok()
                    .filter(|count| *count <= MAX_FILES)
                    .ok_or(format!("max-file cannot be more than {MAX_FILES}"))?,
            },
        };
        let asked = option("compress").map(parse_bool).transpose()?;
        if asked == Some(true) && (size.is_none() || files == 1) {
            return Err("compress cannot be true when max-file is less than 2 or max-size is not set".into());
        }
        let compress = asked.unwrap_or(compress) && files > 1;
        Ok(size.map(|size| Rotation {
            size,
            files,
            compress,
        }))
    }

    /// What is told of each line beyond its text, as a JSON object.
    fn attributes(&self, record: &ContainerRecord) -> Result<Vec<u8>> {
        let config = &record.config;
        let labels: Vec<(&str, &str)> = config
            .labels
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let env: Vec<(&str, &str)> = config
            .env
            .iter()
            .filter_map(|variable| variable.split_once('='))
            .collect();
        let mut attributes = BTreeMap::new();
        for (names, pattern, from) in [("labels", "labels-regex", &labels), ("env", "env-regex", &env)] {
            let names = self.options.get(names).map(String::as_str).unwrap_or_default();
            let names: Vec<&str> = names.split(',').filter(|name| !name.is_empty()).collect();
            let pattern = self.pattern(pattern)?;
            let wanted = |name: &str| {
                names.contains(&name) || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
            };
            attributes.extend(from.iter().filter(|(name, _)| wanted(name)).copied());
        }
        let tag = match self.options.get("tag") {
            Some(template) => tag(template, record)?,
            None => String::new(),
        };
        if !tag.is_empty() {
            attributes.insert("tag", &tag);
        }
        if attributes.is_empty() {
            return Ok(Vec::new());
        }
        serde_json::to_vec(&attributes)
            .map_err(|error| EngineError::Internal(format!("write the attributes of a log: {error}")))
    }

    fn pattern(&self, option: &str) -> Result<Option<Regex>> {
        let text = self.options.get(option).filter(|text| !text.is_empty());
        let compile = |text: &String| {
            Regex::new(text).map_err(|error| {
                EngineError::Invalid(format!(
                    "failed to initialize logging driver: {option}: error parsing regexp: {error}"
                ))
            })
        };
        text.map(compile).transpose()
    }
}

/// Go's words for yes and no.
fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// A tag: text with fields of the container, such as `{{.Name}}`.
fn tag(template: &str, record: &ContainerRecord) -> Result<String> {
    let invalid = |why: String| EngineError::Invalid(format!("failed to initialize logging driver: {why}"));
    let mut tag = String::new();
    let mut rest = template;
    while let Some((text, behind)) = rest.split_once("{{") {
        let Some((field, behind)) = behind.split_once("}}") else {
            return Err(invalid(format!(
                "the log opt tag {template:?} has a {{{{ without a }}}}"
            )));
        };
        tag += text;
        tag += &field_of(field.trim(), record).ok_or_else(|| {
            invalid(format!(
                "hull does not support {{{{{field}}}}} in the log opt tag {template:?}"
            ))
        })?;
        rest = behind;
    }
    Ok(tag + rest)
}

fn field_of(field: &str, record: &ContainerRecord) -> Option<String> {
    let image = record.image_id.rsplit(':').next().unwrap_or_default();
    Some(match field {
        ".ID" => ids::short(&record.id).to_owned(),
        ".FullID" => record.id.clone(),
        ".Name" => record.name.clone(),
        ".ImageID" => image.chars().take(12).collect(),
        ".ImageFullID" => record.image_id.clone(),
        ".ImageName" => record.config.image.clone(),
        ".Command" => record.args.join(" "),
        ".DaemonName" => "hull".into(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{ContainerCreate, VmSize};

    fn record() -> ContainerRecord {
        ContainerRecord {
            id: "0123456789abcdef".repeat(4),
            name: "web".into(),
            created: Timestamp::UNIX_EPOCH,
            image_id: format!("sha256:{}", "fedcba9876543210".repeat(4)),
            layers: Vec::new(),
            config: ContainerCreate {
                image: "busybox".into(),
                labels: [("tier", "front"), ("team", "a b"), ("other", "x")]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                env: vec!["STAGE=test".into(), "HOME=/".into()],
                ..ContainerCreate::default()
            },
            args: vec!["echo".into(), "hi".into()],
            mounts: Vec::new(),
            nameless_volumes: Vec::new(),
            vm: VmSize::default(),
            blank_disk_bytes: None,
        }
    }

    fn form(driver: LogDriver, options: &[(&str, &str)]) -> Result<Option<LogForm>, String> {
        let options = options
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        LogSpec { driver, options }
            .form(&record())
            .map_err(|error| error.to_string())
    }

    fn rotation(driver: LogDriver, options: &[(&str, &str)]) -> Result<Option<Rotation>, String> {
        form(driver, options).map(|form| form.and_then(|form| form.rotation))
    }

    #[test]
    fn a_log_has_no_bound_unless_one_is_given_and_a_local_one_has() {
        assert_eq!(form(LogDriver::JsonFile, &[]), Ok(Some(LogForm::default())));
        assert_eq!(form(LogDriver::None, &[("anything", "x")]), Ok(None));
        assert_eq!(rotation(LogDriver::JsonFile, &[("max-size", "-1")]), Ok(None));
        let given = [("max-size", "10m"), ("max-file", "3"), ("compress", "true")];
        assert_eq!(
            rotation(LogDriver::JsonFile, &given),
            Ok(Some(Rotation {
                size: 10_000_000,
                files: 3,
                compress: true
            }))
        );
        assert_eq!(
            rotation(LogDriver::Local, &[]),
            Ok(Some(Rotation {
                size: 20 << 20,
                files: 5,
                compress: true
            }))
        );
        let given = [("max-size", "1k"), ("max-file", "1")];
        assert_eq!(
            rotation(LogDriver::Local, &given),
            Ok(Some(Rotation {
                size: 1024,
                files: 1,
                compress: false
            }))
        );
    }

    #[test]
    fn options_that_make_no_sense_are_refused_in_dockers_words() {
        for (driver, options, why) in [
            (
                LogDriver::JsonFile,
                ("nonsense", "x"),
                "unknown log opt 'nonsense' for json-file log driver",
            ),
            (
                LogDriver::Local,
                ("tag", "x"),
                "unknown log opt 'tag' for log driver local",
            ),
            (
                LogDriver::JsonFile,
                ("max-size", "x"),
                "failed to initialize logging driver: invalid size: 'x'",
            ),
            (
                LogDriver::JsonFile,
                ("max-size", "0"),
                "failed to initialize logging driver: max-size must be a positive number",
            ),
            (
                LogDriver::JsonFile,
                ("max-file", "0"),
                "failed to initialize logging driver: max-file cannot be less than 1",
            ),
            (
                LogDriver::JsonFile,
                ("max-file", "x"),
                "failed to initialize logging driver: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            (
                LogDriver::JsonFile,
                ("compress", "true"),
                "failed to initialize logging driver: compress cannot be true when max-file is less than 2 or max-size \
                 is not set",
            ),
            (
                LogDriver::JsonFile,
                ("mode", "x"),
                "logger: logging mode not supported: x",
            ),
        ] {
            assert_eq!(form(driver, &[options]), Err(why.to_owned()));
        }
        for options in [
            ("mode", "non-blocking"),
            ("labels-regex", "("),
            ("tag", "{{.Nonsense}}"),
            ("tag", "{{.Name"),
            ("max-file", "99999999999"),
            ("compress", "yes"),
        ] {
            assert!(form(LogDriver::JsonFile, &[options]).is_err(), "{options:?}");
        }
    }

    #[test]
    fn attributes_are_the_labels_variables_and_tag_asked_for() {
        let attributes = |options: &[(&str, &str)]| {
            let form = form(LogDriver::JsonFile, options).unwrap().unwrap();
            String::from_utf8(form.attributes).unwrap()
        };
        assert_eq!(attributes(&[("labels", "none"), ("env", "")]), "");
        assert_eq!(
            attributes(&[("labels", "tier,none"), ("env", "STAGE")]),
            r#"{"STAGE":"test","tier":"front"}"#
        );
        assert_eq!(
            attributes(&[("labels-regex", "^te"), ("env-regex", "E$")]),
            r#"{"HOME":"/","STAGE":"test","team":"a b"}"#
        );
        assert_eq!(
            attributes(&[(
                "tag",
                "{{.Name}}/{{ .ID }}/{{.ImageName}}/{{.ImageID}}/{{.Command}}"
            )]),
            r#"{"tag":"web/0123456789ab/busybox/fedcba987654/echo hi"}"#
        );
    }

    #[test]
    fn attributes_that_do_not_fit_in_a_line_are_refused() {
        let mut record = record();
        record
            .config
            .labels
            .insert("tier".into(), "x".repeat(MAX_ATTRIBUTES));
        let spec = LogSpec {
            options: [("labels".to_owned(), "tier".to_owned())].into(),
            ..LogSpec::default()
        };
        let error = spec.check(&record).unwrap_err().to_string();
        assert!(error.contains("ask for fewer"), "{error}");
        assert_eq!(spec.form_of_checked(&record).unwrap(), Some(LogForm::default()));
    }
}
