//! Folders and files of the host in a container.

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
