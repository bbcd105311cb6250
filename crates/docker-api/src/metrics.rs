//! `GET /metrics`: what is counted, in the text format that Prometheus reads (OpenMetrics 1.0).

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use engine::Engine;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::error::ApiError;

const FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Requests by method and class of status. The values are hull's own words: a client cannot make new series.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests(Family<[(&'static str, &'static str); 2], Counter>);

struct Source {
    engine: Engine,
    registry: Registry,
}

impl Requests {
    pub(crate) fn count(&self, method: &Method, status: StatusCode) {
        let labels = [("method", method_name(method)), ("status", class(status))];
        self.0.get_or_create(&labels).inc();
    }
}

fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// The one page.
pub(crate) fn router(engine: Engine, requests: &Requests) -> Router {
    let mut registry = Registry::with_prefix("hull");
    let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "This build of hulld", build);
    engine.meters().register(&mut registry);
    registry.register("api_requests", "Requests to the API", requests.0.clone());
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(Arc::new(Source { engine, registry }))
}

async fn metrics(State(source): State<Arc<Source>>) -> Result<Response, ApiError> {
    source.engine.refresh_meters().await?;
    let mut text = String::new();
    match encode(&mut text, &source.registry) {
        Ok(()) => Ok(([(CONTENT_TYPE, FORMAT)], text).into_response()),
        Err(error) => Ok((StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_a_client_made_up_makes_no_series_of_its_own() {
        let requests = Requests::default();
        for method in ["GET", "EVIL1", "EVIL2"] {
            requests.count(&method.parse().unwrap(), StatusCode::NOT_FOUND);
        }
        let mut registry = Registry::default();
        registry.register("r", "x", requests.0.clone());
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        assert!(
            text.contains(r#"r_total{method="other",status="4xx"} 2"#),
            "{text}"
        );
        assert!(text.contains(r#"r_total{method="GET",status="4xx"} 1"#), "{text}");
    }
}
