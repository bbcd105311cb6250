//! A profile as it is written, and what of it holds for a container.

use serde::Deserialize;

use super::names::InstructionSet;

/// The highest error that a system call can answer with.
const MAX_ERRNO: u32 = 4095;
const EPERM: u32 = 1;
/// System calls have six arguments.
const ARGUMENTS: u32 = 6;
/// Instruction sets that a profile may name, without `SCMP_ARCH_`; only two of them run in a microVM.
const ARCHITECTURES: [&str; 22] = [
    "X86",
    "X86_64",
    "X32",
    "ARM",
    "AARCH64",
    "LOONGARCH64",
    "M68K",
    "MIPS",
    "MIPS64",
    "MIPS64N32",
    "MIPSEL",
    "MIPSEL64",
    "MIPSEL64N32",
    "PARISC",
    "PARISC64",
    "PPC",
    "PPC64",
    "PPC64LE",
    "RISCV64",
    "S390",
    "S390X",
    "SHEB",
];

/// What is wrong with a profile.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    #[error("Decoding seccomp profile failed: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the seccomp profile has {0} bytes, and {max} are the most", max = super::MAX_TEXT)]
    TooLong(usize),
    #[error(
        "the seccomp profile makes {0} instructions, and the kernel takes {max}: say less, or the same of calls that \
         follow each other",
        max = sandbox::MAX_INSTRUCTIONS
    )]
    TooManyInstructions(usize),
    #[error(
        "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'"
    )]
    Architectures,
    #[error("invalid seccomp profile: string {0} is not a valid arch for seccomp")]
    Architecture(String),
    #[error("both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'")]
    Names,
    #[error("invalid seccomp profile: string {0} is not a valid action for seccomp")]
    Action(String),
    #[error(
        "invalid seccomp profile: hull does not support {0}: nobody outside of the microVM listens for system calls"
    )]
    Notify(&'static str),
    #[error("invalid seccomp profile: hull does not support the flag {0}")]
    Flag(String),
    #[error("invalid seccomp profile: string {0} is not a valid operator for seccomp")]
    Operator(String),
    #[error("invalid seccomp profile: {0} has no argument {1}: there are 0 to 5")]
    Argument(String, u32),
    #[error("invalid seccomp profile: the error {0} is above {MAX_ERRNO}")]
    Errno(u32),
    #[error("invalid seccomp profile: kernel version {0:?} is not NUMBER.NUMBER")]
    Kernel(String),
}

/// What holds for a container.
#[derive(Debug)]
pub(super) struct Rules {
    /// What becomes of calls that nobody names.
    pub(super) otherwise: Verdict,
    /// Whether 32-bit programs run at all.
    pub(super) narrow: bool,
    pub(super) rules: Vec<Rule>,
}

/// What becomes of some calls.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) names: Vec<String>,
    /// All of them must hold; none always does.
    pub(super) conditions: Vec<Condition>,
    pub(super) verdict: Verdict,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Log,
    /// Answered with this error.
    Errno(u32),
    Trap,
    /// Left to a tracer, which gets this number.
    Trace(u32),
    KillThread,
    KillProcess,
}

/// Something an argument is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Which argument, from 0 to 5.
    pub(super) argument: u32,
    pub(super) operator: Operator,
    pub(super) value: u64,
}

/// How it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Above,
    AtLeast,
    Below,
    AtMost,
    /// Equal in these bits.
    EqualIn(u64),
}

/// The text of a profile. Fields that Docker does not know mean nothing to it, and comments are among them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    syscalls: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<Argument>>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

/// Containers for which an entry holds, or does not.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// What of a profile holds for processes with these capabilities on this kernel.
pub(super) fn read(text: &str, capabilities: &[String], kernel: (u32, u32)) -> Result<Rules, ProfileError> {
    let document: Document = serde_json::from_str(text)?;
    if document.listener_path.is_some_and(|path| !path.is_empty()) {
        return Err(ProfileError::Notify("listenerPath"));
    }
    if let Some(flag) = document.flags.into_iter().flatten().next() {
        return Err(ProfileError::Flag(flag));
    }
    let otherwise = verdict(&document.default_action, document.default_errno_ret)?;
    let narrow = runs_narrow(document.architectures, document.arch_map)?;
    let mut rules = Vec::new();
    for entry in document.syscalls.into_iter().flatten() {
        let holds = entry.holds(capabilities, kernel)?;
        let entry = entry.rules()?;
        // One that says what is so anyway is none.
        if holds {
            rules.extend(entry.into_iter().filter(|rule| rule.verdict != otherwise));
        }
    }
    Ok(Rules {
        otherwise,
        narrow,
        rules,
    })
}

fn runs_narrow(architectures: Option<Vec<String>>, map: Option<Vec<ArchMap>>) -> Result<bool, ProfileError> {
    let architectures = architectures.unwrap_or_default();
    let map = map.unwrap_or_default();
    if !architectures.is_empty() && !map.is_empty() {
        return Err(ProfileError::Architectures);
    }
    let mut narrow = false;
    for name in &architectures {
        narrow |= architecture(name)? == "X86";
    }
    for entry in map {
        let native = architecture(&entry.architecture)? == "X86_64";
        for name in entry.sub_architectures.iter().flatten() {
            narrow |= architecture(name)? == "X86" && native;
        }
    }
    Ok(narrow)
}

fn architecture(name: &str) -> Result<&str, ProfileError> {
    name.strip_prefix("SCMP_ARCH_")
        .filter(|name| ARCHITECTURES.contains(name))
        .ok_or_else(|| ProfileError::Architecture(name.to_owned()))
}

fn verdict(action: &str, errno: Option<u32>) -> Result<Verdict, ProfileError> {
    let data = match errno.unwrap_or(EPERM) {
        errno @ 0..=MAX_ERRNO => errno,
        errno => return Err(ProfileError::Errno(errno)),
    };
    Ok(match action {
        "SCMP_ACT_ALLOW" => Verdict::Allow,
        "SCMP_ACT_LOG" => Verdict::Log,
        "SCMP_ACT_ERRNO" => Verdict::Errno(data),
        "SCMP_ACT_TRAP" => Verdict::Trap,
        "SCMP_ACT_TRACE" => Verdict::Trace(data),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Verdict::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Verdict::KillProcess,
        "SCMP_ACT_NOTIFY" => return Err(ProfileError::Notify("SCMP_ACT_NOTIFY")),
        other => return Err(ProfileError::Action(other.to_owned())),
    })
}

impl Entry {
    fn holds(&self, capabilities: &[String], kernel: (u32, u32)) -> Result<bool, ProfileError> {
        /// Docker's name of the architecture.
        const NATIVE: &str = "amd64";
        let has = |capability: &String| capabilities.contains(capability);
        let is_native = |arch: &String| arch == NATIVE;
        let none = Filter::default();
        let (included, excluded) = (
            self.includes.as_ref().unwrap_or(&none),
            self.excludes.as_ref().unwrap_or(&none),
        );
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let (arches, caps) = (list(&included.arches), list(&included.caps));
        let is_included = (arches.is_empty() || arches.iter().any(is_native))
            && caps.iter().all(has)
            && included.reaches(kernel)?.unwrap_or(true);
        let is_excluded = list(&excluded.arches).iter().any(is_native)
            || list(&excluded.caps).iter().any(has)
            || excluded.reaches(kernel)?.unwrap_or(false);
        Ok(is_included && !is_excluded)
    }

    /// Its rules. Where an argument is compared more than once each comparison is a rule of its own, as libseccomp's
    /// users have it.
    fn rules(self) -> Result<Vec<Rule>, ProfileError> {
        let names = match (self.name.filter(|name| !name.is_empty()), self.names) {
            (Some(_), Some(names)) if !names.is_empty() => return Err(ProfileError::Names),
            (Some(name), _) => vec![name],
            (None, names) => names.unwrap_or_default(),
        };
        let verdict = verdict(&self.action, self.errno_ret)?;
        let first = names.first().cloned().unwrap_or_default();
        let conditions = self.args.unwrap_or_default();
        let conditions: Vec<Condition> = conditions
            .iter()
            .map(|argument| argument.condition(&first))
            .collect::<Result<_, _>>()?;
        let rule = |conditions| Rule {
            names: names.clone(),
            conditions,
            verdict,
        };
        let mut arguments: Vec<u32> = conditions.iter().map(|condition| condition.argument).collect();
        arguments.sort_unstable();
        arguments.dedup();
        Ok(match arguments.len() == conditions.len() {
            true => vec![rule(conditions)],
            false => conditions
                .into_iter()
                .map(|condition| rule(vec![condition]))
                .collect(),
        })
    }
}

impl Filter {
    /// Whether the kernel is the least one that is named, or newer; `None` if none is.
    fn reaches(&self, kernel: (u32, u32)) -> Result<Option<bool>, ProfileError> {
        let Some(text) = self.min_kernel.as_deref().filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let invalid = || ProfileError::Kernel(text.to_owned());
        let (major, minor) = text.split_once('.').ok_or_else(invalid)?;
        let least = (
            major.parse().map_err(|_| invalid())?,
            minor.parse().map_err(|_| invalid())?,
        );
        Ok(Some(kernel >= least))
    }
}

impl Argument {
    fn condition(&self, call: &str) -> Result<Condition, ProfileError> {
        if self.index >= ARGUMENTS {
            return Err(ProfileError::Argument(call.to_owned(), self.index));
        }
        let (operator, value) = match self.op.as_str() {
            "SCMP_CMP_EQ" => (Operator::Equal, self.value),
            "SCMP_CMP_NE" => (Operator::NotEqual, self.value),
            "SCMP_CMP_GT" => (Operator::Above, self.value),
            "SCMP_CMP_GE" => (Operator::AtLeast, self.value),
            "SCMP_CMP_LT" => (Operator::Below, self.value),
            "SCMP_CMP_LE" => (Operator::AtMost, self.value),
            // The first value is the mask.
            "SCMP_CMP_MASKED_EQ" => (Operator::EqualIn(self.value), self.value_two & self.value),
            other => return Err(ProfileError::Operator(other.to_owned())),
        };
        Ok(Condition {
            argument: self.index,
            operator,
            value,
        })
    }
}

impl Rules {
    /// The instruction sets whose programs run.
    pub(super) fn instruction_sets(&self) -> impl Iterator<Item = InstructionSet> {
        [InstructionSet::X86_64]
            .into_iter()
            .chain(self.narrow.then_some(InstructionSet::I386))
    }
}
