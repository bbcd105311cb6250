//! `hull context`, and what the current context changes for other commands.

use std::fmt::Write;
use std::process::Command;

use tempfile::TempDir;

use crate::api::{Answer, Api};

/// `hull` with a folder of its own.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hull"));
        command
            .args(arguments)
            .current_dir(&self.0)
            .env("HULL_CONFIG", self.0.path().join("config"))
            .env("HULL_RUNTIME", "/nonexistent/run");
        for variable in [
            "HULL_HOST",
            "HULL_CONTEXT",
            "HULL_TLS_VERIFY",
            "DOCKER_TLS_VERIFY",
        ] {
            command.env_remove(variable);
        }
        command
    }

    /// All commands and what they did, as one text.
    fn transcript(&self, commands: &[&[&str]]) -> String {
        let mut text = String::new();
        for arguments in commands {
            let output = self.command(arguments).output().unwrap();
            writeln!(text, "$ hull {}", arguments.join(" ")).unwrap();
            text.push_str(&String::from_utf8(output.stdout).unwrap());
            for line in String::from_utf8(output.stderr).unwrap().lines() {
                writeln!(text, "! {line}").unwrap();
            }
            match output.status.code() {
                Some(0) => {}
                code => writeln!(text, "exit code: {code:?}").unwrap(),
            }
        }
        text.replace(self.0.path().to_str().unwrap(), "FOLDER")
    }
}

const DESCRIBED: [&str; 7] = [
    "context",
    "create",
    "foo",
    "--description",
    "a test",
    "--docker",
    "host=tcp://h:1",
];

#[test]
fn contexts_are_made_listed_used_and_removed_in_dockers_words() {
    let transcript = Place::new().transcript(&[
        &DESCRIBED,
        &DESCRIBED,
        &[
            "context",
            "create",
            "skip",
            "--docker",
            "host=tcp://h:2,skip-tls-verify=true",
        ],
        &["context", "create", "copy", "--from", "foo"],
        &["context", "create", "own"],
        &["context", "create", "bad", "--docker", "nosuch=1"],
        &["context", "create", "bad", "--docker", "ca=ca.pem"],
        &["context", "create", "bad", "--docker", "host=http://x"],
        &["context", "create", "ba d"],
        &["context", "create", "default"],
        &["context", "ls"],
        &["context", "ls", "-q"],
        &["context", "ls", "--format", "json"],
        &[
            "context",
            "ls",
            "--format",
            "{{.Name}} {{.Current}} {{.DockerEndpoint}}",
        ],
        &["context", "use", "foo"],
        &["context", "show"],
        &["context", "ls"],
        &["context", "use", "nosuch"],
        &[
            "context",
            "update",
            "foo",
            "--description",
            "new",
            "--docker",
            "host=unix:///x.sock",
        ],
        &["context", "update", "nosuch"],
        &["context", "inspect"],
        &["context", "inspect", "nosuch", "default"],
        &[
            "context",
            "inspect",
            "-f",
            "{{.Name}} {{.Endpoints.docker.Host}}",
            "foo",
            "skip",
        ],
        &["context", "rm", "foo"],
        &["context", "rm", "copy", "nosuch", "default"],
        &["context", "rm", "-f", "foo", "nosuch"],
        &["context", "show"],
        &["--context", "nosuch", "ps"],
        &["--context", "skip", "--host", "tcp://a", "ps"],
    ]);
    insta::assert_snapshot!("contexts", transcript);
}

#[test]
fn a_context_goes_to_another_place_as_an_archive() {
    let (from, to) = (Place::new(), Place::new());
    let exported = from.transcript(&[
        &DESCRIBED,
        &["context", "export", "foo"],
        &["context", "export", "foo"],
        &["context", "export", "nosuch"],
    ]);
    let archive = from.0.path().join("foo.dockercontext");
    std::fs::copy(archive, to.0.path().join("foo.tar")).unwrap();
    std::fs::write(to.0.path().join("text"), "no archive").unwrap();
    let imported = to.transcript(&[
        &["context", "import", "bar", "foo.tar"],
        &["context", "import", "bar", "foo.tar"],
        &["context", "import", "baz", "text"],
        &["context", "import", "baz", "nosuch"],
        &["context", "ls"],
    ]);
    insta::assert_snapshot!("context-archives", exported + &imported);
}

#[test]
fn commands_go_to_the_daemon_of_the_context_in_use() {
    let api = Api::serve(|_| Answer::Json(200, "[]".to_owned()));
    let place = Place::new();
    let docker = format!("host={}", api.host());
    place.transcript(&[&["context", "create", "mine", "--docker", &docker]]);
    assert!(
        place
            .command(&["--context", "mine", "ps"])
            .status()
            .unwrap()
            .success()
    );
    let mut by_variable = place.command(&["ps"]);
    assert!(
        by_variable
            .env("HULL_CONTEXT", "mine")
            .status()
            .unwrap()
            .success()
    );
    place.transcript(&[&["context", "use", "mine"]]);
    assert!(place.command(&["ps"]).status().unwrap().success());
    assert_eq!(api.requests().len(), 3);
    // What names a daemon itself wins.
    let mut named = place.command(&["ps"]);
    let output = named
        .env("HULL_HOST", "unix:///nonexistent/x.sock")
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nonexistent/x.sock"));
}

#[test]
fn docker_and_hull_read_each_others_archives() {
    let docker = |place: &Place, arguments: &[&str]| {
        let mut command = Command::new("docker");
        command.env("DOCKER_CONFIG", place.0.path().join("docker"));
        command.current_dir(&place.0).args(arguments);
        command.output().expect("the docker CLI is installed")
    };
    let place = Place::new();
    place.transcript(&[&DESCRIBED, &["context", "export", "foo", "hulls.tar"]]);
    let imported = docker(&place, &["context", "import", "foo", "hulls.tar"]);
    assert!(imported.status.success(), "{imported:?}");
    let exported = docker(&place, &["context", "export", "foo", "dockers.tar"]);
    assert!(exported.status.success(), "{exported:?}");
    let back = place.transcript(&[
        &["context", "import", "back", "dockers.tar"],
        &[
            "context",
            "inspect",
            "-f",
            "{{.Metadata.Description}} {{.Endpoints.docker.Host}}",
            "back",
        ],
    ]);
    assert!(back.ends_with("a test tcp://h:1\n"), "{back}");
}

#[test]
fn shells_and_the_manual_learn_of_every_command() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = place.transcript(&[&["completion", shell]]);
        assert!(
            script.contains("unpause") && script.contains("tlsverify"),
            "{shell}"
        );
        assert!(!script.contains("exit code: Some"), "{script}");
    }
    assert_eq!(place.transcript(&[&["man", "pages"]]), "$ hull man pages\n");
    for page in [
        "hull.1",
        "hull-run.1",
        "hull-context-create.1",
        "hull-system-prune.1",
    ] {
        let text = std::fs::read_to_string(place.0.path().join("pages").join(page)).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
    assert!(!place.0.path().join("pages/hull-man.1").exists());
}
