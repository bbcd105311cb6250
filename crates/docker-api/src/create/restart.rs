//! The restart policy of a request.

use bollard_stubs::models::{RestartPolicy as ApiPolicy, RestartPolicyNameEnum};
use engine::RestartPolicy;
use serde::Deserialize;
use serde_json::Value;

use crate::error::ApiError;

/// A policy as it comes: its name may be any.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Given {
    name: Option<String>,
    maximum_retry_count: Option<i64>,
}

/// Takes the policy out of the object that holds it; `None` is none that was named.
pub(super) fn take(holder: Option<&mut Value>) -> Result<Option<RestartPolicy>, ApiError> {
    let given = holder
        .and_then(|holder| holder.get_mut("RestartPolicy"))
        .map(Value::take)
        .filter(|policy| !policy.is_null());
    let Some(given) = given else { return Ok(None) };
    let given: Given = serde_json::from_value(given)
        .map_err(|error| ApiError::bad_request(format!("invalid JSON: RestartPolicy: {error}")))?;
    read(
        given.name.as_deref().unwrap_or_default(),
        given.maximum_retry_count.unwrap_or_default(),
    )
}

fn read(name: &str, retries: i64) -> Result<Option<RestartPolicy>, ApiError> {
    let refused = |why: &str| {
        let negative = if retries < 0 {
            " and cannot be negative"
        } else {
            ""
        };
        Err(ApiError::bad_request(format!(
            "invalid restart policy: {why}{negative}"
        )))
    };
    let policy = match name {
        // Older clients send any number with no name.
        "" => return Ok(None),
        "on-failure" => {
            let Ok(retries) = u32::try_from(retries) else {
                return Err(ApiError::bad_request(
                    "invalid restart policy: maximum retry count cannot be negative",
                ));
            };
            return Ok(Some(RestartPolicy::OnFailure { retries }));
        }
        "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        other => {
            return Err(ApiError::bad_request(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or \
                 'unless-stopped'"
            )));
        }
    };
    if retries != 0 {
        return refused("maximum retry count can only be used with 'on-failure'");
    }
    Ok(Some(policy))
}

/// A policy as it is told.
pub(crate) fn describe(policy: RestartPolicy) -> ApiPolicy {
    let (name, retries) = match policy {
        RestartPolicy::No => (RestartPolicyNameEnum::NO, 0),
        RestartPolicy::OnFailure { retries } => (RestartPolicyNameEnum::ON_FAILURE, retries),
        RestartPolicy::Always => (RestartPolicyNameEnum::ALWAYS, 0),
        RestartPolicy::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, 0),
    };
    ApiPolicy {
        name: Some(name),
        maximum_retry_count: Some(retries.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_docker_reads_them() {
        assert_eq!(read("", 3), Ok(None));
        assert_eq!(read("no", 0), Ok(Some(RestartPolicy::No)));
        assert_eq!(
            read("on-failure", 3),
            Ok(Some(RestartPolicy::OnFailure { retries: 3 }))
        );
        assert_eq!(read("always", 0), Ok(Some(RestartPolicy::Always)));
        assert_eq!(read("unless-stopped", 0), Ok(Some(RestartPolicy::UnlessStopped)));
    }

    #[test]
    fn policies_that_make_no_sense_are_refused_in_dockers_words() {
        let refusal = |name, retries| read(name, retries).unwrap_err().message().to_owned();
        assert_eq!(
            refusal("always", 1),
            "invalid restart policy: maximum retry count can only be used with 'on-failure'"
        );
        assert_eq!(
            refusal("no", -1),
            "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative"
        );
        assert_eq!(
            refusal("on-failure", -1),
            "invalid restart policy: maximum retry count cannot be negative"
        );
        assert_eq!(
            refusal("sometimes", 0),
            "invalid restart policy: unknown policy 'sometimes'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        );
    }
}
