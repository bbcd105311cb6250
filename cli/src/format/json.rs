//! JSON laid out anew without touching its order, numbers or strings.

/// `json` with four spaces a level, as `docker inspect` prints it. The text must be valid JSON.
pub(crate) fn indented(json: &str) -> String {
    indented_by(json, "    ")
}

/// The same with another indentation.
pub(crate) fn indented_by(json: &str, indent: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let mut characters = json.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' => {
                text.push('"');
                copy_string(&mut characters, &mut text);
            }
            '{' | '[' => {
                text.push(character);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                let close = if character == '{' { '}' } else { ']' };
                if characters.next_if_eq(&close).is_some() {
                    text.push(close);
                } else {
                    depth += 1;
                    new_line(&mut text, depth, indent);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut text, depth, indent);
                text.push(character);
            }
            ',' => {
                text.push(',');
                new_line(&mut text, depth, indent);
            }
            ':' => text.push_str(": "),
            space if space.is_ascii_whitespace() => {}
            other => text.push(other),
        }
    }
    text
}

fn copy_string(characters: &mut impl Iterator<Item = char>, text: &mut String) {
    let mut escaped = false;
    for character in characters {
        text.push(character);
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return,
            _ => {}
        }
    }
}

fn new_line(text: &mut String, depth: usize, indent: &str) {
    text.push('\n');
    for _ in 0..depth {
        text.push_str(indent);
    }
}

#[cfg(test)]
mod tests {
    use super::indented;

    #[test]
    fn order_and_spelling_stay_and_empty_things_take_one_line() {
        let json = r#"[{"b":1.0, "a":{},"list":[ ],"text":"x: {\"y\",\\"}]"#;
        let expected = r#"[
    {
        "b": 1.0,
        "a": {},
        "list": [],
        "text": "x: {\"y\",\\"
    }
]"#;
        assert_eq!(indented(json), expected);
    }
}
