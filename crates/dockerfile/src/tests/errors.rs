//! Texts that are wrong, and what is said about them.

use super::error;
use crate::parse;

#[test]
fn errors_are_told_in_docker_s_words() {
    for (text, expected) in [
        ("FROM a\nRUN b\nFOO", "line 3: unknown instruction: FOO"),
        (
            "FROM a\nRUNN x",
            "line 2: unknown instruction: RUNN (did you mean RUN?)",
        ),
        (
            "FROM a\ncpoy x y",
            "line 2: unknown instruction: cpoy (did you mean COPY?)",
        ),
        (
            "FROM a\nCOPY --form=b x y",
            "line 2: unknown flag: --form (did you mean --from?)",
        ),
        ("FROM a\nCMD --x", "line 2: unknown flag: --x"),
        (
            "FROM a\nCOPY --from=a --from=b x y",
            "line 2: duplicate flag specified: from",
        ),
        ("FROM a\nCOPY --from x y", "line 2: missing a value on flag: from"),
        (
            "FROM a\nCOPY --link=maybe x y",
            "line 2: expecting boolean value for flag link, not: maybe",
        ),
        (
            "FROM a\nCOPY x",
            "line 2: COPY requires at least two arguments, but only one was provided. Destination could not be determined.",
        ),
        (
            "FROM a\nADD x <<EOF\nEOF",
            "line 2: ADD cannot accept a heredoc as a destination",
        ),
        (
            "FROM a\nCOPY --from=$x a b",
            "line 2: variable expansion is not supported for --from",
        ),
        (
            "FROM a\nCOPY --chmod=999 a b",
            "line 2: invalid chmod parameter: '999'",
        ),
        (
            "FROM a\nADD --checksum=x a b /c",
            "line 2: checksum can't be specified for multiple sources",
        ),
        ("RUN x", "line 1: no build stage in current context"),
        ("", "line 1: file with no instructions"),
        ("# only this", "line 1: file with no instructions"),
        ("ARG x", "line 1: dockerfile contains no stages to build"),
        ("FROM", "line 1: FROM requires either one or three arguments"),
        ("FROM a AS", "line 1: FROM requires either one or three arguments"),
        (
            "FROM a IS b",
            "line 1: FROM requires either one or three arguments",
        ),
        (
            "FROM a AS 1b",
            "line 1: invalid name for build stage: \"1b\", name can't start with a number or contain symbols",
        ),
        ("FROM a\nRUN", "line 2: RUN requires at least one argument"),
        ("FROM a\nRUN []", "line 2: RUN requires at least one argument"),
        (
            "FROM a\nCMD [1]",
            "line 2: when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("FROM a\nENV x", "line 2: ENV must have two arguments"),
        ("FROM a\nENV", "line 2: ENV requires at least one argument"),
        ("FROM a\nENV =x", "line 2: ENV names can not be blank"),
        (
            "FROM a\nENV a=b c",
            "line 2: Syntax error - can't find = in \"c\". Must be of the form: name=value",
        ),
        ("FROM a\nARG =x", "line 2: ARG names can not be blank"),
        ("FROM a\nUSER", "line 2: USER requires exactly one argument"),
        (
            "FROM a\nSHELL x",
            "line 2: SHELL requires the arguments to be in JSON form",
        ),
        ("FROM a\nSHELL []", "line 2: SHELL requires at least one argument"),
        (
            "FROM a\nVOLUME [\"\"]",
            "line 2: VOLUME specified can not be an empty string",
        ),
        ("FROM a\nEXPOSE", "line 2: EXPOSE requires at least one argument"),
        (
            "FROM a\nHEALTHCHECK",
            "line 2: HEALTHCHECK requires at least one argument",
        ),
        (
            "FROM a\nHEALTHCHECK CMD",
            "line 2: Missing command after HEALTHCHECK CMD",
        ),
        (
            "FROM a\nHEALTHCHECK NONE x",
            "line 2: HEALTHCHECK NONE takes no arguments",
        ),
        (
            "FROM a\nHEALTHCHECK RUN x",
            "line 2: Unknown type \"RUN\" in HEALTHCHECK (try CMD)",
        ),
        (
            "FROM a\nHEALTHCHECK --interval=1us CMD x",
            "line 2: Interval \"interval\" cannot be less than 1ms",
        ),
        (
            "FROM a\nHEALTHCHECK --retries=-1 CMD x",
            "line 2: --retries cannot be negative (-1)",
        ),
        (
            "FROM a\nHEALTHCHECK --timeout=5 CMD x",
            "line 2: invalid duration \"5\" for --timeout",
        ),
        (
            "FROM a\nONBUILD ONBUILD RUN x",
            "line 2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        (
            "FROM a\nONBUILD FROM x",
            "line 2: FROM isn't allowed as an ONBUILD trigger",
        ),
        (
            "FROM a\nONBUILD maintainer x",
            "line 2: MAINTAINER isn't allowed as an ONBUILD trigger",
        ),
        (
            "FROM a\nONBUILD",
            "line 2: ONBUILD requires at least one argument",
        ),
        ("FROM a\nRUN <<EOF\nx", "line 2: unterminated heredoc"),
        (
            "FROM a\nRUN --network=nope x",
            "line 2: network mode \"nope\" is not supported (did you mean none?)",
        ),
        (
            "FROM a\nRUN --security=x x",
            "line 2: security mode \"x\" is not supported",
        ),
        (
            "# escape=x\nFROM a",
            "line 1: invalid escape token 'x' does not match ` or \\",
        ),
        (
            "# escape=`\n# escape=`\nFROM a",
            "line 2: only one escape parser directive can be used",
        ),
        ("# check=what=1\nFROM a", "line 1: invalid check option \"what\""),
        (
            "FROM a\nRUN --mount=type=cash,target=/x y",
            "line 2: unsupported mount type \"cash\" (did you mean cache?)",
        ),
        (
            "FROM a\nRUN --mount=targt=/x y",
            "line 2: unexpected key 'targt' in 'targt=/x' (did you mean target?)",
        ),
        (
            "FROM a\nRUN --mount=from=$x y",
            "line 2: 'from' doesn't support variable expansion, define alias stage instead",
        ),
        (
            "FROM a\nRUN --mount=type=cache,sharing=x,target=/y y",
            "line 2: unsupported sharing value \"x\"",
        ),
        (
            "FROM a\nRUN --mount=target y",
            "line 2: invalid field 'target' must be a key=value pair",
        ),
        (
            "FROM a\nRUN --mount=type=bind,uid=1 y",
            "line 2: uid not allowed for \"bind\" type mounts",
        ),
        (
            "FROM a\nRUN --mount=type=secret y",
            "line 2: invalid secret mount. one of source, target required",
        ),
        (
            "FROM a\nRUN --mount=size=1 y",
            "line 2: unexpected key 'size' for mount type 'bind'",
        ),
        ("FROM a\nRUN --mount=rw=x y", "line 2: invalid value for rw: x"),
    ] {
        let told = error(text);
        let expected = format!("dockerfile parse error on {expected}");
        assert!(told.starts_with(&expected), "{text:?}: {told}");
    }
}

#[test]
fn all_errors_are_told() {
    let errors = parse("FROM a\nFOO\nRUN\nCOPY x\n").unwrap_err();
    assert_eq!(
        errors
            .iter()
            .map(|error| error.span.start.line)
            .collect::<Vec<_>>(),
        [2, 3, 4]
    );
}

#[test]
fn an_error_is_shown_with_its_line_and_marks_beneath() {
    let text = "FROM a\nCOPY --link --form=b x y\n";
    let errors = parse(text).unwrap_err();
    let shown = errors[0].render("Dockerfile", text, false);
    assert_eq!(
        shown,
        "error: unknown flag: --form (did you mean --from?)\n --> Dockerfile:2:13\n  |\n2 | COPY --link --form=b x y\n  |             ^^^^^^^^"
    );
    // What others wrote reaches no terminal as it is.
    let text = "FROM a\n\u{1b}[31mRUN x\n";
    let shown = parse(text).unwrap_err()[0].render("Docker\u{1b}file", text, false);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn what_grows_is_bounded() {
    let long = format!("FROM a\n# {}", "x".repeat(crate::limits::MAX_FILE));
    let many = format!("FROM a\n{}", "USER x\n".repeat(crate::limits::MAX_INSTRUCTIONS));
    let stages = "FROM a\n".repeat(crate::limits::MAX_STAGES + 1);
    let heredocs = format!(
        "FROM a\nCOPY {} /x\n",
        "<<a ".repeat(crate::limits::MAX_HEREDOCS + 1)
    );
    for text in [&long, &many, &stages, &heredocs] {
        assert!(parse(text).is_err());
    }
}

/// Texts that cost the most; each must be done with in a moment, which a run of minutes would show.
#[test]
fn hostile_texts_cost_little() {
    let fill = |head: &str, part: &str| {
        let count = (crate::limits::MAX_FILE - head.len() - 100) / part.len();
        format!("{head}{}", part.repeat(count))
    };
    for (head, part) in [
        ("FROM a\nRUN ", "a "),
        ("FROM a\nCOPY ", "a "),
        ("FROM a\nCOPY ", "--exclude=a "),
        ("FROM a\nRUN ", "--mount=target=/a "),
        ("FROM a\nRUN --mount=", "ro,"),
        ("FROM a\nENV ", "a=$b "),
        ("FROM a\nARG ", "a=b "),
        ("FROM scratch\nUSER ", "$abc"),
        ("FROM scratch\nUSER ", "${a#*a*b}"),
        ("FROM scratch\nENV a=b\n", "USER ${a//b/$a}\n"),
        ("FROM a\nRUN ", "<<a "),
        ("FROM a\nCOPY ", "\"a "),
        ("FROM a\n", "\\\n"),
        ("FROM a\nRUN a", "\\\n\n"),
        ("", "FROM a\n"),
        ("FROM a AS b\n", "FROM b AS b\n"),
        ("FROM a\n", "COPY --from=b a b\n"),
        ("", "# check=skip=a,"),
        ("# check=skip=", "a,"),
        ("ARG ", "a=$a$a$a "),
        ("FROM scratch\nENV a=0123456789\n", "ENV a=$a$a\n"),
        ("FROM ", "$ab"),
        ("FROM a\nCMD [", "\"a\","),
        ("FROM a\nCMD ", "["),
        ("FROM a\n", "WORKDIR a\n"),
        ("FROM a\nEXPOSE ", "1-65535 "),
        ("FROM a\nCOPY --chmod=", "u+x,"),
        ("FROM a\nHEALTHCHECK --interval=", "1s"),
    ] {
        let text = fill(head, part);
        let start = std::time::Instant::now();
        crate::fuzzing::dockerfile(&text);
        let text = format!("{}\n", fill(head, part).trim_end());
        crate::fuzzing::dockerfile(&text);
        let spent = start.elapsed();
        assert!(spent.as_secs() < 60, "{head:?} {part:?}: {spent:?}");
    }
}
