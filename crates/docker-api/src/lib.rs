//! The Docker Engine API over an [`Engine`]: the only door to it.
//!
//! HTTP/1.1 on a unix socket, in the versions [`ApiVersion::OLDEST`] to [`ApiVersion::NEWEST`]. What hull does not
//! support is refused by its name, never left out silently.

mod body;
mod create;
mod error;
mod file_mode;
mod filters;
mod hijack;
mod human_time;
mod instructions;
mod progress;
mod ps;
mod query;
mod routes;
mod server;
mod stdcopy;
mod version;

use std::future::Future;

use engine::Engine;
use tokio::net::UnixListener;

pub use crate::version::ApiVersion;

/// The `Server` header of every response.
const SERVER_HEADER: &str = concat!("hull/", env!("CARGO_PKG_VERSION"), " (linux)");

/// Serves the API on `listener` until `stop` is ready. Connections that are open then are closed; containers go on.
pub async fn serve(listener: UnixListener, engine: Engine, stop: impl Future<Output = ()>) {
    server::serve(listener, routes::router(engine), stop).await;
}
