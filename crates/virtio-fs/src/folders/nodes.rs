//! What the guest may name by number: the files and directories it looked up.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuse_backend_rs::api::filesystem::ROOT_ID;
use rustix::fs::FileType;
use rustix::io::Errno;

/// The last number that a saved state may claim: from here on, counting up never ends.
pub(super) const LAST: u64 = u64::MAX / 2;

/// A file or directory of a folder, held by an `O_PATH` descriptor: no name is ever resolved twice.
pub(super) struct Node {
    pub(super) file: OwnedFd,
    pub(super) folder: usize,
    pub(super) kind: FileType,
}

/// One node per host file and folder. The folder is part of it: a directory shared twice, once read-only, is two.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) folder: usize,
    pub(super) device: u64,
    pub(super) inode: u64,
}

struct Slot {
    node: Arc<Node>,
    identity: Identity,
    lookups: u64,
}

#[derive(Default)]
struct Table {
    slots: HashMap<u64, Slot>,
    numbers: HashMap<Identity, u64>,
    next: u64,
}

/// The nodes that the guest knows.
///
/// Each costs one descriptor of the process, so their number is bounded. The roots of folders come first and are never
/// forgotten.
pub(super) struct Nodes {
    table: Mutex<Table>,
    roots: u64,
    limit: usize,
}

impl Nodes {
    /// Starts with the roots of folders, which get the numbers from 2 on, in order.
    pub(super) fn new(roots: Vec<(Identity, Node)>, limit: usize) -> Nodes {
        let mut table = Table {
            next: ROOT_ID + 1,
            ..Table::default()
        };
        let count = roots.len() as u64;
        for (identity, node) in roots {
            table.insert(identity, node);
        }
        Nodes {
            table: Mutex::new(table),
            roots: count,
            limit,
        }
    }

    /// The number of a folder's root.
    pub(super) fn root(folder: usize) -> u64 {
        ROOT_ID + 1 + folder as u64
    }

    fn is_root(&self, number: u64) -> bool {
        number <= ROOT_ID + self.roots
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node that the guest calls `number`.
    ///
    /// # Errors
    /// `ESTALE` when there is none.
    pub(super) fn get(&self, number: u64) -> io::Result<Arc<Node>> {
        let table = self.lock();
        table
            .slots
            .get(&number)
            .map(|slot| slot.node.clone())
            .ok_or_else(|| Errno::STALE.into())
    }

    /// Counts one more lookup of a file; returns its number. `node` is dropped when the file is known already.
    ///
    /// # Errors
    /// `ENFILE` when the guest knows too many files.
    pub(super) fn look_up(&self, identity: Identity, node: Node) -> io::Result<u64> {
        let mut table = self.lock();
        if let Some(&number) = table.numbers.get(&identity) {
            if let Some(slot) = table.slots.get_mut(&number) {
                slot.lookups = slot.lookups.saturating_add(1);
            }
            return Ok(number);
        }
        if table.slots.len() >= self.limit {
            return Err(Errno::NFILE.into());
        }
        Ok(table.insert(identity, node))
    }

    /// Takes back `lookups` lookups; the node goes with the last one.
    pub(super) fn forget(&self, number: u64, lookups: u64) {
        if self.is_root(number) {
            return;
        }
        let mut table = self.lock();
        let Some(slot) = table.slots.get_mut(&number) else {
            return;
        };
        slot.lookups = slot.lookups.saturating_sub(lookups);
        if slot.lookups == 0 {
            let identity = slot.identity;
            table.numbers.remove(&identity);
            table.slots.remove(&number);
        }
    }

    /// Forgets all but the roots.
    pub(super) fn clear(&self) {
        let mut table = self.lock();
        table.slots.retain(|&number, _| self.is_root(number));
        table.numbers.retain(|_, number| self.is_root(*number));
    }

    /// All nodes but the roots: number, lookups and node, in the order of their numbers.
    pub(super) fn known(&self) -> Vec<(u64, u64, Arc<Node>)> {
        let table = self.lock();
        let slots = table.slots.iter().filter(|(number, _)| !self.is_root(**number));
        let mut known: Vec<_> = slots
            .map(|(&number, slot)| (number, slot.lookups, slot.node.clone()))
            .collect();
        known.sort_by_key(|(number, ..)| *number);
        known
    }

    /// Takes in a node under the number it had before. A second one of the same number or file is left out.
    pub(super) fn put_back(&self, number: u64, lookups: u64, identity: Identity, node: Node) {
        let mut table = self.lock();
        let taken = table.slots.contains_key(&number) || table.numbers.contains_key(&identity);
        if taken || self.is_root(number) || number > LAST || table.slots.len() >= self.limit {
            return;
        }
        table.next = table.next.max(number + 1);
        table.numbers.insert(identity, number);
        table.slots.insert(
            number,
            Slot {
                node: Arc::new(node),
                identity,
                lookups,
            },
        );
    }

    /// The number that the next new node gets.
    pub(super) fn next(&self) -> u64 {
        self.lock().next
    }

    /// Lets new nodes begin at `next`, or after all that ever had a number here.
    pub(super) fn skip_to(&self, next: u64) {
        let mut table = self.lock();
        table.next = table.next.max(next.min(LAST));
    }
}

impl Table {
    fn insert(&mut self, identity: Identity, node: Node) -> u64 {
        let number = self.next;
        // Counting from at most `LAST` on: 2^63 lookups do not happen.
        self.next += 1;
        self.numbers.insert(identity, number);
        self.slots.insert(
            number,
            Slot {
                node: Arc::new(node),
                identity,
                lookups: 1,
            },
        );
        number
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn node() -> Node {
        Node {
            file: File::open("/").unwrap().into(),
            folder: 0,
            kind: FileType::Directory,
        }
    }

    fn identity(inode: u64) -> Identity {
        Identity {
            folder: 0,
            device: 1,
            inode,
        }
    }

    #[test]
    fn nodes_are_limited_and_those_known_still_found() {
        let nodes = Nodes::new(vec![(identity(1), node())], 3);
        assert_eq!(nodes.look_up(identity(2), node()).unwrap(), 3);
        assert_eq!(nodes.look_up(identity(3), node()).unwrap(), 4);
        let refused = nodes.look_up(identity(4), node()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENFILE));
        assert_eq!(nodes.look_up(identity(2), node()).unwrap(), 3);
        nodes.forget(4, 1);
        assert_eq!(nodes.look_up(identity(4), node()).unwrap(), 5);
    }
}
