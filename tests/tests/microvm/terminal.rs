//! `hull run -it` in a real terminal.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Result;
use expectrl::session::{OsSession, Session};
use expectrl::{Eof, Expect};
use system_tests::{Hull, hull};

const CTRL_C: &str = "\x03";
const CTRL_Z: &str = "\x1a";
const DETACH: &str = "\x10\x11";

fn terminal(hull: &Hull, args: &[&str]) -> Result<OsSession> {
    let mut command = hull.command(args);
    command.stdin(Stdio::inherit());
    let mut session = Session::spawn(command)?;
    session.set_expect_timeout(Some(Duration::from_secs(60)));
    session.get_process_mut().set_window_size(80, 24)?;
    Ok(session)
}

#[test]
fn a_shell_has_job_control_its_size_and_ctrl_c() -> Result<()> {
    let hull = hull!();
    let name = hull.container("terminal");
    let mut session = terminal(&hull, &["run", "-it", "--name", &name, "busybox", "sh"])?;
    session.expect("/ #")?;
    session.get_process_mut().set_window_size(101, 37)?;
    hull.eventually("the new size reaching the container", || {
        let size = hull
            .hull(["exec", &name, "sh", "-c", "stty size < /dev/console"])
            .stdout;
        if size.trim() == "37 101" {
            Ok(())
        } else {
            Err(size)
        }
    });
    // Written so that what is typed does not look like what is printed.
    let job = "sh -c 'tty; echo st\\arted; exec sleep 1000'";
    session.send_line(job)?;
    session.expect("/dev/")?;
    session.expect("started")?;
    session.send(CTRL_C)?;
    session.expect("/ #")?;
    session.send_line(job)?;
    session.expect("started")?;
    session.send(CTRL_Z)?;
    session.expect("Stopped")?;
    session.send_line("kill %1; echo code-$((6*7))")?;
    session.expect("code-42")?;
    // The shell warns of stopped jobs before it exits; what it becomes does not.
    session.send_line("exec sh -c 'exit 5'")?;
    session.expect(Eof)?;
    assert_eq!(
        hull.hull(["inspect", "--format", "{{.State.ExitCode}}", &name])
            .ok()
            .trim(),
        "5"
    );
    Ok(())
}

#[test]
fn one_can_detach_and_attach_again() -> Result<()> {
    let hull = hull!();
    let name = hull.container("detached");
    let mut session = terminal(&hull, &["run", "-it", "--name", &name, "busybox", "sh"])?;
    session.expect("/ #")?;
    session.send_line("kept=still-here")?;
    session.expect("/ #")?;
    session.send(DETACH)?;
    session.expect(Eof)?;
    assert_eq!(
        hull.hull(["inspect", "--format", "{{.State.Status}}", &name])
            .ok()
            .trim(),
        "running"
    );
    let mut session = terminal(&hull, &["attach", &name])?;
    session.send_line("echo [$kept]")?;
    session.expect("[still-here]")?;
    session.send_line("exit")?;
    session.expect(Eof)?;
    Ok(())
}

#[test]
fn a_terminal_is_asked_for_only_where_there_is_one() -> Result<()> {
    let hull = hull!();
    hull.hull(["run", "-it", "--rm", "busybox", "true"])
        .exits(1)
        .says("the input device is not a TTY");
    Ok(())
}
