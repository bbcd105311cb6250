//! An update request as the engine's [`ContainerUpdate`].

use engine::ContainerUpdate;
use serde::Deserialize;
use serde_json::Value;

use super::{cpu_quota, memory_swap, not_negative, refusal, restart};
use crate::body::typed;
use crate::error::ApiError;

/// What can be updated.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Body {
    cpu_period: Option<i64>,
    cpu_quota: Option<i64>,
    cpu_shares: Option<i64>,
    cpuset_cpus: Option<String>,
    cpuset_mems: Option<String>,
    memory: Option<i64>,
    memory_reservation: Option<i64>,
    memory_swap: Option<i64>,
    nano_cpus: Option<i64>,
    pids_limit: Option<i64>,
}

/// Reads the body of `POST /containers/{name}/update`. What is zero stays as it is.
pub(crate) fn read_update(mut body: Value) -> Result<ContainerUpdate, ApiError> {
    refusal::check_update(&body)?;
    let restart = restart::take(Some(&mut body))?;
    let body: Body = typed(body)?;
    let swap = memory_swap(body.memory, body.memory_swap)?;
    let given = |value: u64| (value > 0).then_some(value);
    Ok(ContainerUpdate {
        restart,
        memory_bytes: given(not_negative("Memory", body.memory)?),
        memory_reservation_bytes: given(not_negative("MemoryReservation", body.memory_reservation)?),
        memory_swap_bytes: (swap != 0).then_some(swap),
        nano_cpus: given(not_negative("NanoCpus", body.nano_cpus)?),
        cpu_quota_us: given(cpu_quota(body.cpu_quota)?),
        cpu_period_us: given(not_negative("CpuPeriod", body.cpu_period)?),
        cpuset_cpus: body.cpuset_cpus.filter(|list| !list.is_empty()),
        cpuset_mems: body.cpuset_mems.filter(|list| !list.is_empty()),
        cpu_shares: given(not_negative("CpuShares", body.cpu_shares)?),
        // 0 and less take the limit away.
        pids: body
            .pids_limit
            .map(|pids| u64::try_from(pids).unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use engine::RestartPolicy;
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_client_leaves_at_zero_stays() {
        let body = json!({
            "CpuShares": 0, "Memory": 0, "CgroupParent": "", "BlkioWeightDevice": null, "NanoCpus": 0,
            "PidsLimit": null, "MemorySwap": 0, "RestartPolicy": {"Name": "", "MaximumRetryCount": 0},
        });
        assert_eq!(read_update(body), Ok(ContainerUpdate::default()));
    }

    #[test]
    fn what_is_given_reaches_the_engine() {
        let body = json!({
            "Memory": 67_108_864, "MemorySwap": -1, "CpuQuota": 50_000, "CpuPeriod": 100_000, "PidsLimit": -1,
            "CpusetCpus": "0", "CpusetMems": "",
            "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 2},
        });
        let expected = ContainerUpdate {
            restart: Some(RestartPolicy::OnFailure { retries: 2 }),
            memory_bytes: Some(67_108_864),
            memory_swap_bytes: Some(-1),
            cpu_quota_us: Some(50_000),
            cpu_period_us: Some(100_000),
            cpuset_cpus: Some("0".into()),
            pids: Some(0),
            ..ContainerUpdate::default()
        };
        assert_eq!(read_update(body), Ok(expected));
    }

    #[test]
    fn what_cannot_be_changed_is_refused_by_its_names() {
        let refusal = |body| read_update(body).unwrap_err().message().to_owned();
        assert_eq!(
            refusal(json!({"KernelMemory": 1})),
            "hull does not support KernelMemory yet"
        );
        assert!(refusal(json!({"Memory": 20, "MemorySwap": 10})).contains("larger than memory limit"));
        assert!(refusal(json!({"Memory": -1})).contains("negative"));
        assert!(refusal(json!([])).contains("not an object"));
    }
}
