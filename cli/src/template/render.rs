//! Walks the tree and writes the text.

use std::collections::BTreeMap;

use serde_json::Value;

use super::parser::{Base, Branch, Command, Node, Operand, Pipeline};
use super::value::{display, is_true};

/// What fields stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Values.
    Values,
    /// Their names in the header of a table; the functions do nothing to them.
    Header,
}

/// What an operand comes to.
enum Outcome {
    Value(Value),
    /// No field of this name. False in a condition and an error when it would be written, so that
    /// `{{if .State.Health}}` works on a container that has none and a typing mistake is seen.
    Missing(String),
}

impl Outcome {
    fn or_null(self) -> Value {
        match self {
            Self::Value(value) => value,
            Self::Missing(_) => Value::Null,
        }
    }
}

pub(super) struct Renderer<'a> {
    labels: &'a BTreeMap<String, String>,
    mode: Mode,
    variables: Vec<(String, Value)>,
    text: String,
}

impl<'a> Renderer<'a> {
    pub(super) fn new(dot: &Value, labels: &'a BTreeMap<String, String>, mode: Mode) -> Self {
        Self {
            labels,
            mode,
            variables: vec![(String::new(), dot.clone())],
            text: String::new(),
        }
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }

    pub(super) fn run(&mut self, nodes: &[Node], dot: &Value) -> Result<(), String> {
        for node in nodes {
            match node {
                Node::Text(text) => self.text.push_str(text),
                Node::Action(pipeline) => self.action(pipeline, dot)?,
                Node::If(branch) => {
                    let condition = self.pipeline(&branch.pipeline, dot)?.or_null();
                    self.branch(branch, &condition, dot, dot)?;
                }
                Node::With(branch) => {
                    let value = self.pipeline(&branch.pipeline, dot)?.or_null();
                    self.branch(branch, &value, &value, dot)?;
                }
                Node::Range(branch) => self.range(branch, dot)?,
            }
        }
        Ok(())
    }

    fn action(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<(), String> {
        let outcome = self.pipeline(pipeline, dot)?;
        if !pipeline.variables.is_empty() {
            self.set(pipeline, outcome.or_null());
            return Ok(());
        }
        match outcome {
            Outcome::Value(value) => self.text.push_str(&display(&value)),
            Outcome::Missing(field) => return Err(format!("map has no entry for key {field:?}")),
        }
        Ok(())
    }

    /// The body with `inner` as its dot when `condition` is true, else what stands behind `else`.
    fn branch(
        &mut self,
        branch: &Branch,
        condition: &Value,
        inner: &Value,
        outer: &Value,
    ) -> Result<(), String> {
        let scope = self.variables.len();
        self.set(&branch.pipeline, condition.clone());
        if is_true(condition) {
            self.run(&branch.body, inner)?;
        } else {
            self.run(&branch.otherwise, outer)?;
        }
        self.variables.truncate(scope);
        Ok(())
    }

    fn range(&mut self, branch: &Branch, dot: &Value) -> Result<(), String> {
        let collection = self.pipeline(&branch.pipeline, dot)?.or_null();
        let items: Vec<(Value, Value)> = match collection {
            Value::Array(elements) => elements
                .into_iter()
                .enumerate()
                .map(|(index, element)| (index.into(), element))
                .collect(),
            Value::Object(entries) => entries
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
            Value::Null => Vec::new(),
            other => return Err(format!("range can't iterate over {}", display(&other))),
        };
        let scope = self.variables.len();
        if items.is_empty() {
            self.run(&branch.otherwise, dot)?;
        }
        for (key, value) in items {
            match &branch.pipeline.variables[..] {
                [] => {}
                [element] => self.variables.push((element.clone(), value.clone())),
                [index, element, ..] => {
                    self.variables.push((index.clone(), key));
                    self.variables.push((element.clone(), value.clone()));
                }
            }
            self.run(&branch.body, &value)?;
            self.variables.truncate(scope);
        }
        Ok(())
    }

    fn set(&mut self, pipeline: &Pipeline, value: Value) {
        for name in &pipeline.variables {
            let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
            match known {
                Some((_, slot)) if pipeline.assigns => *slot = value.clone(),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Outcome, String> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, last, dot)?);
        }
        last.ok_or_else(|| "missing value for command".to_owned())
    }

    fn command(&mut self, command: &Command, piped: Option<Outcome>, dot: &Value) -> Result<Outcome, String> {
        let mut arguments = Vec::with_capacity(command.arguments.len() + 1);
        for argument in &command.arguments {
            arguments.push(self.operand(argument, dot)?.or_null());
        }
        arguments.extend(piped.map(Outcome::or_null));
        match &command.operand {
            Operand::Function(_) if self.mode == Mode::Header => {
                let name = arguments.into_iter().find(Value::is_string);
                Ok(Outcome::Value(name.unwrap_or_default()))
            }
            Operand::Function(function) => function(&arguments).map(Outcome::Value),
            Operand::Chain(Base::Dot, fields) if fields == &["Label"] => self.label(&arguments),
            operand if arguments.is_empty() => self.operand(operand, dot),
            Operand::Chain(_, fields) if !fields.is_empty() => {
                Err(format!("{} is not a method but has arguments", fields.join(".")))
            }
            _ => Err("can't give argument to non-function".to_owned()),
        }
    }

    /// The one method that a row of a list has.
    fn label(&self, arguments: &[Value]) -> Result<Outcome, String> {
        match (arguments, self.mode) {
            ([Value::String(name)], Mode::Values) => {
                let value = self.labels.get(name).map_or("", String::as_str);
                Ok(Outcome::Value(value.into()))
            }
            ([Value::String(name)], Mode::Header) => {
                let last = name.rsplit('.').next().unwrap_or(name);
                Ok(Outcome::Value(last.replace(['-', '_'], " ").into()))
            }
            _ => Err("wrong number of args for Label: want 1".to_owned()),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Outcome, String> {
        let (base, fields) = match operand {
            Operand::Literal(value) => return Ok(Outcome::Value(value.clone())),
            Operand::Function(function) => return function(&[]).map(Outcome::Value),
            Operand::Chain(base, fields) => (base, fields),
        };
        match base {
            Base::Dot => follow(dot, fields),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| format!("undefined variable: ${name}"))?;
                follow(value, fields)
            }
            Base::Pipeline(pipeline) => {
                let outcome = self.pipeline(pipeline, dot)?;
                match outcome {
                    Outcome::Value(value) => follow(&value, fields),
                    missing @ Outcome::Missing(_) => Ok(missing),
                }
            }
        }
    }
}

fn follow(value: &Value, fields: &[String]) -> Result<Outcome, String> {
    let mut found = value;
    for field in fields {
        found = match found {
            Value::Object(entries) => match entries.get(field) {
                Some(value) => value,
                None => return Ok(Outcome::Missing(field.clone())),
            },
            Value::Null => return Ok(Outcome::Missing(field.clone())),
            other => return Err(format!("can't evaluate field {field} in {}", display(other))),
        };
    }
    Ok(Outcome::Value(found.clone()))
}
