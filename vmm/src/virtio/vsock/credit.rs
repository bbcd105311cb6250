//! Credit: how much each side of a connection may still send (virtio 1.3, section 5.10.6.3). All counters are modulo
//! 2^32.

/// The guest sent more than it had been told it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// What the guest may send.
#[derive(Clone, Copy, Debug)]
pub struct Inbound {
    capacity: u32,
    received: u32,
    forwarded: u32,
    announced: u32,
}

impl Inbound {
    /// A buffer of `capacity` bytes that is empty.
    pub fn new(capacity: u32) -> Inbound {
        Inbound {
            capacity,
            received: 0,
            forwarded: 0,
            announced: 0,
        }
    }

    /// `len` bytes came from the guest.
    pub fn receive(&mut self, len: u32) -> Result<(), Overrun> {
        let held = self.received.wrapping_sub(self.forwarded);
        if len > self.capacity.saturating_sub(held) {
            return Err(Overrun);
        }
        self.received = self.received.wrapping_add(len);
        Ok(())
    }

    /// `len` of the bytes received have left the buffer.
    pub fn forward(&mut self, len: usize) {
        // Never more than was received, which fits.
        self.forwarded = self.forwarded.wrapping_add(len as u32);
    }

    /// `buf_alloc` and `fwd_cnt` for a header that is about to be sent.
    pub fn announce(&mut self) -> (u32, u32) {
        self.announced = self.forwarded;
        (self.capacity, self.forwarded)
    }

    /// Whether the guest should be told of free room: it counts less than half the buffer as free, and what it does
    /// not know of is worth a packet.
    pub fn update_due(&self) -> bool {
        let known_free = self
            .capacity
            .saturating_sub(self.received.wrapping_sub(self.announced));
        let unknown_free = self.forwarded.wrapping_sub(self.announced);
        let empty = self.received == self.forwarded;
        known_free < self.capacity / 2 && unknown_free > 0 && (empty || unknown_free >= self.capacity / 4)
    }
}

/// What may be sent to the guest.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outbound {
    buf_alloc: u32,
    fwd_cnt: u32,
    sent: u32,
}

impl Outbound {
    /// The guest said in some header what it can take. It may say anything: the data goes into its own memory.
    pub fn update(&mut self, buf_alloc: u32, fwd_cnt: u32) {
        self.buf_alloc = buf_alloc;
        self.fwd_cnt = fwd_cnt;
    }

    /// How many bytes may be sent.
    pub fn free(&self) -> u32 {
        self.buf_alloc
            .saturating_sub(self.sent.wrapping_sub(self.fwd_cnt))
    }

    /// `len` bytes were sent.
    pub fn send(&mut self, len: usize) {
        self.sent = self.sent.wrapping_add(len as u32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_may_fill_the_buffer_and_no_more() {
        let mut credit = Inbound::new(100);
        assert_eq!(credit.receive(60), Ok(()));
        assert_eq!(credit.receive(41), Err(Overrun));
        assert_eq!(credit.receive(40), Ok(()));
        assert_eq!(credit.receive(1), Err(Overrun));
        credit.forward(10);
        assert_eq!(credit.receive(10), Ok(()));
        assert_eq!(credit.receive(u32::MAX), Err(Overrun));
    }

    #[test]
    fn an_update_is_due_at_half_and_when_the_guest_is_out_of_credit() {
        let mut credit = Inbound::new(100);
        credit.receive(50).unwrap();
        credit.forward(50);
        assert!(!credit.update_due());
        credit.receive(50).unwrap();
        assert!(credit.update_due(), "the guest counts no free byte");
        assert_eq!(credit.announce(), (100, 50));
        assert!(!credit.update_due());
        credit.forward(50);
        credit.receive(1).unwrap();
        credit.forward(1);
        assert!(
            credit.update_due(),
            "more than half is free and unknown to the guest"
        );
    }

    #[test]
    fn counters_wrap() {
        let mut inbound = Inbound::new(100);
        let mut outbound = Outbound::default();
        for step in (0u64..(1 << 33)).step_by(1 << 26) {
            inbound = Inbound {
                received: step as u32,
                forwarded: step as u32,
                announced: step as u32,
                ..inbound
            };
            inbound.receive(100).unwrap();
            assert_eq!(inbound.receive(1), Err(Overrun));
            outbound.sent = step as u32;
            outbound.update(100, step as u32);
            outbound.send(30);
            assert_eq!(outbound.free(), 70);
        }
    }

    #[test]
    fn a_guest_that_lies_about_its_credit_gets_nothing() {
        let mut credit = Outbound::default();
        credit.update(4096, 1);
        assert_eq!(credit.free(), 0, "it claims to have taken what was never sent");
        credit.update(0, 0);
        assert_eq!(credit.free(), 0);
        credit.update(u32::MAX, 0);
        assert_eq!(credit.free(), u32::MAX);
    }
}
