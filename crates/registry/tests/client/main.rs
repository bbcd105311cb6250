//! The client against Debian's `docker-registry`, and against servers that break, lie and hang.

mod downloads;
mod faults;
mod logs;
mod plain;
mod proxies;
mod redirects;
mod resume;
mod retries;
mod script;
mod setting;
mod tls;
mod token_server;
mod tokens;
