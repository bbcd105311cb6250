//! Odd layers, and what they are about: every implementation has to make the same files of them. Self-contained
//! (crate `tar` only), so that other test programs can include it by its path.
#![allow(dead_code, reason = "each test program uses its part")]

mod attributes;
mod contents;
mod forms;
mod links;
mod names;
mod replacements;
mod whiteouts;

#[allow(
    clippy::duplicate_mod,
    reason = "a program that has the fixture, too, has it twice"
)]
#[path = "../fixture/tar_builder.rs"]
mod tar_builder;

#[allow(unused_imports, reason = "other test programs build on it")]
pub(crate) use tar_builder::{Tar, header};

use tar::{EntryType, Header};

/// An image of odd layers.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// Uncompressed archives, bottom first.
    pub(crate) layers: Vec<Vec<u8>>,
}

/// All cases.
pub(crate) fn corpus() -> Vec<Case> {
    [
        attributes::cases(),
        names::cases(),
        links::cases(),
        contents::cases(),
        replacements::cases(),
        forms::cases(),
        whiteouts::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn one(name: &'static str, tar: Tar) -> Case {
    Case {
        name,
        layers: vec![tar.finish()],
    }
}

fn several<const N: usize>(name: &'static str, layers: [Tar; N]) -> Case {
    Case {
        name,
        layers: layers.into_iter().map(Tar::finish).collect(),
    }
}

fn with_mode(kind: EntryType, path: &str, mode: u32) -> Header {
    let mut header = header(kind, path, "", 0);
    header.set_mode(mode);
    header
}

fn with_mtime(path: &str, mtime: u64) -> Header {
    let mut header = header(EntryType::Regular, path, "", 0);
    header.set_mtime(mtime);
    header
}
