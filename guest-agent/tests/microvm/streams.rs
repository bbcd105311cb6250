//! Streams and control connections that break, flood and wait.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use guest_protocol::{Call, Message, Reply, STREAM_WINDOW, StreamKind, StreamReply};

use crate::vm::{Setup, Vm, library};

fn boot() -> Option<Vm> {
    let mut vm = Vm::boot(&library()?, &Setup::default());
    vm.create(vm.container());
    Some(vm)
}

#[test]
fn stdin_reaches_the_process_and_both_outputs_come_back() {
    let Some(mut vm) = boot() else { return };
    let mut spec = vm.script("cat; echo done >&2");
    spec.stdin = true;
    vm.start(&spec);
    vm.feed(spec.id, b"hello\n");
    let outcome = vm.collect(&spec);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("hello\n", "done\n")
    );
}

#[test]
fn without_a_stdin_the_process_reads_end_of_file() {
    let Some(mut vm) = boot() else { return };
    let spec = vm.script("cat; echo over");
    assert_eq!(vm.run(&spec).stdout, "over\n");
    let (reply, _) = vm.stream(spec.id, StreamKind::Stdin, 0);
    assert!(matches!(reply, StreamReply::Refused(_)));
    let (reply, _) = vm.stream(99, StreamKind::Stdout, 0);
    assert_eq!(reply, StreamReply::Refused("there is no process 99".into()));
}

#[test]
fn a_hundred_megabytes_arrive_byte_for_byte() {
    let Some(mut vm) = boot() else { return };
    let spec = vm.script("yes 0123456789abcde | head -c 104857600");
    vm.start(&spec);
    let began = Instant::now();
    let bytes = vm.drain(spec.id, StreamKind::Stdout).join().unwrap();
    eprintln!("100 MiB in {:?}", began.elapsed());
    assert_eq!(bytes.len(), 100 << 20);
    assert!(bytes.chunks(16).all(|line| line == b"0123456789abcde\n"));
}

#[test]
fn much_input_arrives_byte_for_byte() {
    let Some(mut vm) = boot() else { return };
    let mut spec = vm.script("md5sum");
    spec.stdin = true;
    vm.start(&spec);
    let bytes: Vec<u8> = (0..10u32 << 20).map(|index| (index % 251) as u8).collect();
    vm.feed(spec.id, &bytes);
    let mut expected = std::process::Command::new("md5sum")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    expected.stdin.take().unwrap().write_all(&bytes).unwrap();
    let expected = String::from_utf8(expected.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(vm.collect(&spec).stdout, expected);
}

#[test]
fn a_stream_goes_on_over_broken_connections() {
    let Some(mut vm) = boot() else { return };
    let spec = vm.script("seq 1 60000");
    vm.start(&spec);
    let expected: String = (1..=60000).map(|number| format!("{number}\n")).collect();
    let mut received = Vec::new();
    let mut buffer = vec![0; 30_000];
    let mut ended = false;
    while !ended {
        let (reply, mut connection) = vm.stream(spec.id, StreamKind::Stdout, received.len() as u64);
        assert_eq!(reply, StreamReply::Ready);
        for _ in 0..3 {
            let count = connection.read(&mut buffer).unwrap();
            ended = count == 0;
            received.extend_from_slice(&buffer[..count]);
        }
        let _ = connection.write_all(&(received.len() as u64 / 2).to_le_bytes());
    }
    assert_eq!(String::from_utf8(received).unwrap(), expected);
    let (reply, _) = vm.stream(spec.id, StreamKind::Stdout, 1);
    assert!(matches!(reply, StreamReply::Refused(_)));
}

#[test]
fn a_flood_that_nobody_reads_waits_and_holds_up_nobody() {
    let Some(mut vm) = boot() else { return };
    let init = vm.command(&["yes"]);
    vm.start(&init);
    // A connection that neither reads nor acknowledges.
    let (_, silent) = vm.stream(init.id, StreamKind::Stdout, 0);
    let spec = vm.script("echo fine");
    assert_eq!(vm.run(&spec).stdout, "fine\n");
    let mut agent = vm.script("cat /proc/1/stat >/dev/null; sleep 1");
    agent.init = false;
    vm.run(&agent);
    drop(silent);
    let (reply, mut connection) = vm.stream(init.id, StreamKind::Stdout, 0);
    assert_eq!(
        reply,
        StreamReply::Ready,
        "nothing was acknowledged, so everything is kept"
    );
    let mut window = vec![0; STREAM_WINDOW as usize];
    connection.read_exact(&mut window).unwrap();
    assert!(window.chunks(2).all(|line| line == b"y\n"));
    connection
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    assert!(connection.read(&mut [0]).is_err(), "the window is full");
    connection.write_all(&STREAM_WINDOW.to_le_bytes()).unwrap();
    connection.read_exact(&mut window).unwrap();
    assert_eq!(
        vm.call(Call::Signal {
            process: init.id,
            signal: 9
        }),
        Ok(Reply::Done)
    );
    assert_eq!(vm.wait(init.id).code, 137);
}

#[test]
fn a_broken_stdin_is_no_end_of_file() {
    let Some(mut vm) = boot() else { return };
    let mut spec = vm.command(&["cat"]);
    spec.stdin = true;
    vm.start(&spec);
    let (_, mut first) = vm.stream(spec.id, StreamKind::Stdin, 0);
    first.write_all(b"one ").unwrap();
    let (_, mut stdout) = vm.stream(spec.id, StreamKind::Stdout, 0);
    stdout.read_exact(&mut [0; 4]).unwrap();
    drop(first);
    std::thread::sleep(Duration::from_millis(300));
    let (reply, mut second) = vm.stream(spec.id, StreamKind::Stdin, 0);
    assert_eq!(reply, StreamReply::Ready);
    second.write_all(b"two").unwrap();
    second.shutdown(std::net::Shutdown::Write).unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "two");
    assert_eq!(vm.wait(spec.id).code, 0);
}

#[test]
fn a_host_that_comes_back_learns_what_it_missed() {
    let Some(mut vm) = boot() else { return };
    let spec = vm.script("read x; exit 4");
    vm.start(&spec);
    drop(vm.reconnect());
    let old = vm.reconnect();
    let mut again = vm.script("true");
    again.id = spec.id;
    let error = vm.call(Call::StartProcess(Box::new(again))).unwrap_err();
    assert_eq!(error.message, "there is a process 1 already");
    let Ok(Reply::State(states)) = vm.call(Call::State) else {
        panic!()
    };
    assert_eq!((states[0].id, states.len()), (spec.id, 1));
    drop(old);
    assert!(
        matches!(vm.call(Call::State), Ok(Reply::State(_))),
        "the old connection's end disturbed the new one"
    );
}

#[test]
fn requests_may_be_sent_ahead() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(&library, &Setup::default());
    let (container, spec) = (vm.container(), vm.script("sleep 1000"));
    let began = Instant::now();
    vm.send(Call::CreateContainer(Box::new(container)));
    vm.send(Call::StartProcess(Box::new(spec.clone())));
    vm.send(Call::Signal {
        process: spec.id,
        signal: 9,
    });
    for id in 1..=3 {
        let Message::Response { id: answered, result } = vm.receive() else {
            panic!("an event came too early")
        };
        assert_eq!(answered, id);
        result.unwrap();
        eprintln!("answer {id} after {:?}", began.elapsed());
    }
    assert_eq!(vm.wait(spec.id).code, 137);
}
