//! Filtering and translation of what containers send and are sent, in two tables of nftables that are hull's own.
//!
//! Nothing is read back and no other table is touched: what is to hold is written whole, in one transaction, so that there is no
//! moment without rules. The tables are made of sets that are looked up by interface, address and port, so that a packet costs
//! the same for any number of containers.

mod binding;
mod check;
mod egress;
mod forwarding;
mod routing;
mod ruleset;
mod script;
mod text;

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

pub use check::RulesetError;
pub(crate) use egress::{LOG_GROUP, LOG_LENGTH};
pub use forwarding::{ForwardingError, enable_forwarding};
pub use ruleset::{Egress, EgressRule, EndpointRules, NetworkRules, Publication, Ruleset, TAP_PREFIX};

/// Where nft may be: a service's path need not hold the folders of programs for administrators.
const PROGRAMS: [&str; 3] = ["nft", "/usr/sbin/nft", "/sbin/nft"];

/// How long nft may take. It takes some milliseconds; a host that emulates its processor and is busy is a hundred times slower.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much of what nft says is handed on, in bytes.
const MAX_ANSWER: usize = 2000;

/// The rules could not be applied; those before are still there.
#[derive(Debug, Error)]
pub enum FirewallError {
    /// They contradict themselves.
    #[error("the firewall's rules make no sense: {0}")]
    Ruleset(#[from] RulesetError),
    /// There is no nft.
    #[error("cannot apply the firewall's rules: there is no program nft; install the package nftables")]
    Missing,
    /// It would not run.
    #[error("cannot run nft to apply the firewall's rules: {0}")]
    Run(#[from] io::Error),
    /// It did not end.
    #[error("nft did not apply the firewall's rules within {} s", PATIENCE.as_secs())]
    Slow,
    /// The process may not.
    #[error("no permission to apply the firewall's rules: it takes CAP_NET_ADMIN")]
    Permission,
    /// It refused.
    #[error(
        "nft refused the firewall's rules; the kernel needs nf_tables with the families inet and bridge, and nft_ct, nft_fib_inet, \
         nft_limit, nft_log, nft_masq, nft_nat and nft_reject_inet, built in or as modules that are installed: {answer}"
    )]
    Refused {
        /// What nft said.
        answer: String,
    },
}

/// The firewall of the network namespace of the threads that speak to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Firewall;

impl Firewall {
    /// The firewall; it says what it said before, until something is applied.
    pub fn new() -> Self {
        Self
    }

    /// Makes hull's tables say this and nothing else. Flows that are going on and were allowed once go on.
    ///
    /// # Errors
    /// If the ruleset contradicts itself, or nft or the kernel would not take it. Then, what was applied before still holds.
    pub async fn apply(&self, ruleset: &Ruleset) -> Result<(), FirewallError> {
        ruleset.check()?;
        run(&script::script(ruleset)).await
    }

    /// Removes hull's tables, if they are there.
    ///
    /// # Errors
    /// If nft or the kernel would not do it.
    pub async fn remove(&self) -> Result<(), FirewallError> {
        run(&script::removal()).await
    }
}

async fn run(script: &str) -> Result<(), FirewallError> {
    for program in PROGRAMS {
        match timeout(PATIENCE, feed(program, script)).await {
            Err(_) => return Err(FirewallError::Slow),
            Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(Err(error)) => return Err(error.into()),
            Ok(Ok(output)) if output.status.success() => return Ok(()),
            Ok(Ok(output)) => return Err(refused(&output)),
        }
    }
    Err(FirewallError::Missing)
}

async fn feed(program: &str, script: &str) -> io::Result<Output> {
    let mut nft = Command::new(program)
        .args(["-f", "-"])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdin = nft.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // One that does not listen says why when it ends.
            let _ = stdin.write_all(script.as_bytes()).await;
        }
    };
    let ((), output) = tokio::join!(write, nft.wait_with_output());
    output
}

fn refused(output: &Output) -> FirewallError {
    let said = String::from_utf8_lossy(output.stderr.get(..MAX_ANSWER).unwrap_or(&output.stderr));
    if said.contains("Operation not permitted") {
        return FirewallError::Permission;
    }
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = lines.collect::<Vec<_>>().join("; ");
    let answer = match said.is_empty() {
        true => output.status.to_string(),
        false => said,
    };
    FirewallError::Refused { answer }
}
