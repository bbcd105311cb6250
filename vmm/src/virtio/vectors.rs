//! Guest memory as the kernel's vectored calls want it.

use vm_memory::VolatileSlice;

/// The most parts that one vectored call takes (`IOV_MAX`).
pub const MAX_VECTORS: usize = 1024;

/// `parts` in their order. The vectors are good for as long as `parts` are: guest memory is never unmapped. The kernel may write
/// to it through them as the guest may, and nothing in Rust refers to it.
pub fn vectors(parts: &[VolatileSlice]) -> Vec<libc::iovec> {
    let vector = |part: &VolatileSlice| libc::iovec {
        iov_base: part.ptr_guard_mut().as_ptr().cast(),
        iov_len: part.len(),
    };
    parts.iter().map(vector).collect()
}
