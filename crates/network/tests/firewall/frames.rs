//! Frames as a guest may write them.

use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV6: u16 = 0x86dd;

pub(crate) const ICMPV6: u8 = 58;
pub(crate) const UDP: u8 = 17;
pub(crate) const IGMP: u8 = 2;
pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

pub(crate) fn frame(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

pub(crate) fn ipv4(from: &str, to: &str, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let [from, to] = [from, to].map(|address| address.parse::<Ipv4Addr>().unwrap().octets());
    let len = (20 + payload.len() as u16).to_be_bytes();
    let mut header = [
        &[0x45, 0][..],
        &len,
        &[0, 0, 0, 0, 64, protocol, 0, 0],
        &from,
        &to,
    ]
    .concat();
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    [header, payload.to_vec()].concat()
}

pub(crate) fn ipv6(from: &str, to: &str, next: u8, payload: &[u8]) -> Vec<u8> {
    let [from, to] = [from, to].map(|address| address.parse::<Ipv6Addr>().unwrap().octets());
    let len = (payload.len() as u16).to_be_bytes();
    [&[0x60, 0, 0, 0][..], &len, &[next, 255], &from, &to, payload].concat()
}

/// A message whose body begins behind the checksum, in a packet.
pub(crate) fn icmpv6(from: &str, to: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    ipv6(from, to, ICMPV6, &icmpv6_message(from, to, kind, body))
}

pub(crate) fn icmpv6_message(from: &str, to: &str, kind: u8, body: &[u8]) -> Vec<u8> {
    let [from, to] = [from, to].map(|address| address.parse::<Ipv6Addr>().unwrap().octets());
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let len = (message.len() as u32).to_be_bytes();
    let sum = checksum(&[&from[..], &to, &len, &[0, 0, 0, ICMPV6], &message].concat());
    message[2..4].copy_from_slice(&sum);
    message
}

/// The body of a message of neighbour discovery about a target.
pub(crate) fn about(target: &str) -> Vec<u8> {
    [&[0; 4][..], &target.parse::<Ipv6Addr>().unwrap().octets()].concat()
}

/// A fragment header before a part of a packet; the offset is in units of 8 bytes.
pub(crate) fn fragment(next: u8, offset: u16, more: bool, part: &[u8]) -> Vec<u8> {
    let place = (offset << 3 | u16::from(more)).to_be_bytes();
    [&[next, 0][..], &place, &[0, 0, 0, 7], part].concat()
}

/// A header of options that mean nothing.
pub(crate) fn options(next: u8, payload: &[u8]) -> Vec<u8> {
    [&[next, 0, 1, 4, 0, 0, 0, 0][..], payload].concat()
}

pub(crate) fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len() as u16).to_be_bytes();
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &len, &[0, 0], payload].concat()
}

/// A request, of which only the sender is of interest.
pub(crate) fn arp(mac: [u8; 6], address: &str) -> Vec<u8> {
    let address = address.parse::<Ipv4Addr>().unwrap().octets();
    [
        &[0, 1, 8, 0, 6, 4, 0, 1][..],
        &mac,
        &address,
        &[0; 6],
        &[172, 17, 0, 3],
    ]
    .concat()
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
