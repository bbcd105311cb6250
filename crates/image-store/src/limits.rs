//! What an image may grow to.

/// What one layer may grow to, and how many are read at once. A layer that exceeds a limit is refused when it
/// does.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The blob as it comes, in bytes.
    pub blob_bytes: u64,
    /// The uncompressed archive, in bytes.
    pub archive_bytes: u64,
    /// The file system image.
    pub image: erofs::Limits,
    /// The base-2 logarithm of the largest window that a zstd frame may ask for: so many bytes of memory each
    /// layer takes that is read. RFC 8878 (section 3.1.1.1.2) recommends 23.
    pub zstd_window_log: u32,
    /// Memory for unpacking xz, in bytes.
    pub xz_memory: u64,
    /// Layers that are read at once, those of all ingests together.
    pub parallel_layers: usize,
}

impl Default for Limits {
    /// Blobs of 32 GiB, archives of 64 GiB, what [`erofs::Limits`] has, zstd windows of 8 MiB, xz dictionaries
    /// of 8 MiB, three layers at once.
    fn default() -> Self {
        Self {
            blob_bytes: 32 << 30,
            archive_bytes: 64 << 30,
            image: erofs::Limits::default(),
            zstd_window_log: 23,
            xz_memory: 10 << 20,
            parallel_layers: 3,
        }
    }
}
