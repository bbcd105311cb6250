//! The help texts.

use std::process::Command;

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_hull"))
        .args(arguments)
        .arg("--help")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_command_explains_itself() {
    insta::assert_snapshot!("help", help(&[]));
    let commands = [
        "attach",
        "build",
        "builder",
        "commit",
        "completion",
        "container",
        "context",
        "cp",
        "create",
        "diff",
        "doctor",
        "exec",
        "export",
        "history",
        "image",
        "images",
        "import",
        "info",
        "inspect",
        "kill",
        "load",
        "login",
        "logout",
        "logs",
        "machine",
        "manifest",
        "network",
        "port",
        "ps",
        "pull",
        "push",
        "rm",
        "rmi",
        "run",
        "save",
        "search",
        "start",
        "stop",
        "system",
        "tag",
        "version",
        "wait",
    ];
    for command in commands {
        insta::assert_snapshot!(format!("help-{command}"), help(&[command]));
    }
    for command in ["check", "df", "prune"] {
        insta::assert_snapshot!(format!("help-system-{command}"), help(&["system", command]));
    }
    for command in ["connect", "create", "disconnect", "inspect", "ls", "prune", "rm"] {
        insta::assert_snapshot!(format!("help-network-{command}"), help(&["network", command]));
    }
    for command in ["du", "prune"] {
        insta::assert_snapshot!(format!("help-builder-{command}"), help(&["builder", command]));
    }
    insta::assert_snapshot!("help-image-prune", help(&["image", "prune"]));
    insta::assert_snapshot!("help-manifest-inspect", help(&["manifest", "inspect"]));
    for command in ["init", "start", "stop", "status", "shell", "rm"] {
        insta::assert_snapshot!(format!("help-machine-{command}"), help(&["machine", command]));
    }
}
