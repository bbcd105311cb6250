//! Words and their variables.

use crate::{Expander, ExpansionError};

/// `A` is `a/b.c.d`, `SPACES` is `x  y`, `EMPTY` is there and empty, `NAME` is `A`, `Q` holds quotes.
fn lookup(name: &str) -> Option<String> {
    let value = match name {
        "A" => "a/b.c.d",
        "SPACES" => "x  y",
        "EMPTY" => "",
        "NAME" => "A",
        "Q" => "'q\"",
        "S" => "foobarfoo",
        "1" => "one",
        "12" => "twelve",
        "BIG" => return Some("b".repeat(100_000)),
        _ => return None,
    };
    Some(value.to_owned())
}

fn expand(text: &str) -> Result<String, String> {
    let expansion = Expander::new('\\', &lookup)
        .expand(text)
        .map_err(|error| error.to_string())?;
    Ok(expansion.text)
}

#[test]
fn words_become_text() {
    for (text, expected) in [
        ("plain", "plain"),
        ("$A", "a/b.c.d"),
        ("${A}x", "a/b.c.dx"),
        ("$Ax", ""),
        ("$A.x", "a/b.c.d.x"),
        ("a$", "a$"),
        ("$ a", "$ a"),
        ("$12x", "twelvex"),
        ("$-", ""),
        ("'$A'", "$A"),
        ("\"$A\"", "a/b.c.d"),
        ("\"'$A'\"", "'a/b.c.d'"),
        ("'a\\'", "a\\"),
        ("\\$A", "$A"),
        ("\"\\$A\"", "$A"),
        ("\\\\$A", "\\a/b.c.d"),
        ("\"a\\b\\\"c\\\\\"", "a\\b\"c\\"),
        ("a\\b", "ab"),
        ("a\\", "a"),
        ("a\\ b", "a b"),
        ("$Q", "'q\""),
        ("${NONE}", ""),
        ("${NONE:-w}", "w"),
        ("${NONE-w}", "w"),
        ("${EMPTY:-w}", "w"),
        ("${EMPTY-w}", ""),
        ("${A:-w}", "a/b.c.d"),
        ("${A:+w}", "w"),
        ("${A+w}", "w"),
        ("${EMPTY:+w}", ""),
        ("${EMPTY+w}", "w"),
        ("${NONE:+w}", ""),
        ("${A:?w}", "a/b.c.d"),
        ("${EMPTY?w}", ""),
        ("${NONE:-${A}}", "a/b.c.d"),
        ("${NONE:-$EMPTY${A:+'}'}}", "}"),
        ("${NONE:-a\\}b}", "a}b"),
        ("${A#*/}", "b.c.d"),
        ("${A#x}", "a/b.c.d"),
        ("${A%.*}", "a/b.c"),
        ("${A%%.*}", "a/b"),
        ("${A##*.}", "d"),
        ("${A#*.}", "c.d"),
        ("${A%?d}", "a/b.c"),
        ("${A#a\\/}", "b.c.d"),
        ("${A#\\*}", "a/b.c.d"),
        ("${S/foo/X}", "Xbarfoo"),
        ("${S//foo/X}", "XbarX"),
        ("${S/foo/}", "barfoo"),
        ("${S//o/$NAME}", "fAAbarfAA"),
        ("${A/\\//-}", "a-b.c.d"),
        ("${A//./\\}}", "a/b\\}c\\}d"),
        ("${S/b*r/-}", "foo-foo"),
        ("${S//?/x}", "xxxxxxxxx"),
        ("${NONE/a/b}", ""),
        ("é$A", "éa/b.c.d"),
    ] {
        assert_eq!(expand(text).as_deref(), Ok(expected), "{text}");
    }
}

#[test]
fn words_that_cannot_be_expanded() {
    for (text, expected) in [
        (
            "'a",
            "unexpected end of statement while looking for matching single-quote",
        ),
        (
            "\"a",
            "unexpected end of statement while looking for matching double-quote",
        ),
        ("${", "syntax error: missing '}'"),
        ("${A:-b", "syntax error: missing '}'"),
        ("${A/b", "syntax error: missing '/' in ${}'"),
        ("${A/b/c", "syntax error: missing '}'"),
        ("${}", "syntax error: bad substitution"),
        ("${:x}", "syntax error: bad substitution"),
        ("${{A}}", "syntax error: bad substitution"),
        ("${A!x}", "unsupported modifier (!) in substitution"),
        ("${A:xb}", "unsupported modifier (:x) in substitution"),
        ("${NONE:?}", "NONE: is not allowed to be unset"),
        ("${EMPTY:?}", "EMPTY: is not allowed to be empty"),
        ("${NONE?set it}", "NONE: set it"),
        ("${EMPTY:?set it}", "EMPTY: set it"),
        (
            "${A#\\x}",
            "invalid pattern (\\x) in substitution: invalid escape '\\x'",
        ),
    ] {
        assert_eq!(expand(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn words_are_split_where_no_quote_holds_them() {
    for (text, expected) in [
        ("a b", vec!["a", "b"]),
        ("$SPACES", vec!["x", "y"]),
        ("\"$SPACES\" z", vec!["x  y", "z"]),
        ("a$SPACES", vec!["ax", "y"]),
        ("'a b'c", vec!["a bc"]),
        ("a\\ b", vec!["a b"]),
        ("  ", vec![]),
        ("$EMPTY", vec![]),
        ("''", vec![]),
    ] {
        let words = Expander::new('\\', &lookup).expand(text).unwrap().words;
        assert_eq!(words, expected, "{text}");
    }
}

#[test]
fn the_escape_character_is_the_file_s() {
    let expander = Expander::new('`', &lookup);
    for (text, expected) in [
        ("`$A", "$A"),
        ("\\$A", "\\a/b.c.d"),
        ("c:\\x", "c:\\x"),
        ("\"`\"\"", "\""),
    ] {
        assert_eq!(expander.expand(text).unwrap().text, expected, "{text}");
    }
}

#[test]
fn a_here_document_keeps_its_quotes() {
    let expander = Expander::new('\\', &lookup).literal_quotes();
    assert_eq!(
        expander.expand("\"$A\" '$A' \\$A it's").unwrap().text,
        "\"a/b.c.d\" 'a/b.c.d' $A it's"
    );
}

#[test]
fn variables_without_a_value_are_told() {
    let expansion = Expander::new('\\', &lookup)
        .expand("$A ${NONE:-$OTHER} '$QUOTED'")
        .unwrap();
    assert!(expansion.undefined.iter().eq(["NONE", "OTHER"]));
    assert!(expansion.used.iter().eq(["A"]));
}

#[test]
fn what_grows_is_bounded() {
    let expander = Expander::new('\\', &lookup);
    let deep = "${X:-".repeat(100_000);
    assert_eq!(expander.expand(&deep), Err(ExpansionError::TooDeep));
    assert_eq!(expander.expand(&"$BIG".repeat(20)), Err(ExpansionError::TooLong));
    // Each is thrown away, so that no text grows.
    assert_eq!(
        expander.expand(&"${BIG:+}".repeat(1000)),
        Err(ExpansionError::TooMuchWork)
    );
    assert_eq!(
        expander.expand(&"${S#*x*x*x*y}".repeat(10_000)),
        Err(ExpansionError::TooMuchWork)
    );
    assert_eq!(
        expander.expand("${BIG//b/0123456789012345678901234567890123456789}"),
        Err(ExpansionError::TooLong)
    );
    // Patterns are searched in linear time: this would take years otherwise.
    let hostile = format!("${{BIG#{}c}}", "*b".repeat(50));
    assert_eq!(expander.expand(&hostile).unwrap().text.len(), 100_000);
}
