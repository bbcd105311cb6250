//! Parser directives: `# syntax=…`, `# escape=…` and `# check=…` in the first lines.

use crate::diagnostic::quoted;
use crate::position::Word;

/// The most rules that one option names; there are fewer.
const MAX_RULES: usize = 100;

/// The directives of a Dockerfile.
#[derive(Debug, Clone, PartialEq)]
pub struct Directives {
    /// `syntax`: the frontend that the author had in mind. hull has one of its own.
    pub syntax: Option<Word>,
    /// `escape`: the character that escapes and continues lines
    pub escape: char,
    /// `check`: how build checks are made
    pub check: Check,
    /// Each as written, in their order.
    pub written: Vec<Directive>,
}

/// One directive.
#[derive(Debug, Clone, PartialEq)]
pub struct Directive {
    /// Its name in lower case.
    pub name: String,
    /// Its value.
    pub value: Word,
}

/// What `# check=skip=…;error=…;experimental=…` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Check {
    /// Names of rules that are not checked.
    pub skip: Vec<String>,
    /// Whether no rule is checked (`skip=all`).
    pub skip_all: bool,
    /// Names of experimental rules that are checked.
    pub experimental: Vec<String>,
    /// Whether all experimental rules are checked (`experimental=all`).
    pub experimental_all: bool,
    /// Whether a warning fails the build.
    pub error: bool,
}

impl Default for Directives {
    fn default() -> Self {
        Directives {
            syntax: None,
            escape: '\\',
            check: Check::default(),
            written: Vec::new(),
        }
    }
}

/// The name and the value of a line that is a directive. The value is a part of `line`.
pub(super) fn read(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let value = value.trim();
    (matches!(name.as_str(), "syntax" | "escape" | "check") && !value.is_empty()).then_some((name, value))
}

impl Directives {
    pub(super) fn add(&mut self, name: String, value: Word) -> Result<(), String> {
        if self.written.iter().any(|directive| directive.name == name) {
            return Err(format!("only one {name} parser directive can be used"));
        }
        match name.as_str() {
            "escape" => match value.as_str() {
                "\\" => self.escape = '\\',
                "`" => self.escape = '`',
                other => {
                    return Err(format!(
                        "invalid escape token '{}' does not match ` or \\",
                        quoted(other)
                    ));
                }
            },
            "check" => self.check = Check::parse(&value)?,
            _ => self.syntax = Some(value.clone()),
        }
        self.written.push(Directive { name, value });
        Ok(())
    }
}

impl Check {
    /// Reads what stands behind `check=`.
    pub fn parse(text: &str) -> Result<Check, String> {
        let mut check = Check::default();
        for option in text.split(';').map(str::trim).filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = value.trim();
            let rules = || {
                value
                    .split(',')
                    .map(str::trim)
                    .filter(|rule| !rule.is_empty())
                    .map(str::to_owned)
                    .take(MAX_RULES)
            };
            match name.trim() {
                "skip" if value == "all" => check.skip_all = true,
                "skip" => check.skip.extend(rules()),
                "experimental" if value == "all" => check.experimental_all = true,
                "experimental" => check.experimental.extend(rules()),
                "error" => match value.to_ascii_lowercase().as_str() {
                    "true" | "1" | "t" => check.error = true,
                    "false" | "0" | "f" => check.error = false,
                    _ => {
                        return Err(format!(
                            "failed to parse check option \"error\": invalid value {value:?}"
                        ));
                    }
                },
                other => return Err(format!("invalid check option {:?}", quoted(other))),
            }
        }
        Ok(check)
    }
}
