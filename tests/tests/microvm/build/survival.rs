//! Builds that do not come to their end, and many at once.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, ensure};
use system_tests::{Hull, hull};

use super::api::{Image, Request, archive, build};
use super::errors::FROM;
use crate::survival::kill_daemon;

/// Begins a build with the command line, and returns when its command has printed `begun`.
fn begin(hull: &Hull, image: &str, folder: &std::path::Path) -> Result<std::process::Child> {
    let mut command = hull.command(["build", "-t", image]);
    let mut child = command.arg(folder).stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take().context("it has no stdout")?;
    for line in BufReader::new(stdout).lines() {
        if line? == "begun" {
            return Ok(child);
        }
    }
    ensure!(false, "the build ended with {}", child.wait()?);
    Ok(child)
}

/// The microVMs that run, and the images that are shown.
fn traces(hull: &Hull) -> (usize, String) {
    let microvms = hull.shell("pidof hull-vmm || true").stdout;
    let images = hull.hull(["images", "-aq", "--no-trunc"]).ok();
    (microvms.split_whitespace().count(), images)
}

fn settle(hull: &Hull, expected: &(usize, String)) {
    hull.eventually("nothing but what was there before", || {
        let left = traces(hull);
        if left == *expected {
            Ok(())
        } else {
            Err(format!("{left:?} instead of {expected:?}"))
        }
    });
}

#[test]
fn what_is_cut_short_leaves_its_finished_steps_and_nothing_else() -> Result<()> {
    let hull = hull!();
    let image = Image::new(&hull, "cut-short");
    let folder = tempfile::tempdir()?;
    // Not as it was built by an earlier run.
    let first = format!("{FROM}RUN echo {} >/first\n", std::process::id());
    std::fs::write(
        folder.path().join("Dockerfile"),
        format!("{first}RUN echo begun; sleep 1000\n"),
    )?;
    let before = traces(&hull);
    let mut client = begin(&hull, &image.name, folder.path())?;
    client.kill()?;
    client.wait()?;
    settle(&hull, &before);
    let mut client = begin(&hull, &image.name, folder.path())?;
    kill_daemon(&hull);
    ensure!(!client.wait()?.success());
    settle(&hull, &before);
    let context = archive(&[("Dockerfile", &format!("{first}RUN echo whole\n"))])?;
    let request = Request {
        dockerfile: "Dockerfile",
        name: &image.name,
        ..Request::default()
    };
    let answer = build(&hull, &request, &context)?;
    answer.image()?;
    let cached: Vec<bool> = answer
        .layers()
        .into_iter()
        .map(|(_, is_cached)| is_cached)
        .collect();
    assert_eq!(cached.first(), Some(&true), "{answer:?}");
    Ok(())
}

#[test]
fn a_build_that_takes_too_long_says_at_which_step_and_leaves_nothing() -> Result<()> {
    let hull = hull!();
    let image = Image::new(&hull, "too-long");
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("Dockerfile"),
        format!("{FROM}RUN echo begun; sleep 1000\n"),
    )?;
    let before = traces(&hull);
    let path = folder.path().display().to_string();
    let outcome = hull.hull(["build", "--timeout", "10s", "-t", &image.name, &path]);
    assert_eq!(outcome.code, 1, "{outcome}");
    assert!(outcome.stdout.contains("begun\n"), "{outcome}");
    for expected in [
        "the build was given up after 10s, its limit of time: it had been at step 2/2 (RUN echo begun; sleep 1000) for",
        "give it more with --timeout",
    ] {
        assert!(outcome.stderr.contains(expected), "{outcome}");
    }
    settle(&hull, &before);
    Ok(())
}

#[test]
fn eight_builds_at_once_do_not_disturb_each_other_and_share_what_they_made() -> Result<()> {
    let hull = hull!();
    let text = format!(
        "{FROM}COPY Dockerfile /x\nRUN echo {} >/first\nRUN cat /first >/second\n",
        std::process::id()
    );
    let context = archive(&[("Dockerfile", &text)])?;
    let images: Vec<_> = (0..9)
        .map(|n| Image::new(&hull, &format!("at-once-{n}")))
        .collect();
    let build = |image: &Image<'_>| {
        let request = Request {
            dockerfile: "Dockerfile",
            name: &image.name,
            ..Request::default()
        };
        build(&hull, &request, &context)
    };
    thread::scope(|scope| {
        let running: Vec<_> = images[..8]
            .iter()
            .map(|image| scope.spawn(|| build(image)))
            .collect();
        for built in running {
            built.join().expect("a build that does not panic")?.image()?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    let last = build(&images[8])?;
    last.image()?;
    assert!(last.layers().iter().all(|(_, is_cached)| *is_cached), "{last:?}");
    Ok(())
}
