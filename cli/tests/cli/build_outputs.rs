//! `hull build --output`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tar_stream::{Entry, EntryKind, Writer};

use crate::api::{Answer, Api, refusal};
use crate::builds::{built, folder};
use crate::{hull, transcript};

/// The image's files: one, and a link that leads out.
fn files() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let mut folder = Entry::new("etc/", EntryKind::Directory);
    folder.mode = 0o755;
    writer.begin(&folder).unwrap();
    let mut file = Entry::new("etc/name", EntryKind::Regular);
    file.mode = 0o4644;
    file.size = 4;
    writer.begin(&file).unwrap();
    writer.write(b"hull").unwrap();
    let mut link = Entry::new("etc/link", EntryKind::Symlink);
    link.link = b"/etc/passwd".to_vec();
    writer.begin(&link).unwrap();
    writer.finish().unwrap()
}

fn daemon() -> Api {
    Api::serve(|request| {
        let path = request.line.split('?').next().unwrap();
        match path {
            "POST /build" => built(),
            "GET /images/get" => Answer::Stream("application/x-tar", b"image archive".to_vec()),
            path if path.starts_with("GET /hull/images/sha256%3A") && path.ends_with("/files") => {
                Answer::Stream("application/x-tar", files())
            }
            path if path.starts_with("POST /images/") && path.ends_with("/push") => {
                Answer::Stream("application/json", b"{\"status\":\"pushed\"}".to_vec())
            }
            _ => refusal(404, &request.line),
        }
    })
}

fn build(api: &Api, folder: &Path, arguments: &[&str]) -> Output {
    let mut command: Command = hull(api, &["build"]);
    command
        .args(arguments)
        .arg(".")
        .current_dir(folder)
        .output()
        .unwrap()
}

fn assert_built(output: &Output) {
    assert!(output.status.success(), "{}", transcript(output));
}

#[test]
fn archives_go_to_files_or_to_standard_output() {
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    for (arguments, file, expected, asked) in [
        (
            vec!["-o", "type=oci,dest=out"],
            "out",
            b"image archive".to_vec(),
            "GET /images/get?names=sha256%3A",
        ),
        (
            vec!["-t", "a", "-t", "b:2", "-o", "type=docker,dest=out2"],
            "out2",
            b"image archive".to_vec(),
            "GET /images/get?names=a&names=b%3A2",
        ),
        (
            vec!["-o", "type=tar,dest=out3"],
            "out3",
            files(),
            "GET /hull/images/sha256%3A",
        ),
    ] {
        let api = daemon();
        assert_built(&build(&api, folder.path(), &arguments));
        assert_eq!(fs::read(folder.path().join(file)).unwrap(), expected);
        assert!(
            api.request_lines()[0].starts_with(asked),
            "{:?}",
            api.request_lines()
        );
    }
    for (output, expected) in [
        ("-", files()),
        ("type=oci", b"image archive".to_vec()),
        ("type=docker,dest=-", b"image archive".to_vec()),
    ] {
        let api = daemon();
        let done = build(&api, folder.path(), &["-o", output]);
        assert_built(&done);
        assert_eq!(done.stdout, expected, "{output}");
        assert!(
            String::from_utf8_lossy(&done.stderr).contains("Step 1/2"),
            "the build is shown beside it"
        );
    }
}

#[test]
fn files_are_unpacked_and_nothing_is_followed() {
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    for output in ["out/deep", "type=local,dest=out/deep"] {
        assert_built(&build(&daemon(), folder.path(), &["--output", output]));
        let at = |name: &str| folder.path().join("out/deep/etc").join(name);
        assert_eq!(fs::read_to_string(at("name")).unwrap(), "hull");
        assert_eq!(fs::read_link(at("link")).unwrap(), Path::new("/etc/passwd"));
    }
}

#[test]
fn images_are_pushed_under_all_their_names() {
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    for arguments in [
        vec!["-t", "h:1/a", "-t", "h:1/a:2", "--push"],
        vec!["-t", "h:1/a", "-o", "type=image,name=h:1/a:2,push=true"],
        vec!["-o", r#"type=registry,"name=h:1/a,h:1/a:2""#],
    ] {
        let api = daemon();
        assert_built(&build(&api, folder.path(), &arguments));
        assert_eq!(
            api.request_lines(),
            [
                "POST /build?t=h%3A1%2Fa&t=h%3A1%2Fa%3A2&dockerfile=Dockerfile&rm=1",
                "POST /images/h%3A1%2Fa/push?tag=2",
                "POST /images/h%3A1%2Fa/push?tag=latest",
            ]
        );
    }
    // It is in the daemon's store anyway.
    for output in ["--load", "--output=type=docker", "--output=type=image,name=a"] {
        let api = daemon();
        assert_built(&build(&api, folder.path(), &[output]));
        assert_eq!(api.request_lines().len(), 1);
    }
}

#[test]
fn a_push_that_fails_is_a_build_that_fails() {
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    let api = Api::serve(|request| match request.line.starts_with("POST /build") {
        true => built(),
        false => refusal(500, "denied"),
    });
    let output = build(
        &api,
        folder.path(),
        &["-q", "-t", "a", "--push", "--iidfile", "id"],
    );
    insta::assert_snapshot!("build-push-failed", transcript(&output));
    assert!(!folder.path().join("id").exists());
}

#[test]
fn what_cannot_be_delivered_is_not_built() {
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    let api = daemon();
    for (name, arguments) in [
        ("push", vec!["--push"]),
        ("twice", vec!["-o", "-", "-o", "type=oci"]),
        ("type", vec!["-o", "type=x"]),
        ("field", vec!["-o", "type=oci,dest=a,compression=zstd"]),
    ] {
        let output = build(&api, folder.path(), &arguments);
        insta::assert_snapshot!(format!("build-output-{name}"), transcript(&output));
    }
    assert_eq!(api.request_lines(), [""; 0]);
}
