//! The container: layers, disk, mounts, what is hidden.

use std::fs;

use guest_protocol::{Call, File, Mount, MountSource, Namespaces, Reply, TmpfsFlags};

use crate::vm::{Setup, Vm, base_layer, library, make_layer};

fn shared(target: &str, path: &str, read_only: bool) -> Mount {
    let source = MountSource::Shared {
        tag: "folders".into(),
        path: path.into(),
    };
    Mount {
        target: target.into(),
        source,
        read_only,
    }
}

fn tmpfs(target: &str, options: &str) -> Mount {
    let flags = TmpfsFlags {
        no_exec: true,
        no_suid: true,
        no_dev: true,
    };
    Mount {
        target: target.into(),
        source: MountSource::Tmpfs {
            options: options.into(),
            flags,
        },
        read_only: false,
    }
}

#[test]
fn standard_file_systems_are_where_docker_has_them() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(&library, &Setup::default());
    let mut container = vm.container();
    container.masked_paths = ["/proc/keys", "/proc/timer_list", "/sys/firmware", "/proc/nothing"]
        .map(Into::into)
        .into();
    container.read_only_paths = ["/proc/sys", "/proc/irq"].map(Into::into).into();
    container.sysctls = vec![
        ("kernel.shmmni".into(), "77".into()),
        ("net/ipv4/ip_forward".into(), "1".into()),
    ];
    vm.create(container);
    let script = "awk '{print $2, $3, $4}' /proc/mounts; ls /dev; cat /proc/keys; cat /proc/sys/kernel/shmmni; \
        cat /proc/sys/net/ipv4/ip_forward; (echo 1 >/proc/sys/kernel/shmmni) 2>&1; ls / | tr '\\n' ' '; \
        echo x >/dev/stdout; ip addr show lo | grep -c 127.0.0.1";
    let spec = vm.script(script);
    let outcome = vm.run(&spec);
    assert_eq!(outcome.stderr, "");
    let out = outcome.stdout;
    for line in [
        "/ overlay rw,",
        "/proc proc rw,nosuid,nodev,noexec,relatime",
        "/dev tmpfs rw,nosuid",
        "/dev/pts devpts rw,nosuid,noexec,relatime,gid=5,mode=620,ptmxmode=666",
        "/dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=65536k",
        "/dev/mqueue mqueue rw,nosuid,nodev,noexec",
        "/sys sysfs ro,nosuid,nodev,noexec",
        "/sys/fs/cgroup cgroup2 ro,nosuid,nodev,noexec",
        "/proc/sys proc ro,nosuid,nodev,noexec",
        "/proc/keys tmpfs",
        "core\nfd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n77\n1\n",
        "Read-only file system\n",
        "bin dev etc evil home proc run sys tmp x\n1\n",
    ] {
        assert!(out.contains(line), "no {line:?} in:\n{out}");
    }
    assert!(
        !out.contains("virtiofs") && !out.contains("\n/run"),
        "the agent's mounts show:\n{out}"
    );
}

#[test]
fn mounts_and_files_land_inside_however_the_image_bends_its_links() {
    let Some(library) = library() else { return };
    let folder = std::env::temp_dir().join(format!("agent-folder-{}", std::process::id()));
    fs::create_dir_all(folder.join("below")).unwrap();
    fs::write(folder.join("file"), "from the host\n").unwrap();
    let setup = Setup {
        folders: vec![("data", folder.clone())],
        ..Setup::default()
    };
    let mut vm = Vm::boot(&library, &setup);
    let mut container = vm.container();
    container.mounts = vec![
        shared("/data", "data", false),
        shared("/frozen", "data", true),
        shared("/deep/down/file", "data/file", false),
        shared("/evil/upward/inside", "data/below", false),
        tmpfs("/data/below", "size=1m,mode=1777"),
    ];
    container.files = vec![File {
        target: "/etc/hosts".into(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        content: b"given\n".to_vec(),
    }];
    vm.create(container);
    let script = "cat /data/file /deep/down/file /etc/hosts; echo changed >/data/new; (echo x >/frozen/y) 2>&1; \
        ls -d /run/inside; stat -c %a /data/below; df -k /data/below | awk 'NR==2 {print $2}'; ls /run";
    let spec = vm.script(script);
    let outcome = vm.run(&spec);
    assert_eq!(outcome.stderr, "");
    let expected = "from the host\nfrom the host\ngiven\n/bin/sh: can't create /frozen/y: Read-only file system\n\
        /run/inside\n1777\n1024\ninside\n";
    assert_eq!(outcome.stdout, expected);
    assert_eq!(fs::read_to_string(folder.join("new")).unwrap(), "changed\n");
    fs::remove_dir_all(folder).unwrap();

    let mut vm = Vm::boot(&library, &Setup::default());
    let mut container = vm.container();
    container.mounts = vec![tmpfs("/evil/magic/x", "")];
    vm.create(container);
    let spec = vm.script("true");
    let error = vm.call(Call::StartProcess(Box::new(spec))).unwrap_err();
    assert!(error.message.contains("/evil/magic/x"), "{}", error.message);
}

#[test]
fn what_is_written_to_the_disk_is_there_after_a_sync_and_a_kill() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(
        &library,
        &Setup {
            disk: true,
            ..Setup::default()
        },
    );
    vm.create(vm.container());
    let spec = vm.script("echo kept >/etc/note; rm /etc/hosts; chown 5:6 /tmp; echo done; sleep 1000");
    vm.start(&spec);
    vm.expect(spec.id, "done\n");
    assert_eq!(
        vm.call(Call::Sync).unwrap_err().message,
        "the container is still running"
    );
    vm.call(Call::Signal {
        process: spec.id,
        signal: 9,
    })
    .unwrap();
    vm.wait(spec.id);
    assert_eq!(vm.call(Call::Sync), Ok(Reply::Done));
    vm.kill();
    vm.check_disk();
    let list = |path: &str| {
        let output = std::process::Command::new("debugfs")
            .args(["-R", path])
            .arg(vm.disk())
            .output()
            .unwrap()
            .stdout;
        String::from_utf8_lossy(&output).into_owned()
    };
    assert_eq!(list("cat /upper/etc/note"), "kept\n");
    assert!(list("stat /upper/etc/hosts").contains("Type: character special"));
    assert!(list("stat /upper/tmp").contains("User:     5   Group:     6"));
}

#[test]
fn many_layers_are_stacked_in_their_order() {
    let Some(library) = library() else { return };
    let mut layers = vec![base_layer().to_path_buf()];
    for index in 1..128 {
        layers.push(make_layer(&format!("layer{index}"), |root| {
            fs::write(root.join("top"), index.to_string()).unwrap();
            fs::write(root.join(format!("from-{index}")), "").unwrap();
        }));
    }
    let mut vm = Vm::boot(
        &library,
        &Setup {
            layers: layers.clone(),
            ..Setup::default()
        },
    );
    vm.create(vm.container());
    let spec = vm.script("cat /top; ls -d /from-* | wc -l; echo x >>/top; cat /top");
    assert_eq!(vm.run(&spec).stdout, "127127\n127x\n");
    for layer in &layers[1..] {
        fs::remove_file(layer).unwrap();
    }
}

#[test]
fn a_read_only_root_is_read_only_but_for_what_is_mounted() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(&library, &Setup::default());
    let mut container = vm.container();
    container.rootfs.read_only = true;
    container.mounts = vec![tmpfs("/scratch", "")];
    vm.create(container);
    let spec =
        vm.script("(echo x >/x) 2>&1; echo y >/scratch/y; echo z >/dev/shm/z; cat /scratch/y /dev/shm/z");
    assert_eq!(
        vm.run(&spec).stdout,
        "/bin/sh: can't create /x: Read-only file system\ny\nz\n"
    );
}

#[test]
fn without_interfaces_there_is_nothing_but_the_loopback() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(&library, &Setup::default());
    let container = vm.container();
    vm.create(container);
    let init = vm.script("sleep 1000");
    vm.start(&init);
    let spec = vm.script("ip -o link | wc -l; ip addr show lo | grep -c 127.0.0.1; ls /sys/class/net");
    assert_eq!(vm.run(&spec).stdout, "1\n1\nlo\n");
}

#[test]
fn a_user_namespace_makes_root_an_ordinary_user_of_the_guest() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(
        &library,
        &Setup {
            disk: true,
            ..Setup::default()
        },
    );
    let mut container = vm.container();
    container.namespaces = Namespaces {
        user: true,
        ..Namespaces::default()
    };
    container.masked_paths = vec!["/proc/keys".into(), "/sys/firmware".into()];
    container.read_only_paths = vec!["/proc/sys".into()];
    container.files = vec![File {
        target: "/etc/hosts".into(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        content: b"given\n".to_vec(),
    }];
    vm.create(container);
    let script = "cat /proc/self/uid_map | tr -s ' '; stat -c %u:%g / /bin/busybox /etc/hosts; id -u; echo x >/dev/null; \
        echo y >/note; stat -c %u /note; echo z >/dev/stdout; cat /etc/hosts; ls -d /sys/class/net/lo; exec sleep 1000";
    let init = vm.script(script);
    vm.start(&init);
    let mut probe =
        vm.script("id -u; until grep sleep /proc/1/comm; do :; done; head -c 3 /dev/zero | wc -c; echo own >/dev/stderr");
    probe.user = "alice".into();
    let outcome = vm.run(&probe);
    assert_eq!(
        (outcome.stdout.as_str(), outcome.stderr.as_str()),
        ("1000\nsleep\n3\n", "own\n")
    );
    vm.call(Call::Signal {
        process: init.id,
        signal: 9,
    })
    .unwrap();
    let outcome = vm.collect(&init);
    let expected = " 0 100000 65536\n0:0\n0:0\n0:0\n0\n0\nz\ngiven\n/sys/class/net/lo\n";
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), (expected, ""));
}

#[test]
fn device_nodes_open_nothing_but_the_usual_devices() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(
        &library,
        &Setup {
            disk: true,
            ..Setup::default()
        },
    );
    vm.create(vm.container());
    let script = "d=$(cat /sys/block/vda/dev | tr : ' '); mknod /tmp/disk b $d && mknod /tmp/null c 1 3 && \
        mknod /tmp/mem c 1 1; echo x >/tmp/null && echo fine; head -c 1 /tmp/disk; head -c 1 /tmp/mem";
    let spec = vm.script(script);
    let outcome = vm.run(&spec);
    assert_eq!(outcome.stdout, "fine\n");
    assert_eq!(
        outcome.stderr.matches("Operation not permitted").count(),
        2,
        "{}",
        outcome.stderr
    );
}

#[test]
fn what_is_missing_is_named() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(&library, &Setup::default());
    let mut container = vm.container();
    container.rootfs.disk = Some("other".into());
    let error = vm.call(Call::CreateContainer(Box::new(container))).unwrap_err();
    assert_eq!(
        error.message,
        "no disk has the serial number \"other\"; there are []"
    );
    let mut vm = Vm::boot(&library, &Setup::default());
    let mut container = vm.container();
    container.rootfs.layers.push("absent".into());
    let error = vm.call(Call::CreateContainer(Box::new(container))).unwrap_err();
    assert!(
        error
            .message
            .starts_with("cannot mount the layer absent: No such file"),
        "{}",
        error.message
    );
}

#[test]
fn a_container_that_was_removed_leaves_its_place_and_nothing_else() {
    let Some(library) = library() else { return };
    let added = make_layer("added", |root| fs::write(root.join("added"), "above\n").unwrap());
    let setup = Setup {
        layers: vec![base_layer().to_path_buf(), added],
        disk: true,
        ..Setup::default()
    };
    let mut vm = Vm::boot(&library, &setup);
    let (mut first, second) = (vm.container(), vm.container());
    first.rootfs.layers.truncate(1);
    first.files = vec![File {
        target: "/run/secrets/key".into(),
        mode: 0o400,
        uid: 33,
        gid: 0,
        content: b"secret\n".to_vec(),
    }];
    first.mounts = vec![tmpfs("/scratch", "")];
    let none = vm.call(Call::RemoveContainer).unwrap_err();
    assert_eq!(none.message, "there is no container to remove");
    vm.create(first);
    // What is left behind ends with its init.
    let script = "stat -c '%u %a' /run/secrets/key; echo changed >/etc/new; sleep 1000 & test ! -e /added";
    let mut spec = vm.script(&format!("{script}; read line"));
    spec.stdin = true;
    vm.start(&spec);
    let running = vm.call(Call::RemoveContainer).unwrap_err();
    assert!(
        running.message.ends_with("is still running"),
        "{}",
        running.message
    );
    let kill = Call::Signal {
        process: spec.id,
        signal: libc::SIGKILL,
    };
    vm.call(kill).unwrap();
    vm.wait(spec.id);
    assert_eq!(vm.call(Call::RemoveContainer), Ok(Reply::Done));
    let orphan = vm.script("true");
    let orphan = vm.call(Call::StartProcess(Box::new(orphan))).unwrap_err();
    assert!(orphan.message.contains("no container"), "{}", orphan.message);

    vm.create(second);
    let script = "cat /added; ls /etc/new /run/secrets /scratch; ps | grep -c '[s]leep'; echo fine >/etc/new; cat /etc/new";
    let spec = vm.script(script);
    let outcome = vm.run(&spec);
    assert_eq!(outcome.stdout, "above\n0\nfine\n");
    for gone in ["/etc/new", "/run/secrets", "/scratch"] {
        assert!(
            outcome.stderr.contains(&format!("{gone}: No such file")),
            "{}",
            outcome.stderr
        );
    }
}
