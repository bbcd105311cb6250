//! What is at a path.

use std::fs::File;
use std::os::fd::OwnedFd;

use guest_protocol::{PathStat, write_frame};
use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, readlinkat};
use rustix::io::Errno;

use super::{Result, TaskError};
use crate::os_error::During;
use crate::root::Root;

/// Linux follows as many (`MAXSYMLINKS`), Docker more.
const MAX_LINKS: usize = 255;

/// Answers [`guest_protocol::Task::Stat`].
pub(super) fn stat(root: &Root, path: &str, mut output: File) -> Result<()> {
    let (_, stat) = find(root, path)?;
    Ok(write_frame(&mut output, &describe(root, path, &stat)?)?)
}

/// What is at a path; a link at its end is not followed unless a slash stands behind it.
pub(super) fn find(root: &Root, path: &str) -> Result<(OwnedFd, Stat)> {
    let object = match root.open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
        Err(Errno::NOENT) => return Err(TaskError::NotFound(path.into())),
        result => result.during("look at", path)?,
    };
    let stat = fstat(&object).during("look at", path)?;
    Ok((object, stat))
}

pub(super) fn describe(root: &Root, path: &str, stat: &Stat) -> Result<PathStat> {
    let link_target = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => resolve(root, path)?,
        _ => String::new(),
    };
    Ok(PathStat {
        name: last_name(path).into(),
        size: stat.st_size as u64,
        mode: stat.st_mode,
        mtime: stat.st_mtime,
        mtime_nanoseconds: stat.st_mtime_nsec as u32,
        link_target,
    })
}

/// The last name of a path, as Go's `filepath.Base` has it: `/` for the root, `.` for a path that ends so.
fn last_name(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        None | Some("") => "/",
        Some(name) => name,
    }
}

/// The path without symbolic links, as far as there is anything.
pub(super) fn resolve(root: &Root, path: &str) -> Result<String> {
    let names = |path: &str| path.split('/').rev().map(String::from).collect::<Vec<_>>();
    let mut left = names(path);
    let mut resolved: Vec<String> = Vec::new();
    let mut links = 0;
    while let Some(name) = left.pop() {
        match name.as_str() {
            "" | "." => continue,
            ".." => {
                resolved.pop();
                continue;
            }
            _ => resolved.push(name),
        }
        let Some(target) = read_link(root, &as_path(&resolved)) else {
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(TaskError::TooManyLinks(path.into()));
        }
        resolved.pop();
        if target.starts_with('/') {
            resolved.clear();
        }
        left.extend(names(&target));
    }
    Ok(as_path(&resolved))
}

fn as_path(names: &[String]) -> String {
    format!("/{}", names.join("/"))
}

/// The target of a link; `None` for what is no link, or cannot be looked at.
fn read_link(root: &Root, path: &str) -> Option<String> {
    let object = root
        .open(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
        .ok()?;
    if FileType::from_raw_mode(fstat(&object).ok()?.st_mode) != FileType::Symlink {
        return None;
    }
    let target = readlinkat(&object, c"", Vec::new()).ok()?;
    Some(String::from_utf8_lossy(target.to_bytes()).into_owned())
}
