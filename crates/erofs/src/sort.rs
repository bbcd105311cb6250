//! Sorting the names of one directory, however many they are, in little memory.

use crate::node::Link;
use crate::scratch::{RecordId, Scratch};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

/// Memory for names that are sorted at once, in bytes.
const MEMORY: usize = 4 << 20;

/// Links that are sorted in memory.
#[derive(Default)]
struct Run {
    names: Vec<u8>,
    links: Vec<Item>,
}

struct Item {
    start: u32,
    length: u8,
    link: RecordId,
}

impl Run {
    fn memory(&self) -> usize {
        self.names.len() + self.links.len() * size_of::<Item>()
    }

    fn push(&mut self, link: RecordId, name: &[u8]) {
        self.links.push(Item {
            start: self.names.len() as u32,
            length: name.len() as u8,
            link,
        });
        self.names.extend_from_slice(name);
    }

    /// Chains the links in the order of their names; the first.
    fn chain(&mut self, scratch: &mut Scratch) -> io::Result<Option<RecordId>> {
        let names = &self.names;
        let name = |item: &Item| &names[item.start as usize..][..usize::from(item.length)];
        self.links.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        let mut next = None;
        for item in self.links.iter().rev() {
            set_next(scratch, item.link, next)?;
            next = Some(item.link);
        }
        self.names.clear();
        self.links.clear();
        Ok(next)
    }
}

/// Chains the links from `first` on in ascending order of their names; the first then.
pub(crate) fn sort_links(scratch: &mut Scratch, first: Option<RecordId>) -> io::Result<Option<RecordId>> {
    sort_within(scratch, first, MEMORY)
}

fn sort_within(
    scratch: &mut Scratch,
    first: Option<RecordId>,
    memory: usize,
) -> io::Result<Option<RecordId>> {
    let (mut run, mut sorted) = (Run::default(), Vec::new());
    let mut next = first;
    while let Some(id) = next {
        let link = Link::read(scratch, id)?;
        next = link.next;
        run.push(id, &link.name);
        if run.memory() >= memory {
            sorted.extend(run.chain(scratch)?);
        }
    }
    let last = run.chain(scratch)?;
    if sorted.is_empty() {
        return Ok(last);
    }
    sorted.extend(last);
    merge(scratch, sorted)
}

/// Makes one chain of several that are sorted.
fn merge(scratch: &mut Scratch, chains: Vec<RecordId>) -> io::Result<Option<RecordId>> {
    let mut heads = BinaryHeap::new();
    for id in chains {
        heads.push(Reverse((Link::read(scratch, id)?.name, id)));
    }
    let (mut first, mut last) = (None, None);
    while let Some(Reverse((_, id))) = heads.pop() {
        if let Some(next) = Link::read(scratch, id)?.next {
            heads.push(Reverse((Link::read(scratch, next)?.name, next)));
        }
        match last {
            Some(last) => set_next(scratch, last, Some(id))?,
            None => first = Some(id),
        }
        last = Some(id);
    }
    if let Some(last) = last {
        set_next(scratch, last, None)?;
    }
    Ok(first)
}

fn set_next(scratch: &mut Scratch, id: RecordId, next: Option<RecordId>) -> io::Result<()> {
    let mut link = Link::read(scratch, id)?;
    link.next = next;
    link.write(scratch, id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::ROOT;

    #[test]
    fn names_are_in_order_in_whatever_memory() {
        let mut scratch = Scratch::new(None);
        scratch.append(b"root").unwrap();
        let mut names: Vec<_> = (0..5000u32)
            .map(|n| format!("{}", n.wrapping_mul(2_654_435_761) % 1_000_003).into_bytes())
            .collect();
        let mut first = None;
        for name in &names {
            let link = Link {
                next: first,
                directory: ROOT,
                node: ROOT,
                first: false,
                name: name.clone(),
            };
            first = Some(link.append(&mut scratch).unwrap());
        }
        names.sort();
        for memory in [1, 100, 5000, 1 << 30] {
            first = sort_within(&mut scratch, first, memory).unwrap();
            let (mut next, mut chained) = (first, Vec::new());
            while let Some(id) = next {
                let link = Link::read(&mut scratch, id).unwrap();
                chained.push(link.name);
                next = link.next;
            }
            assert!(chained == names, "{memory}");
        }
        assert_eq!(sort_links(&mut scratch, None).unwrap(), None);
    }
}
