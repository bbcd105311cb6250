//! The arguments that a stage declares.

use super::variables::{OVERHEAD, Variables};
use std::collections::HashSet;
use std::sync::Arc;

/// Arguments in the order of their declaration, those without a value too.
#[derive(Debug, Clone, Default)]
pub(super) struct Arguments {
    names: Vec<Arc<str>>,
    declared: HashSet<Arc<str>>,
    bytes: usize,
    values: Variables,
}

impl Arguments {
    /// Declares an argument. One that is declared again without a value keeps the one it has.
    pub(super) fn declare(&mut self, name: &str, value: Option<&str>) {
        if !self.declared.contains(name) {
            let shared: Arc<str> = name.into();
            self.declared.insert(shared.clone());
            self.names.push(shared);
            self.bytes = self.bytes.saturating_add(OVERHEAD + name.len());
        }
        if let Some(value) = value {
            self.values.set(name, value);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name)
    }

    pub(super) fn declares(&self, name: &str) -> bool {
        self.declared.contains(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|name| &**name)
    }

    /// Bytes that they take, about.
    pub(super) fn bytes(&self) -> usize {
        self.values.bytes().saturating_add(self.bytes)
    }
}
