//! Where containers may go beyond their networks, and what they were refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use network::{EgressPolicy, Refusal, Refused};
use tokio::sync::mpsc;

use super::record::{NetworkRecord, option};
use crate::engine::Shared;
use crate::folder::ContainerRecord;
use crate::{ContainerCreate, EngineError, Result};

/// The annotation of a container that says where it may go.
const ANNOTATION: &str = option::EGRESS;

/// Refuses a policy that is none.
pub(crate) fn check(create: &ContainerCreate) -> Result<()> {
    let Some(text) = create.annotations.get(ANNOTATION) else {
        return Ok(());
    };
    let policy = text.parse::<EgressPolicy>();
    policy
        .map(drop)
        .map_err(|error| EngineError::Invalid(error.to_string()))
}

/// What says where a container may go by way of a network: the network, and the container itself. All have to allow it.
pub(super) fn policies(record: &ContainerRecord, network: &NetworkRecord) -> Vec<EgressPolicy> {
    let own = policy(&record.config.annotations, &record.name);
    of_network(network).into_iter().chain(own).collect()
}

/// The same for a container that says nothing itself.
pub(super) fn of_network(network: &NetworkRecord) -> Vec<EgressPolicy> {
    policy(&network.options, &network.name).into_iter().collect()
}

/// What was written down was read before; if it cannot be any more, nothing is allowed rather than everything.
fn policy(said: &BTreeMap<String, String>, whose: &str) -> Option<EgressPolicy> {
    let text = said.get(ANNOTATION)?;
    let policy = text.parse().unwrap_or_else(|error| {
        tracing::error!(whose, %error, "an egress policy cannot be read, so nothing is allowed");
        EgressPolicy::Only(Vec::new())
    });
    Some(policy).filter(|policy| *policy != EgressPolicy::All)
}

/// Tells what containers are refused, until the engine ends.
pub(crate) fn begin(shared: &Arc<Shared>) {
    if let Some(refusals) = shared.networks.take_refusals() {
        tokio::spawn(tell(Arc::downgrade(shared), refusals));
    }
}

async fn tell(shared: Weak<Shared>, mut refusals: mpsc::Receiver<Refusal>) {
    while let Some(refusal) = refusals.recv().await {
        let Some(shared) = shared.upgrade() else { return };
        // One that is gone has nobody to ask about it.
        if let Ok(live) = shared.registry.find(&refusal.container) {
            live.tell(
                format!("egress_denied: {}", refusal.refused),
                attributes(&refusal),
            );
        }
    }
}

/// What an event says of a refusal, beside the container's own name.
fn attributes(refusal: &Refusal) -> Vec<(&'static str, String)> {
    let mut attributes = match &refusal.refused {
        Refused::Name(name) => vec![("protocol", "dns".to_owned()), ("destination", name.clone())],
        Refused::Packet {
            protocol,
            destination,
            port,
        } => {
            let mut attributes = vec![
                ("protocol", protocol.clone()),
                ("destination", destination.to_string()),
            ];
            attributes.extend(port.map(|port| ("port", port.to_string())));
            attributes
        }
    };
    if refusal.left_out > 0 {
        attributes.push(("left_out", refusal.left_out.to_string()));
    }
    attributes
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::VmSize;

    fn said(policy: Option<&str>) -> BTreeMap<String, String> {
        let policy = policy.map(|policy| (ANNOTATION.to_owned(), policy.to_owned()));
        policy.into_iter().collect()
    }

    fn create(policy: Option<&str>) -> ContainerCreate {
        ContainerCreate {
            annotations: said(policy),
            ..ContainerCreate::default()
        }
    }

    fn policies_of(network: Option<&str>, container: Option<&str>) -> Vec<String> {
        let network = NetworkRecord {
            id: "a".into(),
            name: "net".into(),
            created: Timestamp::UNIX_EPOCH,
            internal: false,
            ipv6: false,
            attachable: false,
            subnets: Vec::new(),
            options: said(network),
            labels: BTreeMap::new(),
            bridge: "hullb0".into(),
        };
        let container = ContainerRecord {
            id: "b".into(),
            name: "web".into(),
            created: Timestamp::UNIX_EPOCH,
            image_id: String::new(),
            layers: Vec::new(),
            config: create(container),
            args: Vec::new(),
            mounts: Vec::new(),
            nameless_volumes: Vec::new(),
            vm: VmSize::default(),
            blank_disk_bytes: None,
        };
        let policies = policies(&container, &network);
        policies.iter().map(EgressPolicy::to_string).collect()
    }

    #[test]
    fn a_policy_that_is_none_makes_no_container() {
        assert!(check(&create(None)).is_ok());
        assert!(check(&create(Some("a.b:443,10.0.0.0/8"))).is_ok());
        let error = check(&create(Some("a.b:x"))).unwrap_err();
        assert!(matches!(error, EngineError::Invalid(_)));
        assert!(error.to_string().contains("'x' in 'a.b:x'"), "{error}");
    }

    #[test]
    fn the_network_and_the_container_both_say_where_it_may_go() {
        assert!(policies_of(None, None).is_empty());
        assert!(policies_of(Some("all"), Some("all")).is_empty());
        assert_eq!(policies_of(Some("*.b"), Some("a.b")), ["*.b", "a.b"]);
        assert_eq!(policies_of(Some("all"), Some("none")), ["none"]);
    }

    #[test]
    fn a_policy_that_cannot_be_read_allows_nothing() {
        assert_eq!(policies_of(Some("a.b:x"), Some("all")), ["none"]);
        assert_eq!(policies_of(None, Some("")), ["none"]);
    }

    #[test]
    fn an_event_says_what_was_refused() {
        let mut refusal = Refusal {
            container: "b".into(),
            refused: Refused::Packet {
                protocol: "tcp".into(),
                destination: "192.0.2.1".parse().unwrap(),
                port: Some(443),
            },
            left_out: 0,
        };
        let text = |refusal: &Refusal| {
            let attributes = attributes(refusal).into_iter();
            let attributes = attributes.map(|(name, value)| format!("{name}={value}"));
            attributes.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(text(&refusal), "protocol=tcp destination=192.0.2.1 port=443");
        refusal.refused = Refused::Name("a.b".into());
        refusal.left_out = 7;
        assert_eq!(text(&refusal), "protocol=dns destination=a.b left_out=7");
    }
}
