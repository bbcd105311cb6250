//! Guests that answer no more: who waits for them is told, and who wants them gone has that.

use std::time::{Duration, Instant};

use anyhow::Result;
use system_tests::{Hull, hull};

/// How long a silence may take to be found: it is looked for every 30 s, for 60 s.
const FOUND: Duration = Duration::from_secs(150);

fn inspect(hull: &Hull, name: &str, what: &str) -> String {
    hull.hull(["inspect", "--format", what, name])
        .ok()
        .trim()
        .to_owned()
}

fn status(hull: &Hull, name: &str) -> String {
    let filter = format!("name={name}");
    hull.hull(["ps", "--filter", &filter, "--format", "{{.Status}}"])
        .ok()
}

#[test]
fn a_guest_that_falls_silent_is_told_of_and_can_be_removed() -> Result<()> {
    let hull = hull!();
    let (name, other) = (hull.container("silent"), hull.container("speaks"));
    hull.start_script(&name, "sleep 1000");
    hull.start_script(&other, "sleep 1000");
    let pid = inspect(&hull, &name, "{{.State.Pid}}");
    // A guest whose CPUs stand still neither answers nor ends.
    hull.shell(&format!("kill -STOP {pid}")).ok();
    let asked = hull.hull(["exec", &name, "true"]);
    assert_ne!(asked.code, 0, "{asked}");
    assert!(
        asked.stdout.contains("the guest has not answered for 60 s"),
        "{asked}"
    );
    hull.hull(["exec", &other, "true"]).ok();
    hull.eventually_within(FOUND, "the silence being found", || match status(&hull, &name) {
        status if status.ends_with("(not responding)\n") => Ok(()),
        status => Err(status),
    });
    assert_eq!(
        inspect(&hull, &name, "{{.State.Status}} {{.State.Error}}"),
        "running the guest has not answered for 60 s"
    );
    hull.shell(&format!("kill -CONT {pid}")).ok();
    hull.eventually("it being heard again", || match status(&hull, &name) {
        status if status.contains("not responding") => Err(status),
        _ => Ok(()),
    });
    hull.hull(["exec", &name, "true"]).ok();
    hull.shell(&format!("kill -STOP {pid}")).ok();
    let began = Instant::now();
    hull.hull(["rm", "-f", &name]).ok();
    assert!(began.elapsed() < Duration::from_secs(50), "{:?}", began.elapsed());
    assert_eq!(hull.shell(&format!("ls -d /proc/{pid} 2>/dev/null")).stdout, "");
    Ok(())
}
