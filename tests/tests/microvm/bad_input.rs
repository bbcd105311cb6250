//! What cannot work: each has its own clear error and exit code, and leaves nothing behind.

use anyhow::Result;
use system_tests::{Hull, hull};

fn containers(hull: &Hull) -> String {
    hull.hull(["ps", "-aq", "--filter", "label=bad-input"]).ok()
}

#[test]
fn what_run_is_asked_wrongly_is_refused_by_name() -> Result<()> {
    let hull = hull!();
    let run = |args: &[&str]| {
        hull.hull(
            ["run", "--rm", "--label", "bad-input"]
                .into_iter()
                .chain(args.iter().copied()),
        )
    };
    run(&["no-such-image", "true"])
        .exits(125)
        .says("no-such-image:latest");
    run(&["Bad_Reference!", "true"])
        .exits(125)
        .says("invalid reference format");
    run(&["-m", "1m", "busybox", "true"])
        .exits(125)
        .says("Minimum memory limit");
    run(&["-m", "900g", "busybox", "true"]).exits(125).says("memory");
    run(&["-v", "relative/path/../x:y", "busybox", "true"]).exits(125);
    run(&["--cap-add", "NO_SUCH_CAP", "busybox", "true"])
        .exits(125)
        .says("NO_SUCH_CAP");
    run(&["-u", "nobody-here", "busybox", "true"])
        .exits(125)
        .says("nobody-here");
    run(&["-w", "relative", "busybox", "true"])
        .exits(125)
        .says("relative");
    run(&["--no-such-flag", "busybox"])
        .exits(125)
        .says("--no-such-flag");
    assert_eq!(containers(&hull), "", "a refused run left a container");
    Ok(())
}

#[test]
fn a_name_in_use_is_a_conflict() -> Result<()> {
    let hull = hull!();
    let name = hull.container("taken");
    hull.hull(["create", "--name", &name, "busybox"]).ok();
    hull.hull(["run", "--name", &name, "busybox"])
        .exits(125)
        .says("is already in use by container");
    Ok(())
}

#[test]
fn commands_on_what_does_not_exist_say_so() -> Result<()> {
    let hull = hull!();
    for command in ["stop", "kill", "rm", "logs", "attach", "wait", "start"] {
        hull.hull([command, "no-such-container"])
            .exits(1)
            .says("No such container: no-such-container");
    }
    hull.hull(["exec", "no-such-container", "true"])
        .exits(1)
        .says("No such container: no-such-container");
    hull.hull(["inspect", "no-such-container"])
        .exits(1)
        .says("No such");
    Ok(())
}
