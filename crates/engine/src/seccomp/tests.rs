use sandbox::filter::{
    ARCH, ARCH_I386, ARCH_X86_64, BPF_AND, BPF_JUMP, BPF_JUMP_ABOVE, BPF_JUMP_AT_LEAST, BPF_JUMP_EQUAL,
    BPF_LOAD, BPF_RETURN, FIRST_ARGUMENT, NUMBER,
};
use serde_json::{Value, json};

use super::names::{InstructionSet, number};
use super::*;

const ALLOWED: u32 = 0x7fff_0000;
const KILLED: u32 = 0;

fn errno(number: u32) -> u32 {
    0x0005_0000 | number
}

/// Runs a program as the kernel would.
fn run(program: &[FilterInstruction], arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let instruction = program[at];
        at += 1;
        let holds = match instruction.code {
            BPF_LOAD => {
                accumulator = match instruction.k {
                    NUMBER => number,
                    ARCH => arch,
                    offset => {
                        let offset = offset - FIRST_ARGUMENT;
                        let argument = arguments[(offset / 8) as usize];
                        (argument >> (offset % 8 * 8)) as u32
                    }
                };
                continue;
            }
            BPF_AND => {
                accumulator &= instruction.k;
                continue;
            }
            BPF_JUMP => {
                at += instruction.k as usize;
                continue;
            }
            BPF_RETURN => return instruction.k,
            BPF_JUMP_EQUAL => accumulator == instruction.k,
            BPF_JUMP_ABOVE => accumulator > instruction.k,
            BPF_JUMP_AT_LEAST => accumulator >= instruction.k,
            other => panic!("no instruction {other:#x}"),
        };
        at += usize::from(if holds { instruction.jt } else { instruction.jf });
    }
}

fn compiled(profile: &Value) -> Vec<FilterInstruction> {
    program(&profile.to_string(), &[]).unwrap()
}

/// What becomes of a call of a 64-bit program.
fn of(program: &[FilterInstruction], name: &str, arguments: [u64; 6]) -> u32 {
    let number = number(InstructionSet::X86_64, name).unwrap();
    run(program, ARCH_X86_64, number, arguments)
}

fn narrow(program: &[FilterInstruction], name: &str, first: u64) -> u32 {
    let number = number(InstructionSet::I386, name).unwrap();
    run(program, ARCH_I386, number, [first, 0, 0, 0, 0, 0])
}

fn refused(profile: &Value) -> String {
    program(&profile.to_string(), &[]).unwrap_err().to_string()
}

#[test]
fn a_list_of_what_is_allowed_refuses_the_rest_and_says_of_newer_calls_that_they_are_not_there() {
    let program = compiled(&json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["read", "write", "no_such_call", "getrandom"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
            {"name": "rmdir", "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["chdir"], "action": "SCMP_ACT_TRAP"},
            {"names": ["chmod"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
            {"names": ["chown"], "action": "SCMP_ACT_LOG", "comment": "told to the kernel's log"},
        ],
    }));
    for (name, expected) in [
        ("read", ALLOWED),
        ("write", ALLOWED),
        ("getrandom", ALLOWED),
        ("open", errno(1)),
        ("mkdir", errno(13)),
        ("rmdir", 0x8000_0000),
        ("chdir", 0x0003_0000),
        ("chmod", 0x7ff0_0007),
        ("chown", 0x7ffc_0000),
        ("clone3", errno(38)),
    ] {
        assert_eq!(of(&program, name, [0; 6]), expected, "{name}");
    }
    // 32-bit programs are not named, and x32 is not there.
    assert_eq!(narrow(&program, "read", 0), KILLED);
    assert_eq!(run(&program, ARCH_X86_64, 0x4000_0000, [0; 6]), errno(38));
}

#[test]
fn a_list_of_what_is_refused_allows_the_rest_in_both_instruction_sets() {
    for architectures in [
        json!({"architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]}),
        json!({"archMap": [
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]},
        ]}),
    ] {
        let mut profile = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["mkdir", "mkdirat", "socket", "shmget"], "action": "SCMP_ACT_ERRNO"}],
        });
        profile
            .as_object_mut()
            .unwrap()
            .extend(architectures.as_object().unwrap().clone());
        let program = compiled(&profile);
        assert_eq!(of(&program, "mkdir", [0; 6]), errno(1));
        assert_eq!(of(&program, "read", [0; 6]), ALLOWED);
        assert_eq!(of(&program, "clone3", [0; 6]), ALLOWED);
        assert_eq!(narrow(&program, "mkdir", 0), errno(1));
        assert_eq!(narrow(&program, "read", 0), ALLOWED);
        // There are two ways to a socket, and to shared memory.
        assert_eq!(narrow(&program, "socketcall", 1), errno(1));
        assert_eq!(narrow(&program, "socketcall", 2), ALLOWED);
        assert_eq!(narrow(&program, "ipc", 0x1_0017), errno(1));
        assert_eq!(narrow(&program, "ipc", 1), ALLOWED);
        assert_eq!(run(&program, 0xc000_00b7, 0, [0; 6]), KILLED);
    }
}

#[test]
fn arguments_are_compared_in_all_their_bits() {
    const BIG: u64 = 0x1_0000_0005;
    let holds = |operator: &str, value: u64, two: u64, argument: u64| {
        let program = compiled(&json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["lseek"], "action": "SCMP_ACT_ALLOW",
                          "args": [{"index": 1, "value": value, "valueTwo": two, "op": operator}]}],
        }));
        of(&program, "lseek", [9, argument, 9, 9, 9, 9]) == ALLOWED
    };
    for value in [0, 5, 0xffff_ffff, BIG, u64::MAX] {
        for argument in [
            0,
            4,
            5,
            6,
            0xffff_ffff,
            BIG - 1,
            BIG,
            BIG + 1,
            0x2_0000_0000,
            u64::MAX,
        ] {
            let compared = argument.cmp(&value);
            for (operator, expected) in [
                ("SCMP_CMP_EQ", compared.is_eq()),
                ("SCMP_CMP_NE", compared.is_ne()),
                ("SCMP_CMP_GT", compared.is_gt()),
                ("SCMP_CMP_GE", compared.is_ge()),
                ("SCMP_CMP_LT", compared.is_lt()),
                ("SCMP_CMP_LE", compared.is_le()),
            ] {
                assert_eq!(
                    holds(operator, value, 0, argument),
                    expected,
                    "{argument:#x} {operator} {value:#x}"
                );
            }
            let mask = 0x1_0000_00ff;
            assert_eq!(
                holds("SCMP_CMP_MASKED_EQ", mask, value, argument),
                argument & mask == value & mask
            );
        }
    }
}

#[test]
fn all_conditions_of_a_rule_hold_or_any_of_one_argument() {
    let condition = |index: u32, value: u64| json!({"index": index, "value": value, "op": "SCMP_CMP_EQ"});
    let allowed = |conditions: Value, arguments| {
        let program = compiled(&json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": conditions}],
        }));
        of(&program, "socket", arguments) == ALLOWED
    };
    let both = json!([condition(0, 2), condition(1, 1)]);
    assert!(allowed(both.clone(), [2, 1, 0, 0, 0, 0]));
    assert!(!allowed(both.clone(), [2, 2, 0, 0, 0, 0]));
    assert!(!allowed(both, [1, 1, 0, 0, 0, 0]));
    let any = json!([condition(0, 1), condition(0, 2)]);
    assert!(allowed(any.clone(), [1, 0, 0, 0, 0, 0]) && allowed(any.clone(), [2, 0, 0, 0, 0, 0]));
    assert!(!allowed(any, [3, 0, 0, 0, 0, 0]));
    let all: Vec<Value> = (0..6).map(|index| condition(index, u64::from(index))).collect();
    assert!(allowed(json!(all), [0, 1, 2, 3, 4, 5]));
    assert!(!allowed(json!(all), [0, 1, 2, 3, 4, 6]));
}

#[test]
fn what_holds_without_a_condition_counts_and_otherwise_the_first_that_holds() {
    let equal = |value: u64| json!([{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]);
    let program = compiled(&json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3, "args": equal(1)},
            {"names": ["kill", "dup"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4, "args": equal(1)},
            {"names": ["kill"], "action": "SCMP_ACT_ALLOW", "args": equal(2)},
            {"names": ["dup"], "action": "SCMP_ACT_ALLOW"},
        ],
    }));
    let kill = |first| of(&program, "kill", [first, 0, 0, 0, 0, 0]);
    assert_eq!((kill(1), kill(2), kill(3)), (errno(3), ALLOWED, errno(1)));
    assert_eq!(of(&program, "dup", [1, 0, 0, 0, 0, 0]), ALLOWED);
}

#[test]
fn entries_are_for_capabilities_kernels_and_architectures() {
    let entry = |name: &str, more: Value| {
        let mut entry = json!({"names": [name], "action": "SCMP_ACT_ALLOW"});
        entry
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        entry
    };
    let profile = json!({
        "defaultAction": "SCMP_ACT_KILL",
        "syscalls": [
            entry("mount", json!({"includes": {"caps": ["CAP_SYS_ADMIN"]}})),
            entry("clone", json!({"excludes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["s390", "s390x"]}})),
            entry("read", json!({"includes": {"minKernel": "4.8"}})),
            entry("write", json!({"includes": {"minKernel": "6.13"}})),
            entry("open", json!({"excludes": {"minKernel": "4.8"}})),
            entry("close", json!({"includes": {"arches": ["amd64", "arm64"]}})),
            entry("stat", json!({"includes": {"arches": ["arm64"]}, "excludes": {}})),
            entry("lstat", json!({"excludes": {"arches": ["amd64"]}})),
            entry("membarrier", json!({})),
        ],
    });
    let allowed = |capabilities: &[String]| {
        let program = program(&profile.to_string(), capabilities).unwrap();
        let all = [
            "mount", "clone", "read", "write", "open", "close", "stat", "lstat",
        ];
        let allowed = all
            .into_iter()
            .filter(|name| of(&program, name, [0; 6]) == ALLOWED);
        allowed.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(allowed(&[]), "clone read close");
    assert_eq!(allowed(&["CAP_SYS_ADMIN".into()]), "mount read close");
}

#[test]
fn dockers_own_profile_fits_and_does_what_it_says() {
    let text = include_str!("../../../../tests/src/bin/bench/seccomp.json");
    let program = program(text, &[]).unwrap();
    assert!(program.len() < 600, "{}", program.len());
    for (name, arguments, expected) in [
        ("read", [0; 6], ALLOWED),
        ("mount", [0; 6], errno(1)),
        ("keyctl", [0; 6], errno(1)),
        ("clone3", [0; 6], errno(38)),
        ("clone", [0x11, 0, 0, 0, 0, 0], ALLOWED),
        ("clone", [0x1000_0000, 0, 0, 0, 0, 0], errno(1)),
        ("socket", [2, 0, 0, 0, 0, 0], ALLOWED),
        ("socket", [40, 0, 0, 0, 0, 0], errno(1)),
        ("personality", [0, 0, 0, 0, 0, 0], ALLOWED),
        ("personality", [0x40000, 0, 0, 0, 0, 0], errno(1)),
    ] {
        assert_eq!(of(&program, name, arguments), expected, "{name} {arguments:?}");
    }
    assert_eq!(narrow(&program, "read", 0), ALLOWED);
}

#[test]
fn what_is_no_profile_is_refused_and_says_why() {
    let with = |field: &str, value: Value| {
        let mut profile = json!({"defaultAction": "SCMP_ACT_ALLOW"});
        profile[field] = value;
        refused(&profile)
    };
    let entry = |entry: Value| with("syscalls", json!([entry]));
    assert!(
        program("", &[])
            .unwrap_err()
            .to_string()
            .starts_with("Decoding seccomp profile failed: ")
    );
    assert!(refused(&json!({})).contains("missing field `defaultAction`"));
    assert!(refused(&json!([])).starts_with("Decoding seccomp profile failed: "));
    assert!(with("defaultAction", json!("ALLOW")).contains("string ALLOW is not a valid action"));
    assert!(with("defaultAction", json!("SCMP_ACT_NOTIFY")).contains("does not support SCMP_ACT_NOTIFY"));
    assert!(with("defaultErrnoRet", json!(4096)).contains("above 4095"));
    assert!(with("architectures", json!(["x86"])).contains("not a valid arch"));
    assert!(with("listenerPath", json!("/x")).contains("listenerPath"));
    assert!(with("flags", json!(["SECCOMP_FILTER_FLAG_TSYNC"])).contains("TSYNC"));
    assert!(entry(json!({"names": ["read"]})).contains("action"));
    assert!(
        entry(json!({"name": "a", "names": ["b"], "action": "SCMP_ACT_LOG"}))
            .contains("both 'name' and 'names'")
    );
    let compare =
        |argument: Value| entry(json!({"names": ["read"], "action": "SCMP_ACT_LOG", "args": [argument]}));
    assert!(compare(json!({"index": 6, "value": 1, "op": "SCMP_CMP_EQ"})).contains("no argument 6"));
    assert!(compare(json!({"index": 0, "value": 1, "op": "EQ"})).contains("not a valid operator"));
    assert!(compare(json!({"index": 0, "value": -1, "op": "SCMP_CMP_EQ"})).contains("Decoding"));
    let kernel = json!({"names": ["read"], "action": "SCMP_ACT_LOG", "includes": {"minKernel": "new"}});
    assert!(entry(kernel).contains("kernel version"));
    let map = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"],
        "archMap": [{"architecture": "SCMP_ARCH_X86_64"}],
    });
    assert!(refused(&map).contains("use either"));
}

#[test]
fn what_is_too_large_is_refused() {
    let text = format!(
        "{{\"defaultAction\": \"SCMP_ACT_ALLOW\"}}{}",
        " ".repeat(MAX_TEXT)
    );
    assert!(
        program(&text, &[])
            .unwrap_err()
            .to_string()
            .contains("are the most")
    );
    let conditions: Vec<Value> = (0..1000)
        .map(|value| {
            json!({"names": ["read"], "action": "SCMP_ACT_ERRNO",
                   "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
        })
        .collect();
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": conditions});
    assert!(refused(&profile).contains("the kernel takes 4096"));
}
