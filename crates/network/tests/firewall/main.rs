//! hull's firewall with real packets: what passes, and what does not.

mod binding;
mod frames;
mod lab;
mod log;
mod routing;
mod samples;
mod tables;
