//! Tasks: the container's files, read, written and compared by the agent.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use guest_protocol::{
    Call, Change, ChangeKind, Namespaces, PathStat, ProcessId, Reply, StreamKind, Task, TaskFailure,
    UnpackSpec, read_frame,
};
use tar_stream::{Entry, EntryKind, Reader, Writer};

use crate::vm::{Outcome, Setup, Vm, base_layer, library, make_layer};

/// What a task wrote, and how it ended.
struct Done {
    stdout: Vec<u8>,
    outcome: Outcome,
}

fn start(vm: &mut Vm, task: Task) -> ProcessId {
    let id = vm.command(&[]).id;
    let started = vm.call(Call::StartTask { id, task });
    assert!(matches!(started, Ok(Reply::Started { .. })), "{started:?}");
    id
}

fn collect(vm: &mut Vm, id: ProcessId) -> Done {
    let stdout = vm.drain(id, StreamKind::Stdout);
    let stderr = vm.drain(id, StreamKind::Stderr);
    let code = vm.wait(id).code;
    let stderr = String::from_utf8_lossy(&stderr.join().unwrap()).into_owned();
    Done {
        stdout: stdout.join().unwrap(),
        outcome: Outcome {
            code,
            stdout: String::new(),
            stderr,
            oom_killed: false,
        },
    }
}

fn run(vm: &mut Vm, task: Task) -> Vec<u8> {
    let id = start(vm, task);
    let done = collect(vm, id);
    assert_eq!(done.outcome.code, 0, "{:?}", done.outcome);
    done.stdout
}

fn unpack(vm: &mut Vm, path: &str, archive: &[u8]) -> Done {
    let spec = UnpackSpec {
        path: path.into(),
        keep_kinds: true,
        owner: None,
    };
    let id = start(vm, Task::Write(spec));
    vm.feed(id, archive);
    collect(vm, id)
}

fn entries(archive: &[u8]) -> BTreeMap<String, (Entry, String)> {
    let mut reader = Reader::new(archive);
    let mut entries = BTreeMap::new();
    while let Some(entry) = reader.next().unwrap() {
        let mut content = String::new();
        if entry.size < 1 << 20 {
            reader.content(&entry).read_to_string(&mut content).unwrap();
        }
        let path = String::from_utf8(entry.path.clone()).unwrap();
        entries.insert(path, (entry, content));
    }
    entries
}

fn changes(vm: &mut Vm) -> Vec<(ChangeKind, String)> {
    let frames = run(vm, Task::Changes);
    let mut from = frames.as_slice();
    std::iter::from_fn(|| read_frame::<Change>(&mut from).unwrap())
        .map(|change| (change.kind, change.path))
        .collect()
}

/// Two layers, the upper one of which hides something of the lower.
fn two_layers(name: &str) -> Setup {
    let upper = make_layer(name, |root| {
        fs::create_dir_all(root.join("app/keep")).unwrap();
        fs::write(root.join("app/one"), "1").unwrap();
        fs::write(root.join("app/two"), "2").unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::write(root.join("etc/hosts"), "upper\n").unwrap();
    });
    Setup {
        disk: true,
        layers: vec![base_layer().to_path_buf(), upper],
        ..Setup::default()
    }
}

const SCRIPT: &str = "rm /app/one; rm -r /app/keep; mkdir /app/keep; echo new >/app/keep/new; chmod 600 /app/two; \
    rm -r /home; mkdir -p /home/bob; rm -r /evil; echo x >/evil; touch /added; mknod /added.dev c 1 3";

#[test]
fn changes_and_layer_tell_what_differs_from_all_layers_together() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(&library, &two_layers("changes"));
    let container = vm.container();
    vm.create(container);
    assert_eq!(changes(&mut vm), []);
    let script = vm.script(SCRIPT);
    assert_eq!(vm.run(&script).stderr, "");
    let (a, c, d) = (ChangeKind::Added, ChangeKind::Modified, ChangeKind::Deleted);
    let expected = [
        (a, "/added"),
        (a, "/added.dev"),
        (c, "/app"),
        (c, "/app/keep"),
        (a, "/app/keep/new"),
        (d, "/app/one"),
        (c, "/app/two"),
        (c, "/evil"),
        (c, "/home"),
        (d, "/home/alice"),
        (a, "/home/bob"),
    ];
    assert_eq!(
        changes(&mut vm),
        expected.map(|(kind, path)| (kind, path.to_owned()))
    );
    let layer = entries(&run(&mut vm, Task::Layer));
    let names: Vec<&str> = layer.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "added",
            "added.dev",
            "app/",
            "app/.wh.one",
            "app/keep/",
            "app/keep/.wh..wh..opq",
            "app/keep/new",
            "app/two",
            "evil",
            "home/",
            "home/.wh..wh..opq",
            "home/bob/"
        ]
    );
    assert!(matches!(layer["added.dev"].0.kind, EntryKind::CharDevice(_)));
    assert_eq!(
        (layer["app/two"].0.mode, layer["app/two"].1.as_str()),
        (0o600, "2")
    );
    let export = entries(&run(&mut vm, Task::Export));
    assert!(!export.contains_key("app/one") && export.contains_key("home/bob/"));
    assert_eq!(export["etc/hosts"].1, "upper\n");
}

#[test]
fn files_go_in_and_out_before_during_and_after_the_container_runs() {
    let Some(library) = library() else { return };
    let setup = Setup {
        disk: true,
        ..Setup::default()
    };
    let mut vm = Vm::boot(&library, &setup);
    let container = vm.container();
    vm.create(container);
    let mut writer = Writer::new(Vec::new());
    let mut file = Entry::new("made/by/archive", EntryKind::Regular);
    (file.mode, file.uid, file.gid, file.size) = (0o4751, 1000, 1001, 5);
    file.mtime.seconds = 1_000_000_000;
    writer.begin(&file).unwrap();
    writer.write(b"hello").unwrap();
    let archive = writer.finish().unwrap();
    assert_eq!(unpack(&mut vm, "/home", &archive).outcome.code, 0);
    let script =
        vm.script("stat -c '%a %u %g %Y' /home/made/by/archive; stat -c '%a %u' /home/made; sleep 1000");
    vm.start(&script);
    let running = unpack(&mut vm, "/tmp", &archive);
    assert_eq!(running.outcome.code, 0, "{:?}", running.outcome);
    for path in ["/home/made/by/archive", "/tmp/made/by/archive"] {
        let read = run(&mut vm, Task::Read { path: path.into() });
        let mut rest = read.as_slice();
        let stat: PathStat = read_frame(&mut rest).unwrap().unwrap();
        assert_eq!(
            (stat.name.as_str(), stat.size, stat.mode),
            ("archive", 5, 0o104_751)
        );
        let found = entries(rest);
        assert_eq!(found["archive"].1, "hello");
        assert_eq!(
            (found["archive"].0.uid, found["archive"].0.mtime.seconds),
            (1000, 1_000_000_000)
        );
    }
    assert_eq!(
        vm.call(Call::Signal {
            process: script.id,
            signal: 9
        }),
        Ok(Reply::Done)
    );
    assert_eq!(vm.collect(&script).stdout, "4751 1000 1001 1000000000\n755 0\n");
    assert_eq!(unpack(&mut vm, "/run", &archive).outcome.code, 0);
    assert_eq!(vm.call(Call::Sync), Ok(Reply::Done));
    vm.kill();
    vm.check_disk();
}

#[test]
fn failures_are_told_apart() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(&library, &Setup::default());
    let mut container = vm.container();
    container.rootfs.read_only = true;
    vm.create(container);
    for (path, failure) in [
        ("/nothing", TaskFailure::NotFound),
        ("/etc/passwd", TaskFailure::Invalid),
        ("/tmp", TaskFailure::ReadOnly),
    ] {
        let id = start(
            &mut vm,
            Task::Write(UnpackSpec {
                path: path.into(),
                keep_kinds: false,
                owner: None,
            }),
        );
        let _ = vm.stream(id, StreamKind::Stdin, 0);
        let outcome = collect(&mut vm, id).outcome;
        assert_eq!(
            TaskFailure::from_code(outcome.code),
            failure,
            "{path}: {outcome:?}"
        );
        assert_ne!(outcome.stderr, "");
    }
    for path in ["/nothing", "/evil/upward/nothing"] {
        let id = start(&mut vm, Task::Stat { path: path.into() });
        let code = collect(&mut vm, id).outcome.code;
        assert_eq!(TaskFailure::from_code(code), TaskFailure::NotFound, "{path}");
    }
    let stat = run(
        &mut vm,
        Task::Stat {
            path: "/evil/upward".into(),
        },
    );
    let stat: PathStat = read_frame(&mut stat.as_slice()).unwrap().unwrap();
    assert_eq!(stat.link_target, "/run");
}

#[test]
fn in_a_user_namespace_owners_are_the_containers() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(&library, &Setup::default());
    let mut container = vm.container();
    container.namespaces = Namespaces {
        user: true,
        ..Namespaces::default()
    };
    vm.create(container);
    let script = vm.script("echo x >/tmp/mine; chown 7:8 /tmp/mine; echo done; sleep 1000");
    vm.start(&script);
    vm.expect(script.id, "done\n");
    let mut writer = Writer::new(Vec::new());
    let mut entry = Entry::new("theirs", EntryKind::Directory);
    (entry.mode, entry.uid, entry.gid) = (0o700, 9, 10);
    writer.begin(&entry).unwrap();
    let archive = writer.finish().unwrap();
    assert_eq!(unpack(&mut vm, "/home", &archive).outcome.code, 0);
    let look = vm.script("stat -c '%u %g' /home/theirs");
    assert_eq!(vm.run(&look).stdout, "9 10\n");
    let export = entries(&run(&mut vm, Task::Export));
    assert_eq!((export["tmp/mine"].0.uid, export["tmp/mine"].0.gid), (7, 8));
    assert_eq!((export["etc/passwd"].0.uid, export["home/theirs/"].0.uid), (0, 9));
}

#[test]
fn a_task_that_nobody_reads_ends_with_the_connection_or_with_the_disk() {
    let Some(library) = library() else { return };
    let setup = Setup {
        disk: true,
        ..Setup::default()
    };
    let mut vm = Vm::boot(&library, &setup);
    let container = vm.container();
    vm.create(container);
    let first = start(&mut vm, Task::Export);
    drop(vm.reconnect());
    match vm.call(Call::State) {
        Ok(Reply::State(processes)) => assert!(processes.iter().all(|process| process.id != first)),
        other => panic!("{other:?}"),
    }
    start(&mut vm, Task::Export);
    assert_eq!(vm.call(Call::Sync), Ok(Reply::Done));
    vm.kill();
    vm.check_disk();
}
