//! Bytes in and out of a container: all of them, in order, and no more memory than the windows.

use std::io::Read;
use std::process::Stdio;

use anyhow::{Context, Result};
use system_tests::{Hull, hull};

const MIB: u64 = 1 << 20;

/// Resident memory of the daemon, in KiB.
fn resident(hull: &Hull) -> Result<u64> {
    let script = "for p in $(pidof hulld); do grep VmRSS /proc/$p/status; done | awk '{n+=$2} END {print n}'";
    Ok(hull.shell(script).ok().trim().parse()?)
}

#[test]
fn a_hundred_megabytes_of_output_arrive_byte_for_byte() -> Result<()> {
    let hull = hull!();
    // A pattern that neither repeats within a block nor is text: the count of 16-byte records, in binary.
    let script = "dd if=/dev/urandom of=/seed bs=1M count=4 2>/dev/null; for i in 1 2 3 4 5; do for j in 1 2 3 4 5; do cat /seed; done; done > /all; md5sum < /all >&2; cat /all";
    let mut child = hull
        .command(["run", "--rm", "busybox", "sh", "-c", script])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut sum = std::process::Command::new("md5sum")
        .stdin(Stdio::from(child.stdout.take().context("stdout is a pipe")?))
        .stdout(Stdio::piped())
        .spawn()?;
    let mut told = String::new();
    child
        .stderr
        .take()
        .context("stderr is a pipe")?
        .read_to_string(&mut told)?;
    assert!(child.wait()?.success(), "{told}");
    let mut counted = String::new();
    sum.stdout
        .take()
        .context("md5sum prints")?
        .read_to_string(&mut counted)?;
    sum.wait()?;
    assert_eq!(told, counted);
    Ok(())
}

#[test]
fn a_reader_that_stalls_holds_the_container_back_and_grows_nobodys_memory() -> Result<()> {
    let hull = hull!();
    let name = hull.container("stalled");
    let before = resident(&hull)?;
    let script =
        "i=0; while :; do dd if=/dev/zero bs=1M count=1 2>/dev/null; i=$((i+1)); echo $i > /written; done";
    let mut child = hull
        .command(["run", "--name", &name, "busybox", "sh", "-c", script])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut first = [0; 4096];
    child
        .stdout
        .as_mut()
        .context("stdout is a pipe")?
        .read_exact(&mut first)?;
    // Nobody reads on: the container comes to stand still.
    let written = |hull: &Hull| {
        hull.hull(["exec", &name, "cat", "/written"])
            .stdout
            .trim()
            .parse::<u64>()
            .unwrap_or(0)
    };
    let mut last = u64::MAX;
    let standing = hull.eventually("the container standing still", || {
        let now = written(&hull);
        let stands = now == last;
        last = now;
        if stands {
            Ok(now)
        } else {
            Err(format!("{now} MiB written"))
        }
    });
    let grown = resident(&hull)?.saturating_sub(before) * 1024;
    child.kill()?;
    child.wait()?;
    assert!(standing < 32, "{standing} MiB went to a reader who read 4 KiB");
    assert!(grown < 16 * MIB, "the daemon grew by {grown} bytes");
    Ok(())
}

#[test]
fn a_hundred_megabytes_of_input_arrive_byte_for_byte() -> Result<()> {
    let hull = hull!();
    let input: Vec<u8> = (0..100 * MIB as u32 / 4)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let inside = hull
        .hull_with_input(["run", "-i", "--rm", "busybox", "md5sum"], &input)
        .ok();
    let path = std::env::temp_dir().join(format!("hull-input-{}", std::process::id()));
    std::fs::write(&path, &input)?;
    let outside = std::process::Command::new("md5sum")
        .stdin(std::fs::File::open(&path)?)
        .output()?;
    std::fs::remove_file(path)?;
    assert_eq!(inside, String::from_utf8(outside.stdout)?);
    Ok(())
}
