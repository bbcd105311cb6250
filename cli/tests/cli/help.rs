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
    for command in [
        "run", "create", "start", "ps", "logs", "exec", "attach", "stop", "kill", "rm", "inspect", "images",
        "wait", "version", "info", "doctor", "machine",
    ] {
        insta::assert_snapshot!(format!("help-{command}"), help(&[command]));
    }
    for command in ["init", "start", "stop", "status", "shell", "rm"] {
        insta::assert_snapshot!(format!("help-machine-{command}"), help(&["machine", command]));
    }
}
