//! What the name server asks about names.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use hickory_proto::rr::RecordType;

/// The addresses that a client may be told, when that is decided.
pub type Pinned<'a> = Pin<Box<dyn Future<Output = Vec<IpAddr>> + Send + 'a>>;

/// What is done with a question that is about no container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// These servers are asked, one after the other until one has an answer.
    To(Vec<SocketAddr>),
    /// There is no such name (NXDOMAIN): a client looks no further.
    NoSuchName,
    /// The client may not ask that (REFUSED): it may ask another server, or later.
    Refuse,
}

/// Who asks, and what names stand for.
///
/// All methods but [`Names::pin`] are called for every question, on the thread that answers all clients: they return at once.
/// Names are in lower case and without a dot at their end, the root is `.`; a byte that is no printable ASCII is escaped with a
/// backslash.
pub trait Names: Send + Sync + 'static {
    /// The client that has an address. Nobody else may be able to ask from it: the network has to see to that. A client that is
    /// not known is refused.
    fn client(&self, address: IpAddr) -> Option<String>;

    /// The addresses, of both families, that a client is told for the name of a container (or an alias, a service, the host).
    ///
    /// Nothing if it is no such name: then the question is handed on. If it is, it never is, even if there is no address.
    fn addresses(&self, client: &str, name: &str) -> Option<Vec<IpAddr>>;

    /// The name of who has an address in one of the client's networks. Nothing if nobody has: then the question is handed on.
    fn name(&self, client: &str, address: IpAddr) -> Option<String>;

    /// What is done with a question that is about no container. A question for the name of an address is about a name in
    /// `in-addr.arpa` or `ip6.arpa`.
    fn forward(&self, client: &str, name: &str, kind: RecordType) -> Forward;

    /// Which of these addresses a client may be told. They are in the answer of a server outside to the client's question for
    /// `name`, at the end of a chain of aliases, too, or as hints of a service; an IPv6 address that means an IPv4 address is
    /// that. The answer may be kept for `ttl`.
    ///
    /// The client has the answer only after this: a policy may open its door for the addresses here. It has a second.
    fn pin<'a>(
        &'a self,
        client: &'a str,
        name: &'a str,
        addresses: Vec<IpAddr>,
        ttl: Duration,
    ) -> Pinned<'a> {
        let _ = (client, name, ttl);
        Box::pin(std::future::ready(addresses))
    }
}
