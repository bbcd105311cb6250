//! Images between hull and real registries: what works, what goes wrong on the way, and what is left then. No microVM is
//! needed: `hulld` runs on this host, with a state of its own for each test.

mod access;
mod archives;
mod caches;
mod content;
mod contexts;
mod docker_cli;
mod events;
mod faults;
mod http;
mod kill;
mod layout;
mod memory;
mod metrics;
mod platforms;
mod pulls;
mod pushes;
mod refusals;
mod relay;
mod store;
mod tls;
mod upload;
