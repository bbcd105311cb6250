//! Words of an instruction, split as Docker splits them.

use super::lines::{Piece, SPACES};

/// Words between spaces; quotes mean nothing.
pub(super) fn plain<'a>(piece: Piece<'a>) -> Vec<Piece<'a>> {
    let mut words = Vec::new();
    let mut at = 0;
    for word in piece.text.split(SPACES) {
        if !word.is_empty() {
            words.push(piece.slice(at, at + word.len()));
        }
        // Each of the spaces is one byte.
        at += word.len() + 1;
    }
    words
}

/// Words between spaces that stand in no quotes and behind no escape. Quotes and escapes stay.
pub(super) fn quoted<'a>(piece: Piece<'a>, escape: char) -> Vec<Piece<'a>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote = None;
    let mut characters = piece.text.char_indices();
    while let Some((at, character)) = characters.next() {
        if quote.is_none() && character.is_whitespace() {
            words.extend(start.take().map(|start| piece.slice(start, at)));
            continue;
        }
        start.get_or_insert(at);
        match quote {
            Some(open) if open == character => quote = None,
            None if matches!(character, '\'' | '"') => quote = Some(character),
            _ => {}
        }
        if character == escape && quote != Some('\'') {
            // An escape at the end of all escapes nothing, and is no part of the word.
            if characters.next().is_none() {
                words.extend(
                    start
                        .take()
                        .filter(|start| *start < at)
                        .map(|start| piece.slice(start, at)),
                );
                return words;
            }
        }
    }
    words.extend(start.map(|start| piece.slice(start, piece.text.len())));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(words: Vec<Piece<'_>>) -> Vec<&str> {
        words.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn words_are_split_at_spaces() {
        let piece = |text| Piece { text, at: 7 };
        assert_eq!(
            texts(plain(piece("a  \tb\u{a0}c 'd e'"))),
            ["a", "b\u{a0}c", "'d", "e'"]
        );
        assert_eq!(plain(piece("a bc"))[1].at, 9);
        assert!(plain(piece("")).is_empty());
    }

    #[test]
    fn quotes_and_escapes_keep_a_word_together() {
        for (text, expected) in [
            ("a=b c=d", vec!["a=b", "c=d"]),
            ("a='b c' d=\"e f\"", vec!["a='b c'", "d=\"e f\""]),
            ("a=b\\ c d", vec!["a=b\\ c", "d"]),
            ("a=\"b\\\" c\" d", vec!["a=\"b\\\" c\"", "d"]),
            ("a='b\\' c", vec!["a='b\\'", "c"]),
            ("a=b\\", vec!["a=b"]),
            ("a \\", vec!["a"]),
            ("a='b c", vec!["a='b c"]),
            ("''", vec!["''"]),
        ] {
            assert_eq!(texts(quoted(Piece { text, at: 0 }, '\\')), expected, "{text}");
        }
        assert_eq!(texts(quoted(Piece { text: "a` b", at: 0 }, '`')), ["a` b"]);
    }
}
