//! `inspect`, `version` and `info`.

use crate::api::{Answer, Api, Request, refusal};
use crate::{hull, transcript};

const CONTAINER: &str = r#"{"Id":"0123456789abcdef","Created":"2026-11-20T17:00:00.5Z","Path":"sh",
"Args":["-c","echo \"x\" <&>"],"State":{"Status":"running","Running":true,"Pid":42},"Name":"/web","Mounts":[],
"HostConfig":{"Memory":536870912,"Binds":null},"Config":{"Env":["A=1","B=2"],"Labels":{"k":"v"}}}"#;

const IMAGE: &str = r#"{"Id":"sha256:abcdef","RepoTags":["localhost/busybox:latest"],"Size":1234567}"#;

const VERSION: &str = r#"{"Platform":{"Name":"hull"},"Components":[{"Name":"Engine","Version":"9.9.9"},
{"Name":"Guest kernel","Version":"6.12.0"}],"Version":"9.9.9","ApiVersion":"1.51","MinAPIVersion":"1.24",
"Os":"linux","Arch":"amd64","KernelVersion":"6.1.0"}"#;

const INFO: &str = r#"{"ID":"an-id","Containers":3,"ContainersRunning":2,"ContainersPaused":0,
"ContainersStopped":1,"Images":1,"Driver":"erofs","LoggingDriver":"json-file","CgroupDriver":"cgroupfs",
"CgroupVersion":"2","KernelVersion":"6.1.0","OperatingSystem":"Debian","OSType":"linux","Architecture":"x86_64",
"NCPU":2,"MemTotal":4114841600,"Name":"host","DockerRootDir":"/var/lib/hull","ServerVersion":"9.9.9",
"DefaultRuntime":"hull","LiveRestoreEnabled":true,"Warnings":["WARNING: something"]}"#;

fn answer(request: &Request) -> Answer {
    match request.line.as_str() {
        "GET /containers/web/json" => Answer::Json(200, CONTAINER.to_owned()),
        "GET /images/busybox/json" => Answer::Json(200, IMAGE.to_owned()),
        "GET /version" => Answer::Json(200, VERSION.to_owned()),
        "GET /info" => Answer::Json(200, INFO.to_owned()),
        _ => refusal(404, "no such thing"),
    }
}

fn golden(name: &str, arguments: &[&str]) {
    let output = hull(&Api::serve(answer), arguments).output().unwrap();
    insta::assert_snapshot!(name, transcript(&output));
}

#[test]
fn inspect_finds_containers_and_images_and_names_what_it_does_not_find() {
    golden("inspect", &["inspect", "web", "busybox", "nobody"]);
    golden("inspect-type", &["inspect", "--type", "image", "web"]);
}

#[test]
fn inspect_takes_templates() {
    golden(
        "inspect-template",
        &[
            "inspect",
            "-f",
            "{{.Name}} {{.State.Pid}} {{.Config.Env}} {{json .Config.Labels}}",
            "web",
        ],
    );
    golden(
        "inspect-range",
        &[
            "inspect",
            "-f",
            "{{range .Config.Env}}{{println .}}{{end}}",
            "web",
        ],
    );
    golden("inspect-missing", &["inspect", "-f", "{{.State.Nope}}", "web"]);
    golden("inspect-json", &["inspect", "-f", "json", "busybox"]);
}

#[test]
fn version_names_both_sides() {
    golden("version", &["version"]);
    golden(
        "version-template",
        &["version", "-f", "{{.Client.Version}} {{.Server.Version}}"],
    );
}

#[test]
fn info_describes_the_daemon() {
    let api = Api::serve(answer);
    let output = hull(&api, &["info"]).output().unwrap();
    insta::assert_snapshot!("info", transcript(&output).replace(&api.host(), "unix://SOCKET"));
    golden("info-template", &["info", "-f", "{{.NCPU}} {{.Driver}}"]);
}
