//! The API on a real socket over a real engine. No container is started: none of this needs KVM.

mod archives;
mod builds;
mod connections;
mod containers;
mod docker_cli;
mod images;
mod layout;
mod lifecycle;
mod networks;
mod options;
mod protocol;
mod server;
