//! The Docker Engine API over an [`Engine`]: the only door to it.
//!
//! HTTP/1.1 on unix sockets and TCP ports, in the versions [`ApiVersion::OLDEST`] to [`ApiVersion::NEWEST`]. What hull does not
//! support is refused by its name, never left out silently.

mod about;
mod body;
mod create;
mod error;
mod file_mode;
mod filters;
// In tests, too, so that it is compiled wherever they are.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod hang_up;
mod hijack;
mod human_time;
mod instructions;
mod listener;
mod metrics;
mod name_patterns;
mod progress;
mod ps;
mod query;
mod routes;
mod server;
mod stdcopy;
mod version;

use std::future::Future;

use engine::Engine;

pub use crate::about::About;
pub use crate::listener::Listener;
use crate::server::Service;
pub use crate::version::ApiVersion;

/// The `Server` header of every response.
const SERVER_HEADER: &str = concat!("hull/", env!("CARGO_PKG_VERSION"), " (linux)");

/// What is served, and where.
pub struct Listeners {
    /// For the API.
    pub api: Vec<Listener>,
    /// For the counters alone, at `/metrics`.
    pub metrics: Vec<Listener>,
}

/// Serves the API until `stop` is ready. Connections that are open then are closed; containers go on.
pub async fn serve(listeners: Listeners, engine: Engine, about: About, stop: impl Future<Output = ()>) {
    let requests = metrics::Requests::default();
    let counters = Service {
        router: metrics::router(engine.clone(), &requests),
        requests: None,
    };
    let api = Service {
        router: routes::router(engine).layer(axum::Extension(about)),
        requests: Some(requests),
    };
    let api = listeners.api.into_iter().map(|listener| (listener, api.clone()));
    let counters = listeners
        .metrics
        .into_iter()
        .map(|listener| (listener, counters.clone()));
    server::serve(api.chain(counters), stop).await;
}
