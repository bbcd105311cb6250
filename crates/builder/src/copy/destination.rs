//! Where a source goes, and what it meets there.

use super::CopyError;
use super::options::{CopyOptions, Source};
use super::select::Selected;
use super::staging::{Spot, Staging};
use super::unpack::unpack;
use super::visit::{Visit, visit};
use crate::file_tree::{Attributes, printable};
use crate::lookup::{LastLink, StepKind, walk};
use crate::paths::{components, is_directory_path, join, last_name, parent};

/// Puts what a source names into the layer.
pub(super) fn place<'a>(
    staging: &mut Staging<'a>,
    source: &Source<'a>,
    selected: &Selected,
    options: &CopyOptions<'_>,
) -> Result<(), CopyError> {
    staging.copies += 1;
    if source.unpack && unpack(staging, source, selected, options)? {
        return Ok(());
    }
    let mut target = prepare(staging, source, selected, options)?;
    visit(source, selected, options, &mut |visited| {
        target.put(staging, source, visited, options)
    })
}

/// The directory that copies go to, and the name of the source in it.
struct Target {
    /// The directory, for a source that is copied under its own name or the destination's; the destination, for the contents of one.
    directory: Spot,
    /// The name of what is copied, for a source that is no directory.
    name: Option<Vec<u8>>,
    /// The directories within the source that the visit is in, by their paths in it.
    open: Vec<(Vec<u8>, Spot)>,
}

fn prepare<'a>(
    staging: &mut Staging<'a>,
    source: &Source<'a>,
    selected: &Selected,
    options: &CopyOptions<'_>,
) -> Result<Target, CopyError> {
    let made = options.new_directory();
    let clean = components(&options.destination).join(&b'/');
    let is_contents = selected.node.is_directory() || source.parents;
    if is_contents || is_directory_path(&options.destination) {
        let mut target = in_directory(staging, &clean, selected, is_contents, &made)?;
        if options.covers && is_contents {
            let attributes = options.attributes(&selected.node);
            target.directory = staging.cover(target.directory, attributes)?;
        }
        return Ok(target);
    }
    let walked = walk(staging, &clean, LastLink::Follow)?;
    if walked.missing.is_empty() && staging.shows_directory(&walked.end)? {
        return in_directory(staging, &clean, selected, false, &made);
    }
    // The copy takes the place of what the destination is, or, of a link, of what that leads to.
    let path = [walked.path(), walked.missing.join(&b'/')].join(&b'/');
    let path = components(&path).join(&b'/');
    let above = walk(staging, parent(&path).unwrap_or_default(), LastLink::Follow)?;
    Ok(Target {
        directory: staging.make_directories(above, &made)?,
        name: Some(last_name(&path).to_vec()),
        open: Vec::new(),
    })
}

fn in_directory(
    staging: &mut Staging<'_>,
    destination: &[u8],
    selected: &Selected,
    is_contents: bool,
    made: &Attributes,
) -> Result<Target, CopyError> {
    let walked = walk(staging, destination, LastLink::Follow)?;
    if is_contents && !staging.shows_directory(&walked.end)? {
        let path = printable(&walked.end.path);
        return Err(CopyError::NonDirectory { path });
    }
    Ok(Target {
        directory: staging.make_directories(walked, made)?,
        name: (!is_contents).then(|| selected.name.clone()),
        open: Vec::new(),
    })
}

impl Target {
    fn put<'a>(
        &mut self,
        staging: &mut Staging<'a>,
        source: &Source<'a>,
        visited: &Visit<'_>,
        options: &CopyOptions<'_>,
    ) -> Result<(), CopyError> {
        let is_top = visited.path.is_empty();
        // The directory that contents go to keeps what it has.
        if is_top && visited.node.is_directory() {
            return Ok(());
        }
        let name = match &self.name {
            Some(name) if is_top => name.clone(),
            _ => last_name(visited.path).to_vec(),
        };
        let inside = parent(visited.path).unwrap_or_default();
        while self.open.last().is_some_and(|(path, _)| path != inside) {
            self.open.pop();
        }
        let directory = self.open.last().map_or(&self.directory, |(_, spot)| spot).clone();
        let found = staging.look(&directory, &name)?;
        let attributes = options.attributes(visited.node);
        if !visited.node.is_directory() {
            let path = join(&directory.path, &name);
            if let Some((_, StepKind::Directory)) = found {
                let path = printable(&path);
                return Err(CopyError::Directory { path });
            }
            let copy = staging.copy_of(source.tree, visited.node, attributes)?;
            return copy.map_or(Ok(()), |copy| staging.put(&path, copy));
        }
        let attributes = match found {
            None => attributes,
            Some((spot, StepKind::Directory)) => {
                let old = staging.attributes(&spot)?;
                match visited.is_way || source.parents {
                    // A directory on the way, or one of `--parents`, brings its mode and nothing else.
                    true => Attributes {
                        mode: visited.node.attributes.mode,
                        ..old
                    },
                    false => merged(attributes, old),
                }
            }
            Some((spot, _)) => {
                let path = printable(&spot.path);
                return Err(CopyError::NonDirectory { path });
            }
        };
        let spot = staging.put_directory(&directory, &name, attributes, false)?;
        self.open.push((visited.path.to_vec(), spot));
        Ok(())
    }
}

/// New attributes of a directory that is there: extended ones that are not replaced stay.
pub(super) fn merged(new: Attributes, old: Attributes) -> Attributes {
    let mut xattrs = old.xattrs;
    xattrs.retain(|kept| new.xattrs.iter().all(|xattr| xattr.name != kept.name));
    xattrs.extend(new.xattrs);
    xattrs.sort_by(|a, b| a.name.cmp(&b.name));
    Attributes { xattrs, ..new }
}
