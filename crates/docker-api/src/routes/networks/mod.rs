//! Networks: list, create, inspect, remove, prune, and which containers are in them.

mod create;
mod describe;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use engine::{Engine, Network};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) use self::create::create;
use self::describe::Described;
use super::images::parse_until;
use crate::body::JsonBody;
use crate::create::networks::read_endpoint;
use crate::error::ApiError;
use crate::filters::{Filters, label_matches};
use crate::name_patterns;
use crate::query::Params;

/// Where a network is known: hull has none of a swarm.
const SCOPE: &str = "local";

/// What is answered; nothing removed is `null`, as with Docker.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Pruned {
    networks_deleted: Option<Vec<String>>,
}

/// Which container is to be put into a network, and how.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct ConnectBody {
    container: Option<String>,
    endpoint_config: Value,
}

/// Which container is to be taken out of a network.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(super) struct DisconnectBody {
    container: Option<String>,
    force: Option<bool>,
}

/// `GET /networks`. Which containers are in them is not told, as with Docker.
pub(super) async fn list(
    State(engine): State<Engine>,
    params: Params,
) -> Result<Json<Vec<Described>>, ApiError> {
    let filters = params
        .filters()?
        .only(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let names = name_patterns::read(&filters)?;
    let dangling = filters.flag("dangling")?;
    check_kinds(&filters)?;
    let mut networks = engine.networks().await?;
    networks.retain(|network| {
        (names.is_empty() || names.iter().any(|name| name.is_match(&network.name)))
            && dangling.is_none_or(|dangling| dangling == is_dangling(network))
            && passes(network, &filters)
    });
    let without_members = |network| {
        Described::new(Network {
            members: Vec::new(),
            ..network
        })
    };
    Ok(Json(networks.into_iter().map(without_members).collect()))
}

/// Whether a network is used by nobody, and may be removed for it.
fn is_dangling(network: &Network) -> bool {
    !network.predefined && network.users == 0
}

/// `type` has two values only.
fn check_kinds(filters: &Filters) -> Result<(), ApiError> {
    let unknown = filters
        .values("type")
        .iter()
        .find(|kind| !matches!(kind.as_str(), "builtin" | "custom"));
    match unknown {
        Some(kind) => Err(ApiError::bad_request(format!("invalid filter: 'type'='{kind}'"))),
        None => Ok(()),
    }
}

fn passes(network: &Network, filters: &Filters) -> bool {
    let kind = if network.predefined { "builtin" } else { "custom" };
    filters.any("id", |id| network.id.starts_with(id.as_str()))
        && filters.any("driver", |driver| driver == network.driver.as_str())
        && filters.any("scope", |scope| scope == SCOPE)
        && filters.any("type", |wanted| wanted == kind)
        && filters.all("label", |wanted| has_label(network, wanted))
}

fn has_label(network: &Network, wanted: &str) -> bool {
    label_matches(wanted, |name| network.labels.get(name).map(String::as_str))
}

/// `GET /networks/{name}`
pub(super) async fn inspect(
    State(engine): State<Engine>,
    Path(name): Path<String>,
) -> Result<Json<Described>, ApiError> {
    Ok(Json(Described::new(engine.network(&name).await?)))
}

/// `DELETE /networks/{name}`
pub(super) async fn remove(
    State(engine): State<Engine>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    engine.remove_network(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /networks/prune`
pub(super) async fn prune(State(engine): State<Engine>, params: Params) -> Result<Json<Pruned>, ApiError> {
    let filters = params.filters()?.only(&["label", "label!", "until"])?;
    let until = parse_until(&filters, Timestamp::now())?;
    let removed = engine
        .prune_networks(|network| {
            filters.all("label", |wanted| has_label(network, wanted))
                && filters.all("label!", |wanted| !has_label(network, wanted))
                && until.is_none_or(|until| network.created.is_some_and(|created| created < until))
        })
        .await?;
    Ok(Json(Pruned {
        networks_deleted: (!removed.is_empty()).then_some(removed),
    }))
}

/// `POST /networks/{name}/connect`
pub(super) async fn connect(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<ConnectBody>,
) -> Result<(), ApiError> {
    let config = read_endpoint(body.endpoint_config)?;
    let container = container(body.container)?;
    engine.connect_network(&name, &container, config).await?;
    Ok(())
}

/// `POST /networks/{name}/disconnect`
pub(super) async fn disconnect(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<DisconnectBody>,
) -> Result<(), ApiError> {
    let container = container(body.container)?;
    let force = body.force.unwrap_or_default();
    engine.disconnect_network(&name, &container, force).await?;
    Ok(())
}

fn container(name: Option<String>) -> Result<String, ApiError> {
    name.filter(|name| !name.is_empty())
        .ok_or_else(|| ApiError::bad_request("invalid container name or ID: value is empty"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use engine::NetworkDriver;

    use super::*;

    fn network(name: &str, predefined: bool) -> Network {
        Network {
            id: format!("{name}0123"),
            name: name.into(),
            created: None,
            driver: NetworkDriver::Bridge,
            internal: false,
            ipv4: true,
            ipv6: false,
            attachable: false,
            subnets: Vec::new(),
            options: BTreeMap::new(),
            labels: BTreeMap::from([("tier".to_owned(), "front".to_owned())]),
            predefined,
            members: Vec::new(),
            users: 0,
        }
    }

    #[test]
    fn filters_choose_as_dockers_do() {
        for (filters, expected) in [
            ("", true),
            (r#"{"id":["web01"]}"#, true),
            (r#"{"id":["eb01"]}"#, false),
            (r#"{"driver":["null","bridge"]}"#, true),
            (r#"{"driver":["overlay"]}"#, false),
            (r#"{"scope":["swarm"]}"#, false),
            (r#"{"type":["custom"]}"#, true),
            (r#"{"type":["builtin"]}"#, false),
            (r#"{"label":["tier=front"]}"#, true),
            (r#"{"label":["tier","other"]}"#, false),
        ] {
            let filters_read = Filters::parse(filters).unwrap();
            assert_eq!(
                passes(&network("web", false), &filters_read),
                expected,
                "{filters}"
            );
        }
        let wrong = Filters::parse(r#"{"type":["odd"]}"#).unwrap();
        assert_eq!(
            check_kinds(&wrong).unwrap_err().message(),
            "invalid filter: 'type'='odd'"
        );
    }

    #[test]
    fn what_nobody_uses_is_dangling_unless_every_hull_has_it() {
        assert!(is_dangling(&network("web", false)));
        assert!(!is_dangling(&network("bridge", true)));
        let used = Network {
            users: 1,
            ..network("web", false)
        };
        assert!(!is_dangling(&used));
    }
}
