//! The dependency table of ARCHITECTURE.md is the law: this compares it with what cargo sees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Folder of a crate, relative to the workspace, to the names of the workspace crates it depends on.
type Graph = BTreeMap<String, BTreeSet<String>>;

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests lie in the workspace")
        .to_path_buf()
}

/// The rows of the table: `| \`folder\` | job | dependencies |`, a dash for none.
fn documented(architecture: &str) -> Graph {
    let table = architecture
        .split("\n## ")
        .find(|chapter| chapter.starts_with("The map"));
    let rows = table.unwrap_or_default().lines().filter_map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(str::trim);
        let folder = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
        let (_job, dependencies) = (cells.next()?, cells.next()?);
        let dependencies = dependencies
            .split(", ")
            .filter(|name| *name != "–")
            .map(String::from)
            .collect();
        Some((folder.to_string(), dependencies))
    });
    rows.collect()
}

fn actual(root: &Path) -> Result<Graph> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("cargo metadata could not be run")?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"]
        .as_array()
        .context("cargo metadata lists no packages")?;
    let mut graph = Graph::new();
    for package in packages {
        let manifest = Path::new(
            package["manifest_path"]
                .as_str()
                .context("a package without a manifest")?,
        );
        let folder = manifest
            .parent()
            .context("a manifest without a folder")?
            .strip_prefix(root)?;
        let in_workspace = package["dependencies"]
            .as_array()
            .context("a package without dependencies")?
            .iter();
        let names = in_workspace.filter(|d| d["path"].is_string() && d["kind"] != "dev");
        let names = names
            .filter_map(|d| d["name"].as_str().map(String::from))
            .collect();
        graph.insert(folder.display().to_string(), names);
    }
    Ok(graph)
}

#[test]
fn every_dependency_between_crates_is_in_the_architectures_table() -> Result<()> {
    let root = workspace_root();
    let documented = documented(&std::fs::read_to_string(root.join("ARCHITECTURE.md"))?);
    let actual = actual(&root)?;
    let folders = |graph: &Graph| graph.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(
        folders(&documented),
        folders(&actual),
        "the crates of ARCHITECTURE.md and of the workspace differ"
    );
    for (folder, dependencies) in &actual {
        let allowed = &documented[folder];
        let extra: Vec<_> = dependencies.difference(allowed).collect();
        assert!(
            extra.is_empty(),
            "{folder} depends on {extra:?}, which ARCHITECTURE.md does not allow"
        );
    }
    Ok(())
}

#[test]
fn the_laws_about_runtimes_and_docker_types_hold() -> Result<()> {
    let root = workspace_root();
    for (folder, forbidden) in [
        ("vmm", ["tokio", "bollard-stubs"].as_slice()),
        ("guest-agent", &["tokio", "bollard-stubs"]),
        ("crates/virtio-fs", &["tokio", "bollard-stubs"]),
        ("crates/image-store", &["tokio", "bollard-stubs"]),
        ("crates/engine", &["bollard-stubs", "bollard", "axum"]),
        ("crates/sandbox", &["bollard-stubs", "bollard", "axum"]),
    ] {
        let manifest = std::fs::read_to_string(root.join(folder).join("Cargo.toml"))?;
        for name in forbidden {
            let depends = manifest
                .lines()
                .any(|line| line.split(['.', ' ', '=']).next() == Some(*name));
            assert!(!depends, "{folder} must not depend on {name}");
        }
    }
    Ok(())
}

/// The Rust files below a folder that leave the lint against `unsafe`, relative to the workspace.
fn unsafe_modules(root: &Path, folder: &Path, found: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            unsafe_modules(root, &path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            if ["#![allow(unsafe_code", "#![expect(unsafe_code"]
                .iter()
                .any(|lint| text.contains(lint))
            {
                found.insert(path.strip_prefix(root)?.display().to_string());
            }
        }
    }
    Ok(())
}

#[test]
fn unsafe_code_is_only_in_the_modules_that_the_architecture_names() -> Result<()> {
    let root = workspace_root();
    let mut found = BTreeSet::new();
    for folder in documented(&std::fs::read_to_string(root.join("ARCHITECTURE.md"))?).keys() {
        let sources = root.join(folder).join("src");
        unsafe_modules(&root, &sources, &mut found)?;
    }
    let architecture = std::fs::read_to_string(root.join("ARCHITECTURE.md"))?;
    let chapter = architecture
        .split("\n## ")
        .find(|chapter| chapter.starts_with("Where `unsafe` is"));
    let chapter = chapter.context("ARCHITECTURE.md does not say where unsafe code is")?;
    let rows = chapter
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    assert_eq!(rows.map(String::from).collect::<BTreeSet<_>>(), found);
    Ok(())
}
