//! Images between hull and real registries. No microVM is needed: `hulld` runs on this host, with a state of its own for
//! each test.

mod access;
mod archives;
mod docker_cli;
mod fixture;
mod pulls;
mod pushes;
