//! Images between a registry and `hulld`: what goes wrong on the way, and what is left then.

mod faults;
mod host_daemon;
mod http;
mod kill;
mod local_registry;
mod memory;
mod refusals;
mod relay;
