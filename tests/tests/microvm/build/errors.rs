//! Dockerfiles that are none or cannot be built, commands that fail, and what is said about them.

use anyhow::Result;
use system_tests::{Hull, hull};

use super::api::{Answer, Request, archive, build};
use super::entries::Options;

/// What every Dockerfile below begins with, where it matters.
pub(super) const FROM: &str = "FROM localhost/busybox\n";

pub(super) fn of_archive(hull: &Hull, context: &[u8]) -> Result<Answer> {
    let request = Request {
        dockerfile: "Dockerfile",
        ..Request::default()
    };
    build(hull, &request, context)
}

fn of_text(hull: &Hull, dockerfile: &str) -> Result<Answer> {
    of_archive(
        hull,
        &archive(&[("Dockerfile", dockerfile), ("file", "content")])?,
    )
}

/// Checks a refusal: what it says, and that it names the line of the Dockerfile.
#[track_caller]
pub(super) fn refused(what: &str, answer: &Answer, says: &str, line: Option<usize>) {
    let error = answer.error().unwrap_or_default();
    assert!(error.contains(says), "{what:?} does not say {says:?}: {answer:?}");
    if let Some(line) = line {
        let place = format!("--> Dockerfile:{line}:");
        assert!(error.contains(&place), "{what:?} does not say {place:?}: {error}");
    }
    assert!(answer.image().is_err(), "{what:?}: {answer:?}");
}

#[test]
fn a_dockerfile_that_is_none_is_refused_with_its_line() -> Result<()> {
    let hull = hull!();
    for (text, line, says) in [
        ("", 1, "file with no instructions"),
        ("# nothing but this", 1, "file with no instructions"),
        ("ARG a", 1, "dockerfile contains no stages to build"),
        ("RUN true\nFROM scratch\n", 1, "no build stage in current context"),
        ("FROM\n", 1, "FROM requires either one or three arguments"),
        ("FROM scratch AS 1b\n", 1, "invalid name for build stage: \"1b\""),
        (
            "FROM scratch\n\nCPOY a b\n",
            3,
            "unknown instruction: CPOY (did you mean COPY?)",
        ),
        (
            "FROM scratch\nCOPY --form=a b c\n",
            2,
            "unknown flag: --form (did you mean --from?)",
        ),
        (
            "FROM scratch\nCOPY --from=a --from=b c d\n",
            2,
            "duplicate flag specified: from",
        ),
        (
            "FROM scratch\nCOPY --from a b\n",
            2,
            "missing a value on flag: from",
        ),
        (
            "FROM scratch\nCOPY --link=maybe a b\n",
            2,
            "expecting boolean value for flag link, not: maybe",
        ),
        (
            "FROM scratch\nCOPY --from=$a b c\n",
            2,
            "variable expansion is not supported for --from",
        ),
        (
            "FROM scratch\nCOPY --chmod=999 a b\n",
            2,
            "invalid chmod parameter: '999'",
        ),
        (
            "FROM scratch\nCOPY a\n",
            2,
            "COPY requires at least two arguments",
        ),
        (
            "FROM scratch\nADD a <<EOF\nEOF\n",
            2,
            "ADD cannot accept a heredoc as a destination",
        ),
        (
            "FROM scratch\nADD --checksum=x a b /c\n",
            2,
            "checksum can't be specified for multiple sources",
        ),
        ("FROM scratch\nRUN\n", 2, "RUN requires at least one argument"),
        ("FROM scratch\nRUN <<EOF\ntrue\n", 2, "unterminated heredoc"),
        (
            "FROM scratch\nRUN --network=nope true\n",
            2,
            "network mode \"nope\" is not supported",
        ),
        (
            "FROM scratch\nRUN --security=x true\n",
            2,
            "security mode \"x\" is not supported",
        ),
        (
            "FROM scratch\nRUN --mount=type=cash,target=/x true\n",
            2,
            "unsupported mount type \"cash\"",
        ),
        (
            "FROM scratch\nRUN --mount=targt=/x true\n",
            2,
            "unexpected key 'targt'",
        ),
        (
            "FROM scratch\nRUN --mount=type=secret true\n",
            2,
            "invalid secret mount",
        ),
        (
            "FROM scratch\nCMD [1]\n",
            2,
            "when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("FROM scratch\nENV a\n", 2, "ENV must have two arguments"),
        (
            "FROM scratch\nENV a=b c\n",
            2,
            "Syntax error - can't find = in \"c\"",
        ),
        ("FROM scratch\nENV =a\n", 2, "ENV names can not be blank"),
        ("FROM scratch\nUSER\n", 2, "USER requires exactly one argument"),
        (
            "FROM scratch\nSHELL sh\n",
            2,
            "SHELL requires the arguments to be in JSON form",
        ),
        (
            "FROM scratch\nVOLUME [\"\"]\n",
            2,
            "VOLUME specified can not be an empty string",
        ),
        (
            "FROM scratch\nHEALTHCHECK RUN x\n",
            2,
            "Unknown type \"RUN\" in HEALTHCHECK",
        ),
        (
            "FROM scratch\nHEALTHCHECK --timeout=5 CMD x\n",
            2,
            "invalid duration \"5\" for --timeout",
        ),
        (
            "FROM scratch\nHEALTHCHECK --retries=-1 CMD x\n",
            2,
            "--retries cannot be negative",
        ),
        (
            "FROM scratch\nONBUILD ONBUILD RUN true\n",
            2,
            "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed",
        ),
        (
            "FROM scratch\nONBUILD FROM scratch\n",
            2,
            "FROM isn't allowed as an ONBUILD trigger",
        ),
        ("# escape=x\nFROM scratch\n", 1, "invalid escape token 'x'"),
        (
            "# escape=`\n# escape=`\nFROM scratch\n",
            2,
            "only one escape parser directive can be used",
        ),
    ] {
        let answer = of_text(&hull, text)?;
        assert_eq!(answer.status, 400, "{text:?}: {answer:?}");
        let says = format!("dockerfile parse error on line {line}: {says}");
        refused(text, &answer, &says, None);
    }
    Ok(())
}

#[test]
fn what_cannot_be_built_is_refused_where_it_stands() -> Result<()> {
    let hull = hull!();
    let circle = "FROM scratch AS a\nCOPY --from=c / /\nFROM scratch AS b\nCOPY --from=a / /\nFROM scratch AS c\nCOPY --from=b / /\n";
    for (text, line, says) in [
        (
            "FROM scratch AS s\nCOPY --from=s a b\n",
            None,
            "circular dependency detected on stage: s",
        ),
        (circle, None, "circular dependency detected on stage:"),
        (
            "FROM scratch\nCOPY --from=7 a b\n",
            Some(2),
            "invalid stage index 7",
        ),
        (
            "ARG none\nFROM $none\n",
            Some(2),
            "base name ($none) should not be blank",
        ),
        (
            "FROM scratch\nENV a=${b:?must be given}\n",
            Some(2),
            "must be given",
        ),
        ("FROM scratch\nEXPOSE 70000\n", Some(2), "70000"),
        ("FROM localhost:1/none\n", Some(1), "localhost:1"),
        (
            "FROM scratch\nCOPY --from=localhost:1/none a b\n",
            Some(2),
            "localhost:1",
        ),
        (
            "FROM scratch\nCOPY no-file /\n",
            Some(2),
            "\"/no-file\": not found",
        ),
        (
            "FROM scratch\nCOPY file no-file /folder/\n",
            Some(2),
            "\"/no-file\": not found",
        ),
        (
            "FROM scratch\nCOPY file Dockerfile /one\n",
            Some(2),
            "the destination must be a directory and end with a /",
        ),
        (
            "FROM localhost/busybox\nCOPY --chown=nobody-there file /\n",
            Some(2),
            "unable to find user nobody-there",
        ),
        (
            "FROM localhost/busybox\nCOPY --chown=0:nobody-there file /\n",
            Some(2),
            "unable to find group nobody-there",
        ),
        (
            "FROM localhost/busybox\nCOPY file /f\nCOPY file /f/in/\n",
            Some(3),
            "/f: not a directory",
        ),
        (
            "FROM localhost/busybox\nRUN --mount=type=secret,id=none,required=true true\n",
            Some(2),
            "secret none: not found",
        ),
        (
            "FROM localhost/busybox\nRUN --network=host true\n",
            Some(2),
            "use --network=default",
        ),
        (
            "FROM localhost/busybox\nRUN --mount=type=ssh,required=true true\n",
            Some(2),
            "SSH agent default: not found",
        ),
        (
            "FROM scratch\nADD --checksum=sha256:00 file /\n",
            Some(2),
            "checksum",
        ),
        (
            "FROM scratch\nADD --checksum=sha256:00 https://example.org/x.git#main /\n",
            Some(2),
            "checksum can't be specified for non-HTTP(S) sources",
        ),
    ] {
        refused(text, &of_text(&hull, text)?, says, line);
    }
    let request = Request {
        dockerfile: "Dockerfile",
        options: Options {
            target: Some("bild".into()),
            ..Options::default()
        },
        ..Request::default()
    };
    let context = archive(&[("Dockerfile", "FROM scratch AS build\n")])?;
    let says = "target stage \"bild\" could not be found (did you mean build?)";
    refused("a target", &build(&hull, &request, &context)?, says, None);
    let elsewhere = Request {
        dockerfile: "no/Dockerfile",
        ..Request::default()
    };
    let answer = build(&hull, &elsewhere, &context)?;
    refused(
        "a file",
        &answer,
        "Cannot locate specified Dockerfile: no/Dockerfile",
        None,
    );
    Ok(())
}

#[test]
fn a_command_that_fails_tells_its_code_and_its_last_lines() -> Result<()> {
    let hull = hull!();
    let answer = of_text(
        &hull,
        &format!("{FROM}ENV a=b\nRUN echo to stdout; echo to stderr >&2; exit 7\n"),
    )?;
    assert_eq!((answer.status, answer.exit_code()), (200, Some(7)), "{answer:?}");
    let says =
        "The command '/bin/sh -c echo to stdout; echo to stderr >&2; exit 7' returned a non-zero code: 7";
    refused("RUN", &answer, says, Some(3));
    let output = answer.output();
    assert!(
        output.contains("to stdout\n") && output.contains("to stderr\n"),
        "{output}"
    );
    // Nothing after it is begun.
    let answer = of_text(&hull, &format!("{FROM}RUN false\nRUN echo too far\n"))?;
    assert_eq!(answer.exit_code(), Some(1), "{answer:?}");
    assert!(!answer.output().contains("too far"), "{answer:?}");
    // The code of a shell.
    let answer = of_text(&hull, &format!("{FROM}RUN no-such-command\n"))?;
    assert_eq!(answer.exit_code(), Some(127), "{answer:?}");
    // A program that is not there has no code of its own.
    let answer = of_text(&hull, &format!("{FROM}RUN [\"/no/such/program\"]\n"))?;
    refused("an exec form", &answer, "/no/such/program", Some(2));
    // Memory that is not there has a reason of its own.
    let text = format!("{FROM}RUN dd if=/dev/zero of=/dev/null bs=60M count=1\n");
    let refused = hull.hull_with_input(["build", "--memory", "48m", "-"], text.as_bytes());
    let told = "the command may use 48 MiB of memory; --memory gives it more";
    assert!(refused.stdout.contains(told) && refused.code == 137, "{refused}");
    Ok(())
}
