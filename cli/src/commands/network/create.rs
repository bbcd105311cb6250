//! `hull network create`

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context, bail};
use bollard_stubs::models::{ConfigReference, Ipam, IpamConfig, NetworkCreateRequest};
use clap::{ArgAction, Args};
use ipnet::IpNet;
use serde::Deserialize;

use crate::api::{Client, Target};
use crate::commands::{pairs, print_line};
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull network create [OPTIONS] NETWORK")]
pub(super) struct Arguments {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,

    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "NAME=ADDRESS", value_delimiter = ',')]
    aux_address: Vec<String>,

    /// The network from which to copy the configuration, which hull does not do
    #[arg(long, value_name = "NETWORK", hide = true)]
    config_from: Option<String>,

    /// Create a configuration only network, which hull does not do
    #[arg(long, hide = true)]
    config_only: bool,

    /// Driver to manage the Network
    #[arg(short, long, default_value = "bridge", hide_default_value = true)]
    driver: String,

    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<String>,

    /// Create swarm routing-mesh network, which hull does not do
    #[arg(long, hide = true)]
    ingress: bool,

    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,

    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    ip_range: Vec<String>,

    /// IP Address Management Driver
    #[arg(
        long,
        value_name = "DRIVER",
        default_value = "default",
        hide_default_value = true
    )]
    ipam_driver: String,

    /// Set IPAM driver specific options
    #[arg(long, value_name = "NAME=VALUE")]
    ipam_opt: Vec<String>,

    /// Enable or disable IPv4 address assignment
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, hide_possible_values = true)]
    ipv4: Option<bool>,

    /// Enable or disable IPv6 address assignment
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set, hide_possible_values = true)]
    ipv6: Option<bool>,

    /// Set metadata on a network
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,

    /// Set driver specific options
    #[arg(short, long = "opt", value_name = "NAME=VALUE")]
    opt: Vec<String>,

    /// Control the network's scope, which is local
    #[arg(long, value_name = "SCOPE", hide = true)]
    scope: Option<String>,

    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    subnet: Vec<String>,

    /// Its name
    #[arg(value_name = "NETWORK")]
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

pub(super) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let body = body(arguments)?;
    let created: Created = client.post(Target::new(&["networks", "create"]), &body).await?;
    Ok(print_line(&created.id)?)
}

fn body(arguments: Arguments) -> anyhow::Result<NetworkCreateRequest> {
    let config = subnets(&arguments)?;
    Ok(NetworkCreateRequest {
        ipam: Some(Ipam {
            driver: Some(arguments.ipam_driver),
            config: Some(config),
            options: Some(pairs(&arguments.ipam_opt)),
        }),
        name: arguments.name,
        driver: Some(arguments.driver),
        scope: arguments.scope,
        internal: Some(arguments.internal),
        attachable: Some(arguments.attachable),
        ingress: Some(arguments.ingress),
        config_only: Some(arguments.config_only),
        config_from: arguments.config_from.map(|network| ConfigReference {
            network: Some(network),
        }),
        enable_ipv4: arguments.ipv4,
        enable_ipv6: arguments.ipv6,
        options: Some(pairs(&arguments.opt)),
        labels: Some(pairs(&arguments.label)),
    })
}

/// The subnets, each with the range, the gateway and the further addresses that lie in it.
fn subnets(arguments: &Arguments) -> anyhow::Result<Vec<IpamConfig>> {
    if arguments.subnet.len() < arguments.ip_range.len().max(arguments.gateway.len()) {
        bail!("every ip-range or gateway must have a corresponding subnet");
    }
    let mut subnets = Subnets::default();
    for subnet in &arguments.subnet {
        subnets.add(subnet)?;
    }
    for range in &arguments.ip_range {
        let (subnet, config) = subnets.with("range", range, block(range)?.network())?;
        if let Some(other) = config.ip_range.replace(range.clone()) {
            bail!("cannot configure multiple ranges ({range}, {other}) on the same subnet ({subnet})");
        }
    }
    for gateway in &arguments.gateway {
        let (subnet, config) = subnets.with("gateway", gateway, address(gateway)?)?;
        if let Some(other) = config.gateway.replace(gateway.clone()) {
            bail!("cannot configure multiple gateways ({gateway}, {other}) for the same subnet ({subnet})");
        }
    }
    for auxiliary in &arguments.aux_address {
        let (name, own) = auxiliary
            .split_once('=')
            .with_context(|| format!("invalid aux-address {auxiliary}: write NAME=ADDRESS"))?;
        let (_, config) = subnets.with("aux-address", own, address(own)?)?;
        let addresses = config.auxiliary_addresses.get_or_insert_default();
        addresses.insert(name.to_owned(), own.to_owned());
    }
    Ok(subnets.0.into_values().collect())
}

/// Subnets that do not meet.
#[derive(Default)]
struct Subnets(BTreeMap<IpNet, IpamConfig>);

impl Subnets {
    fn add(&mut self, text: &str) -> anyhow::Result<()> {
        let subnet = block(text)?;
        let meets = |other: &IpNet| other.contains(&subnet) || subnet.contains(other);
        if self.0.keys().any(meets) {
            bail!("multiple overlapping subnet configuration is not supported");
        }
        let config = IpamConfig {
            subnet: Some(text.to_owned()),
            ..IpamConfig::default()
        };
        self.0.insert(subnet, config);
        Ok(())
    }

    /// The subnet that an address lies in.
    fn with(&mut self, what: &str, text: &str, address: IpAddr) -> anyhow::Result<(IpNet, &mut IpamConfig)> {
        let mut subnets = self.0.iter_mut();
        let found = subnets.find(|(subnet, _)| subnet.contains(&address));
        let (subnet, config) = found.with_context(|| format!("no matching subnet for {what} {text}"))?;
        Ok((*subnet, config))
    }
}

fn block(text: &str) -> anyhow::Result<IpNet> {
    text.parse()
        .with_context(|| format!("invalid CIDR address: {text}"))
}

fn address(text: &str) -> anyhow::Result<IpAddr> {
    text.parse()
        .with_context(|| format!("invalid IP address: {text}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn sent(line: &str) -> anyhow::Result<serde_json::Value> {
        let line = Line::try_parse_from(["create"].into_iter().chain(line.split(' ')))?;
        Ok(serde_json::to_value(body(line.arguments)?)?)
    }

    #[test]
    fn every_option_reaches_the_body() {
        let sent = sent(
            "--subnet 10.9.0.0/16,fd00::/64 --ip-range 10.9.1.0/24 --gateway fd00::9 --gateway 10.9.0.9 \
             --aux-address router=10.9.0.5 --internal --ipv6 --ipv4=true --attachable -o a=b --label c=d --ipam-opt e=f web",
        );
        assert_eq!(
            sent.unwrap(),
            json!({
                "Name": "web", "Driver": "bridge", "Internal": true, "Attachable": true, "Ingress": false,
                "ConfigOnly": false, "EnableIPv4": true, "EnableIPv6": true, "Options": {"a": "b"}, "Labels": {"c": "d"},
                "IPAM": {"Driver": "default", "Options": {"e": "f"}, "Config": [
                    {
                        "Subnet": "10.9.0.0/16", "IPRange": "10.9.1.0/24", "Gateway": "10.9.0.9",
                        "AuxiliaryAddresses": {"router": "10.9.0.5"},
                    },
                    {"Subnet": "fd00::/64", "Gateway": "fd00::9"},
                ]},
            })
        );
    }

    #[test]
    fn addresses_that_do_not_fit_are_refused_in_dockers_words() {
        for (line, message) in [
            (
                "--gateway 10.0.0.1 web",
                "every ip-range or gateway must have a corresponding subnet",
            ),
            ("--subnet x web", "invalid CIDR address: x"),
            (
                "--subnet 10.0.0.0/8 --subnet 10.1.0.0/16 web",
                "multiple overlapping subnet configuration is not supported",
            ),
            (
                "--subnet 10.0.0.0/24 --gateway 10.0.1.1 web",
                "no matching subnet for gateway 10.0.1.1",
            ),
            (
                "--subnet 10.0.0.0/24 --subnet 10.0.1.0/24 --gateway 10.0.0.1 --gateway 10.0.0.2 web",
                "cannot configure multiple gateways (10.0.0.2, 10.0.0.1) for the same subnet (10.0.0.0/24)",
            ),
            (
                "--subnet 10.0.0.0/24 --aux-address x web",
                "invalid aux-address x: write NAME=ADDRESS",
            ),
        ] {
            assert_eq!(sent(line).unwrap_err().to_string(), message, "{line}");
        }
    }
}
