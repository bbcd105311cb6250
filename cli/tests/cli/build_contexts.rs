//! `hull build`: what is sent of a context.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::thread;

use flate2::read::GzDecoder;
use rustix::fs::{Mode, OFlags, mkdirat, openat};
use tar_stream::{Entry, EntryKind, Writer};

use crate::builds::{asked, build, daemon, folder, paths, query, stderr, unpacked, with_input};
use crate::transcript;

#[test]
fn only_what_the_dockerfile_reads_is_sent() {
    let files = [("wanted/a", ""), ("other", "")];
    for (dockerfile, expected) in [
        (
            "FROM busybox\nCOPY wanted /\n",
            vec!["Dockerfile", "wanted/", "wanted/a"],
        ),
        ("FROM busybox\nRUN true\n", vec!["Dockerfile"]),
        ("FROM scratch\nADD http://h/x /\n", vec!["Dockerfile"]),
        // Nobody knows the triggers of an image that is not there, and those of this one read everything.
        (
            "FROM missing\nCOPY wanted /\n",
            vec!["Dockerfile", "other", "wanted/", "wanted/a"],
        ),
        (
            "FROM triggers\nRUN true\n",
            vec!["Dockerfile", "other", "wanted/", "wanted/a"],
        ),
        (
            "FROM busybox\nCOPY $X /\n",
            vec!["Dockerfile", "other", "wanted/", "wanted/a"],
        ),
        // What is wrong with it, the daemon says.
        ("FROM busybox\nCOPPY a /\n", vec!["Dockerfile"]),
    ] {
        let api = daemon();
        let folder = folder(&files);
        fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
        assert!(build(&api, folder.path(), &["."]).status().unwrap().success());
        assert_eq!(paths(&asked(&api).body), expected, "{dockerfile}");
    }
    // It may be another image when it has been pulled.
    let api = daemon();
    let folder = folder(&files);
    fs::write(folder.path().join("Dockerfile"), "FROM busybox\nCOPY wanted /\n").unwrap();
    assert!(
        build(&api, folder.path(), &["--pull", "."])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(paths(&asked(&api).body).len(), 4);
}

#[test]
fn what_a_link_leads_to_is_sent() {
    let api = daemon();
    let folder = folder(&[("Dockerfile", "FROM busybox\nCOPY link/a /\n"), ("real/a", "")]);
    symlink("real", folder.path().join("link")).unwrap();
    assert!(build(&api, folder.path(), &["."]).status().unwrap().success());
    assert_eq!(
        paths(&asked(&api).body),
        ["Dockerfile", "link", "real/", "real/a"]
    );
}

#[test]
fn a_dockerfile_may_be_anywhere() {
    let inside = folder(&[
        ("context/sub/File", "FROM scratch\n"),
        ("context/sub/File.dockerignore", "a\n"),
        ("context/a", ""),
        ("File", "FROM scratch\nCOPY a /\n"),
        ("context/.dockerignore", "b\n"),
    ]);
    let api = daemon();
    let command = build(&api, inside.path(), &["-f", "context/sub/File", "context"]).status();
    assert!(command.unwrap().success());
    let request = asked(&api);
    assert_eq!(query(&request)["dockerfile"], "sub/File");
    assert_eq!(
        paths(&request.body),
        [".dockerignore", "sub/", "sub/File", "sub/File.dockerignore"]
    );
    // One from outside, and the same one on standard input.
    for (name, input) in [("File", ""), ("-", "FROM scratch\nCOPY a /\n")] {
        let api = daemon();
        let command = build(&api, inside.path(), &["-f", name, "context"]);
        assert!(with_input(command, input.as_bytes()).status.success());
        let request = asked(&api);
        let sent = query(&request)["dockerfile"].clone();
        assert!(sent.starts_with(".dockerfile."), "{sent}");
        let expected = [
            (sent.clone(), "FROM scratch\nCOPY a /\n".to_owned()),
            (".dockerignore".to_owned(), format!("b\n\n{sent}\n")),
            ("a".to_owned(), String::new()),
        ];
        assert_eq!(unpacked(&request.body), expected);
    }
}

#[test]
fn standard_input_is_a_dockerfile_or_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let api = daemon();
    let output = with_input(build(&api, folder.path(), &["-"]), b"FROM scratch\n");
    assert!(output.status.success(), "{}", stderr(&output));
    let request = asked(&api);
    assert_eq!(query(&request)["dockerfile"], "Dockerfile");
    let expected = [("Dockerfile".to_owned(), "FROM scratch\n".to_owned())];
    assert_eq!(unpacked(&request.body), expected);

    let mut writer = Writer::new(Vec::new());
    let mut entry = Entry::new("big", EntryKind::Regular);
    entry.size = 3 << 20;
    writer.begin(&entry).unwrap();
    writer.write(&vec![b'x'; 3 << 20]).unwrap();
    let archive = writer.finish().unwrap();
    let compressed = [b"\x1f\x8b".as_slice(), &vec![0; 700_000]].concat();
    for input in [&archive, &compressed] {
        let api = daemon();
        let output = with_input(build(&api, folder.path(), &["-f", "sub/D", "-"]), input);
        assert!(output.status.success(), "{}", stderr(&output));
        let request = asked(&api);
        assert_eq!(request.line, "POST /build?dockerfile=sub%2FD&rm=1");
        assert!(request.body == **input, "the archive is sent as it came");
    }
    for (name, input) in [("build-stdin-empty", ""), ("build-stdin-twice", "FROM scratch\n")] {
        let arguments: &[&str] = if input.is_empty() {
            &["-"]
        } else {
            &["-f", "-", "-"]
        };
        let output = with_input(build(&api, folder.path(), arguments), input.as_bytes());
        insta::assert_snapshot!(name, transcript(&output));
    }
}

#[test]
fn a_url_is_the_daemons_to_fetch() {
    for url in [
        "https://github.com/me/project.git#main:sub",
        "git@github.com:me/project.git",
        "http://host/context.tar.gz",
    ] {
        let api = daemon();
        let folder = tempfile::tempdir().unwrap();
        let status = build(&api, folder.path(), &["-f", "D", url]).status().unwrap();
        assert!(status.success());
        let request = asked(&api);
        let query = query(&request);
        assert_eq!(
            (query["remote"].as_str(), query["dockerfile"].as_str()),
            (url, "D")
        );
        assert!(request.body.is_empty());
    }
}

#[test]
fn a_compressed_context_is_the_same() {
    let api = daemon();
    let folder = folder(&[("Dockerfile", "FROM scratch\nCOPY . /\n"), ("a", "1")]);
    let status = build(&api, folder.path(), &["--compress", "."]).status().unwrap();
    assert!(status.success());
    let mut archive = Vec::new();
    GzDecoder::new(asked(&api).body.as_slice())
        .read_to_end(&mut archive)
        .unwrap();
    assert_eq!(paths(&archive), ["Dockerfile", "a"]);
}

#[test]
fn a_context_that_cannot_be_read_is_no_context() {
    let api = daemon();
    let folder = folder(&[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    fs::write(folder.path().join("a"), vec![b'x'; 1 << 20]).unwrap();
    // Even root cannot look at what has too long a path.
    let name = "n".repeat(250);
    let mut deep = File::open(folder.path()).unwrap();
    for _ in 0..20 {
        mkdirat(&deep, &name, Mode::RWXU).unwrap();
        deep = openat(&deep, &name, OFlags::DIRECTORY, Mode::empty())
            .unwrap()
            .into();
    }
    let output = build(&api, folder.path(), &["."]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("cannot look at /"),
        "{}",
        stderr(&output)
    );
    assert!(!stderr(&output).contains("connection"), "{}", stderr(&output));
    fs::remove_dir_all(folder.path().join(&name)).unwrap();
    for (name, arguments) in [
        ("build-no-dockerfile", ["-f", "missing", "."]),
        ("build-no-folder", ["-q", "--no-cache", "missing"]),
    ] {
        let output = build(&api, folder.path(), &arguments).output().unwrap();
        insta::assert_snapshot!(name, transcript(&output));
    }
    fs::write(folder.path().join(".dockerignore"), "[a\n").unwrap();
    let output = build(&api, folder.path(), &["."]).output().unwrap();
    let told = transcript(&output).replace(folder.path().to_str().unwrap(), "FOLDER");
    insta::assert_snapshot!("build-wrong-ignore", told);
    assert!(api.request_lines().iter().all(|line| !line.starts_with("POST")));
}

#[test]
fn a_daemon_that_refuses_at_once_is_heard() {
    let folder = folder(&[("Dockerfile", "FROM scratch\nCOPY . /\n")]);
    fs::write(folder.path().join("large"), vec![b'x'; 50 << 20]).unwrap();
    let socket = folder.path().join("api.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let serving = thread::spawn(move || {
        // The question for contents that need not be sent, and the build.
        for _ in 0..2 {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            let body = r#"{"message":"there is no room"}"#;
            let head = format!(
                "HTTP/1.1 507 X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            reader.get_mut().write_all((head + body).as_bytes()).unwrap();
        }
    });
    let output = Command::new(env!("CARGO_BIN_EXE_hull"))
        .args(["--host", &format!("unix://{}", socket.display()), "build", "."])
        .current_dir(folder.path())
        .env("DOCKER_CONFIG", "/nonexistent")
        .output()
        .unwrap();
    serving.join().unwrap();
    assert_eq!(stderr(&output), "Error response from daemon: there is no room\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn nothing_is_sent_to_nobody() {
    let folder = folder(&[("Dockerfile", "FROM scratch\n")]);
    let output = Command::new(env!("CARGO_BIN_EXE_hull"))
        .args(["--host", "unix:///nonexistent/hull.sock", "build", "."])
        .current_dir(folder.path())
        .env("DOCKER_CONFIG", "/nonexistent")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert!(
        stderr(&output).contains("Is hulld running?"),
        "{}",
        stderr(&output)
    );
}
