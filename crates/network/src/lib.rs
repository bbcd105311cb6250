//! Networks of containers on their host: which addresses they have, and the bridges that join them.

mod links;
mod pools;
mod subnet;

pub use links::{Bridge, LinkError, Links};
pub use pools::{Pools, PoolsError};
pub use subnet::{Subnet, SubnetError, SubnetSpec};
