//! The routes, one module for each part of the API.

mod archive;
mod build;
mod build_cache;
mod check;
mod commit;
mod containers;
mod disk_usage;
mod endpoints;
mod events;
mod exec;
mod images;
mod inspect;
mod list;
mod list_ports;
mod logs;
mod networks;
mod prune;
mod stats;
mod streams;
mod system;
mod top;
mod update;
mod volumes;

#[cfg(any(test, fuzzing))]
pub(crate) use self::inspect::described;
use axum::routing::{delete, get, post};
use axum::{Extension, Router};
use engine::Engine;

use crate::body::Bodies;
use crate::error::ApiError;

/// All routes, without a version in front.
pub(crate) fn router(engine: Engine) -> Router {
    Router::new()
        .route("/_ping", get(system::ping))
        .route("/version", get(system::version))
        .route("/info", get(system::info))
        .route("/images/json", get(images::list))
        .route("/images/create", post(images::create))
        .route("/images/load", post(images::load))
        .route("/images/get", get(images::save))
        .route("/images/prune", post(images::prune))
        .route("/images/search", get(images::search))
        .route(
            "/images/{*path}",
            get(images::read).post(images::change).delete(images::remove),
        )
        .route("/distribution/{*path}", get(images::distribution))
        .route("/auth", post(images::log_in))
        .route("/events", get(events::events))
        .route("/system/df", get(disk_usage::disk_usage))
        .route("/hull/manifest", get(images::manifest))
        .route("/hull/system/check", post(check::check))
        .route("/commit", post(commit::commit))
        .route("/containers/json", get(list::list))
        .route("/containers/create", post(containers::create))
        .route("/containers/prune", post(prune::prune))
        .route("/containers/{name}", delete(containers::remove))
        .route("/containers/{name}/json", get(inspect::inspect))
        .route("/containers/{name}/start", post(containers::start))
        .route("/containers/{name}/stop", post(containers::stop))
        .route("/containers/{name}/restart", post(containers::restart))
        .route("/containers/{name}/kill", post(containers::kill))
        .route("/containers/{name}/rename", post(containers::rename))
        .route("/containers/{name}/update", post(update::update))
        .route("/containers/{name}/top", get(top::top))
        .route("/containers/{name}/stats", get(stats::stats))
        .route("/containers/{name}/pause", post(containers::pause))
        .route("/containers/{name}/unpause", post(containers::unpause))
        .route("/containers/{name}/wait", post(containers::wait))
        .route("/containers/{name}/resize", post(containers::resize))
        .route("/containers/{name}/attach", post(streams::attach))
        .route("/containers/{name}/export", get(archive::export))
        .route("/containers/{name}/changes", get(archive::changes))
        .route(
            "/containers/{name}/archive",
            get(archive::read).head(archive::stat).put(archive::write),
        )
        .route("/containers/{name}/logs", get(logs::logs))
        .route("/containers/{name}/exec", post(exec::create))
        .route("/volumes", get(volumes::list))
        .route("/volumes/create", post(volumes::create))
        .route("/volumes/prune", post(volumes::prune))
        .route("/volumes/{name}", get(volumes::inspect).delete(volumes::remove))
        .route("/networks", get(networks::list))
        .route("/networks/create", post(networks::create))
        .route("/networks/prune", post(networks::prune))
        .route(
            "/networks/{name}",
            get(networks::inspect).delete(networks::remove),
        )
        .route("/networks/{name}/connect", post(networks::connect))
        .route("/networks/{name}/disconnect", post(networks::disconnect))
        .route("/build", post(build::build))
        .route("/build/prune", post(build_cache::prune))
        .route("/hull/build/contents", post(build::contents))
        .route("/hull/build/ssh", post(build::lend_ssh_agent))
        .route("/hull/images/{name}/files", get(build::files))
        .route("/hull/images/{name}/cache", get(build_cache::cache))
        .route("/exec/{id}/start", post(exec::start))
        .route("/exec/{id}/resize", post(exec::resize))
        .route("/exec/{id}/json", get(exec::inspect))
        .fallback(async || ApiError::page_not_found())
        .method_not_allowed_fallback(async || ApiError::page_not_found())
        .layer(Extension(Bodies::default()))
        .with_state(engine)
}
