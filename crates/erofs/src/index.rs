//! Finding a name in its directory: a few bytes of memory for each.

use crate::node::Link;
use crate::scratch::{RecordId, Scratch};
use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};
use std::io;

/// All names of all directories. What it holds of a name is where its record is and a part of its hash, whose seed is
/// random: an archive cannot choose names that meet.
#[derive(Debug, Default)]
pub(crate) struct Index {
    links: HashTable<Slot>,
    seed: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    tag: u32,
    link: RecordId,
}

impl Slot {
    /// The table wants all bits of a hash; they come from these.
    fn hash(tag: u32) -> u64 {
        u64::from(tag).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl Index {
    /// The link with this name.
    pub(crate) fn find(
        &self,
        scratch: &mut Scratch,
        directory: RecordId,
        name: &[u8],
    ) -> io::Result<Option<(RecordId, Link)>> {
        let tag = self.tag(directory, name);
        for slot in self
            .links
            .iter_hash(Slot::hash(tag))
            .filter(|slot| slot.tag == tag)
        {
            let link = Link::read(scratch, slot.link)?;
            if link.directory == directory && link.name == name {
                return Ok(Some((slot.link, link)));
            }
        }
        Ok(None)
    }

    /// Adds a link with a name that is not there.
    pub(crate) fn insert(&mut self, directory: RecordId, name: &[u8], link: RecordId) {
        let tag = self.tag(directory, name);
        self.links
            .insert_unique(Slot::hash(tag), Slot { tag, link }, |slot| Slot::hash(slot.tag));
    }

    fn tag(&self, directory: RecordId, name: &[u8]) -> u32 {
        (self.seed.hash_one((directory, name)) >> 32) as u32
    }
}
