//! From what a container may use to the size of its microVM and the limits in it.

use sandbox::{CpuShare, Limits, MAX_VCPUS};

use crate::cpuset::CpuSet;
use crate::host::Host;
use crate::{EngineError, Resources, Result, VmSize};

const MIB: u64 = 1 << 20;
/// Memory of a microVM whose container has no limit, in MiB.
const DEFAULT_MEMORY_MIB: u64 = 512;
/// The least and the most memory that a build's command may use without a limit of its own: compilers need more than services. A
/// microVM with more memory takes longer to start.
const BUILD_MEMORY: (u64, u64) = (440 * MIB, 2048 * MIB);
/// The part of the host's memory that it is between them: several commands run at once.
const BUILD_MEMORY_PART: u64 = 4;
/// What a guest's kernel, its agent and their caches take at most beside a container, in MiB.
const KERNEL_MIB: u64 = 64;
/// The kernel keeps 64 bytes for every page of 4096.
const PAGES_PER_PAGE_STRUCT: u64 = 64;
/// Docker's least memory limit.
const MIN_MEMORY: u64 = 6 * MIB;
/// The period of `cpu.max` in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
const NANOS_PER_CPU: u64 = 1_000_000_000;

/// The size of the microVM for these limits.
pub(crate) fn vm_size(resources: &Resources, cpus: CpuSet, host: &Host) -> Result<VmSize> {
    Ok(VmSize {
        vcpus: vcpus(resources, host)?.max(cpus.least()),
        memory_mib: memory_mib(resources, host)?,
    })
}

/// What a build's command may use without a limit of its own, in bytes.
pub(crate) fn build_memory(host: &Host) -> u64 {
    let (least, most) = BUILD_MEMORY;
    (host.memory_bytes / BUILD_MEMORY_PART).clamp(least, most)
}

/// How many CPUs a microVM can have.
pub(crate) fn most_cpus(host: &Host) -> usize {
    host.cpus.min(usize::from(MAX_VCPUS))
}

fn vcpus(resources: &Resources, host: &Host) -> Result<u8> {
    let nanos = nano_cpus(resources)?;
    if nanos == 0 {
        return Ok(1);
    }
    let most = most_cpus(host) as u64;
    let wanted = nanos.div_ceil(NANOS_PER_CPU);
    if nanos < NANOS_PER_CPU / 100 || wanted > most {
        return Err(EngineError::Invalid(format!(
            "range of CPUs is from 0.01 to {most}.00, as there are only {most} CPUs available"
        )));
    }
    Ok(wanted as u8)
}

/// CPU time in billionths of a CPU, from that or from a quota of each period; 0 is no limit.
fn nano_cpus(resources: &Resources) -> Result<u64> {
    let (quota, period) = (resources.cpu_quota_us, resources.cpu_period_us);
    let why = match (quota, period) {
        _ if resources.nano_cpus != 0 && period != 0 => {
            "Conflicting options: Nano CPUs and CPU Period cannot both be set"
        }
        _ if resources.nano_cpus != 0 && quota != 0 => {
            "Conflicting options: Nano CPUs and CPU Quota cannot both be set"
        }
        (_, 1..1000 | 1_000_001..) => {
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)"
        }
        (1..1000, _) => "CPU cfs quota can not be less than 1ms (i.e. 1000)",
        (0, _) => return Ok(resources.nano_cpus),
        _ => return Ok(share(quota, period)),
    };
    Err(EngineError::Invalid(why.into()))
}

/// A quota of a period in billionths of a CPU.
fn share(quota: u64, period: u64) -> u64 {
    let period = if period == 0 { CPU_PERIOD_US } else { period };
    let nanos = u128::from(quota) * u128::from(NANOS_PER_CPU) / u128::from(period);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn memory_mib(resources: &Resources, host: &Host) -> Result<u64> {
    let wanted = match resources.memory_bytes {
        0 => DEFAULT_MEMORY_MIB,
        limit if limit < MIN_MEMORY => {
            return Err(EngineError::Invalid("Minimum memory limit allowed is 6MB".into()));
        }
        limit if limit < resources.memory_reservation_bytes => {
            return Err(EngineError::Invalid(
                "Minimum memory limit can not be less than memory reservation limit, see usage".into(),
            ));
        }
        limit => {
            let mib = limit.div_ceil(MIB);
            mib + KERNEL_MIB + mib / PAGES_PER_PAGE_STRUCT
        }
    };
    let most = host.memory_bytes / MIB;
    if wanted > most {
        return Err(EngineError::Invalid(format!(
            "the container's microVM would need {wanted} MiB of memory and the host has {most} MiB: \
             ask for less with --memory"
        )));
    }
    Ok(wanted)
}

/// The limits in the guest.
pub(crate) fn limits(resources: &Resources, cpus: CpuSet) -> Limits {
    let some = |value: u64| (value > 0).then_some(value);
    let nanos = match resources.cpu_quota_us {
        0 => resources.nano_cpus,
        quota => share(quota, resources.cpu_period_us),
    };
    Limits {
        memory_bytes: some(resources.memory_bytes),
        memory_low_bytes: some(resources.memory_reservation_bytes),
        pids: some(resources.pids),
        cpu_quota_us: some(nanos / (NANOS_PER_CPU / CPU_PERIOD_US)),
        cpu_weight: some(resources.cpu_shares).map(weight),
        cpus: cpus.bits(),
    }
}

/// The share of the host's CPUs that its microVM gets.
pub(crate) fn cpu_share(resources: &Resources) -> CpuShare {
    let limits = limits(resources, CpuSet::default());
    CpuShare {
        quota_us: limits.cpu_quota_us,
        weight: limits.cpu_weight,
    }
}

/// cgroup v1's shares, 2 to 262144, as cgroup v2's weight, 1 to 10000: the mapping of the OCI runtimes.
fn weight(shares: u64) -> u32 {
    let shares = shares.clamp(2, 262_144);
    (1 + (shares - 2) * 9_999 / 262_142) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            cpus: 2,
            memory_bytes: 2048 * MIB,
            ..Host::look()
        }
    }

    #[test]
    fn a_container_without_limits_gets_one_cpu_and_the_default_memory() {
        let size = vm_size(&Resources::default(), CpuSet::default(), &host()).unwrap();
        assert_eq!(
            size,
            VmSize {
                vcpus: 1,
                memory_mib: 512
            }
        );
        assert_eq!(
            limits(&Resources::default(), CpuSet::default()),
            Limits::default()
        );
    }

    #[test]
    fn limits_size_the_vm_and_hold_within_it() {
        let resources = Resources {
            memory_bytes: 64 * MIB,
            memory_reservation_bytes: MIB,
            nano_cpus: 1_500_000_000,
            cpu_shares: 1024,
            pids: 10,
            ..Resources::default()
        };
        assert_eq!(
            vm_size(&resources, CpuSet::default(), &host()).unwrap(),
            VmSize {
                vcpus: 2,
                memory_mib: 64 + 64 + 1
            }
        );
        assert_eq!(
            limits(&resources, CpuSet::default()),
            Limits {
                memory_bytes: Some(64 * MIB),
                memory_low_bytes: Some(MIB),
                pids: Some(10),
                cpu_quota_us: Some(150_000),
                cpu_weight: Some(39),
                cpus: None
            }
        );
    }

    #[test]
    fn memory_that_is_too_little_or_more_than_the_host_has_is_refused() {
        let memory = |memory_bytes| {
            vm_size(
                &Resources {
                    memory_bytes,
                    ..Resources::default()
                },
                CpuSet::default(),
                &host(),
            )
        };
        assert_eq!(
            memory(MIB).unwrap_err().to_string(),
            "Minimum memory limit allowed is 6MB"
        );
        assert!(memory(6 * MIB).is_ok());
        let error = memory(u64::MAX).unwrap_err().to_string();
        assert!(error.contains("the host has 2048 MiB"), "{error}");
        assert!(memory(2048 * MIB).is_err());
    }

    #[test]
    fn cpus_that_the_host_does_not_have_are_refused() {
        let cpus = |nano_cpus| {
            vm_size(
                &Resources {
                    nano_cpus,
                    ..Resources::default()
                },
                CpuSet::default(),
                &host(),
            )
        };
        assert_eq!(cpus(2_000_000_000).unwrap().vcpus, 2);
        assert!(cpus(2_000_000_001).is_err());
        assert!(cpus(1).is_err());
        assert!(cpus(u64::MAX).is_err());
    }

    #[test]
    fn a_quota_is_of_its_period_and_not_beside_a_number_of_cpus() {
        let given = |nano_cpus, cpu_quota_us, cpu_period_us| Resources {
            nano_cpus,
            cpu_quota_us,
            cpu_period_us,
            ..Resources::default()
        };
        let size = |resources: Resources| {
            let size = vm_size(&resources, CpuSet::default(), &host()).map(|size| size.vcpus);
            size.map_err(|error| error.to_string())
        };
        for (resources, vcpus, quota) in [
            (given(0, 50_000, 0), 1, Some(50_000)),
            (given(0, 15_000, 10_000), 2, Some(150_000)),
            (given(0, 0, 10_000), 1, None),
        ] {
            assert_eq!(size(resources), Ok(vcpus));
            assert_eq!(limits(&resources, CpuSet::default()).cpu_quota_us, quota);
        }
        for (resources, why) in [
            (
                given(1_000_000_000, 50_000, 0),
                "Nano CPUs and CPU Quota cannot both be set",
            ),
            (
                given(1_000_000_000, 0, 50_000),
                "Nano CPUs and CPU Period cannot both be set",
            ),
            (given(0, 999, 0), "CPU cfs quota can not be less than 1ms"),
            (given(0, 0, 999), "CPU cfs period can not be less than 1ms"),
            (given(0, 0, 1_000_001), "CPU cfs period can not be less than 1ms"),
            (given(0, u64::MAX, 1000), "range of CPUs is from 0.01"),
        ] {
            let error = size(resources).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_microvm_has_the_last_cpu_of_a_set() {
        let cpus = CpuSet::parse("1", 2).unwrap();
        let resources = Resources::default();
        assert_eq!(vm_size(&resources, cpus, &host()).unwrap().vcpus, 2);
        assert_eq!(limits(&resources, cpus).cpus, Some(0b10));
    }
}
