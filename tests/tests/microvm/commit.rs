//! Images of containers.

use anyhow::Result;
use system_tests::{DockerRegistry, Hull, hull};

/// An image that goes with the test.
struct Image {
    hull: Hull,
    name: String,
}

impl Image {
    fn new(hull: &Hull, name: &str) -> Image {
        Image {
            hull: hull.clone(),
            name: format!("{name}:{}", std::process::id()),
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        self.hull.hull(["rmi", "-f", &self.name]);
    }
}

#[track_caller]
fn status(hull: &Hull, container: &str) -> String {
    let status = hull.hull(["inspect", "-f", "{{.State.Status}}", container]).ok();
    status.trim().to_owned()
}

#[test]
fn what_a_running_container_changed_is_in_its_image_and_nothing_else() -> Result<()> {
    let hull = hull!();
    let (name, image) = (
        hull.container("commit-running"),
        Image::new(&hull, "commit/running"),
    );
    let script = "mkdir -p /a/b && echo new > /a/b/new && rm /etc/group && rm -r /root && mkdir /root \
                  && echo again > /root/again && chmod 700 /var && ln /a/b/new /a/b/link && echo v > /vol/v \
                  && mkfifo /a/fifo && chown 5:6 /a/b/new && echo host >> /etc/hosts && echo ready && exec sleep 1000";
    hull.hull([
        "run", "-d", "--name", &name, "-v", "/vol", "-e", "A=1", "busybox", "sh", "-c", script,
    ])
    .ok();
    hull.first_lines(&name, 1);
    let id = hull
        .hull([
            "commit",
            "-a",
            "me",
            "-m",
            "more of it",
            "-c",
            "CMD [\"cat\", \"/a/b/new\"]",
            "-c",
            "ENV B=$A:2",
            "-c",
            "LABEL l=\"two words\"",
            "-c",
            "ONBUILD RUN true",
            &name,
            &image.name,
        ])
        .ok();
    assert!(id.starts_with("sha256:") && id.trim().len() == 71, "{id}");
    assert_eq!(status(&hull, &name), "running", "it goes on");
    assert_eq!(hull.hull(["run", "--rm", &image.name]).ok(), "new\n");
    let look = "stat -c '%n %a %u:%g %F' /a/b/new /a/fifo /var /root/again; stat -c %h /a/b/link; ls /etc/group; ls -A /root /vol; \
                grep -c host /etc/hosts; echo $A $B";
    let seen = hull.docker(["run", "--rm", &image.name, "sh", "-c", look]);
    assert_eq!(
        seen.stdout,
        "/a/b/new 644 5:6 regular file\n/a/fifo 644 0:0 fifo\n/var 700 0:0 directory\n\
         /root/again 644 0:0 regular file\n2\n/root:\nagain\n\n/vol:\n2\n1 1:2\n",
        "{seen}"
    );
    assert!(seen.stderr.contains("/etc/group: No such file"), "{seen}");
    let told = hull
        .docker([
            "image",
            "inspect",
            "-f",
            "{{.Author}}|{{.Comment}}|{{json .Config}}",
            &image.name,
        ])
        .ok();
    for part in [
        "me|more of it|",
        "\"/vol\":{}",
        "\"l\":\"two words\"",
        "\"OnBuild\":[\"RUN true\"]",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let history = hull
        .docker(["history", "--format", "{{.Comment}}", &image.name])
        .ok();
    assert!(history.starts_with("more of it\n"), "{history}");
    Ok(())
}

#[test]
fn a_stopped_container_and_one_that_never_ran_become_images() -> Result<()> {
    let hull = hull!();
    let (name, image) = (
        hull.container("commit-stopped"),
        Image::new(&hull, "commit/stopped"),
    );
    hull.hull([
        "run",
        "--name",
        &name,
        "busybox",
        "sh",
        "-c",
        "echo 1 > /one; rm /etc/passwd",
    ])
    .ok();
    hull.docker([
        "commit",
        "--change",
        "ENTRYPOINT [\"sh\", \"-c\"]",
        &name,
        &image.name,
    ])
    .ok();
    assert_eq!(status(&hull, &name), "exited");
    let script = "cat /one; test -e /etc/passwd || echo gone";
    let seen = hull.hull(["run", "--rm", &image.name, script]).ok();
    assert_eq!(seen, "1\ngone\n");
    // An image of a container of that image.
    let (second, next) = (
        hull.container("commit-created"),
        Image::new(&hull, "commit/created"),
    );
    hull.hull(["create", "--name", &second, "-l", "x=y", &image.name, "cat /one"])
        .ok();
    hull.hull(["container", "commit", "--pause=false", &second, &next.name])
        .ok();
    assert_eq!(hull.hull(["run", "--rm", &next.name]).ok(), "1\n");
    let label = hull
        .hull(["image", "inspect", "-f", "{{.Config.Labels.x}}", &next.name])
        .ok();
    assert_eq!(label, "y\n");
    assert_eq!(
        hull.hull(["start", "-a", &name]).code,
        1,
        "it can be started again"
    );
    Ok(())
}

#[test]
fn a_paused_container_stays_paused_and_what_cannot_be_is_refused() -> Result<()> {
    let hull = hull!();
    let (name, image) = (
        hull.container("commit-paused"),
        Image::new(&hull, "commit/paused"),
    );
    hull.start_script(&name, "echo 1 > /one; echo ready; exec sleep 1000");
    hull.first_lines(&name, 1);
    hull.hull(["pause", &name]).ok();
    hull.hull(["commit", &name, &image.name]).ok();
    assert_eq!(status(&hull, &name), "paused");
    assert_eq!(hull.hull(["run", "--rm", &image.name, "cat", "/one"]).ok(), "1\n");
    let refused = |args: &[&str], expected: &str| {
        let refused = hull.docker([&["commit"], args].concat()).exits(1);
        assert!(refused.stderr.contains(expected), "{args:?}: {refused}");
    };
    refused(&["nobody-at-all"], "No such container: nobody-at-all");
    refused(&["-c", "RUN true", &name], "RUN is not a valid change command");
    refused(&["-c", "STOPSIGNAL NONE", &name], "invalid signal: NONE");
    refused(&[&name, "UPPER"], "must be lowercase");
    Ok(())
}

#[test]
fn an_image_of_a_container_is_pushed_and_pulled() -> Result<()> {
    let hull = hull!();
    let registry = DockerRegistry::plain()?;
    let (name, image) = (hull.container("commit-pushed"), registry.image("app:1"));
    hull.start_script(&name, "echo 1 > /one; rm /etc/group; echo ready; exec sleep 1000");
    hull.first_lines(&name, 1);
    hull.docker(["commit", &name, &image]).ok();
    hull.hull(["push", &image]).ok();
    hull.hull(["rmi", &image]).ok();
    hull.hull(["pull", "-q", &image]).ok();
    let seen = hull.hull([
        "run",
        "--rm",
        &image,
        "sh",
        "-c",
        "cat /one; test -e /etc/group || echo gone",
    ]);
    hull.hull(["rmi", "-f", &image]).ok();
    assert_eq!(seen.ok(), "1\ngone\n");
    Ok(())
}
