//! Which networks a container is to be in.

use super::endpoint::EndpointConfig;
use super::{DEFAULT_NETWORK, NO_NETWORK};
use crate::engine::Shared;
use crate::{ContainerCreate, EngineError, Result};

/// The network of a container's mode.
pub(super) fn primary(config: &ContainerCreate) -> &str {
    match config.network.as_str() {
        "" | "default" => DEFAULT_NETWORK,
        name => name,
    }
}

/// How many network devices its microVM has: those that it can come to need.
pub(crate) fn nics(config: &ContainerCreate) -> u8 {
    if config.no_network { 0 } else { sandbox::MAX_NICS }
}

/// The networks that a container is to be in, that of its mode first.
pub(super) fn joined(config: &ContainerCreate) -> Vec<(String, EndpointConfig)> {
    if config.no_network {
        return Vec::new();
    }
    let primary = primary(config);
    let first = match config.endpoints.get(primary) {
        None if config.left_networks => None,
        asked => Some((primary.to_owned(), asked.cloned().unwrap_or_default())),
    };
    let others = config.endpoints.iter().filter(|(name, _)| *name != primary);
    let others = others.map(|(name, endpoint)| (name.clone(), endpoint.clone()));
    first.into_iter().chain(others).collect()
}

/// Calls networks by their names, and refuses what no container can be in.
pub(crate) fn normalize(shared: &Shared, create: &mut ContainerCreate) -> Result<()> {
    if create.network == NO_NETWORK {
        create.no_network = true;
    }
    let name = |name: String| match name.as_str() {
        "default" => DEFAULT_NETWORK.to_owned(),
        // One that is not there yet may be there when the container starts.
        id => shared.networks.find(id).map_or(name, |record| record.name),
    };
    if !matches!(create.network.as_str(), "" | "default" | NO_NETWORK) {
        create.network = name(std::mem::take(&mut create.network));
    }
    let endpoints = std::mem::take(&mut create.endpoints);
    create.endpoints = endpoints
        .into_iter()
        .map(|(network, config)| (name(network), config))
        .collect();
    if create.no_network {
        create.endpoints.remove(NO_NETWORK);
    }
    if create.no_network && !create.endpoints.is_empty() {
        return Err(EngineError::Invalid(
            "conflicting options: a container without a network cannot be in others".into(),
        ));
    }
    if create.endpoints.contains_key(NO_NETWORK) {
        return Err(EngineError::Invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode".into(),
        ));
    }
    for (network, config) in joined(create) {
        check(&network, &config)?;
    }
    // In other networks a link is to whoever has the name when it is asked for.
    let in_default = matches!(create.network.as_str(), "" | "default" | DEFAULT_NETWORK);
    for link in create.links.iter().filter(|_| in_default) {
        let name = link.split(':').next().unwrap_or(link);
        let found = shared.registry.find(name.trim_start_matches('/'));
        // Not as one that is not found: clients would take it for the image.
        found
            .map_err(|error| EngineError::Invalid(format!("could not get container for {name}: {error}")))?;
    }
    Ok(())
}

/// Refuses what a network cannot do for a container.
pub(super) fn check(network: &str, config: &EndpointConfig) -> Result<()> {
    let invalid = |text: &str| {
        Err(EngineError::Invalid(format!(
            "invalid endpoint settings:\n{text}"
        )))
    };
    if network != DEFAULT_NETWORK {
        return Ok(());
    }
    if !config.aliases.is_empty() {
        return invalid("network-scoped aliases are only supported for user-defined networks");
    }
    if config.ipv4.is_some() || config.ipv6.is_some() {
        return invalid("user specified IP address is supported on user defined networks only");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(config: &ContainerCreate) -> Vec<String> {
        joined(config).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn who_says_nothing_is_in_the_default_network_and_who_left_it_in_none() {
        let mut config = ContainerCreate::default();
        assert_eq!(names(&config), ["bridge"]);
        config.endpoints.insert("a".into(), EndpointConfig::default());
        assert_eq!(names(&config), ["bridge", "a"]);
        config.network = "web".into();
        assert_eq!(names(&config), ["web", "a"]);
        config.left_networks = true;
        assert_eq!(names(&config), ["a"]);
        config.endpoints.insert("web".into(), EndpointConfig::default());
        assert_eq!(names(&config), ["web", "a"]);
        config.no_network = true;
        assert!(names(&config).is_empty());
    }

    #[test]
    fn the_default_network_has_neither_aliases_nor_wishes() {
        let alias = EndpointConfig {
            aliases: vec!["db".into()],
            ..EndpointConfig::default()
        };
        let address = EndpointConfig {
            ipv4: "172.17.0.9".parse().ok(),
            ..EndpointConfig::default()
        };
        for config in [alias, address] {
            assert!(check("bridge", &config).is_err());
            assert!(check("web", &config).is_ok());
        }
    }
}
