//! How a device speaks up.

/// The line from a device to its driver.
///
/// All methods may be called from any thread, never block and never fail: a guest that is on its way out loses the
/// interrupt, nothing else.
pub trait Interrupt: Send + Sync {
    /// Buffers of some queue were used (virtio 1.3, section 2.9). Call it through
    /// [`Virtqueue::signal`](super::queue::Virtqueue::signal), which leaves out what the driver does not want to hear.
    fn used(&self);

    /// The configuration space changed: the transport counts its generation up and tells the driver.
    fn config_changed(&self);

    /// The driver broke the protocol beyond repair: sets DEVICE_NEEDS_RESET and tells the driver (virtio 1.3, section
    /// 2.1.2). The device stops serving its queues until it is reset.
    fn failed(&self);
}

#[cfg(test)]
pub(crate) mod fake {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Interrupt;

    /// Counts what it hears.
    #[derive(Default)]
    pub(crate) struct FakeInterrupt {
        used: AtomicUsize,
        config: AtomicUsize,
        failed: AtomicUsize,
    }

    impl FakeInterrupt {
        /// How often the driver was told of used buffers.
        pub(crate) fn used_count(&self) -> usize {
            self.used.load(Ordering::SeqCst)
        }

        /// How often the driver was told of another configuration.
        pub(crate) fn config_count(&self) -> usize {
            self.config.load(Ordering::SeqCst)
        }

        /// How often the device gave up.
        pub(crate) fn failed_count(&self) -> usize {
            self.failed.load(Ordering::SeqCst)
        }
    }

    impl Interrupt for FakeInterrupt {
        fn used(&self) {
            self.used.fetch_add(1, Ordering::SeqCst);
        }

        fn config_changed(&self) {
            self.config.fetch_add(1, Ordering::SeqCst);
        }

        fn failed(&self) {
            self.failed.fetch_add(1, Ordering::SeqCst);
        }
    }
}
