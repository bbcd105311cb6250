//! Files with several names, of which an archive holds the content once.

use std::collections::HashMap;

use crate::entry::{Entry, EntryKind};

/// Which file an entry is a name of, as a file system tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileId {
    /// The file system's device number.
    pub device: u64,
    /// The file's number in it.
    pub inode: u64,
}

/// The files with several names that are in an archive already, by the names that they have there.
#[derive(Debug, Default)]
pub struct HardLinks(HashMap<FileId, Vec<u8>>);

impl HardLinks {
    /// Makes `entry` a link if another name of its file was here before; whether it did. `names` is how many the file has.
    pub fn link(&mut self, entry: &mut Entry, file: FileId, names: u64) -> bool {
        if names <= 1 {
            return false;
        }
        if let Some(first) = self.0.get(&file) {
            entry.kind = EntryKind::HardLink;
            entry.link = first.clone();
            return true;
        }
        self.0.insert(file, entry.path.clone());
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_name_of_a_file_is_a_link_to_the_first() {
        let mut links = HardLinks::default();
        let mut link = |path: &str, inode, names| {
            let mut entry = Entry::new(path, EntryKind::Regular);
            let linked = links.link(&mut entry, FileId { device: 1, inode }, names);
            assert_eq!(linked, entry.kind == EntryKind::HardLink);
            linked.then_some(entry.link)
        };
        assert_eq!(link("a", 7, 2), None);
        assert_eq!(link("b", 8, 2), None);
        assert_eq!(link("c", 7, 2), Some(b"a".to_vec()));
        // A file with one name is no link, whatever number it has been given.
        assert_eq!(link("d", 9, 1), None);
        assert_eq!(link("e", 9, 2), None);
    }
}
