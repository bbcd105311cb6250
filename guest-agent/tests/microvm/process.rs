//! Processes: identity, exit codes, errors, exec, signals.

use std::io::{Read, Write};

use guest_protocol::{Call, CallError, ErrorKind, Limits, Reply, Rlimit, StreamKind, WindowSize};

use crate::vm::{Setup, Vm, library};

fn boot() -> Option<Vm> {
    let mut vm = Vm::boot(&library()?, &Setup::default());
    vm.create(vm.container());
    Some(vm)
}

#[test]
fn the_command_is_pid_1_alone_with_its_own_names() {
    let Some(mut vm) = boot() else { return };
    let script = "echo $$; hostname; cat /proc/1/cgroup; echo /proc/[0-9]*; id; pwd; echo $HOME";
    let spec = vm.script(script);
    let outcome = vm.run(&spec);
    assert_eq!(outcome.stderr, "");
    assert_eq!(outcome.code, 0);
    let expected = "1\nbox\n0::/\n/proc/1\nuid=0(root) gid=0(root) groups=0(root),10(wheel)\n/\n/root\n";
    assert_eq!(outcome.stdout, expected);
}

#[test]
fn an_exec_joins_the_container_and_may_be_someone_else() {
    let Some(mut vm) = boot() else { return };
    let init = vm.script("echo started; trap 'exit 7' TERM; while :; do sleep 0.05; done");
    vm.start(&init);
    let mut exec =
        vm.script("id; echo $HOME; pwd; hostname; tr '\\0' ' ' </proc/1/cmdline; cat /proc/self/cgroup");
    exec.user = "alice".into();
    exec.cwd = "/etc".into();
    let outcome = vm.run(&exec);
    assert_eq!(outcome.stderr, "");
    assert!(
        outcome.stdout.starts_with(
            "uid=1000(alice) gid=1001(alice) groups=29(audio),1001(alice)\n/home/alice\n/etc\nbox\n/bin/sh -c"
        ),
        "{}",
        outcome.stdout
    );
    assert!(outcome.stdout.ends_with("0::/\n"));
    // The agent joins pid namespaces by a detour of its own; it must have come back from it.
    let second = vm.script("exit 9");
    assert_eq!(vm.run(&second).code, 9);
    let third = vm.script("sleep 1000");
    vm.start(&third);
    assert_eq!(
        vm.call(Call::Signal {
            process: init.id,
            signal: 15
        }),
        Ok(Reply::Done)
    );
    assert_eq!(vm.wait(init.id).code, 7);
    assert_eq!(vm.wait(third.id).code, 137, "the end of init is the end of all");
    let error = vm
        .call(Call::Signal {
            process: init.id,
            signal: 15,
        })
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotFound);
    let late = vm.script("true");
    let error = vm.call(Call::StartProcess(Box::new(late))).unwrap_err();
    assert_eq!(error.message, "the container has ended");
    let Ok(Reply::State(states)) = vm.call(Call::State) else {
        panic!()
    };
    assert_eq!(states.len(), 4);
    assert_eq!(vm.call(Call::Forget { process: init.id }), Ok(Reply::Done));
    let Ok(Reply::State(states)) = vm.call(Call::State) else {
        panic!()
    };
    assert_eq!(states.len(), 3);
}

#[test]
fn commands_that_cannot_be_run_say_why_and_leave_the_container_startable() {
    let Some(mut vm) = boot() else { return };
    let cases = [
        (
            "nothing",
            ErrorKind::CommandNotFound,
            "exec: \"nothing\": executable file not found in $PATH",
        ),
        (
            "/bin/nothing",
            ErrorKind::CommandNotFound,
            "exec: \"/bin/nothing\": stat /bin/nothing: no such file or directory",
        ),
        (
            "/etc",
            ErrorKind::CommandNotExecutable,
            "exec: \"/etc\": is a directory",
        ),
        (
            "/etc/not-executable",
            ErrorKind::CommandNotExecutable,
            "exec: \"/etc/not-executable\": permission denied",
        ),
        (
            "/evil/lost-interpreter",
            ErrorKind::CommandNotFound,
            "exec /evil/lost-interpreter: no such file or directory",
        ),
        (
            "/evil/not-a-program",
            ErrorKind::CommandNotExecutable,
            "exec /evil/not-a-program: exec format error",
        ),
    ];
    for (command, kind, message) in cases {
        let spec = vm.command(&[command]);
        let expected = CallError {
            kind,
            message: message.into(),
        };
        assert_eq!(vm.call(Call::StartProcess(Box::new(spec))), Err(expected));
    }
    let mut spec = vm.script("true");
    spec.user = "bob".into();
    let error = vm.call(Call::StartProcess(Box::new(spec))).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSuchUser);
    assert_eq!(
        error.message,
        "unable to find user bob: no matching entries in passwd file"
    );
    let spec = vm.script("echo $$");
    assert_eq!(vm.run(&spec).stdout, "1\n");
}

#[test]
fn privileges_are_those_that_were_given() {
    let Some(mut vm) = boot() else { return };
    let init = vm.script("sleep 1000");
    vm.start(&init);
    let status = [
        "grep",
        "-E",
        "^(Cap|NoNewPrivs|Seccomp:|Sig(Blk|Ign))",
        "/proc/self/status",
    ];
    let root = vm.command(&status);
    let outcome = vm.run(&root);
    let fields = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nCapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n";
    assert_eq!(outcome.stdout, fields);
    let mut user = vm.command(&status);
    user.user = "1000".into();
    user.no_new_privileges = true;
    let outcome = vm.run(&user);
    let fields = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nCapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    assert_eq!(outcome.stdout, fields);
    let mut limited = vm.script("ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; umask");
    limited.rlimits = vec![Rlimit {
        name: "nofile".into(),
        soft: 123,
        hard: 456,
    }];
    limited.oom_score_adj = 77;
    assert_eq!(vm.run(&limited).stdout, "123\n456\n77\n0022\n");
    let forbidden = vm.script("unshare -m true; mount -t tmpfs x /tmp; dmesg >/dev/null; :");
    let outcome = vm.run(&forbidden);
    assert_eq!(
        outcome.stderr.matches("not permitted").count(),
        2,
        "{}",
        outcome.stderr
    );
}

#[test]
fn a_minimal_init_reaps_forwards_and_ends_as_the_command() {
    let Some(mut vm) = boot() else { return };
    // The grandchild is orphaned and becomes a zombie of PID 1.
    let script = "(sleep 0.1 & echo $$ >/tmp/x); trap 'exit 5' USR1; echo up; while :; do sleep 0.05; done";
    let mut spec = vm.script(script);
    spec.init = true;
    vm.start(&spec);
    let probe =
        vm.script("sleep 0.5; cat /proc/1/comm; cat /proc/2/comm; grep -l 'State:.Z' /proc/[0-9]*/status");
    let outcome = vm.run(&probe);
    assert!(outcome.stdout.starts_with("init\nsh\n"), "{outcome:?}");
    assert!(!outcome.stdout.contains("status"), "zombies: {outcome:?}");
    assert_eq!(
        vm.call(Call::Signal {
            process: spec.id,
            signal: 10
        }),
        Ok(Reply::Done)
    );
    assert_eq!(vm.collect(&spec).code, 5);
}

#[test]
fn a_terminal_has_a_size_a_session_and_a_name() {
    let Some(mut vm) = boot() else { return };
    let mut spec = vm.script("tty; stty size; ls -l /dev/console | cut -c1; trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done");
    spec.terminal = Some(WindowSize {
        rows: 24,
        columns: 80,
    });
    spec.stdin = true;
    vm.start(&spec);
    let (_, mut stdout) = vm.stream(spec.id, StreamKind::Stdout, 0);
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("ready") {
        let mut buffer = [0; 256];
        let count = stdout.read(&mut buffer).unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(
        String::from_utf8_lossy(&seen),
        "/dev/pts/0\r\n24 80\r\nc\r\nready\r\n"
    );
    let size = WindowSize {
        rows: 50,
        columns: 132,
    };
    assert_eq!(
        vm.call(Call::Resize {
            process: spec.id,
            size
        }),
        Ok(Reply::Done)
    );
    assert_eq!(vm.wait(spec.id).code, 3);
    let mut exec = vm.script("true");
    exec.terminal = Some(size);
    assert!(
        vm.call(Call::StartProcess(Box::new(exec))).is_err(),
        "the container has ended"
    );
}

#[test]
fn ctrl_c_on_the_terminal_interrupts_the_command() {
    let Some(mut vm) = boot() else { return };
    let init = vm.script("sleep 1000");
    vm.start(&init);
    let mut spec = vm.command(&["cat"]);
    spec.terminal = Some(WindowSize {
        rows: 24,
        columns: 80,
    });
    spec.stdin = true;
    vm.start(&spec);
    let (_, mut stdin) = vm.stream(spec.id, StreamKind::Stdin, 0);
    let (_, mut stdout) = vm.stream(spec.id, StreamKind::Stdout, 0);
    stdin.write_all(b"hi\n").unwrap();
    let mut echoed = [0; 8];
    stdout.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"hi\r\nhi\r\n");
    stdin.write_all(b"\x03").unwrap();
    assert_eq!(vm.wait(spec.id).code, 130);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "^C");
}

#[test]
fn limits_hold_and_an_out_of_memory_kill_is_told() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(&library, &Setup::default());
    let mut container = vm.container();
    container.limits = Limits {
        memory_bytes: Some(24 << 20),
        memory_low_bytes: Some(1 << 20),
        pids: Some(8),
        cpu_quota_us: Some(90_000),
        cpu_weight: Some(50),
        cpus: Some(1),
    };
    vm.create(container);
    let init = vm.script("sleep 1000");
    vm.start(&init);
    let limits =
        vm.script("cd /sys/fs/cgroup; cat memory.max memory.low pids.max cpu.max cpu.weight; touch x");
    let outcome = vm.run(&limits);
    assert_eq!(outcome.stdout, "25165824\n1048576\n8\n90000 100000\n50\n");
    assert!(outcome.stderr.contains("Read-only"), "{}", outcome.stderr);
    let hog = vm.script("tail /dev/zero");
    let outcome = vm.run(&hog);
    assert_eq!((outcome.code, outcome.oom_killed), (137, true));
    let bomb = vm.script("for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done");
    assert!(vm.run(&bomb).stderr.contains("can't fork"), "pids.max");
    let fine = vm.script("true");
    let outcome = vm.run(&fine);
    assert_eq!((outcome.code, outcome.oom_killed), (0, false));
}
