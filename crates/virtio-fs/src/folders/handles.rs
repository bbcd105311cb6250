//! Files and directories that the guest has open.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::nodes::LAST;

/// A file or directory that the guest opened.
pub(super) struct Handle {
    node: u64,
    flags: u32,
    open: Mutex<OpenFile>,
}

/// What a handle stands for.
pub(super) struct OpenFile {
    /// The file, whose transfers are all positional, or the directory.
    pub(super) file: File,
    /// Where the host stands in a directory, as the offset of the next entry; `u64::MAX` when that is not known.
    pub(super) position: u64,
}

impl Handle {
    /// The open file, for one at a time.
    pub(super) fn open(&self) -> MutexGuard<'_, OpenFile> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The open files. Each costs one descriptor of the process, so their number is bounded.
pub(super) struct Handles {
    open: Mutex<(u64, HashMap<u64, Arc<Handle>>)>,
    limit: usize,
}

impl Handles {
    pub(super) fn new(limit: usize) -> Handles {
        Handles {
            open: Mutex::new((1, HashMap::new())),
            limit,
        }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<u64, Arc<Handle>>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an open file in.
    ///
    /// # Errors
    /// `ENFILE` when the guest has too many files open.
    pub(super) fn insert(&self, node: u64, flags: u32, file: File) -> io::Result<u64> {
        let number = self.lock().0;
        self.put_back(number, node, flags, file)?;
        Ok(number)
    }

    /// Takes an open file in under the number it had before.
    ///
    /// # Errors
    /// `ENFILE` when the guest has too many files open.
    pub(super) fn put_back(&self, number: u64, node: u64, flags: u32, file: File) -> io::Result<()> {
        let (next, handles) = &mut *self.lock();
        if handles.len() >= self.limit || number > LAST {
            return Err(Errno::NFILE.into());
        }
        *next = (*next).max(number + 1);
        handles.insert(
            number,
            Arc::new(Handle {
                node,
                flags,
                open: Mutex::new(OpenFile { file, position: 0 }),
            }),
        );
        Ok(())
    }

    /// All open files, in the order of their numbers: number, node and the flags they were opened with.
    pub(super) fn known(&self) -> Vec<(u64, u64, u32)> {
        let open = self.lock();
        let mut known: Vec<_> = open
            .1
            .iter()
            .map(|(&number, handle)| (number, handle.node, handle.flags))
            .collect();
        known.sort_unstable();
        known
    }

    /// The file that is open as `number`, if it is `node`'s.
    ///
    /// # Errors
    /// `EBADF` otherwise.
    pub(super) fn get(&self, number: u64, node: u64) -> io::Result<Arc<Handle>> {
        let open = self.lock();
        open.1
            .get(&number)
            .filter(|handle| handle.node == node)
            .cloned()
            .ok_or_else(|| Errno::BADF.into())
    }

    /// Closes a file.
    ///
    /// # Errors
    /// `EBADF` when `number` is not open, or not `node`'s.
    pub(super) fn remove(&self, number: u64, node: u64) -> io::Result<()> {
        self.get(number, node)?;
        self.lock().1.remove(&number);
        Ok(())
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        self.lock().1.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_limited() {
        let handles = Handles::new(2);
        let open = || handles.insert(1, 0, File::open("/").unwrap());
        assert_eq!((open().unwrap(), open().unwrap()), (1, 2));
        assert_eq!(open().unwrap_err().raw_os_error(), Some(libc::ENFILE));
        handles.remove(1, 1).unwrap();
        assert_eq!(open().unwrap(), 3);
    }
}
