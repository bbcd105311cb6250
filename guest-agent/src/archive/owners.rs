//! Owners as the container has them, where it has a user namespace.

use guest_protocol::ContainerSpec;

use super::{Result, TaskError};
use crate::user_namespace::{COUNT, FIRST_ID};

/// What the container sees in place of an id that is not its own: the kernel's `overflowuid`.
const NOBODY: u32 = 65_534;

/// How ids of the guest and ids of the container belong together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owners {
    user_namespace: bool,
}

impl Owners {
    pub(super) fn of(container: &ContainerSpec) -> Self {
        Self {
            user_namespace: container.namespaces.user,
        }
    }

    /// The container's id for an id of the guest.
    pub(super) fn inside(self, id: u32) -> u32 {
        match self.user_namespace {
            false => id,
            true => id
                .checked_sub(FIRST_ID)
                .filter(|id| *id < COUNT)
                .unwrap_or(NOBODY),
        }
    }

    /// The guest's id for an id of the container.
    pub(super) fn outside(self, id: u32) -> Result<u32> {
        match self.user_namespace {
            false => Ok(id),
            true if id < COUNT => Ok(FIRST_ID + id),
            true => Err(TaskError::Owner(id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_shifted_in_a_user_namespace_only() {
        let plain = Owners {
            user_namespace: false,
        };
        assert_eq!((plain.inside(7), plain.outside(7).unwrap()), (7, 7));
        let mapped = Owners { user_namespace: true };
        assert_eq!(mapped.inside(mapped.outside(7).unwrap()), 7);
        assert_eq!(mapped.inside(0), NOBODY);
        assert!(mapped.outside(COUNT).is_err());
    }
}
