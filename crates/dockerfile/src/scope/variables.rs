//! Variables in the order in which they were set first.

use std::collections::HashMap;
use std::sync::Arc;

/// What a variable takes beside its name and value.
pub(super) const OVERHEAD: usize = 64;

/// Names and values; a name stands once. A copy shares the texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    list: Vec<(Arc<str>, Arc<str>)>,
    index: HashMap<Arc<str>, usize>,
    bytes: usize,
}

impl Variables {
    /// Sets a variable, where it stands or at the end.
    pub fn set(&mut self, name: &str, value: &str) {
        match self.index.get(name).and_then(|at| self.list.get_mut(*at)) {
            Some((_, old)) => {
                self.bytes = self.bytes.saturating_sub(old.len()).saturating_add(value.len());
                *old = value.into();
            }
            None => {
                self.bytes = self.bytes.saturating_add(OVERHEAD + name.len() + value.len());
                let name: Arc<str> = name.into();
                self.index.insert(name.clone(), self.list.len());
                self.list.push((name, value.into()));
            }
        }
    }

    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.list.get(*self.index.get(name)?)?;
        Some(value)
    }

    /// Each name and value, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.iter().map(|(name, _)| name)
    }

    /// `NAME=value`, as an image's configuration and a process have them.
    pub fn to_list(&self) -> Vec<String> {
        self.iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Bytes that they take, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Of `NAME=value` each, the last one of a name counts.
impl<S: AsRef<str>> FromIterator<S> for Variables {
    fn from_iter<I: IntoIterator<Item = S>>(list: I) -> Self {
        let mut variables = Variables::default();
        for variable in list {
            let (name, value) = variable
                .as_ref()
                .split_once('=')
                .unwrap_or((variable.as_ref(), ""));
            variables.set(name, value);
        }
        variables
    }
}
