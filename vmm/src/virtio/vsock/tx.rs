//! Packets of the guest (its transmit queue).

use vm_memory::VolatileSlice;

use super::connection::{Phase, Ports};
use super::multiplexer::Multiplexer;
use super::packet::{HOST_CID, Header, STREAM, op};

impl Multiplexer {
    /// Takes in a packet of the guest: its header, and the guest memory with its payload, of which there are
    /// `available` bytes.
    pub fn receive(&mut self, header: Header, parts: &[VolatileSlice], available: usize) {
        // Nobody but the guest can be behind its queue; there is nobody to be told otherwise.
        if header.src_cid != self.guest_cid {
            return;
        }
        if header.dst_cid != HOST_CID || header.kind != STREAM {
            return self.refuse(header);
        }
        let ports = Ports {
            host: header.dst_port,
            guest: header.src_port,
        };
        let Some(&token) = self.tokens.get(&ports) else {
            return match header.op {
                op::REQUEST => self.open(header, ports),
                _ => self.refuse(header),
            };
        };
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.update_credit(&header);
        }
        let sound = header.len as usize == available;
        if !sound || !self.dispatch(token, header, parts) {
            return self.reset(token);
        }
        self.settle(token);
    }

    /// Acts on a packet of a connection; false when it has no place there.
    fn dispatch(&mut self, token: u64, header: Header, parts: &[VolatileSlice]) -> bool {
        let Some(connection) = self.connections.get_mut(&token) else {
            return false;
        };
        match (header.op, connection.phase) {
            (op::RST, _) => self.guest_reset(token),
            (op::RESPONSE, Phase::Requested) => return connection.accepted().is_ok(),
            (op::RW, Phase::Established) => return connection.deliver(parts, header.len).is_ok(),
            (op::SHUTDOWN, Phase::Established) => connection.guest_shuts(header.flags),
            // Its credit has been read already.
            (op::CREDIT_UPDATE, Phase::Established) => {}
            (op::CREDIT_REQUEST, Phase::Established) => connection.owe_credit_update(),
            _ => return false,
        }
        true
    }

    fn open(&mut self, header: Header, ports: Ports) {
        let Some(token) = self.connect(ports) else {
            return self.refuse(header);
        };
        if let Some(connection) = self.connections.get_mut(&token) {
            connection.update_credit(&header);
            connection.accept();
        }
        self.enqueue(token);
    }

    /// Answers with a RST, but never to one.
    fn refuse(&mut self, header: Header) {
        if header.op != op::RST {
            self.refusals.push_back(header.refusal());
        }
    }
}
