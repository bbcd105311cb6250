//! Which variables an instruction sees.

use super::{graph, options, read};
use crate::{
    BuildOptions, ExpandedSource, Graph, Instruction, Mode, MountSpec, Origin, Platform, StageScope,
};
use std::collections::HashMap;

/// Walks all stages to the last one; its scope at the end, and what `see` says of each of its instructions.
fn walk<T>(
    graph: &Graph,
    environment: &[&str],
    mut see: impl FnMut(&StageScope, &Instruction) -> Option<T>,
) -> (StageScope, Vec<T>) {
    let mut ends: HashMap<usize, StageScope> = HashMap::new();
    let mut seen = Vec::new();
    for stage in graph.order() {
        let mut scope = match stage.base {
            Origin::Stage(index) => ends[&index].child(),
            _ => graph.scope(environment),
        };
        seen.clear();
        for statement in stage.instructions() {
            match &statement.instruction {
                Instruction::Arg(arg) => drop(scope.declare(arg).unwrap()),
                Instruction::Env(env) => drop(scope.set_environment(env).unwrap()),
                other => seen.extend(see(&scope, other)),
            }
        }
        ends.insert(stage.index, scope);
    }
    (ends.remove(&graph.target().index).unwrap(), seen)
}

fn end(text: &str, args: &[(&str, &str)], environment: &[&str]) -> StageScope {
    let mut options = options();
    options.build_args = args
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let graph = Graph::of(&read(text), &options).unwrap();
    walk::<()>(&graph, environment, |_, _| None).0
}

#[test]
fn arguments_have_scopes() {
    for (text, args, environment, name, expected) in [
        ("ARG a=1\nFROM x", vec![], vec![], "a", None),
        ("ARG a=1\nFROM x\nARG a", vec![], vec![], "a", Some("1")),
        ("ARG a=1\nFROM x\nARG a=2", vec![], vec![], "a", Some("2")),
        ("ARG a=1\nFROM x\nARG a", vec![("a", "3")], vec![], "a", Some("3")),
        (
            "ARG a=1\nFROM x\nARG a=2",
            vec![("a", "3")],
            vec![],
            "a",
            Some("3"),
        ),
        ("FROM x\nARG a", vec![], vec![], "a", None),
        ("FROM x\nARG a=1\nARG a", vec![], vec![], "a", Some("1")),
        ("FROM x", vec![("a", "3")], vec![], "a", None),
        ("FROM x\nARG a=1\nENV a=2", vec![], vec![], "a", Some("2")),
        (
            "FROM x\nENV a=2\nARG a=1",
            vec![("a", "3")],
            vec![],
            "a",
            Some("2"),
        ),
        ("FROM x\nARG a=1", vec![], vec!["a=image"], "a", Some("image")),
        ("FROM x\nENV a=1 b=$a", vec![], vec!["a=0"], "b", Some("0")),
        ("FROM x\nENV a=1\nENV b=$a", vec![], vec!["a=0"], "b", Some("1")),
        (
            "FROM x AS s\nARG a=1\nENV b=2\nFROM s",
            vec![],
            vec![],
            "a",
            Some("1"),
        ),
        (
            "FROM x AS s\nARG a=1\nENV b=2\nFROM s",
            vec![],
            vec![],
            "b",
            Some("2"),
        ),
        (
            "FROM x AS s\nARG a=1\nFROM y\nCOPY --from=s a b",
            vec![],
            vec![],
            "a",
            None,
        ),
        ("ARG a=1 b=$a\nFROM x\nARG b", vec![], vec![], "b", Some("1")),
        (
            "FROM x\nARG TARGETPLATFORM TARGETOS",
            vec![],
            vec![],
            "TARGETPLATFORM",
            Some("linux/amd64"),
        ),
        (
            "FROM x\nARG TARGETARCH=mine",
            vec![],
            vec![],
            "TARGETARCH",
            Some("mine"),
        ),
        (
            "FROM x\nARG BUILDARCH",
            vec![("BUILDARCH", "other")],
            vec![],
            "BUILDARCH",
            Some("other"),
        ),
        ("FROM x", vec![], vec![], "TARGETARCH", None),
        (
            "FROM x\nENV PATH=/a:$PATH",
            vec![],
            vec!["PATH=/b"],
            "PATH",
            Some("/a:/b"),
        ),
        ("FROM scratch", vec![], vec![], "PATH", Some(crate::DEFAULT_PATH)),
        (
            "FROM x\nENV a the 'whole' rest",
            vec![],
            vec![],
            "a",
            Some("the whole rest"),
        ),
    ] {
        assert_eq!(
            end(text, &args, &environment).get(name),
            expected,
            "{text:?} {args:?} {environment:?}"
        );
    }
}

#[test]
fn a_command_gets_arguments_the_environment_and_proxies() {
    let text = "FROM x\nARG A=1 B C=3\nENV C=env D=4";
    let args = [("HTTP_PROXY", "http://p"), ("no_proxy", "n"), ("UNUSED", "u")];
    let run = end(text, &args, &["PATH=/bin"]).run_environment();
    assert_eq!(
        run.variables.to_list(),
        [
            "A=1",
            "C=env",
            "PATH=/bin",
            "D=4",
            "HTTP_PROXY=http://p",
            "http_proxy=http://p",
            "NO_PROXY=n",
            "no_proxy=n"
        ]
    );
    let command = ["/bin/sh", "-c", "make all"].map(str::to_owned);
    assert_eq!(run.history(&command), "|3 A=1 B= C=env /bin/sh -c make all");
    let without = end("FROM x", &args, &[]).run_environment();
    assert_eq!(without.history(&command), "/bin/sh -c make all");
    let declared = end("FROM x\nARG HTTP_PROXY", &args, &[]).run_environment();
    assert_eq!(declared.history(&[]), "|1 HTTP_PROXY=http://p");
}

#[test]
fn words_of_instructions_are_expanded() {
    let text = "FROM x\nARG u=me m=755\nENV d=/dst s='a b'\n\
        COPY --from=st --chown=$u --chmod=$m --exclude=$u.* $s <<EOF '$u' $d/\n\"$u\"\nEOF\n\
        COPY <<'EOF' /x\n$u\nEOF\n\
        EXPOSE $ports 8000-8001/udp\nVOLUME $s [x\nUSER ${u}:0\nRUN --mount=type=cache,target=$d,uid=5 echo $u\nLABEL $u=\"$s\"";
    let text = text.replace("ENV d", "ENV ports='80 443' d");
    let (_, seen) = walk(&graph(&text), &[], |scope, instruction| {
        Some(match instruction {
            Instruction::Copy(copy) => format!("{:?}", scope.copy(copy).unwrap().files),
            Instruction::Expose(ports) => format!(
                "{:?}",
                scope
                    .ports(ports)
                    .unwrap()
                    .iter()
                    .flat_map(|port| port.names())
                    .collect::<Vec<_>>()
            ),
            Instruction::Volume(volume) => format!("{:?}", scope.volumes(volume).unwrap()),
            Instruction::User(user) => scope.word(user).unwrap(),
            Instruction::Run(run) => match scope.mount(&run.mounts[0]).unwrap() {
                MountSpec::Cache {
                    id, target, owner, ..
                } => format!("{id} {target} {}", owner.uid),
                other => panic!("{other:?}"),
            },
            Instruction::Label(label) => format!("{:?}", scope.labels(label).unwrap()),
            other => panic!("{other:?}"),
        })
    });
    let path = |text: &str| ExpandedSource::Path(text.to_owned());
    let inline = |content: &str| ExpandedSource::Inline {
        name: "EOF".to_owned(),
        content: content.to_owned(),
    };
    let files = crate::ExpandedFiles {
        // A variable with spaces is one source: only EXPOSE splits.
        sources: vec![path("a b"), inline("\"me\"\n"), path("$u")],
        destination: "/dst/".to_owned(),
        chown: Some("me".to_owned()),
        chmod: Some(Mode::Octal(0o755)),
        link: false,
        parents: false,
        exclude: vec!["me.*".to_owned()],
    };
    let verbatim = crate::ExpandedFiles {
        sources: vec![inline("$u\n")],
        destination: "/x".to_owned(),
        chown: None,
        chmod: None,
        exclude: vec![],
        ..files.clone()
    };
    assert_eq!(
        seen,
        [
            format!("{files:?}"),
            format!("{verbatim:?}"),
            "[\"80/tcp\", \"443/tcp\", \"8000/udp\", \"8001/udp\"]".to_owned(),
            "[\"a b\", \"[x\"]".to_owned(),
            "me:0".to_owned(),
            "/dst /dst 5".to_owned(),
            "[(\"me\", \"a b\")]".to_owned(),
        ]
    );
}

#[test]
fn words_that_make_no_sense_are_told_where_they_stand() {
    for (text, expected) in [
        ("COPY --chmod=$m a b", "invalid chmod parameter: 'rw'"),
        ("COPY https://$m/x /", "source can't be a URL for COPY"),
        ("EXPOSE $m", "invalid containerPort: rw"),
        ("RUN --mount=type=$m,target=/x y", "unsupported mount type \"rw\""),
        ("RUN --mount=type=cache,target=${none:?set} y", "none: set"),
        ("USER ${none?no}", "none: no"),
    ] {
        let (_, seen) = walk(
            &graph(&format!("FROM x\nENV m=rw\n{text}")),
            &[],
            |scope, instruction| {
                let error = match instruction {
                    Instruction::Copy(copy) => scope.copy(copy).unwrap_err(),
                    Instruction::Expose(ports) => scope.ports(ports).unwrap_err(),
                    Instruction::Run(run) => scope.mount(&run.mounts[0]).unwrap_err(),
                    Instruction::User(word) => scope.word(word).unwrap_err(),
                    other => panic!("{other:?}"),
                };
                Some((error.span.start.line, error.to_string()))
            },
        );
        assert_eq!(seen[0].0, 3, "{text}");
        assert!(seen[0].1.starts_with(expected), "{text}: {}", seen[0].1);
    }
}

#[test]
fn undefined_variables_are_told_with_one_that_was_meant() {
    let (scope, _) = walk(
        &graph("FROM x\nARG declared\nENV version=1\nUSER $vrsion$declared$none"),
        &[],
        |scope, instruction| match instruction {
            Instruction::User(word) => scope.word(word).ok(),
            _ => None,
        },
    );
    let undefined = scope.take_undefined();
    let told: Vec<String> = undefined.iter().map(|one| one.warning().message).collect();
    assert_eq!(
        told,
        [
            "Usage of undefined variable '$none'",
            "Usage of undefined variable '$vrsion' (did you mean $version?)"
        ]
    );
    assert!(scope.take_undefined().is_empty());
}

#[test]
fn variables_do_not_grow_without_end() {
    let doubling = format!(
        "FROM x\nENV a={}\n{}",
        "x".repeat(1000),
        "ENV a=$a$a\n".repeat(30)
    );
    let graph = graph(&doubling);
    let mut scope = graph.scope::<&str>([]);
    let failed = graph
        .target()
        .body
        .iter()
        .find_map(|statement| match &statement.instruction {
            Instruction::Env(env) => scope.set_environment(env).err(),
            _ => None,
        });
    let what = failed.expect("it ends").to_string();
    assert!(what.contains("variables take more than"), "{what}");
    // Nor what all stages together cost.
    let text = format!(
        "FROM x\nENV a={}\n{}",
        "x".repeat(200_000),
        "ENV b=${a#x}\n".repeat(5000)
    );
    let graph = super::graph(&text);
    let mut scope = graph.scope::<&str>([]);
    let failed = graph
        .target()
        .body
        .iter()
        .find_map(|statement| match &statement.instruction {
            Instruction::Env(env) => scope.set_environment(env).err(),
            _ => None,
        });
    let what = failed.expect("it ends").to_string();
    assert!(what.contains("all expansions of the build"), "{what}");
    assert!(
        Graph::of(
            &read(&format!("{}FROM x", "ARG a=$a$a$a.\n".repeat(30))),
            &BuildOptions::new(Platform::linux("amd64"))
        )
        .is_err()
    );
}
