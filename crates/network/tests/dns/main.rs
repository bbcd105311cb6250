//! The name server over real sockets, asked by dig and by the C library, with dnsmasq as the server outside.
//!
//! It needs the packages bind9-dnsutils and dnsmasq-base, and root for the bridge.

mod bridge;
mod containers;
mod forwarding;
mod hostile;
mod outside;
mod place;
