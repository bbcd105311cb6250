//! The client against Debian's `docker-registry`, and against servers that break, lie and hang.

mod docker_registry;
mod downloads;
mod faults;
mod logs;
mod pki;
mod plain;
mod proxies;
mod redirects;
mod retries;
mod script;
mod setting;
mod tls;
mod token_server;
mod tokens;
