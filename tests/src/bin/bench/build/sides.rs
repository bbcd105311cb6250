//! The two that build, each with a store of its own on the same disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::prepare::DEBIAN;
use super::recipes::{RECIPES, Recipe};
use crate::Places;
use crate::bundle::DISK;
use crate::peers::{ROOT, peer, run};

/// The names of the base images.
const BUSYBOX: &str = "localhost/busybox";
const DEBIAN_NAME: &str = "localhost/debian:bookworm";

/// hull, buildah, and what they build.
pub(super) struct Site<'a> {
    places: &'a Places,
    /// The folder with all contexts.
    contexts: PathBuf,
    /// Whether hull's image of Debian was not there before.
    brought_debian: bool,
    /// The base images as buildah knows them.
    bases: BTreeSet<String>,
}

impl<'a> Site<'a> {
    /// Makes the contexts, and brings both the base images.
    pub(super) fn make(places: &'a Places) -> Result<Site<'a>> {
        let mut site = Site {
            places,
            contexts: places.disk.join("build"),
            brought_debian: false,
            bases: BTreeSet::new(),
        };
        for recipe in &RECIPES {
            recipe.make(&site.context(recipe))?;
        }
        let debian = places.peers.join(DEBIAN);
        let listed = run(&mut site.hull(&["images", "--quiet", DEBIAN_NAME]))?;
        if listed.stdout.is_empty() {
            run(site.hull(&["load", "--quiet", "--input"]).arg(&debian))?;
            site.brought_debian = true;
        }
        let shared = Path::new(ROOT).join(DISK.trim_start_matches('/'));
        std::fs::copy(&debian, shared.join(DEBIAN)).context("give buildah the image of Debian")?;
        run(Command::new("cp")
            .arg("-R")
            .arg(places.lib.join("busybox"))
            .arg(shared.join("busybox")))?;
        bring_buildah(&format!("oci:{DISK}/busybox"), BUSYBOX)?;
        bring_buildah(&format!("oci-archive:{DISK}/{DEBIAN}"), DEBIAN_NAME)?;
        site.bases = images_of_buildah()?;
        Ok(site)
    }

    /// The folder of a recipe's context.
    pub(super) fn context(&self, recipe: &Recipe) -> PathBuf {
        self.contexts.join(recipe.name)
    }

    fn hull(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.places.hull);
        command.args(arguments);
        command
    }

    /// `hull build`.
    pub(super) fn build_with_hull(&self, recipe: &Recipe) -> Command {
        let mut command = self.hull(&["build", "--network", "none", "--tag", &image(recipe)]);
        command.arg(self.context(recipe));
        command
    }

    /// `buildah build`, with a layer for each step or with one for all.
    pub(super) fn build_with_buildah(&self, recipe: &Recipe, layers: bool) -> Command {
        let context = format!("{DISK}/build/{}", recipe.name);
        let (layers, image) = (format!("--layers={layers}"), image(recipe));
        let options = [
            "build",
            "--isolation",
            "oci",
            "--runtime",
            "/crun",
            "--network",
            "none",
        ];
        let arguments = ["--pull-never", &layers, "--tag", &image, &context];
        buildah(&[&options[..], &arguments].concat())
    }

    /// hull has nothing of it any more but the base images.
    pub(super) fn forget_hull(&self, recipe: &Recipe) -> Result<()> {
        run(&mut self.hull(&["rmi", "--force", &image(recipe)]))?;
        run(&mut self.hull(&["builder", "prune", "--all", "--force"]))?;
        Ok(())
    }

    /// buildah has nothing of it any more but the base images.
    pub(super) fn forget_buildah(&self, recipe: &Recipe) -> Result<()> {
        run(&mut buildah(&["rmi", "--force", &image(recipe)]))?;
        run(&mut buildah(&["rmi", "--prune", "--force"]))?;
        let left = images_of_buildah()?;
        ensure!(
            left == self.bases,
            "buildah keeps other images than the base images {:?}: {left:?}",
            self.bases
        );
        Ok(())
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        if self.brought_debian
            && let Err(error) = run(&mut self.hull(&["rmi", DEBIAN_NAME]))
        {
            eprintln!("{error:#}");
        }
    }
}

fn image(recipe: &Recipe) -> String {
    format!("localhost/bench-build-{}", recipe.name)
}

/// buildah as Debian has it, but for where its store is. It keeps what is temporary on the disk, too.
fn buildah(arguments: &[&str]) -> Command {
    let (temporary, store) = (format!("TMPDIR={DISK}"), format!("{DISK}/buildah"));
    let program = ["env", &temporary, "/buildah", "--storage-driver", "overlay"];
    let places = ["--root", &store, "--runroot", "/run/buildah"];
    peer("/busybox", &[&program[..], &places, arguments].concat())
}

fn bring_buildah(image: &str, name: &str) -> Result<()> {
    let id = run(&mut buildah(&["pull", "--quiet", image]))?.stdout;
    let id = String::from_utf8_lossy(&id);
    run(&mut buildah(&["tag", id.trim(), name])).map(drop)
}

/// The images of buildah, those without a name among them.
fn images_of_buildah() -> Result<BTreeSet<String>> {
    let listed = run(&mut buildah(&["images", "--all", "--quiet"]))?.stdout;
    let listed = String::from_utf8_lossy(&listed);
    Ok(listed.lines().map(str::to_owned).collect())
}
