//! Bytes between the standard streams and the API.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::api::{Answer, Api, Request, piece, refusal};
use crate::hull;

/// An API with one container: `session` is at the other end of its streams, and what it returns
/// is the exit code.
fn container(session: impl FnOnce(UnixStream) -> u8 + Send + 'static) -> Api {
    let (exited, exit) = channel();
    let session = Mutex::new(Some((session, exited)));
    let exit = Mutex::new(Some(exit));
    Api::serve(
        move |request: &Request| match request.line.split('?').next().unwrap() {
            "POST /containers/create" => {
                Answer::Json(201, r#"{"Id":"cafe","Warnings":["careful"]}"#.to_owned())
            }
            "POST /containers/cafe/attach" => {
                let (session, exited) = session.lock().unwrap().take().expect("attached once");
                Answer::Hijack(Box::new(move |stream| exited.send(session(stream)).unwrap()))
            }
            "POST /containers/cafe/wait" => {
                let exit = exit.lock().unwrap().take().expect("waited for once");
                Answer::Later(Box::new(move || {
                    format!("{{\"StatusCode\":{}}}", exit.recv().unwrap())
                }))
            }
            "POST /containers/cafe/start" | "POST /containers/cafe/kill" => Answer::Json(204, String::new()),
            line => panic!("{line}"),
        },
    )
}

fn spawn(api: &Api, arguments: &[&str]) -> Child {
    hull(api, arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(api: &Api, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = spawn(api, arguments);
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn input_and_both_outputs_are_joined_and_the_exit_code_is_the_containers() {
    let api = container(|mut stream| {
        let mut input = Vec::new();
        // The end of the input is seen while the output is still open.
        stream.read_to_end(&mut input).unwrap();
        input.make_ascii_uppercase();
        stream.write_all(&piece(1, &input)).unwrap();
        stream.write_all(&piece(2, b"on error")).unwrap();
        42
    });
    let output = run(&api, &["run", "-i", "busybox"], b"hello");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "HELLO");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "WARNING: careful\non error"
    );
    assert_eq!(output.status.code(), Some(42));
}

#[test]
fn the_order_is_create_then_attach_and_wait_then_start() {
    let api = container(|_| 0);
    assert!(run(&api, &["run", "--rm", "busybox"], b"").status.success());
    let mut lines: Vec<String> = api.requests().into_iter().map(|request| request.line).collect();
    lines[1..3].sort();
    assert_eq!(
        lines,
        [
            "POST /containers/create",
            "POST /containers/cafe/attach?stream=1&stdout=1&stderr=1&detachKeys=ctrl-p%2Cctrl-q",
            "POST /containers/cafe/wait?condition=removed",
            "POST /containers/cafe/start",
        ]
    );
}

#[test]
fn a_hundred_megabytes_arrive_byte_for_byte() {
    const PIECE: usize = 100_003;
    const PIECES: usize = 1000;
    let bytes = |number: usize| -> Vec<u8> { (0..PIECE).map(|at| (at * 31 + number) as u8).collect() };
    let api = container(move |mut stream| {
        for number in 0..PIECES {
            stream.write_all(&piece(1, &bytes(number))).unwrap();
        }
        0
    });
    let mut child = spawn(&api, &["run", "busybox"]);
    let mut stdout = child.stdout.take().unwrap();
    let mut received = vec![0; PIECE];
    for number in 0..PIECES {
        stdout.read_exact(&mut received).unwrap();
        assert!(received == bytes(number), "piece {number} differs");
    }
    assert_eq!(stdout.read(&mut received).unwrap(), 0);
    assert!(child.wait().unwrap().success());
}

#[test]
fn signals_reach_the_container() {
    let (stop, stopped) = channel();
    let api = container(move |mut stream| {
        stream.write_all(&piece(1, b"ready")).unwrap();
        stopped.recv().unwrap();
        143
    });
    let mut child = spawn(&api, &["run", "busybox"]);
    let mut ready = [0; 5];
    child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    while !api
        .request_lines()
        .contains(&"POST /containers/cafe/kill?signal=SIGTERM".to_owned())
    {
        std::thread::yield_now();
    }
    stop.send(()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
}

#[test]
fn without_a_proxy_a_signal_ends_the_command_line_only() {
    let (stop, stopped) = channel::<()>();
    let api = container(move |mut stream| {
        stream.write_all(&piece(1, b"ready")).unwrap();
        let _ = stopped.recv();
        0
    });
    let mut child = spawn(&api, &["run", "--sig-proxy=false", "busybox"]);
    let mut ready = [0; 5];
    child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(15));
    drop(stop);
    assert!(!api.request_lines().iter().any(|line| line.contains("/kill")));
}

#[test]
fn a_reader_that_goes_away_ends_the_command_line_as_its_signal_would() {
    let api = container(|mut stream| {
        while stream.write_all(&piece(1, &[b'y'; 65536])).is_ok() {}
        0
    });
    let mut child = spawn(&api, &["run", "busybox"]);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(141));
}

#[test]
fn a_stream_cut_in_the_middle_is_an_error() {
    let api = container(|mut stream| {
        stream.write_all(&piece(1, b"hello")[..10]).unwrap();
        0
    });
    let output = run(&api, &["run", "busybox"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("in the middle of a piece"),
        "{output:?}"
    );
}

#[test]
fn logs_are_split_as_their_media_type_says() {
    for (media_type, body, stdout, stderr) in [
        (
            "application/vnd.docker.multiplexed-stream",
            [piece(1, b"out\n"), piece(2, b"err\n")].concat(),
            "out\n",
            "err\n",
        ),
        (
            "application/vnd.docker.raw-stream",
            b"\x01raw\r\n".to_vec(),
            "\x01raw\r\n",
            "",
        ),
    ] {
        let api = Api::serve(move |_| Answer::Stream(media_type, body.clone()));
        let output = run(
            &api,
            &["logs", "-t", "--tail", "5", "--since", "1700000000", "web"],
            b"",
        );
        assert_eq!(String::from_utf8_lossy(&output.stdout), stdout);
        assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
        assert_eq!(
            api.request_lines(),
            ["GET /containers/web/logs?stdout=1&stderr=1&timestamps=1&tail=5&since=1700000000"]
        );
    }
}

#[test]
fn exec_sends_its_options_and_takes_the_exit_code_from_its_end() {
    let api = Api::serve(|request| match request.line.as_str() {
        "POST /containers/web/exec" => Answer::Json(201, r#"{"Id":"e1"}"#.to_owned()),
        "POST /exec/e1/start" => Answer::Hijack(Box::new(|mut stream| {
            let mut input = Vec::new();
            stream.read_to_end(&mut input).unwrap();
            stream.write_all(&piece(1, &input)).unwrap();
        })),
        "GET /exec/e1/json" => Answer::Json(200, r#"{"ExitCode":7,"Running":false}"#.to_owned()),
        _ => refusal(500, "unexpected"),
    });
    let arguments = [
        "exec", "-i", "-e", "A=1", "-w", "/w", "-u", "1", "web", "cat", "-u",
    ];
    let output = run(&api, &arguments, b"through");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "through");
    assert_eq!(output.status.code(), Some(7));
    let body: serde_json::Value = serde_json::from_slice(&api.requests()[0].body).unwrap();
    for (field, expected) in [
        ("AttachStdin", serde_json::json!(true)),
        ("Cmd", serde_json::json!(["cat", "-u"])),
        ("Env", serde_json::json!(["A=1"])),
        ("User", serde_json::json!("1")),
        ("WorkingDir", serde_json::json!("/w")),
    ] {
        assert_eq!(body[field], expected, "{field}");
    }
}
