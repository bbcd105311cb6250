//! Registries: `login`, `logout`, `search`, `manifest inspect`, and the credentials that go along.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::api::{Answer, Api, refusal};
use crate::{hull, transcript};

fn registry() -> Api {
    Api::serve(|request| match request.line.as_str() {
        "POST /auth" => {
            let sent: Value = serde_json::from_slice(&request.body).unwrap();
            if sent["password"] == "secret" {
                Answer::Json(
                    200,
                    json!({"Status": "Login Succeeded", "IdentityToken": ""}).to_string(),
                )
            } else {
                refusal(401, "cannot log in to h:1: wrong")
            }
        }
        _ => Answer::Stream("application/json", b"{\"status\":\"done\"}".to_vec()),
    })
}

/// `hull` with a `config.json` of its own.
fn hull_in(api: &Api, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = hull(api, arguments);
    command.env("DOCKER_CONFIG", folder);
    command
}

fn with_input(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that does not ask need not read.
    drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
    child.wait_with_output().unwrap()
}

/// The transcript with the folder's name, which changes, taken out.
fn stable(output: &Output, folder: &Path) -> String {
    transcript(output).replace(folder.to_str().unwrap(), "FOLDER")
}

#[test]
fn a_login_is_kept_sent_along_and_forgotten() {
    let (api, folder) = (registry(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    let login = hull_in(&api, folder, &["login", "-u", "me", "--password-stdin", "h:1"]);
    insta::assert_snapshot!("login", stable(&with_input(login, "secret\n"), folder));
    let sent: Value = serde_json::from_slice(&api.requests()[0].body).unwrap();
    assert_eq!(
        sent,
        json!({"username": "me", "password": "secret", "serveraddress": "h:1"})
    );
    let file = folder.join("config.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept, json!({"auths": {"h:1": {"auth": "bWU6c2VjcmV0"}}}));
    for command in [["pull", "h:1/a"], ["push", "h:1/a"]] {
        assert!(hull_in(&api, folder, &command).status().unwrap().success());
    }
    for request in &api.requests()[1..] {
        // {"username":"me","password":"secret","serveraddress":"h:1"}
        assert_eq!(
            request.registry_auth,
            "eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQiLCJzZXJ2ZXJhZGRyZXNzIjoiaDoxIn0="
        );
    }
    let again = hull_in(&api, folder, &["login", "h:1"]).output().unwrap();
    insta::assert_snapshot!("login-again", stable(&again, folder));
    for name in ["logout", "logout-again"] {
        let output = hull_in(&api, folder, &["logout", "h:1"]).output().unwrap();
        insta::assert_snapshot!(name, stable(&output, folder));
    }
    let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept, json!({"auths": {}}));
}

#[test]
fn a_login_that_is_refused_keeps_nothing() {
    let (api, folder) = (registry(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    let login = hull_in(&api, folder, &["login", "-u", "me", "-p", "wrong", "h:1"]);
    insta::assert_snapshot!("login-refused", stable(&with_input(login, ""), folder));
    assert!(!folder.join("config.json").exists());
    let nobody = hull_in(&api, folder, &["login", "h:1"]);
    insta::assert_snapshot!("login-no-terminal", stable(&with_input(nobody, ""), folder));
    let no_user = hull_in(&api, folder, &["login", "--password-stdin", "h:1"]);
    insta::assert_snapshot!("login-no-user", stable(&with_input(no_user, "secret"), folder));
}

#[test]
fn a_credential_helper_keeps_the_login() {
    let (api, folder) = (registry(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    let helper = folder.join("docker-credential-test");
    fs::write(
        &helper,
        "#!/bin/sh\nkept=$(dirname \"$0\")/kept\ncase $1 in\nstore) cat >\"$kept\";;\nerase) rm \"$kept\";;\nget) cat \"$kept\";;\nesac\n",
    )
    .unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(folder.join("config.json"), r#"{"credHelpers":{"h:1":"test"}}"#).unwrap();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut login = hull_in(&api, folder, &["login", "-u", "me", "--password-stdin", "h:1"]);
    login.env("PATH", &path);
    insta::assert_snapshot!("login-helper", stable(&with_input(login, "secret"), folder));
    let kept: Value = serde_json::from_slice(&fs::read(folder.join("kept")).unwrap()).unwrap();
    assert_eq!(
        kept,
        json!({"ServerURL": "h:1", "Username": "me", "Secret": "secret"})
    );
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    assert!(!config.contains("secret") && !config.contains("bWU6"), "{config}");
    assert!(
        hull_in(&api, folder, &["pull", "h:1/a"])
            .env("PATH", &path)
            .status()
            .unwrap()
            .success()
    );
    assert!(
        api.requests()[1]
            .registry_auth
            .starts_with("eyJ1c2VybmFtZSI6Im1lIiwicGFzc3dvcmQiOiJzZWNyZXQi")
    );
    assert!(
        hull_in(&api, folder, &["logout", "h:1"])
            .env("PATH", &path)
            .status()
            .unwrap()
            .success()
    );
    assert!(!folder.join("kept").exists());
}

#[test]
fn search_has_dockers_columns() {
    let api = Api::serve(|_| {
        let found = json!([
            {"name": "me/debian", "description": "mine", "star_count": 1, "is_official": false, "is_automated": false},
            {"name": "debian", "description": "Debian is a Linux distribution that's composed entirely of free and open-source software.", "star_count": 5000, "is_official": true, "is_automated": false},
        ]);
        Answer::Json(200, found.to_string())
    });
    let output = hull(&api, &["search", "--limit", "2", "-f", "stars=1", "debian"])
        .output()
        .unwrap();
    insta::assert_snapshot!("search", transcript(&output));
    assert_eq!(
        api.request_lines(),
        ["GET /images/search?term=debian&limit=2&filters=%7B%22stars%22%3A%5B%221%22%5D%7D"]
    );
}

#[test]
fn manifests_are_indented_as_docker_does() {
    let api = Api::serve(|request| {
        let manifest = if request.line.contains("list") {
            json!({"schemaVersion": 2, "manifests": [{"size": 1}]})
        } else {
            json!({"schemaVersion": 2, "config": {"size": 1}})
        };
        Answer::Json(200, manifest.to_string())
    });
    for (name, image) in [("manifest", "a"), ("manifest-list", "list")] {
        let output = hull(&api, &["manifest", "inspect", image]).output().unwrap();
        insta::assert_snapshot!(name, transcript(&output));
    }
    assert_eq!(api.request_lines()[0], "GET /hull/manifest?name=a");
}
