//! `--restart`

use std::str::FromStr;

use bollard_stubs::models::{RestartPolicy as ApiPolicy, RestartPolicyNameEnum};
use thiserror::Error;

/// When a container is started again: `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:RETRIES`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RestartPolicy {
    name: RestartPolicyNameEnum,
    retries: i64,
}

/// A policy that is none.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum RestartPolicyError {
    #[error("invalid restart policy format: no policy provided before colon")]
    NoName,
    #[error("invalid restart policy format: maximum retry count must be an integer")]
    Retries,
    #[error(
        "invalid restart policy: unknown policy '{0}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )]
    Unknown(String),
}

impl FromStr for RestartPolicy {
    type Err = RestartPolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, retries) = match text.split_once(':') {
            Some(("", _)) => return Err(RestartPolicyError::NoName),
            Some((name, retries)) => (name, retries.parse().map_err(|_| RestartPolicyError::Retries)?),
            None => (text, 0),
        };
        let name = match name {
            "" => RestartPolicyNameEnum::EMPTY,
            "no" => RestartPolicyNameEnum::NO,
            "always" => RestartPolicyNameEnum::ALWAYS,
            "on-failure" => RestartPolicyNameEnum::ON_FAILURE,
            "unless-stopped" => RestartPolicyNameEnum::UNLESS_STOPPED,
            other => return Err(RestartPolicyError::Unknown(other.to_owned())),
        };
        Ok(Self { name, retries })
    }
}

impl RestartPolicy {
    /// Whether it asks for nothing.
    pub(super) fn is_none(&self) -> bool {
        matches!(
            self.name,
            RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO
        )
    }
}

impl From<RestartPolicy> for ApiPolicy {
    fn from(policy: RestartPolicy) -> Self {
        Self {
            name: Some(policy.name),
            maximum_retry_count: Some(policy.retries),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_with_and_without_retries() {
        let policy: RestartPolicy = "on-failure:3".parse().unwrap();
        assert_eq!(
            (policy.name, policy.retries),
            (RestartPolicyNameEnum::ON_FAILURE, 3)
        );
        assert!("no".parse::<RestartPolicy>().unwrap().is_none());
        assert!(!"always".parse::<RestartPolicy>().unwrap().is_none());
    }

    #[test]
    fn what_is_no_policy_is_refused() {
        for (text, error) in [
            (":3", RestartPolicyError::NoName),
            ("on-failure:x", RestartPolicyError::Retries),
            ("never", RestartPolicyError::Unknown("never".into())),
        ] {
            assert_eq!(text.parse::<RestartPolicy>(), Err(error));
        }
    }
}
