//! How a builder walks a Dockerfile.

use dockerfile::{BuildOptions, Graph, Instruction, Origin, Platform, StageScope, parse};
use std::collections::HashMap;
use std::error::Error;

const TEXT: &str = "\
FROM alpine AS build
ARG user=me
ENV HOME=/home/$user
COPY a.c $HOME/
RUN make
FROM build
COPY --from=build $HOME /
";

#[test]
fn a_builder_walks_the_stages() -> Result<(), Box<dyn Error>> {
    let file = parse(TEXT).map_err(|errors| errors[0].render("Dockerfile", TEXT, false))?;
    let graph = Graph::of(&file, &BuildOptions::new(Platform::linux("amd64")))?;
    let mut ends: HashMap<usize, StageScope> = HashMap::new();
    let mut steps = Vec::new();
    for stage in graph.order() {
        let mut scope = match &stage.base {
            Origin::Stage(below) => ends[below].child(),
            // `Env` of the image's configuration.
            _ => graph.scope(["PATH=/bin"]),
        };
        for statement in stage.instructions() {
            match &statement.instruction {
                Instruction::Arg(arg) => drop(scope.declare(arg)?),
                Instruction::Env(env) => drop(scope.set_environment(env)?),
                Instruction::Copy(copy) => {
                    let from = copy.from.as_ref().map(|from| graph.origin(from)).transpose()?;
                    let files = scope.copy(copy)?.files;
                    steps.push(format!("{from:?} {:?} {}", files.sources, files.destination));
                }
                Instruction::Run(run) => {
                    let shell = ["/bin/sh", "-c"].map(str::to_owned);
                    steps.push(scope.run_environment().history(&run.command.arguments(&shell)));
                }
                other => panic!("{other:?}"),
            }
        }
        ends.insert(stage.index, scope);
    }
    assert_eq!(
        steps,
        [
            "None [Path(\"a.c\")] /home/me/",
            "|1 user=me /bin/sh -c make",
            "Some(Stage(0)) [Path(\"/home/me\")] /",
        ]
    );
    Ok(())
}
