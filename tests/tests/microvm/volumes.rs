//! Folders and files of the host, and volumes, in a container.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use anyhow::Result;
use system_tests::hull;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("hull-volume-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Folder(path))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn mounted(&self, target: &str) -> String {
        format!("{}:{target}", self.0.display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

#[test]
fn a_folder_is_read_and_written_with_its_owners() -> Result<()> {
    let hull = hull!();
    let folder = Folder::new("owners")?;
    fs::write(folder.at("given"), "from the host\n")?;
    let script = "cat /src/given; stat -c %u /src/given; echo from inside > /src/made; chown 1234:99 /src/made; mkdir /src/sub; ln -s /etc/passwd /src/sub/link; mv /src/given /src/sub/";
    let seen = hull
        .hull([
            "run",
            "--rm",
            "-v",
            &folder.mounted("/src"),
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    assert_eq!(
        seen,
        format!("from the host\n{}\n", fs::metadata(&folder.0)?.uid())
    );
    assert_eq!(fs::read_to_string(folder.at("made"))?, "from inside\n");
    let made = fs::metadata(folder.at("made"))?;
    assert_eq!((made.uid(), made.gid()), (1234, 99));
    assert_eq!(fs::read_to_string(folder.at("sub/given"))?, "from the host\n");
    assert_eq!(
        fs::read_link(folder.at("sub/link"))?,
        PathBuf::from("/etc/passwd")
    );
    Ok(())
}

#[test]
fn a_folder_may_have_more_files_than_a_process_usually_may_have_open() -> Result<()> {
    const FILES: usize = 6000;
    let hull = hull!();
    let folder = Folder::new("many")?;
    for n in 0..FILES {
        fs::write(folder.at(&n.to_string()), "")?;
    }
    // `find` looks each up, and the guest keeps all of them in mind.
    let script = "find /src -type f -size 0 | wc -l";
    let mounted = folder.mounted("/src");
    let seen = hull.hull(["run", "--rm", "-v", &mounted, "busybox", "sh", "-c", script]);
    assert_eq!(seen.ok(), format!("{FILES}\n"));
    Ok(())
}

#[test]
fn a_read_only_folder_cannot_be_written() -> Result<()> {
    let hull = hull!();
    let folder = Folder::new("read-only")?;
    fs::write(folder.at("given"), "as it was")?;
    let volume = folder.mounted("/src:ro");
    let outcome = hull.hull([
        "run",
        "--rm",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        "echo no > /src/given",
    ]);
    outcome.exits(1).says("Read-only file system");
    assert_eq!(fs::read_to_string(folder.at("given"))?, "as it was");
    Ok(())
}

#[test]
fn of_a_single_file_the_siblings_are_not_visible() -> Result<()> {
    let hull = hull!();
    let folder = Folder::new("single")?;
    fs::write(folder.at("shown"), "shown\n")?;
    fs::write(folder.at("secret"), "secret\n")?;
    let volume = format!("{}:/etc/shown", folder.at("shown").display());
    let script = "cat /etc/shown; ls -a / /etc /run | grep -c secret; echo more >> /etc/shown";
    let seen = hull
        .hull(["run", "--rm", "-v", &volume, "busybox", "sh", "-c", script])
        .ok();
    assert_eq!(seen, "shown\n0\n");
    assert_eq!(fs::read_to_string(folder.at("shown"))?, "shown\nmore\n");
    Ok(())
}

#[test]
fn a_link_out_of_the_folder_leads_into_the_container_not_to_the_host() -> Result<()> {
    let hull = hull!();
    let folder = Folder::new("links")?;
    fs::write(folder.at("target"), "x")?;
    std::os::unix::fs::symlink("/etc/hostname", folder.at("link"))?;
    let seen = hull
        .hull([
            "run",
            "--rm",
            "--hostname",
            "inside",
            "-v",
            &folder.mounted("/src"),
            "busybox",
            "cat",
            "/src/link",
        ])
        .ok();
    assert_eq!(seen, "inside\n");
    Ok(())
}

/// Removes its volume when it is dropped.
struct Volume(system_tests::Hull, String);

impl Volume {
    fn new(hull: &system_tests::Hull, name: &str) -> Volume {
        let volume = Volume(hull.clone(), format!("{name}-{}", std::process::id()));
        volume.0.docker(["volume", "rm", "-f", &volume.1]);
        volume
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        self.0.docker(["volume", "rm", "-f", &self.1]);
    }
}

#[test]
fn a_volume_outlives_its_containers_and_is_managed_by_dockers_cli() -> Result<()> {
    let hull = hull!();
    let volume = Volume::new(&hull, "kept");
    let name = volume.1.as_str();
    assert_eq!(
        hull.docker(["volume", "create", "--label", "tier=db", name])
            .ok()
            .trim(),
        name
    );
    let mounted = format!("{name}:/data");
    hull.docker([
        "run",
        "--rm",
        "-v",
        &mounted,
        "busybox",
        "sh",
        "-c",
        "echo kept > /data/file",
    ])
    .ok();
    let user = hull.container("volume-user");
    hull.docker([
        "create",
        "--name",
        &user,
        "-v",
        &mounted,
        "busybox",
        "cat",
        "/data/file",
    ])
    .ok();
    hull.docker(["volume", "rm", name])
        .exits(1)
        .says("volume is in use");
    assert_eq!(hull.docker(["start", "-a", &user]).ok(), "kept\n");
    let filter = format!("name=^{name}$");
    for (filters, expected) in [
        (["-f", &filter, "-f", "label=tier=db"], name),
        (["-f", &filter, "-f", "dangling=true"], ""),
    ] {
        let listed = hull
            .docker(["volume", "ls", "-q"].into_iter().chain(filters))
            .ok();
        assert_eq!(listed.trim(), expected, "{filters:?}");
    }
    let format = "{{.Driver}} {{.Scope}} {{index .Labels \"tier\"}}";
    assert_eq!(
        hull.docker(["volume", "inspect", "-f", format, name]).ok(),
        "local local db\n"
    );
    assert_eq!(
        hull.hull(["volume", "inspect", "-f", format, name]).ok(),
        "local local db\n"
    );
    hull.docker(["rm", "-v", &user]).ok();
    assert_eq!(hull.docker(["volume", "rm", name]).ok().trim(), name);
    hull.docker(["volume", "inspect", name])
        .exits(1)
        .says("no such volume");
    Ok(())
}

#[test]
fn volumes_of_a_container_are_taken_over_with_their_data() -> Result<()> {
    let hull = hull!();
    let (data, user) = (hull.container("data"), hull.container("data-user"));
    hull.docker([
        "run",
        "--name",
        &data,
        "-v",
        "/data",
        "busybox",
        "sh",
        "-c",
        "echo first > /data/file",
    ])
    .ok();
    let script = "cat /data/file; echo second >> /data/file";
    let seen = hull
        .docker([
            "run",
            "--name",
            &user,
            "--volumes-from",
            &data,
            "busybox",
            "sh",
            "-c",
            script,
        ])
        .ok();
    assert_eq!(seen, "first\n");
    let from = format!("{}:ro", &*data);
    let outcome = hull.hull([
        "run",
        "--rm",
        "--volumes-from",
        &from,
        "busybox",
        "sh",
        "-c",
        "cat /data/file; echo > /data/file",
    ]);
    assert_eq!(outcome.stdout, "first\nsecond\n");
    outcome.exits(1).says("Read-only file system");
    let mount = "{{(index .Mounts 0).Name}}";
    let volume = hull.docker(["inspect", "-f", mount, &data]).ok();
    hull.docker(["rm", "-v", &data]).ok();
    // The other container still mounts it.
    hull.docker(["volume", "inspect", volume.trim()]).ok();
    hull.docker(["rm", "-v", &user]).ok();
    hull.docker(["volume", "inspect", volume.trim()])
        .exits(1)
        .says("no such volume");
    Ok(())
}

#[test]
fn an_empty_volume_gets_what_the_image_has_in_its_place_once() -> Result<()> {
    let hull = hull!();
    let volume = Volume::new(&hull, "copied");
    let mounted = format!("{}:/etc", volume.1);
    let script = "stat -c '%u:%g %a' /etc/passwd /etc; grep -c root /etc/passwd; rm /etc/passwd; echo more > /etc/more";
    let plain = hull.hull(["run", "--rm", "busybox", "sh", "-c", script]).ok();
    let filled = hull
        .hull(["run", "--rm", "-v", &mounted, "busybox", "sh", "-c", script])
        .ok();
    assert_eq!(filled, plain);
    let again = hull.hull([
        "run",
        "--rm",
        "-v",
        &mounted,
        "busybox",
        "sh",
        "-c",
        "ls /etc/passwd; cat /etc/more",
    ]);
    assert_eq!(again.stdout, "more\n");
    let empty = Volume::new(&hull, "not-copied");
    let mounted = format!("{}:/etc:nocopy", empty.1);
    // What hull itself puts there is no file of the image.
    let seen = hull
        .hull(["run", "--rm", "-v", &mounted, "busybox", "ls", "/etc"])
        .ok();
    assert!(!seen.contains("passwd"), "{seen}");
    Ok(())
}

#[test]
fn a_container_that_was_never_started_fills_the_volumes_that_are_taken_from_it() -> Result<()> {
    let hull = hull!();
    let data = hull.container("never-started");
    hull.docker(["create", "--name", &data, "-v", "/etc", "busybox", "true"])
        .ok();
    let seen = hull
        .docker([
            "run",
            "--rm",
            "--volumes-from",
            &data,
            "busybox",
            "grep",
            "-c",
            "^root:",
            "/etc/passwd",
        ])
        .ok();
    assert_eq!(seen, "1\n");
    hull.docker(["rm", "-v", &data]).ok();
    Ok(())
}

#[test]
fn a_path_in_a_volume_is_mounted_alone_and_must_be_there() -> Result<()> {
    let hull = hull!();
    let volume = Volume::new(&hull, "subpath");
    let mounted = format!("{}:/data", volume.1);
    let script = "mkdir /data/a /data/b; echo in > /data/a/file; ln -s / /data/out";
    hull.hull(["run", "--rm", "-v", &mounted, "busybox", "sh", "-c", script])
        .ok();
    let mount = |path: &str| format!("type=volume,src={},dst=/sub,volume-subpath={path}", volume.1);
    let seen = hull.docker([
        "run",
        "--rm",
        "--mount",
        &mount("a"),
        "busybox",
        "sh",
        "-c",
        "ls /sub; ls /sub/.. | grep -c '^b$'",
    ]);
    assert_eq!(seen.stdout, "file\n0\n");
    for path in ["missing", "out/etc"] {
        let outcome = hull.docker(["run", "--rm", "--mount", &mount(path), "busybox", "true"]);
        assert_ne!(outcome.code, 0, "{path}: {outcome}");
    }
    Ok(())
}
