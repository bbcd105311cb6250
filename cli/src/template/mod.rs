//! Go templates, as far as `--format` needs them.
//!
//! Known are: text; `{{/* comments */}}`; trimming by `{{-` and `-}}`; `.`, `.Field.Field`, `$`,
//! `$variable` with `:=` and `=`; strings, numbers, booleans and `nil`; pipelines and parentheses;
//! `if`, `else if`, `else`, `with`, `range` (with `$index, $element :=`) and `end`; and the
//! functions of [`functions`]. Not known are `define`, `template`, `block`, `break` and `continue`.
//! See <https://pkg.go.dev/text/template> and <https://docs.docker.com/engine/cli/formatting/>.

mod functions;
mod lexer;
mod parser;
mod printf;
mod render;
mod value;

use std::collections::BTreeMap;

use serde_json::Value;
use thiserror::Error;

use parser::Node;
use render::{Mode, Renderer};

/// A template that cannot be read, or does not fit what it is used on.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// The text is no template.
    #[error("template parsing error: {0}")]
    Parse(String),
    /// The template asks for something that is not there, or calls a function wrongly.
    #[error("template: executing {template:?}: {problem}")]
    Execute {
        /// The whole template.
        template: String,
        /// What went wrong.
        problem: String,
    },
}

/// A template that has been read.
#[derive(Debug)]
pub(crate) struct Template {
    text: String,
    nodes: Vec<Node>,
}

impl Template {
    /// Reads a template.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let nodes = parser::parse(text).map_err(TemplateError::Parse)?;
        Ok(Self {
            text: text.to_owned(),
            nodes,
        })
    }

    /// The template filled in from `dot`.
    pub(crate) fn render(&self, dot: &Value) -> Result<String, TemplateError> {
        self.run(dot, &BTreeMap::new(), Mode::Values)
    }

    /// As [`Self::render`], with the labels that `.Label "name"` looks up.
    pub(crate) fn render_row(
        &self,
        dot: &Value,
        labels: &BTreeMap<String, String>,
    ) -> Result<String, TemplateError> {
        self.run(dot, labels, Mode::Values)
    }

    /// The header of a table: fields are their names, and functions leave them as they are.
    pub(crate) fn render_header(&self, names: &Value) -> Result<String, TemplateError> {
        self.run(names, &BTreeMap::new(), Mode::Header)
    }

    fn run(
        &self,
        dot: &Value,
        labels: &BTreeMap<String, String>,
        mode: Mode,
    ) -> Result<String, TemplateError> {
        let mut renderer = Renderer::new(dot, labels, mode);
        match renderer.run(&self.nodes, dot) {
            Ok(()) => Ok(renderer.into_text()),
            Err(problem) => Err(TemplateError::Execute {
                template: self.text.clone(),
                problem,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(text: &str) -> Result<String, TemplateError> {
        let dot = json!({
            "Name": "/web",
            "Id": "0123456789abcdef",
            "Args": ["-c", "true"],
            "Empty": [],
            "Null": null,
            "State": {"Running": true, "ExitCode": 0, "Pid": 42},
            "Labels": {"b": "2", "a": "1"},
            "Mounts": [{"Source": "/x"}, {"Source": "/y"}],
        });
        Template::parse(text)?.render(&dot)
    }

    #[test]
    fn templates_people_use_give_what_docker_gives() {
        for (text, expected) in [
            ("plain", "plain"),
            ("{{.Name}}", "/web"),
            ("{{ .State.Pid }} {{.State.Running}}", "42 true"),
            ("{{.Args}} {{.Labels}} {{.Empty}}", "[-c true] map[a:1 b:2] []"),
            ("{{json .State}}", r#"{"ExitCode":0,"Pid":42,"Running":true}"#),
            ("{{json .Null}} {{.Null}}", "null <no value>"),
            ("{{join .Args \" \"}}", "-c true"),
            ("{{index .Labels \"a\"}}{{index .Args 1}}", "1true"),
            ("{{(index .Mounts 1).Source}}", "/y"),
            ("{{range .Mounts}}{{.Source}};{{end}}", "/x;/y;"),
            ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a=1 b=2 "),
            ("{{range $v := .Args}}<{{$v}}>{{end}}", "<-c><true>"),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            (
                "{{if eq .State.ExitCode 1}}a{{else if eq .State.ExitCode 0}}b{{end}}",
                "b",
            ),
            ("{{if not (and .State.Running .Null)}}x{{end}}", "x"),
            ("{{if .State.Health}}{{.State.Health.Status}}{{end}}", ""),
            ("{{with .State}}{{.Pid}} {{$.Name}}{{end}}", "42 /web"),
            ("{{$x := .Name}}{{$x}}{{$x = \"y\"}}{{$x}}", "/weby"),
            ("{{.Name | printf \"%d %s\" 7 | len}}", "6"),
            ("{{slice .Id 0 4}} {{truncate .Id 3}} {{len .Args}}", "0123 012 2"),
            (
                "{{upper .Name}}{{\"X\" | lower}}{{title \"abc d\"}}",
                "/WEBxAbc D",
            ),
            ("{{split .Name \"/\"}}", "[ web]"),
            ("{{pad \"x\" 1 2}}|{{println \"y\" 1}}", " x  |y 1\n"),
            ("a {{- \" b \" -}} c{{/* nothing */}}", "a b c"),
            ("{{`raw \\n`}}{{\"\\x41\\u00e9\\n\"}}", "raw \\nAé\n"),
            (
                "{{lt 1 2}} {{ge 2 2}} {{ne \"a\" \"b\"}} {{or .Null \"z\"}}",
                "true true true z",
            ),
        ] {
            assert_eq!(render(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn printf_knows_width_precision_and_verbs() {
        assert_eq!(
            render(r#"{{printf "%s %.3s|%5d|%-4s|%q|%v|%x|%t|%%|%05d" .Name .Id 7 "ab" "c\"d" .Args 255 true 42}}"#)
                .as_deref(),
            Ok(r#"/web 012|    7|ab  |"c\"d"|[-c true]|ff|true|%|00042"#)
        );
    }

    #[test]
    fn a_field_that_is_not_there_is_an_error_where_it_would_be_printed() {
        let error = render("{{.State.Nmae}}").unwrap_err().to_string();
        assert!(error.contains("map has no entry for key \"Nmae\""), "{error}");
    }

    #[test]
    fn what_is_no_template_is_refused_with_a_reason() {
        for (text, reason) in [
            ("{{.Name", "unclosed action"),
            ("{{nosuch .}}", "function \"nosuch\" not defined"),
            ("{{if .Name}}x", "unexpected EOF"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{\"x}}", "unterminated quoted string"),
            ("{{$y}}", "undefined variable \"$y\""),
            ("{{}}", "missing value for command"),
            ("{{(.Name}}", "unclosed left paren"),
        ] {
            let error = render(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn deep_nesting_is_refused_instead_of_overflowing_the_stack() {
        let text = format!("{{{{{}.{}}}}}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(render(&text).unwrap_err().to_string().contains("nested too deep"));
    }
}
