//! Stages and what they need.

use super::{graph, options, read};
use crate::{ContextNeed, Graph, GraphError, Origin};

fn order(text: &str, target: Option<&str>) -> Result<Vec<String>, String> {
    let mut options = options();
    options.target = target.map(str::to_owned);
    let graph = Graph::of(&read(text), &options).map_err(|error| error.to_string())?;
    Ok(graph
        .order()
        .into_iter()
        .map(|stage| stage.display_name())
        .collect())
}

#[test]
fn a_target_needs_some_stages() {
    let text = "FROM a AS base\nFROM base AS Build\nFROM b AS unused\nFROM scratch\nCOPY --from=build x y\nRUN --mount=from=tools z\n\
                FROM c AS tools\nCOPY --from=0 x y";
    for (target, expected) in [
        (Some("base"), vec!["base"]),
        (Some("BUILD"), vec!["base", "build"]),
        (Some("stage-3"), vec![]),
        (Some("3"), vec!["base", "build", "tools", "stage-3"]),
        (None, vec!["base", "tools"]),
    ] {
        match order(text, target) {
            Ok(stages) => assert_eq!(stages, expected, "{target:?}"),
            Err(error) => assert_eq!(error, "target stage \"stage-3\" could not be found", "{target:?}"),
        }
    }
    assert_eq!(
        order(text, Some("bild")).unwrap_err(),
        "target stage \"bild\" could not be found (did you mean build?)"
    );
}

#[test]
fn stages_that_need_each_other_are_refused() {
    for (text, expected) in [
        (
            "FROM a AS s\nCOPY --from=s x y",
            "circular dependency detected on stage: s",
        ),
        (
            "FROM a\nCOPY --from=0 x y",
            "circular dependency detected on stage: stage-0",
        ),
        (
            "FROM a AS s0\nCOPY --from=s2 x y\nFROM a AS s1\nCOPY --from=s0 x y\nFROM a AS s2\nRUN --mount=from=s1 x",
            "circular dependency detected on stage: s0",
        ),
        ("FROM a\nCOPY --from=1 x y", "invalid stage index 1"),
        ("FROM a\nCOPY --from=-1 x y", "invalid stage index -1"),
        ("ARG a\nFROM $a", "base name ($a) should not be blank"),
        ("FROM --platform=$a x", "empty platform value from expression $a"),
        ("FROM --platform=bogus x", "failed to parse platform \"bogus\""),
        ("FROM ${a:?give-it}", "a: give-it"),
    ] {
        let error = Graph::of(&read(text), &options()).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{text:?}: {error}");
        assert!(error.diagnostic().is_some(), "{text:?}");
    }
}

#[test]
fn names_mean_stages_contexts_and_images() {
    let image = |name: &str| Origin::Image(name.to_owned());
    let context = |name: &str| Origin::Context(name.to_owned());
    let text = "ARG v=3\nFROM alpine:$v AS a\nFROM A AS b\nFROM later\nFROM scratch AS later\nFROM a AS a\nFROM a\nFROM mine:latest\nFROM x AS over\nRUN y";
    let mut options = options();
    options.contexts = ["mine", "over"].map(str::to_owned).into();
    let graph = Graph::of(&read(text), &options).unwrap();
    let bases: Vec<Origin> = graph.stages().iter().map(|stage| stage.base.clone()).collect();
    assert_eq!(
        bases,
        [
            image("alpine:3"),
            Origin::Stage(0),
            image("later"),
            Origin::Scratch,
            Origin::Stage(0),
            Origin::Stage(4),
            context("mine"),
            context("over"),
        ]
    );
    assert!(
        graph.target().body.is_empty(),
        "a context stands for the whole stage"
    );
    for (from, expected) in [
        ("B", Origin::Stage(1)),
        ("2", Origin::Stage(2)),
        ("alpine", image("alpine")),
        ("docker.io/library/mine", context("mine")),
        ("scratch", Origin::Scratch),
    ] {
        let word = crate::Word::new(from.to_owned(), Default::default());
        assert_eq!(graph.origin(&word).unwrap(), expected, "{from}");
    }
}

#[test]
fn platforms_are_the_stage_s() {
    let graph = graph(
        "FROM --platform=$BUILDPLATFORM a AS b\nFROM --platform=linux/arm64/v8 c\nCOPY --from=b x y\nCOPY --from=d x y\nCOPY --from=d z y",
    );
    let platforms: Vec<_> = graph
        .stages()
        .iter()
        .map(|stage| stage.platform.as_ref().map(ToString::to_string))
        .collect();
    assert_eq!(
        platforms,
        [Some("linux/amd64".to_owned()), Some("linux/arm64".to_owned())]
    );
    let external = graph.external();
    assert_eq!(external.len(), 3, "{external:?}");
}

#[test]
fn triggers_come_first_and_have_needs() {
    let mut graph = graph("FROM tools AS t\nFROM image\nUSER x");
    let triggers = ["COPY --from=t a b", "ARG c", "RUN --mount=from=other x"].map(str::to_owned);
    let new = graph.add_triggers(1, &triggers).unwrap();
    let origins: Vec<_> = new.into_iter().map(|need| need.origin).collect();
    assert_eq!(origins, [Origin::Stage(0), Origin::Image("other".to_owned())]);
    let keywords: Vec<_> = graph
        .target()
        .instructions()
        .map(|statement| statement.instruction.keyword())
        .collect();
    assert_eq!(keywords, ["COPY", "ARG", "RUN", "USER"]);
    assert_eq!(graph.order().len(), 2);
    let before = graph.target().triggers.len();
    assert!(matches!(
        graph.add_triggers(1, &["COPY --from=1 a b".to_owned()]),
        Err(GraphError::Circular { .. })
    ));
    assert_eq!(
        graph.target().triggers.len(),
        before,
        "what was refused changed nothing"
    );
    assert!(matches!(
        graph.add_triggers(1, &["FROM x".to_owned()]),
        Err(GraphError::Trigger { .. })
    ));
}

#[test]
fn triggers_of_a_stage_are_for_the_stages_that_begin_with_it() {
    let graph = graph(
        "FROM tools AS t\nFROM image AS a\nONBUILD COPY --from=t x y\nUSER own\nONBUILD RUN z\nFROM a AS b\nARG c\n\
         ONBUILD WORKDIR /w\nFROM b\nUSER last",
    );
    let keywords = |index: usize| -> Vec<_> {
        let instructions = graph.stages()[index].instructions();
        instructions
            .map(|statement| statement.instruction.keyword())
            .collect()
    };
    assert_eq!(keywords(1), ["ONBUILD", "USER", "ONBUILD"]);
    assert_eq!(keywords(2), ["COPY", "RUN", "ARG", "ONBUILD"]);
    assert_eq!(keywords(3), ["WORKDIR", "USER"]);
    assert_eq!(graph.order().len(), 4, "what triggers name is needed");
    assert_eq!(graph.stages()[2].triggers[0].span.start.line, 3);
    let circular = read("FROM x AS a\nONBUILD COPY --from=b x y\nFROM a AS b");
    assert!(matches!(
        Graph::of(&circular, &options()),
        Err(GraphError::Circular { .. })
    ));
}

#[test]
fn triggers_of_stages_are_bounded() {
    let of = |trigger: &str, count: usize| {
        let triggers = format!("ONBUILD RUN {trigger}\n").repeat(count);
        let file = format!("FROM x AS a\n{triggers}{}", "FROM a\n".repeat(100));
        Graph::of(&read(&file), &options()).map(|graph| graph.stages()[100].triggers.len())
    };
    assert_eq!(of("x", 100), Ok(100));
    assert_eq!(of("x", 101), Err(GraphError::TooManyTriggers));
    assert_eq!(of(&"x".repeat(20_000), 1), Err(GraphError::TooManyTriggers));
}

#[test]
fn build_arguments_that_nothing_uses_are_told() {
    let mut options = options();
    let names = [
        "a",
        "b",
        "c",
        "HTTP_PROXY",
        "https_proxy",
        "BUILDKIT_INLINE_CACHE",
        "SOURCE_DATE_EPOCH",
        "TARGETOS",
        "Http_Proxy",
    ];
    options.build_args = names.map(|name| (name.to_owned(), "12".to_owned())).into();
    let graph = Graph::of(&read("ARG a\nFROM x\nARG b"), &options).unwrap();
    assert_eq!(graph.unused_build_args(), ["Http_Proxy", "c"]);
    assert_eq!(graph.source_date_epoch(), Ok(Some(12)));
}

#[test]
fn a_client_sends_what_a_target_reads() {
    let need = |text: &str| match graph(text).context_need() {
        ContextNeed::Everything => None,
        ContextNeed::Files(files) => Some(files.names().map(str::to_owned).collect::<Vec<_>>()),
    };
    for (text, expected) in [
        ("FROM a\nRUN x", Some(vec![])),
        (
            "FROM a\nCOPY x /y/./z ./q/../r 's' /d",
            Some(vec!["r", "s", "x", "y/z"]),
        ),
        ("FROM a\nCOPY *.c src/**/x /d", Some(vec!["*.c", "src/**/x"])),
        ("FROM a\nCOPY [\"a b\", \"/d\"]", Some(vec!["a b"])),
        ("FROM a\nCOPY . /d", None),
        ("FROM a\nCOPY $x /d", None),
        ("FROM a\nCOPY ../.. /d", None),
        (
            "FROM a\nADD https://x/y git@x:y.git local /d",
            Some(vec!["local"]),
        ),
        ("FROM a\nCOPY --from=b x /d", Some(vec![])),
        ("FROM a\nCOPY <<EOF /d\nEOF", Some(vec![])),
        ("FROM a\nRUN --mount=source=x,target=/y z", Some(vec!["x"])),
        ("FROM a\nRUN --mount=target=/y z", None),
        (
            "FROM a\nRUN --mount=type=cache,target=/y --mount=from=b,target=/q z",
            Some(vec![]),
        ),
        ("FROM a AS unused\nCOPY . /d\nFROM b", Some(vec![])),
    ] {
        let expected = expected.map(|names| names.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(need(text), expected, "{text:?}");
    }
    let ContextNeed::Files(files) = graph("FROM a\nCOPY x *.c /d").context_need() else {
        panic!()
    };
    for (path, expected) in [
        ("x", true),
        ("x/y", true),
        ("xy", false),
        ("a.c", true),
        ("a.c/b", true),
        ("d/a.c", false),
    ] {
        assert_eq!(files.contains(path), expected, "{path}");
    }
}
