//! The tests' own instance of hull, from the command line: `instance remove` ends it and removes its state, anything else is a `hull` command in it
//! (`cargo run --release -p system-tests --bin instance -- ps -a`).

use std::os::unix::process::CommandExt;
use std::process::Stdio;

use anyhow::Result;
use system_tests::Hull;

fn main() -> Result<()> {
    let hull = Hull::instance()?;
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if arguments == ["remove"] {
        return hull.remove();
    }
    Err(hull.command(arguments).stdin(Stdio::inherit()).exec().into())
}
