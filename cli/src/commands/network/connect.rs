//! `hull network connect` and `hull network disconnect`

use bollard_stubs::models::{
    EndpointIpamConfig, EndpointSettings, NetworkConnectRequest, NetworkDisconnectRequest,
};
use clap::Args;

use crate::api::{Client, Target};
use crate::commands::pairs;
use crate::failure::CommandResult;

#[derive(Debug, Args)]
#[command(override_usage = "hull network connect [OPTIONS] NETWORK CONTAINER")]
pub(super) struct ConnectArguments {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,

    /// Driver options for the network
    #[arg(long, value_name = "NAME=VALUE")]
    driver_opt: Vec<String>,

    /// Highest gw-priority provides the default gateway. Accepts positive and negative values
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    gw_priority: Option<i64>,

    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,

    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,

    /// Add link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    link: Vec<String>,

    /// Add a link-local address for the container, which hull has none of
    #[arg(long, value_name = "ADDRESS", hide = true)]
    link_local_ip: Vec<String>,

    /// Name or ID
    #[arg(value_name = "NETWORK")]
    network: String,

    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

#[derive(Debug, Args)]
#[command(override_usage = "hull network disconnect [OPTIONS] NETWORK CONTAINER")]
pub(super) struct DisconnectArguments {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,

    /// Name or ID
    #[arg(value_name = "NETWORK")]
    network: String,

    /// Name or ID
    #[arg(value_name = "CONTAINER")]
    container: String,
}

pub(super) async fn connect(client: &Client, arguments: ConnectArguments) -> CommandResult {
    let target = Target::new(&["networks", &arguments.network, "connect"]);
    let body = NetworkConnectRequest {
        endpoint_config: Some(endpoint(&arguments)),
        container: arguments.container,
    };
    Ok(client.post_only(target, &body).await?)
}

fn endpoint(arguments: &ConnectArguments) -> EndpointSettings {
    let list = |values: &[String]| (!values.is_empty()).then(|| values.to_vec());
    let addresses = EndpointIpamConfig {
        ipv4_address: arguments.ip.clone(),
        ipv6_address: arguments.ip6.clone(),
        link_local_ips: list(&arguments.link_local_ip),
    };
    let options = pairs(&arguments.driver_opt);
    EndpointSettings {
        ipam_config: Some(addresses).filter(|addresses| *addresses != EndpointIpamConfig::default()),
        links: list(&arguments.link),
        aliases: list(&arguments.alias),
        driver_opts: (!options.is_empty()).then_some(options),
        gw_priority: arguments.gw_priority,
        ..EndpointSettings::default()
    }
}

pub(super) async fn disconnect(client: &Client, arguments: DisconnectArguments) -> CommandResult {
    let target = Target::new(&["networks", &arguments.network, "disconnect"]);
    let body = NetworkDisconnectRequest {
        container: arguments.container,
        force: Some(arguments.force),
    };
    Ok(client.post_only(target, &body).await?)
}
