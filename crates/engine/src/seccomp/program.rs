//! From rules to a program.

use std::collections::BTreeMap;

use sandbox::FilterInstruction;
use sandbox::filter::{
    ARCH, ARCH_I386, ARCH_X86_64, BPF_AND, BPF_JUMP_ABOVE, BPF_JUMP_AT_LEAST, BPF_JUMP_EQUAL, FIRST_ARGUMENT,
    NUMBER, RETURN_ALLOW, RETURN_ERRNO, search,
};

use super::names::{InstructionSet, multiplexed, number};
use super::profile::{Condition, Operator, Rules, Verdict};

const ENOSYS: u32 = 38;
/// Numbers from here on are calls of x32, a third instruction set, which the guest's kernel does not run.
const X32: u32 = 0x4000_0000;
/// Of the number that `ipc` is called with: above are versions.
const IPC_NUMBER: u64 = 0xffff;

const RETURN_KILL_PROCESS: u32 = 0x8000_0000;
const RETURN_KILL_THREAD: u32 = 0;
const RETURN_TRAP: u32 = 0x0003_0000;
const RETURN_TRACE: u32 = 0x7ff0_0000;
const RETURN_LOG: u32 = 0x7ffc_0000;

/// What is said of one system call: what becomes of it under conditions, the first that holds counting, and otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Said {
    conditional: Vec<(Vec<Condition>, Verdict)>,
    always: Option<Verdict>,
}

/// The whole program.
pub(super) fn compile(rules: &Rules) -> Vec<FilterInstruction> {
    let mut program = vec![FilterInstruction::load(ARCH)];
    for set in rules.instruction_sets() {
        let arch = match set {
            InstructionSet::X86_64 => ARCH_X86_64,
            InstructionSet::I386 => ARCH_I386,
        };
        let mut code = vec![FilterInstruction::load(NUMBER)];
        if set == InstructionSet::X86_64 {
            code.push(FilterInstruction::compare(BPF_JUMP_AT_LEAST, X32, 0, 1));
            code.push(FilterInstruction::give(RETURN_ERRNO | ENOSYS));
        }
        code.extend(search(&ranges(rules, set), &|said| {
            carry_out(said, rules.otherwise)
        }));
        program.push(FilterInstruction::compare(BPF_JUMP_EQUAL, arch, 1, 0));
        program.push(FilterInstruction::jump(code.len() as u32));
        program.extend(code);
    }
    // A program of an instruction set that the profile does not name.
    program.push(FilterInstruction::give(RETURN_KILL_THREAD));
    program
}

/// What is said of each number, by the first number that it is said of.
fn ranges(rules: &Rules, set: InstructionSet) -> Vec<(u32, Said)> {
    let said = said(rules, set);
    let mut ranges = vec![(0, Said::default())];
    let mut next = 0;
    let mut begin = |from: u32, said: Said| {
        if ranges.last().is_none_or(|(_, last)| *last != said) {
            ranges.push((from, said));
        }
    };
    for (number, said) in said {
        if number > next {
            begin(next, Said::default());
        }
        begin(number, said);
        next = number + 1;
    }
    let strict = !matches!(rules.otherwise, Verdict::Allow | Verdict::Log | Verdict::Trace(_));
    let beyond = Said {
        // A call newer than the profile: programs take ENOSYS for "not there" and do without.
        always: (strict && next > 0).then_some(Verdict::Errno(ENOSYS)),
        ..Said::default()
    };
    begin(next, beyond);
    // Where the first number has something said of it, the range that was begun for it is empty.
    if ranges.get(1).is_some_and(|(from, _)| *from == 0) {
        ranges.remove(0);
    }
    ranges
}

fn said(rules: &Rules, set: InstructionSet) -> BTreeMap<u32, Said> {
    let mut said: BTreeMap<u32, Said> = BTreeMap::new();
    for rule in &rules.rules {
        for name in &rule.names {
            // A name that this kernel does not know is of a call that it does not have.
            if let Some(number) = number(set, name) {
                said.entry(number)
                    .or_default()
                    .add(&rule.conditions, rule.verdict);
            }
            let way = multiplexed(set, name).filter(|_| rule.conditions.is_empty());
            if let Some((through, argument)) = way
                && let Some(number) = number(set, through)
            {
                let condition = Condition {
                    argument: 0,
                    operator: match through {
                        "ipc" => Operator::EqualIn(IPC_NUMBER),
                        _ => Operator::Equal,
                    },
                    value: argument,
                };
                said.entry(number).or_default().add(&[condition], rule.verdict);
            }
        }
    }
    said
}

impl Said {
    fn add(&mut self, conditions: &[Condition], verdict: Verdict) {
        if conditions.is_empty() {
            self.always.get_or_insert(verdict);
            // As with libseccomp: what is said without a condition counts.
            self.conditional.clear();
        } else if self.always.is_none() && !self.conditional.iter().any(|(known, _)| known == conditions) {
            self.conditional.push((conditions.to_vec(), verdict));
        }
    }
}

fn carry_out(said: &Said, otherwise: Verdict) -> Vec<FilterInstruction> {
    let mut code = Vec::new();
    for (conditions, verdict) in &said.conditional {
        code.extend(under(conditions, *verdict));
    }
    code.push(give(said.always.unwrap_or(otherwise)));
    code
}

/// Code that gives a verdict where all conditions hold, and goes on behind itself where one does not.
fn under(conditions: &[Condition], verdict: Verdict) -> Vec<FilterInstruction> {
    let mut code = vec![give(verdict)];
    for condition in conditions.iter().rev() {
        let mut compared = compare(condition, code.len());
        compared.append(&mut code);
        code = compared;
    }
    code
}

/// Code that goes on behind itself where the condition holds, and leaves `rest` instructions out otherwise. An argument
/// has 64 bits, and the machine 32: the upper ones come first. Six conditions take less than jumps reach.
fn compare(condition: &Condition, rest: usize) -> Vec<FilterInstruction> {
    let fail = |behind: usize| (rest + behind) as u8;
    let (high, low) = ((condition.value >> 32) as u32, condition.value as u32);
    let load_low = FilterInstruction::load(FIRST_ARGUMENT + condition.argument * 8);
    let load_high = FilterInstruction::load(FIRST_ARGUMENT + condition.argument * 8 + 4);
    let test = FilterInstruction::compare;
    // Above the upper half, equal to it, and then what the lower half says.
    let ordered = |code, holds: bool| {
        let (above, below) = if holds { (3, fail(2)) } else { (fail(3), 2) };
        let (yes, no) = if holds { (0, fail(0)) } else { (fail(0), 0) };
        vec![
            load_high,
            test(BPF_JUMP_ABOVE, high, above, 0),
            test(BPF_JUMP_EQUAL, high, 0, below),
            load_low,
            test(code, low, yes, no),
        ]
    };
    match condition.operator {
        Operator::Equal => vec![
            load_high,
            test(BPF_JUMP_EQUAL, high, 0, fail(2)),
            load_low,
            test(BPF_JUMP_EQUAL, low, 0, fail(0)),
        ],
        Operator::NotEqual => vec![
            load_high,
            test(BPF_JUMP_EQUAL, high, 0, 2),
            load_low,
            test(BPF_JUMP_EQUAL, low, fail(0), 0),
        ],
        Operator::EqualIn(mask) => vec![
            load_high,
            FilterInstruction::plain(BPF_AND, (mask >> 32) as u32),
            test(BPF_JUMP_EQUAL, high, 0, fail(3)),
            load_low,
            FilterInstruction::plain(BPF_AND, mask as u32),
            test(BPF_JUMP_EQUAL, low, 0, fail(0)),
        ],
        Operator::AtLeast => ordered(BPF_JUMP_AT_LEAST, true),
        Operator::Above => ordered(BPF_JUMP_ABOVE, true),
        Operator::Below => ordered(BPF_JUMP_AT_LEAST, false),
        Operator::AtMost => ordered(BPF_JUMP_ABOVE, false),
    }
}

fn give(verdict: Verdict) -> FilterInstruction {
    FilterInstruction::give(match verdict {
        Verdict::Allow => RETURN_ALLOW,
        Verdict::Log => RETURN_LOG,
        Verdict::Errno(errno) => RETURN_ERRNO | errno,
        Verdict::Trap => RETURN_TRAP,
        Verdict::Trace(data) => RETURN_TRACE | data,
        Verdict::KillThread => RETURN_KILL_THREAD,
        Verdict::KillProcess => RETURN_KILL_PROCESS,
    })
}
