//! The container's network, as far as it goes without network devices, and the files that come with it.

use guest_protocol::{Call, CallError, File, Interface, Namespaces, Reply};

use crate::vm::{Setup, Vm, library};

fn hosts(content: &str) -> File {
    File {
        target: "/etc/hosts".into(),
        mode: 0o644,
        uid: 0,
        gid: 0,
        content: content.into(),
    }
}

fn interface() -> Interface {
    Interface {
        nic: 0,
        name: "eth0".into(),
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        addresses: vec![("172.17.0.2".parse().unwrap(), 16)],
        gateways: Vec::new(),
    }
}

fn message(result: Result<Reply, CallError>) -> String {
    result.unwrap_err().message
}

#[test]
fn a_file_that_is_written_while_the_container_runs_shows_at_once() {
    let Some(library) = library() else { return };
    for user in [false, true] {
        let mut vm = Vm::boot(&library, &Setup::default());
        let mut container = vm.container();
        container.files = vec![hosts("given, and rather long\n")];
        container.namespaces = Namespaces {
            user,
            ..Namespaces::default()
        };
        vm.create(container);
        // It has the file open all the time.
        let init = vm.script("exec 3</etc/hosts; stat -c %u:%a /etc/hosts; read line <&3; exec sleep 100");
        vm.start(&init);
        vm.expect(init.id, "0:644\n");
        let written = vm.call(Call::WriteFiles(vec![hosts("new\n")]));
        assert_eq!(written, Ok(Reply::Done));
        let look = vm.script("cat /etc/hosts /proc/1/fd/3");
        assert_eq!(vm.run(&look).stdout, "new\nnew\n");
        let other = File {
            target: "/etc/passwd".into(),
            ..hosts("")
        };
        let error = message(vm.call(Call::WriteFiles(vec![hosts("newer\n"), other])));
        assert!(error.contains("/etc/passwd"), "{error}");
        let look = vm.script("cat /etc/hosts");
        assert_eq!(vm.run(&look).stdout, "new\n");
    }
}

#[test]
fn an_interface_needs_a_container_and_a_network_device() {
    let Some(library) = library() else { return };
    let mut vm = Vm::boot(&library, &Setup::default());
    let error = message(vm.call(Call::AddInterface(interface())));
    assert_eq!(error, "there is no container to connect to a network");
    let container = vm.container();
    vm.create(container);
    let error = message(vm.call(Call::AddInterface(interface())));
    assert_eq!(error, "there is no network device 0: this microVM has 0");
}
