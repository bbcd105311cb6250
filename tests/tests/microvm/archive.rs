//! A container's files from outside: `export`, `cp` and `diff`, while it runs and when it does not, with the real docker
//! CLI and with `hull`.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Result;
use system_tests::{Cleanup, Hull, Outcome, hull};

/// Changes its files in every way that can be told, and stays.
const SCRIPT: &str = "mkdir -p /data/sub; echo hello >/data/sub/f; chown 1000:1001 /data/sub/f; chmod 4750 /data/sub/f; \
    ln -s sub/f /data/link; ln /data/sub/f /data/hard; mkfifo /data/fifo; rm /bin/tac; echo x >>/etc/passwd; \
    rm -r /var/www; mkdir /var/www; truncate -s 100G /data/sparse; echo ready; while :; do sleep 0.2; done";

/// A container that runs [`SCRIPT`] and has done all but stay.
fn changed(hull: &Hull, name: &str) -> Cleanup {
    let name = hull.container(name);
    hull.start_script(&name, SCRIPT);
    assert_eq!(hull.first_lines(&name, 1), ["ready"]);
    name
}

/// The lines that `tar` lists of an archive.
fn list(archive: &Path) -> String {
    let listed = Command::new("tar").arg("tvf").arg(archive).output();
    Outcome::from(listed.expect("tar can be executed")).ok()
}

fn check_diff(diff: &str) {
    let expected = "C /bin\nD /bin/tac\nA /data\nA /data/fifo\nA /data/hard\nA /data/link\nA /data/sparse\nA /data/sub\n\
        A /data/sub/f\nC /etc\nC /etc/passwd\n";
    assert_eq!(diff, expected);
}

fn check_export(hull: &Hull, name: &str, folder: &Path) -> Result<()> {
    let archive = folder.join("export.tar");
    let output = hull
        .docker_command(["export", name])
        .stdout(fs::File::create(&archive)?)
        .status()?;
    assert!(output.success());
    let listed = list(&archive);
    for line in [
        "-rwsr-x--- 1000/1001         6 ",
        "data/link -> sub/f",
        "link to data/hard",
        "prw-r--r-- 0/0               0 ",
        "-rw-r--r-- 0/0    107374182400 ",
        "drwxr-xr-x 0/0               0 ",
    ] {
        assert!(listed.contains(line), "no {line:?} in:\n{listed}");
    }
    assert!(!listed.contains("bin/tac\n"), "{listed}");
    assert!(
        fs::metadata(&archive)?.len() < 64 << 20,
        "holes are in the archive"
    );
    Ok(())
}

#[test]
fn diff_and_export_tell_the_same_whether_the_container_runs_or_not() -> Result<()> {
    let hull = hull!();
    let folder = tempfile::tempdir()?;
    let name = changed(&hull, "archive-diff");
    for state in ["running", "stopped"] {
        check_diff(&hull.docker(["diff", &name]).ok());
        check_diff(&hull.hull(["diff", &name]).ok());
        check_export(&hull, &name, folder.path())?;
        println!("{state}: as expected");
        hull.docker(["kill", &name]);
    }
    let file = folder.path().join("file.tar");
    hull.hull(["export", "-o", &file.display().to_string(), &name])
        .ok();
    assert!(list(&file).contains("data/link -> sub/f"));
    hull.hull(["export", "no-such-container"])
        .exits(1)
        .says("No such container");
    Ok(())
}

#[test]
fn files_are_copied_both_ways_and_come_back_as_they_went() -> Result<()> {
    let hull = hull!();
    let folder = tempfile::tempdir()?;
    let name = changed(&hull, "archive-cp");
    let content: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.to_le_bytes()).collect();
    let local = folder.path().join("local");
    fs::write(&local, &content)?;
    fs::set_permissions(&local, fs::Permissions::from_mode(0o640))?;
    std::os::unix::fs::chown(&local, Some(1234), Some(4321))?;
    let local = local.display().to_string();
    let in_container = |path: &str| format!("{}:{path}", &*name);
    for (state, program) in [
        ("running", Hull::hull as fn(&Hull, [String; 3]) -> Outcome),
        ("stopped", Hull::docker),
    ] {
        let run = |args: [&str; 3]| program(&hull, args.map(String::from));
        let back = folder.path().join(state);
        run(["cp", &local, &in_container(&format!("/root/{state}"))]).ok();
        run([
            "cp",
            &in_container(&format!("/root/{state}")),
            &back.display().to_string(),
        ])
        .ok();
        assert!(fs::read(&back)? == content, "{state}: the content differs");
        assert_eq!(fs::metadata(&back)?.mode() & 0o7777, 0o640);
        let tree = folder.path().join(format!("{state}-tree"));
        run(["cp", &in_container("/data/sub"), &tree.display().to_string()]).ok();
        assert_eq!(fs::read_to_string(tree.join("f"))?, "hello\n");
        run(["cp", &tree.display().to_string(), &in_container("/data/copied")]).ok();
        hull.docker(["kill", &name]);
    }
    hull.docker(["start", &name]).ok();
    let script = "stat -c '%u:%g %a' /root/running /root/stopped; md5sum /root/running /root/stopped | cut -c -32 | uniq | \
        wc -l; cat /data/copied/f /data/copied/stopped-tree/f";
    assert_eq!(
        hull.docker(["exec", &name, "sh", "-c", script]).ok(),
        "1234:4321 640\n1234:4321 640\n1\nhello\nhello\n"
    );
    Ok(())
}

#[test]
fn cp_says_what_docker_says() -> Result<()> {
    let hull = hull!();
    let folder = tempfile::tempdir()?;
    let name = changed(&hull, "archive-words");
    let in_container = |path: &str| format!("{}:{path}", &*name);
    let file = folder.path().join("f");
    fs::write(&file, "x")?;
    let file = file.display().to_string();
    let nothing = format!("Could not find the file /nothing in container {}", &*name);
    for program in [Hull::docker as fn(&Hull, [String; 3]) -> Outcome, Hull::hull] {
        let run = |args: [&str; 3]| program(&hull, args.map(String::from));
        run(["cp", &in_container("/nothing"), &file])
            .exits(1)
            .says(&nothing);
        run(["cp", &file, &in_container("/nothing/f")])
            .exits(1)
            .says(&nothing);
        run(["cp", &file, &in_container("/nothing/")])
            .exits(1)
            .says("no such directory");
        run(["cp", &in_container("/data/"), &file])
            .exits(1)
            .says("cannot copy directory");
        run(["cp", &in_container("/data"), &in_container("/x")])
            .exits(1)
            .says("copying between containers is not supported");
        // A link is copied as one, unless it is followed.
        let link = folder.path().join("link").display().to_string();
        run(["cp", &in_container("/data/link"), &link]).ok();
        assert_eq!(fs::read_link(&link)?, Path::new("sub/f"));
        fs::remove_file(&link)?;
    }
    let followed = folder.path().join("followed").display().to_string();
    for program in [Hull::docker as fn(&Hull, [String; 4]) -> Outcome, Hull::hull] {
        program(
            &hull,
            ["cp", "-L", &in_container("/data/link"), &followed].map(String::from),
        )
        .ok();
        assert_eq!(fs::read_to_string(&followed)?, "hello\n");
        fs::remove_file(&followed)?;
    }
    Ok(())
}

#[test]
fn volumes_are_copied_to_and_what_is_read_only_is_not() -> Result<()> {
    let hull = hull!();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("f");
    fs::write(&file, "x")?;
    let file = file.display().to_string();
    let (name, volume) = (hull.container("archive-volume"), "archive-volume-data");
    let mount = format!("{volume}:/vol");
    let locked = format!("{volume}:/locked:ro");
    hull.docker([
        "create",
        "--name",
        &name,
        "--read-only",
        "-v",
        &mount,
        "-v",
        &locked,
        "busybox",
        "cat",
        "/vol/f",
    ])
    .ok();
    let in_container = |path: &str| format!("{}:{path}", &*name);
    hull.docker(["cp", &file, &in_container("/vol/f")]).ok();
    hull.docker(["cp", &file, &in_container("/locked/")])
        .exits(1)
        .says("mounted volume is marked read-only");
    hull.docker(["cp", &file, &in_container("/tmp/")])
        .exits(1)
        .says("container rootfs is marked read-only");
    assert_eq!(hull.docker(["diff", &name]).ok(), "");
    assert_eq!(hull.docker(["start", "-a", &name]).ok(), "x");
    Ok(())
}

/// A tar archive with these entries: name, and content or link target.
fn archive(folder: &Path, entries: &[(&str, &str, &str)]) -> Result<Vec<u8>> {
    let script = "import sys, tarfile, io\n\
        archive = tarfile.open(fileobj=sys.stdout.buffer, mode='w|')\n\
        for kind, name, text in zip(*[iter(sys.argv[1:])] * 3):\n\
        \x20   entry = tarfile.TarInfo(name)\n\
        \x20   entry.type = tarfile.SYMTYPE if kind == 'link' else tarfile.REGTYPE\n\
        \x20   entry.linkname = text if kind == 'link' else ''\n\
        \x20   entry.size = 0 if kind == 'link' else len(text)\n\
        \x20   archive.addfile(entry, io.BytesIO(text.encode()))\n\
        archive.close()\n";
    let mut command = Command::new("python3");
    command.current_dir(folder).args(["-c", script]);
    for (kind, name, text) in entries {
        command.args([kind, name, text]);
    }
    let output = command.output()?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}

#[test]
fn a_hostile_archive_stays_in_the_container() -> Result<()> {
    let hull = hull!();
    let folder = tempfile::tempdir()?;
    let name = hull.container("archive-hostile");
    hull.docker(["run", "-d", "--name", &name, "busybox", "sleep", "1000"])
        .ok();
    let target = format!("{}:/tmp", &*name);
    let upward = archive(folder.path(), &[("file", "../../../../tmp/out", "x")])?;
    hull.docker_with_input(["cp", "-", &target], &upward)
        .exits(1)
        .says("is outside of");
    let through_link = [
        ("link", "l", "../../../../../.."),
        ("file", "l/etc/escaped", "x"),
        ("file", "/absolute", "x"),
    ];
    hull.docker_with_input(["cp", "-", &target], &archive(folder.path(), &through_link)?)
        .ok();
    assert_eq!(
        hull.docker(["diff", &name]).ok(),
        "C /etc\nA /etc/escaped\nC /tmp\nA /tmp/absolute\nA /tmp/l\n"
    );
    assert!(!Path::new("/etc/escaped").exists() && !Path::new("/absolute").exists());
    hull.shell("test ! -e /etc/escaped && test ! -e /absolute").ok();
    let garbage = vec![b'g'; 100_000];
    hull.docker_with_input(["cp", "-", &target], &garbage)
        .exits(1)
        .says("no tar header");
    Ok(())
}

#[test]
fn a_hostile_container_leads_nowhere() -> Result<()> {
    let hull = hull!();
    let folder = tempfile::tempdir()?;
    let name = hull.container("archive-links");
    let script = "mv /var /old; ln -s ../../../../../etc /var; ln -s /proc/self/root/etc /magic; ln -s loop /loop; echo ok; \
        sleep 1000";
    hull.start_script(&name, script);
    assert_eq!(hull.first_lines(&name, 1), ["ok"]);
    // A link up and up ends at the container's own root.
    let own = hull.docker(["exec", &name, "cat", "/etc/passwd"]).ok();
    let to = folder.path().join("passwd");
    hull.docker([
        "cp",
        &format!("{}:/var/passwd", &*name),
        &to.display().to_string(),
    ])
    .ok();
    assert_eq!(fs::read_to_string(&to)?, own);
    for path in ["/magic/shadow", "/loop/x"] {
        let to = folder.path().join("got").display().to_string();
        hull.docker(["cp", &format!("{}:{path}", &*name), &to]).exits(1);
        hull.hull(["cp", &format!("{}:{path}", &*name), &to]).exits(1);
        assert!(!Path::new(&to).exists(), "{path}");
    }
    Ok(())
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() -> Result<()> {
    let hull = hull!();
    let name = hull.container("archive-cut");
    let script = "head -c 20000000 /dev/urandom >/big";
    hull.docker(["run", "--name", &name, "busybox", "sh", "-c", script])
        .ok();
    let microvms = || {
        let listed = hull.shell(&format!("ls {}/vm", hull.runtime().display()));
        let id = hull.docker(["inspect", "-f", "{{.Id}}", &name]).ok();
        listed.ok().lines().any(|own| id.starts_with(own))
    };
    let mut export = hull
        .docker_command(["export", &name])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut output = export.stdout.take().expect("stdout is a pipe");
    output.read_exact(&mut [0; 1_000_000])?;
    assert!(
        microvms(),
        "a container that does not run is exported without a microVM"
    );
    export.kill()?;
    export.wait()?;
    hull.eventually("the end of the microVM", || match microvms() {
        false => Ok(()),
        true => Err("it is still there".into()),
    });
    let start = hull.docker(["start", "-a", &name]);
    start.exits(0);
    Ok(())
}
