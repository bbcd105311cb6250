//! Egress policies with real packets, a name server outside and the kernel's log.
//!
//! It needs root, nft, and the packages iproute2, iputils-ping, bind9-dnsutils and dnsmasq-base.

mod host;
// What a host with containers is made of is the same as for the firewall alone.
#[allow(dead_code)]
#[path = "../firewall/lab.rs"]
mod lab;
mod names;
mod outside;
mod packets;
mod refusals;
