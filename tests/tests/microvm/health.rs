//! Health checks: what they say of a container, where it is told, and what ends them.

use anyhow::Result;
use system_tests::{Hull, hull};

fn health(hull: &Hull, name: &str) -> String {
    hull.docker([
        "inspect",
        "-f",
        "{{.State.Health.Status}} {{.State.Health.FailingStreak}}",
        name,
    ])
    .ok()
    .trim()
    .to_owned()
}

fn becomes(hull: &Hull, name: &str, wanted: &str) {
    hull.eventually(&format!("a health of {wanted}"), || {
        let seen = health(hull, name);
        if seen.starts_with(wanted) {
            Ok(())
        } else {
            Err(seen)
        }
    });
}

#[test]
fn a_container_is_well_until_its_check_fails_too_often_and_well_again_after_one_success() -> Result<()> {
    let hull = hull!();
    let name = hull.container("checked");
    let since = hull.shell("date +%s").ok();
    hull.hull([
        "run",
        "-d",
        "--name",
        &name,
        "--health-cmd",
        "cat /tmp/well && echo fine",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
        "busybox",
        "sh",
        "-c",
        "sleep 1000",
    ])
    .ok();
    becomes(&hull, &name, "unhealthy");
    let listed = |filter: &str| {
        let filter = format!("health={filter}");
        hull.docker([
            "ps",
            "--filter",
            &filter,
            "--filter",
            &format!("name={}", &*name),
            "--format",
            "{{.Status}}",
        ])
        .ok()
    };
    assert!(listed("unhealthy").contains("(unhealthy)"));
    assert_eq!(listed("none"), "");
    hull.hull(["exec", &name, "touch", "/tmp/well"]).ok();
    becomes(&hull, &name, "healthy 0");
    let last = "{{(index .State.Health.Log 0).ExitCode}} {{len .State.Health.Log}}";
    hull.eventually("five results", || {
        let seen = hull.docker(["inspect", "-f", last, &name]).ok();
        if seen == "0 5\n" { Ok(()) } else { Err(seen) }
    });
    let output = "{{(index .State.Health.Log 0).Output}}";
    assert_eq!(hull.docker(["inspect", "-f", output, &name]).ok().trim(), "fine");
    // One that is held is not asked, and one that has ended is not well.
    hull.hull(["pause", &name]).ok();
    assert_eq!(health(&hull, &name), "healthy 0");
    hull.hull(["unpause", &name]).ok();
    hull.hull(["kill", &name]).ok();
    assert!(health(&hull, &name).starts_with("unhealthy"));
    let expected = "health_status: unhealthy\nhealth_status: healthy\n";
    hull.events_become(&name, &since, &["event=health_status"], expected);
    Ok(())
}

#[test]
fn a_check_that_hangs_is_given_up_and_leaves_no_process() -> Result<()> {
    let hull = hull!();
    let name = hull.container("hanging");
    hull.docker([
        "run",
        "-d",
        "--name",
        &name,
        "--health-cmd",
        "test -e /tmp/well || sleep 1000",
        "--health-interval",
        "200ms",
        "--health-timeout",
        "500ms",
        "--health-retries",
        "1",
        "busybox",
        "sleep",
        "1000",
    ])
    .ok();
    becomes(&hull, &name, "unhealthy");
    let output = "{{(index .State.Health.Log 0).Output}} {{(index .State.Health.Log 0).ExitCode}}";
    let told = hull.docker(["inspect", "-f", output, &name]).ok();
    assert_eq!(told.trim(), "Health check exceeded timeout (500ms) -1");
    // What was given up does not stay.
    let sleepers = hull
        .hull(["exec", &name, "sh", "-c", "ps | grep -c '[s]leep 1000'"])
        .ok();
    assert!(sleepers.trim().parse::<u32>()? <= 2, "{sleepers}");
    hull.hull(["exec", &name, "touch", "/tmp/well"]).ok();
    becomes(&hull, &name, "healthy");
    Ok(())
}

#[test]
fn a_check_is_the_images_unless_it_is_switched_off() -> Result<()> {
    let hull = hull!();
    let (base, name, other) = (
        hull.container("base"),
        hull.container("from-image"),
        hull.container("off"),
    );
    let image = format!("checked-{}", std::process::id());
    hull.hull(["create", "--name", &base, "busybox", "sleep", "1000"])
        .ok();
    hull.hull([
        "commit",
        "--change",
        "HEALTHCHECK --interval=200ms --retries=1 CMD true",
        &base,
        &image,
    ])
    .ok();
    hull.hull(["run", "-d", "--name", &name, &image]).ok();
    becomes(&hull, &name, "healthy");
    hull.hull(["run", "-d", "--name", &other, "--no-healthcheck", &image])
        .ok();
    let checked = hull
        .docker([
            "inspect",
            "-f",
            "{{json .State.Health}} {{json .Config.Healthcheck.Test}}",
            &other,
        ])
        .ok();
    assert_eq!(checked.trim(), r#"null ["NONE"]"#);
    hull.hull(["rm", "-f", &name, &other]).ok();
    hull.hull(["rmi", &image]).ok();
    Ok(())
}
