//! Here-documents: `<<EOF`, `<<-EOF`, `<<"EOF"`, and with blanks before the name, as shells have it.

use super::lines::Reader;
use crate::expansion::Expander;
use crate::instruction::Heredoc;
use crate::position::{Located, Places};

/// What a word such as `0<<-"EOF"` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) expand: bool,
    pub(crate) chomp: bool,
    pub(crate) descriptor: u32,
    /// Whether blanks stand before the name. It may be an operator of the shell's arithmetic then.
    pub(crate) spaced: bool,
}

/// Reads a word that begins a here-document.
pub(crate) fn of_word(word: &str) -> Option<Header> {
    let digits = word.len() - word.trim_start_matches(|next: char| next.is_ascii_digit()).len();
    let (descriptor, rest) = word.split_at(digits);
    let rest = rest.strip_prefix("<<")?;
    let (chomp, rest) = match rest.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let word = rest.trim_start_matches([' ', '\t']);
    let spaced = word.len() < rest.len();
    if word.is_empty() || word.contains('<') {
        return None;
    }
    let nothing = |_: &str| None;
    let plain = Expander::new('\\', &nothing).keep_unset();
    let [name] = <[String; 1]>::try_from(plain.expand(word).ok()?.words).ok()?;
    // Quotes around any part of the name say that nothing is expanded.
    let raw = plain.raw().expand(word).ok()?.words;
    Some(Header {
        expand: raw.first() == Some(&name),
        name,
        chomp,
        descriptor: descriptor.parse().unwrap_or(0),
        spaced,
    })
}

/// The here-documents that a line begins, in their order. A line that cannot be split into words, such as one with expansions that
/// only a shell knows, begins none.
pub(super) fn in_line(line: &str) -> Vec<Header> {
    if !line.contains("<<") {
        return Vec::new();
    }
    let nothing = |_: &str| None;
    let expander = Expander::new('\\', &nothing).keep_unset().raw();
    let Ok(expanded) = expander.expand(line) else {
        return Vec::new();
    };
    let (mut headers, mut words) = (Vec::new(), expanded.words.into_iter());
    while let Some(mut word) = words.next() {
        let operator = word.trim_start_matches(|next: char| next.is_ascii_digit());
        if matches!(operator, "<<" | "<<-")
            && let Some(name) = words.next()
        {
            word.extend([" ", &name]);
        }
        headers.extend(of_word(&word));
    }
    headers
}

/// Reads the lines of a here-document; without a line that ends it there is none.
pub(super) fn body(header: Header, reader: &mut Reader<'_>, places: &Places<'_>) -> Option<Heredoc> {
    let start = reader.at();
    let mut content = String::new();
    loop {
        let line = reader.line()?;
        let text = match header.chomp {
            true => line.text.trim_start_matches('\t'),
            false => line.text,
        };
        if text == header.name {
            return Some(Heredoc {
                name: header.name,
                content,
                expand: header.expand,
                chomp: header.chomp,
                descriptor: header.descriptor,
                body: Located::new((), places.span(start, line.start + line.text.len())),
            });
        }
        content.push_str(line.whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_begin_a_here_document() {
        for (word, name, expand, chomp, descriptor) in [
            ("<<EOF", "EOF", true, false, 0),
            ("<<-EOF", "EOF", true, true, 0),
            ("<<\"EOF\"", "EOF", false, false, 0),
            ("<<'EOF'", "EOF", false, false, 0),
            ("<<E\\OF", "EOF", false, false, 0),
            ("3<<-'A B'", "A B", false, true, 3),
            ("<<$X", "$X", true, false, 0),
            ("<< EOF", "EOF", true, false, 0),
            ("<<-  'A B'", "A B", false, true, 0),
        ] {
            let expected = Header {
                name: name.to_owned(),
                expand,
                chomp,
                descriptor,
                spaced: word.contains("< ") || word.contains("- "),
            };
            assert_eq!(of_word(word), Some(expected), "{word}");
        }
        for word in [
            "<<", "<<-", "<< ", "<<- ", "<EOF", "<<<EOF", "a<<EOF", "<<A B", "<<'A", "EOF",
        ] {
            assert_eq!(of_word(word), None, "{word}");
        }
    }
}
