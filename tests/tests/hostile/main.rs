//! Clients of the API that mean no good, against the real hulld: others are served meanwhile, its memory stays bounded, and what
//! they took comes back when they go.

mod archives;
mod client;
mod connections;
mod memory;
