//! The end of what was said, for the case that it is needed.

use std::collections::VecDeque;

/// How much is kept, in bytes.
const LIMIT: usize = 1 << 20;

/// Text, of which the beginning is forgotten when it becomes long.
#[derive(Debug, Default)]
pub(super) struct Kept {
    parts: VecDeque<String>,
    length: usize,
    forgotten: bool,
}

impl Kept {
    pub(super) fn add(&mut self, text: Option<String>) {
        let Some(text) = text else { return };
        self.length += text.len();
        self.parts.push_back(text);
        while self.length > LIMIT
            && let Some(first) = self.parts.pop_front()
        {
            self.length -= first.len();
            self.forgotten = true;
        }
    }

    pub(super) fn text(&self) -> String {
        let note = match self.forgotten {
            true => "(what was printed before this is left out)\n",
            false => "",
        };
        let parts = self.parts.iter().map(String::as_str);
        std::iter::once(note).chain(parts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_text_is_kept() {
        let mut kept = Kept::default();
        kept.add(Some("first\n".to_owned()));
        kept.add(None);
        assert_eq!(kept.text(), "first\n");
        for _ in 0..3 {
            kept.add(Some("x".repeat(LIMIT / 2)));
        }
        kept.add(Some("last\n".to_owned()));
        let text = kept.text();
        assert!(text.starts_with("(what was printed before") && text.ends_with("xlast\n"));
        assert!(text.len() < LIMIT + 100);
    }
}
