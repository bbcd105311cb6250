//! Texts that are right, and what they say.

use super::{one, read};
use crate::{
    CommandLine, Healthcheck, Instruction, MountSpec, Network, Owner, Script, Security, Sharing, Source,
    parse_trigger,
};
use std::time::Duration;

fn texts<'a>(words: impl IntoIterator<Item = &'a crate::Word>) -> Vec<&'a str> {
    words.into_iter().map(|word| word.as_str()).collect()
}

#[test]
fn spans_cross_lines() {
    let dockerfile = read("FROM a\n\nRUN echo \\\n  # comment\n  é b\nUSER x");
    let statement = &dockerfile.stages[0].body[0];
    assert_eq!((statement.span.start.line, statement.span.end.line), (3, 5));
    let Instruction::Copy(copy) = one("COPY a \\\n  bcd /e") else {
        panic!()
    };
    let span = copy.files.words[1].span;
    assert_eq!((span.start.line, span.start.column, span.end.column), (3, 3, 6));
    assert_eq!(copy.files.words[0].span.start.column, 6);
}

#[test]
fn directives_are_only_in_front() {
    let dockerfile = read(
        "# syntax = docker/dockerfile:1 \n#escape=`\n# check=skip=A,B;error=true\nFROM a\nRUN a `\n b \\\nUSER `x\n",
    );
    assert_eq!(
        dockerfile.directives.syntax.as_ref().unwrap().value,
        "docker/dockerfile:1"
    );
    assert_eq!(dockerfile.directives.escape, '`');
    assert_eq!(dockerfile.directives.check.skip, ["A", "B"]);
    assert!(dockerfile.directives.check.error);
    assert_eq!(dockerfile.stages[0].body.len(), 2);
    for text in [
        "# x\n# escape=`\nFROM a",
        "\n# escape=`\nFROM a",
        "# unknown=1\n# escape=`\nFROM a",
    ] {
        assert_eq!(read(text).directives.escape, '\\', "{text:?}");
    }
}

#[test]
fn lines_continue_each_other() {
    for (text, expected) in [
        ("RUN a \\\n b", "a  b"),
        ("RUN a\\\nb", "ab"),
        ("RUN a \\  \n\n # no\n\n  b", "a   b"),
        ("RUN a \\\r\n b\r\n", "a  b"),
        ("RUN a \\", "a"),
        ("RUN a \\\\", "a \\\\"),
        ("\\\nRUN a", "a"),
        ("RUN a # no comment", "a # no comment"),
        ("  run   a", "a"),
    ] {
        let Instruction::Run(run) = one(text) else {
            panic!("{text:?}")
        };
        assert_eq!(
            run.command,
            CommandLine::Shell(crate::Word::new(expected.to_owned(), Default::default())),
            "{text:?}"
        );
    }
    let empty = read("FROM a\nRUN a \\\n\n b");
    assert_eq!(empty.stages[0].body[0].empty_continuation.unwrap().start.line, 3);
}

#[test]
fn comments_belong_to_what_follows() {
    let dockerfile = read("# gone\n\n# one\n#two\nARG a\n# three\n#\nFROM b\n");
    assert_eq!(dockerfile.arguments[0].comments, ["one", "two"]);
    assert!(dockerfile.stages[0].from.comments.is_empty());
}

#[test]
fn commands_have_two_forms() {
    for (text, expected) in [
        ("CMD [\"a\", \"b c\"]", vec!["a", "b c"]),
        ("CMD a 'b c'", vec!["/bin/sh", "-c", "a 'b c'"]),
        ("CMD ['a']", vec!["/bin/sh", "-c", "['a']"]),
        ("CMD [\"a\"] b", vec!["/bin/sh", "-c", "[\"a\"] b"]),
        ("CMD []", vec![]),
        ("CMD [\"\\u00e9\\n\"]", vec!["é\n"]),
    ] {
        let Instruction::Cmd(command) = one(text) else {
            panic!("{text}")
        };
        assert_eq!(
            command.arguments(&["/bin/sh".to_owned(), "-c".to_owned()]),
            expected,
            "{text}"
        );
    }
}

#[test]
fn here_documents_are_put_where_they_belong() {
    let script = |text: &str| match one(text) {
        Instruction::Run(run) => run.script(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        script("RUN <<EOF\na\n b\nEOF"),
        Script::Shell("a\n b\n".to_owned())
    );
    assert_eq!(
        script("RUN <<-EOF\n\ta\n\t\tb\n\tEOF"),
        Script::Shell("a\nb\n".to_owned())
    );
    assert_eq!(
        script("RUN <<EOF\n#!/usr/bin/env python\nx\nEOF"),
        Script::File {
            name: "EOF".to_owned(),
            content: "#!/usr/bin/env python\nx\n".to_owned()
        }
    );
    assert_eq!(
        script("RUN cat <<A && cat <<'B'\na\nA\nb\nB"),
        Script::Shell("cat <<A && cat <<'B'\na\nA\nb\nB".to_owned())
    );
    assert_eq!(script("RUN << EOF\na\nEOF"), Script::Shell("a\n".to_owned()));
    assert_eq!(
        script("RUN cat <<- 'EOF' >/x\n\ta\n\tEOF"),
        Script::Shell("cat <<- 'EOF' >/x\n\ta\nEOF".to_owned())
    );
    for none in [
        "echo $((1 << 2))",
        "read -ra v <<< \"$V\" && echo \"${v[0]}\"",
        "echo ${x^^} <<EOF",
    ] {
        assert_eq!(script(&format!("RUN {none}")), Script::Shell(none.to_owned()));
    }
    assert_eq!(
        script("RUN [\"a\", \"<<EOF\"]"),
        Script::Exec(vec!["a".to_owned(), "<<EOF".to_owned()])
    );
    let Instruction::Copy(copy) = one("COPY <<a x <<\"b\" /etc/\n$1\na\n$2\nb") else {
        panic!()
    };
    let sources: Vec<String> = copy
        .files
        .sources()
        .map(|source| match source {
            Source::Path(word) => word.value.clone(),
            Source::Inline(heredoc) => format!("{}:{}:{}", heredoc.name, heredoc.expand, heredoc.content),
        })
        .collect();
    assert_eq!(sources, ["a:true:$1\n", "x", "b:false:$2\n"]);
}

#[test]
fn mounts_have_docker_s_defaults() {
    let mount = |text: &str| match one(&format!("RUN --mount={text} x")) {
        Instruction::Run(run) => run.mounts[0].spec(|value| Ok(value.to_owned())).unwrap(),
        other => panic!("{other:?}"),
    };
    let root = Owner::default();
    for (text, expected) in [
        (
            "target=/x",
            MountSpec::Bind {
                from: None,
                source: String::new(),
                target: "/x".into(),
                read_only: true,
            },
        ),
        (
            "type=bind,from=a,src=/b,dst=/x,rw",
            MountSpec::Bind {
                from: Some("a".into()),
                source: "/b".into(),
                target: "/x".into(),
                read_only: false,
            },
        ),
        (
            "type=cache,target=/x/../y/",
            MountSpec::Cache {
                id: "/y".into(),
                from: None,
                source: String::new(),
                target: "/x/../y/".into(),
                read_only: false,
                sharing: Sharing::Shared,
                mode: 0o755,
                owner: root,
            },
        ),
        (
            "type=cache,id=c,target=/x,sharing=locked,mode=0700,uid=1,gid=2,readonly=true",
            MountSpec::Cache {
                id: "c".into(),
                from: None,
                source: String::new(),
                target: "/x".into(),
                read_only: true,
                sharing: Sharing::Locked,
                mode: 0o700,
                owner: Owner { uid: 1, gid: 2 },
            },
        ),
        (
            "type=tmpfs,target=/x,size=1.5k",
            MountSpec::Tmpfs {
                target: "/x".into(),
                size: Some(1536),
            },
        ),
        (
            "type=tmpfs,target=/x",
            MountSpec::Tmpfs {
                target: "/x".into(),
                size: None,
            },
        ),
        (
            "type=secret,id=s",
            MountSpec::Secret {
                id: "s".into(),
                target: Some("/run/secrets/s".into()),
                env: None,
                required: false,
                mode: 0o400,
                owner: root,
            },
        ),
        (
            "type=secret,target=/a/b,required",
            MountSpec::Secret {
                id: "b".into(),
                target: Some("/a/b".into()),
                env: None,
                required: true,
                mode: 0o400,
                owner: root,
            },
        ),
        (
            "type=secret,id=s,env=TOKEN",
            MountSpec::Secret {
                id: "s".into(),
                target: None,
                env: Some("TOKEN".into()),
                required: false,
                mode: 0o400,
                owner: root,
            },
        ),
        (
            "type=ssh,required=true",
            MountSpec::Ssh {
                id: "default".into(),
                target: None,
                required: true,
                mode: 0o600,
                owner: root,
            },
        ),
        (
            "'\"target=/a,b\",source=c'",
            MountSpec::Bind {
                from: None,
                source: "c".into(),
                target: "/a,b".into(),
                read_only: true,
            },
        ),
    ] {
        assert_eq!(mount(text), expected, "{text}");
    }
}

#[test]
fn flags_of_the_others() {
    let Instruction::Run(run) = one("RUN --network=host --security=insecure -- --x y") else {
        panic!()
    };
    assert_eq!(
        (run.network, run.security),
        (Some(Network::Host), Some(Security::Insecure))
    );
    assert_eq!(run.command.arguments(&[]), ["--x y"]);
    let Instruction::Add(add) =
        one("ADD --checksum=c --keep-git-dir --unpack=false --exclude=a --exclude=b x /z")
    else {
        panic!()
    };
    assert_eq!(
        (add.checksum.unwrap().value.as_str(), add.keep_git_dir, add.unpack),
        ("c", Some(true), Some(false))
    );
    assert_eq!(texts(&add.files.exclude), ["a", "b"]);
    assert_eq!(texts(&add.files.words), ["x"]);
    let Instruction::Copy(copy) =
        one("COPY --from=b --chown=a:b --chmod=u+x --link --parents [\"x y\", \"/z\"]")
    else {
        panic!()
    };
    assert_eq!(
        (copy.files.link, copy.files.parents, copy.files.json),
        (Some(true), Some(true), true)
    );
    assert_eq!(texts(&copy.files.words), ["x y"]);
    let Instruction::Healthcheck(Healthcheck::Command(check)) =
        one("HEALTHCHECK --interval=1m30s --retries=4 --start-interval=0 CMD [\"a\", \"b\"]")
    else {
        panic!()
    };
    assert_eq!(
        (check.interval, check.retries, check.start_interval),
        (Some(Duration::from_secs(90)), Some(4), None)
    );
    assert_eq!(check.test(), ["CMD", "a", "b"]);
    assert_eq!(
        one("HEALTHCHECK none"),
        Instruction::Healthcheck(Healthcheck::None)
    );
}

#[test]
fn triggers_are_read_and_kept_as_text() {
    let Instruction::Onbuild(onbuild) = one("ONBUILD COPY <<a \\\n /b\nx\na") else {
        panic!()
    };
    assert_eq!(onbuild.text, "COPY <<a  /b\nx\na");
    assert!(matches!(onbuild.trigger.instruction, Instruction::Copy(_)));
    let again = parse_trigger(&onbuild.text).unwrap();
    assert_eq!(again.instruction, onbuild.trigger.instruction);
    for text in ["", "FROM a", "ONBUILD RUN x", "RUN a\nRUN b", "FOO"] {
        assert!(parse_trigger(text).is_err(), "{text:?}");
    }
}
