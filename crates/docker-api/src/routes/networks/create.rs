//! A network to create, as Docker's clients ask for it.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use engine::{Engine, NetworkCreate, SubnetConfig};
use serde::{Deserialize, Serialize};

use super::SCOPE;
use crate::body::JsonBody;
use crate::error::ApiError;

/// The only driver of addresses.
const IPAM_DRIVER: &str = "default";

/// What is to be created. What is not known here is refused.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
pub(in crate::routes) struct CreateBody {
    name: Option<String>,
    /// Names are never given twice, whether a client asks for that or not.
    #[serde(rename = "CheckDuplicate")]
    _check_duplicate: Option<bool>,
    driver: Option<String>,
    scope: Option<String>,
    internal: Option<bool>,
    attachable: Option<bool>,
    ingress: Option<bool>,
    config_only: Option<bool>,
    config_from: Option<ConfigFrom>,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<IpamBody>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

/// The network whose configuration it is to have.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct ConfigFrom {
    network: Option<String>,
}

/// Its addresses.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct IpamBody {
    driver: Option<String>,
    config: Option<Vec<SubnetBody>>,
    options: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default, deny_unknown_fields)]
struct SubnetBody {
    subnet: Option<String>,
    #[serde(rename = "IPRange")]
    ip_range: Option<String>,
    gateway: Option<String>,
    #[serde(alias = "AuxAddress")]
    auxiliary_addresses: Option<BTreeMap<String, String>>,
}

/// What was made.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::routes) struct Created {
    id: String,
    warning: &'static str,
}

/// `POST /networks/create`
pub(in crate::routes) async fn create(
    State(engine): State<Engine>,
    JsonBody(body): JsonBody<CreateBody>,
) -> Result<(StatusCode, Json<Created>), ApiError> {
    let network = engine.create_network(read(body)?).await?;
    let created = Created {
        id: network.id,
        warning: "",
    };
    Ok((StatusCode::CREATED, Json(created)))
}

fn read(body: CreateBody) -> Result<NetworkCreate, ApiError> {
    check(&body)?;
    let ipam = body.ipam.unwrap_or_default();
    check_ipam(&ipam)?;
    let subnets = ipam.config.unwrap_or_default();
    Ok(NetworkCreate {
        name: body.name.unwrap_or_default(),
        driver: body.driver.unwrap_or_default(),
        internal: body.internal.unwrap_or_default(),
        ipv4: body.enable_ipv4.unwrap_or(true),
        ipv6: body.enable_ipv6.unwrap_or_default(),
        attachable: body.attachable.unwrap_or_default(),
        subnets: subnets.into_iter().map(read_subnet).collect::<Result<_, _>>()?,
        options: body.options.unwrap_or_default(),
        labels: body.labels.unwrap_or_default(),
    })
}

/// Refuses what a network cannot be.
fn check(body: &CreateBody) -> Result<(), ApiError> {
    let config_from = body.config_from.as_ref().and_then(|from| from.network.as_deref());
    let scope = body.scope.as_deref().unwrap_or_default();
    let refusals = [
        (
            !matches!(scope, "" | SCOPE),
            "Scope (--scope): there is no swarm that a network could reach across",
        ),
        (
            body.ingress == Some(true),
            "Ingress (--ingress): there is no swarm whose services it would lead to",
        ),
        (
            body.config_only == Some(true),
            "ConfigOnly (--config-only): a network has its configuration by itself",
        ),
        (
            config_from.is_some_and(|name| !name.is_empty()),
            "ConfigFrom (--config-from): a network has its configuration by itself",
        ),
    ];
    match refusals.iter().find(|(is_asked, _)| *is_asked) {
        Some((_, why)) => Err(ApiError::bad_request(format!("hull does not support {why}"))),
        None => Ok(()),
    }
}

fn check_ipam(ipam: &IpamBody) -> Result<(), ApiError> {
    let driver = ipam.driver.as_deref().unwrap_or_default();
    if !matches!(driver, "" | IPAM_DRIVER) {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!("could not find plugin {driver} in v1 plugin registry: plugin \"{driver}\" not found"),
        ));
    }
    match ipam.options.iter().flatten().next() {
        Some((option, _)) => Err(ApiError::bad_request(format!(
            "hull does not support the option \"{option}\" of the IPAM driver {IPAM_DRIVER} (--ipam-opt): it has none"
        ))),
        None => Ok(()),
    }
}

fn read_subnet(body: SubnetBody) -> Result<SubnetConfig, ApiError> {
    let auxiliary = body.auxiliary_addresses.unwrap_or_default().into_iter();
    let subnet = SubnetConfig {
        subnet: part("subnet", body.subnet.as_deref(), "invalid CIDR block notation")?,
        range: part(
            "ip-range",
            body.ip_range.as_deref(),
            "invalid CIDR block notation",
        )?,
        gateway: part("gateway", body.gateway.as_deref(), "invalid address")?,
        auxiliary: auxiliary
            .map(|(name, address)| Ok((name, required("auxiliary address", &address, "invalid address")?)))
            .collect::<Result<_, ApiError>>()?,
    };
    for (what, block) in [("subnet", subnet.subnet), ("ip-range", subnet.range)] {
        if let Some(block) = block.filter(|block| block.trunc() != *block) {
            return Err(invalid(
                what,
                &block.to_string(),
                &format!("it should be {}", block.trunc()),
            ));
        }
    }
    Ok(subnet)
}

/// Reads a part of a subnet; nothing, or an empty text, is none.
fn part<T: FromStr>(what: &str, text: Option<&str>, why: &str) -> Result<Option<T>, ApiError> {
    let text = text.filter(|text| !text.is_empty());
    text.map(|text| required(what, text, why)).transpose()
}

fn required<T: FromStr>(what: &str, text: &str, why: &str) -> Result<T, ApiError> {
    text.parse().map_err(|_| invalid(what, text, why))
}

fn invalid(what: &str, text: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!("invalid network config:\ninvalid {what} {text}: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::body::typed;

    fn network(body: Value) -> Result<NetworkCreate, ApiError> {
        typed(body).and_then(read)
    }

    #[test]
    fn what_the_docker_cli_sends_is_understood() {
        let create = network(json!({
            "Name": "web", "CheckDuplicate": true, "Driver": "bridge", "Scope": "", "EnableIPv4": null, "EnableIPv6": true,
            "IPAM": {"Driver": "default", "Options": {}, "Config": [{
                "Subnet": "172.28.0.0/16", "IPRange": "172.28.5.0/24", "Gateway": "172.28.5.254",
                "AuxiliaryAddresses": {"router": "172.28.1.5"},
            }]},
            "Internal": true, "Attachable": true, "Ingress": false, "ConfigOnly": false, "ConfigFrom": null,
            "Options": {"com.docker.network.driver.mtu": "1400"}, "Labels": {"a": "b"},
        }))
        .unwrap();
        let expected = NetworkCreate {
            name: "web".into(),
            driver: "bridge".into(),
            internal: true,
            ipv4: true,
            ipv6: true,
            attachable: true,
            subnets: vec![SubnetConfig {
                subnet: "172.28.0.0/16".parse().ok(),
                range: "172.28.5.0/24".parse().ok(),
                gateway: "172.28.5.254".parse().ok(),
                auxiliary: BTreeMap::from([("router".to_owned(), "172.28.1.5".parse().unwrap())]),
            }],
            options: BTreeMap::from([("com.docker.network.driver.mtu".to_owned(), "1400".to_owned())]),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        };
        assert_eq!(create, expected);
    }

    #[test]
    fn what_docker_py_and_docker_compose_leave_open_is_open() {
        let create = network(json!({
            "Name": "web", "Driver": null, "Options": null, "CheckDuplicate": null,
            "IPAM": {"Driver": "default", "Config": [
                {"Subnet": "10.9.0.0/24", "IPRange": null, "Gateway": null, "AuxiliaryAddresses": null},
                {"Subnet": "", "Gateway": "", "AuxAddress": {}},
            ], "Options": null},
        }));
        let [first, second] = &create.unwrap().subnets[..] else {
            panic!("there are two subnets");
        };
        assert_eq!((first.subnet, first.gateway), ("10.9.0.0/24".parse().ok(), None));
        assert_eq!(*second, SubnetConfig::default());
    }

    #[test]
    fn a_network_has_ipv4_unless_somebody_says_that_it_has_not() {
        for (asked, expected) in [(json!(null), true), (json!(true), true), (json!(false), false)] {
            let create = network(json!({"Name": "web", "EnableIPv4": asked})).unwrap();
            assert_eq!(create.ipv4, expected, "{asked}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        for (body, text) in [
            (json!({"Scope": "swarm"}), "hull does not support Scope"),
            (json!({"Ingress": true}), "hull does not support Ingress"),
            (json!({"ConfigOnly": true}), "hull does not support ConfigOnly"),
            (
                json!({"ConfigFrom": {"Network": "x"}}),
                "hull does not support ConfigFrom",
            ),
            (json!({"IPAM": {"Driver": "dhcp"}}), "plugin \"dhcp\" not found"),
            (
                json!({"IPAM": {"Options": {"a": "b"}}}),
                "the option \"a\" of the IPAM driver",
            ),
            (json!({"Novelty": 1}), "unknown field `Novelty`"),
        ] {
            let error = network(body).unwrap_err();
            assert!(error.message().contains(text), "{}", error.message());
        }
    }

    #[test]
    fn addresses_that_are_none_are_refused_as_docker_does() {
        for (subnet, message) in [
            (
                json!({"Subnet": "x"}),
                "invalid subnet x: invalid CIDR block notation",
            ),
            (
                json!({"Subnet": "10.0.0.5/24"}),
                "invalid subnet 10.0.0.5/24: it should be 10.0.0.0/24",
            ),
            (
                json!({"IPRange": "10.0.0.0"}),
                "invalid ip-range 10.0.0.0: invalid CIDR block notation",
            ),
            (
                json!({"Gateway": "10.0.0.0/8"}),
                "invalid gateway 10.0.0.0/8: invalid address",
            ),
            (
                json!({"AuxiliaryAddresses": {"a": ""}}),
                "invalid auxiliary address : invalid address",
            ),
        ] {
            let error = network(json!({"IPAM": {"Config": [subnet]}})).unwrap_err();
            assert_eq!(error.message(), format!("invalid network config:\n{message}"));
        }
    }
}
