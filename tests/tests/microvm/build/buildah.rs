//! What `buildah build` makes of an entry.

use std::fs;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use system_tests::Outcome;
use tempfile::TempDir;

use super::context::pack;
use super::entries::Options;
use super::listing::{Listing, of_configuration, of_files};

/// A store of its own with the base images; it goes with this.
pub(super) struct Buildah {
    folder: TempDir,
    /// The base images' identifiers.
    bases: Vec<String>,
}

impl Buildah {
    /// With the images that hull is built with, from `build/` of the checkout: busybox, and Debian where it is there.
    pub(super) fn new(prefix: &Path) -> Result<Self> {
        let mut buildah = Self {
            folder: tempfile::tempdir()?,
            bases: Vec::new(),
        };
        // As an archive it has its own name; a folder's would be made of its path.
        let busybox = buildah.folder.path().join("busybox.tar");
        fs::write(&busybox, pack(&prefix.join("lib/hull/busybox"))?)?;
        buildah.bring_in(&busybox)?;
        let debian = debian(prefix);
        if debian.exists() {
            buildah.bring_in(&debian)?;
        }
        Ok(buildah)
    }

    fn bring_in(&mut self, archive: &Path) -> Result<()> {
        let id = self.run(&["pull", "--quiet", &format!("oci-archive:{}", archive.display())])?;
        self.bases.push(id.trim().to_owned());
        Ok(())
    }

    /// Builds; the image's identifier.
    pub(super) fn build(&self, context: &Path, dockerfile: &str, options: &Options) -> Result<String> {
        let id_file = tempfile::NamedTempFile::new()?;
        // Only Docker's own format has health checks, triggers and shells.
        let words = "build --format docker --layers=false --isolation chroot --pull-never --no-cache --http-proxy=false";
        let mut arguments: Vec<String> = words.split(' ').map(str::to_owned).collect();
        arguments.extend(["--iidfile".into(), id_file.path().display().to_string()]);
        arguments.extend(["--file".into(), context.join(dockerfile).display().to_string()]);
        let pair =
            |option: &str, (name, value): &(String, String)| [option.to_owned(), format!("{name}={value}")];
        arguments.extend(
            options
                .arguments
                .iter()
                .flat_map(|argument| pair("--build-arg", argument)),
        );
        arguments.extend(options.labels.iter().flat_map(|label| pair("--label", label)));
        if let Some(target) = &options.target {
            arguments.extend(["--target".to_owned(), target.clone()]);
        }
        let secrets = tempfile::tempdir()?;
        for (id, content) in &options.secrets {
            let path = secrets.path().join(id);
            fs::write(&path, content)?;
            arguments.extend(["--secret".to_owned(), format!("id={id},src={}", path.display())]);
        }
        arguments.push(context.display().to_string());
        self.run(&arguments)?;
        Ok(fs::read_to_string(id_file.path())?.trim().to_owned())
    }

    /// The files and the configuration of an image.
    pub(super) fn listing(&self, image: &str) -> Result<Listing> {
        let container = self.run(&["from", "--pull-never", image])?;
        let root = self.run(&["mount", container.trim()])?;
        let mut archive = tempfile::tempfile()?;
        let mut tar = Command::new("tar");
        tar.args([
            "--create",
            "--format=pax",
            "--numeric-owner",
            "--xattrs",
            "--xattrs-include=*",
        ])
        .args(["--file=-", "--directory", root.trim(), "."])
        .stdin(Stdio::null())
        .stdout(archive.try_clone()?);
        let outcome = Outcome::from(tar.output()?);
        ensure!(outcome.code == 0, "tar: {outcome}");
        self.run(&["rm", container.trim()])?;
        archive.rewind()?;
        let mut listing = of_files(BufReader::new(archive))?;
        let inspected: Value = serde_json::from_str(&self.run(&["inspect", "--type", "image", image])?)?;
        let mut config = inspected["Docker"]["config"].clone();
        // Buildah marks its images.
        if let Some(labels) = config["Labels"].as_object_mut() {
            labels.remove("io.buildah.version");
        }
        listing.extend(of_configuration(&config));
        Ok(listing)
    }

    /// Removes an image that was built. One that a Dockerfile did not change is its base, and stays.
    pub(super) fn remove(&self, image: &str) -> Result<()> {
        let is_base = self.bases.iter().any(|base| image.ends_with(base.as_str()));
        match is_base {
            true => Ok(()),
            false => self.run(&["rmi", image]).map(drop),
        }
    }

    fn run<A: AsRef<str>>(&self, arguments: &[A]) -> Result<String> {
        let folder = |name: &str| self.folder.path().join(name);
        let mut command = Command::new("buildah");
        command
            .args(["--storage-driver", "vfs", "--root"])
            .arg(folder("root"))
            .arg("--runroot")
            .arg(folder("run"))
            .args(arguments.iter().map(AsRef::as_ref))
            .env("TMPDIR", self.folder.path())
            .stdin(Stdio::null());
        let output = command.output().context("buildah cannot be executed")?;
        let outcome = Outcome::from(output);
        let words: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
        ensure!(outcome.code == 0, "buildah {}: {outcome}", words.join(" "));
        Ok(outcome.stdout)
    }
}

/// The archive of the Debian image.
pub(super) fn debian(prefix: &Path) -> PathBuf {
    prefix.join("debian-bookworm.oci.tar")
}
