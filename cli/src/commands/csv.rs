//! Options whose value is a line of CSV.

/// The fields of a line, those that hold commas in quotation marks.
pub(super) fn fields(text: &str) -> Vec<String> {
    let (mut fields, mut quoted) = (vec![String::new()], false);
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            character => fields
                .last_mut()
                .into_iter()
                .for_each(|field| field.push(character)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn commas_in_quotation_marks_separate_nothing() {
        assert_eq!(fields(r#"a=1,"b=2,3",c"#), ["a=1", "b=2,3", "c"]);
        assert_eq!(fields(""), [""]);
    }
}
