//! Lists of things: Docker's `--format` for `ps` and `images`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::format::Table;
use crate::template::{Template, TemplateError};

/// One line of a list.
#[derive(Debug)]
pub(crate) struct Row {
    /// What a template can name.
    pub(crate) fields: Map<String, Value>,
    /// For `{{.Label "name"}}`.
    pub(crate) labels: BTreeMap<String, String>,
}

impl Row {
    /// A row without labels.
    pub(crate) fn new<const N: usize>(fields: [(&str, Value); N]) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        Self {
            fields: fields.collect(),
            labels: BTreeMap::new(),
        }
    }

    /// The same with labels.
    pub(crate) fn with_labels<'a>(
        mut self,
        labels: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Self {
        let labels = labels
            .into_iter()
            .map(|(name, value)| (name.clone(), value.clone()));
        self.labels = labels.collect();
        self
    }
}

/// How a list is written.
#[derive(Debug)]
pub(crate) enum ListFormat {
    /// A header and columns.
    Table(Template),
    /// The template for each row.
    Rows(Template),
}

impl ListFormat {
    /// Reads `--format`; `default` is the template of the list's own table, `quiet` asks for
    /// identifiers alone.
    pub(crate) fn parse(format: Option<&str>, default: &str, quiet: bool) -> Result<Self, TemplateError> {
        let format = format.unwrap_or("table").trim_matches(' ');
        let text = format.replace("\\t", "\t").replace("\\n", "\n");
        match text.strip_prefix("table") {
            Some("") if quiet => Ok(Self::Rows(Template::parse("{{.ID}}")?)),
            Some("") => Ok(Self::Table(Template::parse(default)?)),
            Some(columns) => Ok(Self::Table(Template::parse(
                columns.trim_start_matches([' ', '\t']),
            )?)),
            None if text == "json" => Ok(Self::Rows(Template::parse("{{json .}}")?)),
            None => Ok(Self::Rows(Template::parse(&text)?)),
        }
    }

    /// Writes the list. `headers` are the names that the columns' fields have in a table.
    pub(crate) fn render(&self, headers: &[(&str, &str)], rows: &[Row]) -> Result<String, TemplateError> {
        match self {
            Self::Table(template) => {
                let names = headers
                    .iter()
                    .map(|&(field, header)| (field.to_owned(), Value::from(header)))
                    .collect();
                let mut table = Table::default();
                table.push(&template.render_header(&Value::Object(names))?);
                for row in rows {
                    table.push(&template.render_row(&row.value(), &row.labels)?);
                }
                Ok(table.render())
            }
            Self::Rows(template) => {
                let mut text = String::new();
                for row in rows {
                    text.push_str(&template.render_row(&row.value(), &row.labels)?);
                    text.push('\n');
                }
                Ok(text)
            }
        }
    }
}

impl Row {
    fn value(&self) -> Value {
        Value::Object(self.fields.clone())
    }
}
