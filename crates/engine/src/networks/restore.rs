//! Networks after a restart of the engine.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::attach::{leading, on_host_again};
use crate::container::Live;
use crate::engine::Shared;
use crate::{EngineError, Result};

/// Takes over a container that runs already: its host's ends are there, held by its VMM.
pub(crate) async fn adopt(shared: &Arc<Shared>, live: &Live) {
    let standing = live.watch().borrow().record.clone();
    for endpoint in &standing.endpoints {
        let Ok(network) = shared.networks.find(&endpoint.network) else {
            tracing::error!(
                container = live.id(),
                network = endpoint.network,
                "a container runs in a network that is gone"
            );
            continue;
        };
        shared.networks.take_again(&network.id, &endpoint.addresses);
        let on_host = on_host_again(shared, live, &network, endpoint);
        let adopted = async {
            let host = shared.networks.host().await?;
            host.adopt(on_host).await.map_err(EngineError::from)
        };
        if let Err(error) = adopted.await {
            tracing::error!(container = live.id(), network = network.name, %error, "a container is cut off from its network");
        }
    }
    let leading = leading(shared, live).map(|(endpoint, _)| endpoint.tap);
    for published in &standing.published {
        let Some(tap) = &leading else { continue };
        let publish = network::Publish {
            protocol: published.port.protocol,
            addresses: vec![published.host],
            ports: Some(published.host_port..=published.host_port),
            container_port: published.port.number,
        };
        let again = async {
            let host = shared.networks.host().await?;
            host.publish(tap, publish).await.map_err(EngineError::from)
        };
        if let Err(error) = again.await {
            tracing::error!(container = live.id(), port = %published.port, %error, "a port is not published any more");
        }
    }
}

/// Makes the host's rules those of the containers that run, and removes the bridges that nobody needs.
pub(crate) async fn begin(shared: &Arc<Shared>) {
    let lives = shared.registry.all();
    let runs: HashSet<String> = lives
        .iter()
        .flat_map(|live| live.watch().borrow().record.endpoints.clone())
        .map(|endpoint| endpoint.network)
        .collect();
    // Where nothing was made by this engine, what is there is another's.
    if runs.is_empty() && !marker(shared).exists() {
        return;
    }
    if let Err(error) = settle(shared).await {
        tracing::error!(%error, "containers may be cut off from their networks, or rules of earlier ones stay");
    }
}

/// A file that says that this engine has made something of the host's network since the host was started.
fn marker(shared: &Shared) -> PathBuf {
    shared.spec.runtime.join("networks")
}

/// Leaves word that there will be something to clean up.
pub(super) fn mark(shared: &Shared) -> Result<()> {
    let marker = marker(shared);
    if marker.exists() {
        return Ok(());
    }
    std::fs::write(&marker, "").map_err(EngineError::io("make", marker))
}

async fn settle(shared: &Arc<Shared>) -> Result<()> {
    let host = shared.networks.host().await?;
    if let Err(error) = host.remove_strays().await {
        tracing::warn!(%error, "interfaces of an earlier daemon may stay");
    }
    host.settle().await.map_err(EngineError::from)
}
