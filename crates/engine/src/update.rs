//! Changing what a container may use, and when it is started again.

use std::sync::Arc;

use sandbox::{Limits, MAX_VCPUS};

use crate::container::Live;
use crate::cpuset::{self, CpuSet};
use crate::engine::Shared;
use crate::{ContainerCreate, EngineError, Resources, RestartPolicy, Result, Status, VmSize, limits};

/// What is to be changed; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerUpdate {
    /// When it is started again.
    pub restart: Option<RestartPolicy>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// What is left to it when others in its microVM need memory, in bytes.
    pub memory_reservation_bytes: Option<u64>,
    /// Memory and swap in bytes, which changes nothing.
    pub memory_swap_bytes: Option<i64>,
    /// CPU time in billionths of a CPU.
    pub nano_cpus: Option<u64>,
    /// CPU time in microseconds of each period.
    pub cpu_quota_us: Option<u64>,
    /// The period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// Which CPUs it may use.
    pub cpuset_cpus: Option<String>,
    /// Which nodes of memory it may use.
    pub cpuset_mems: Option<String>,
    /// Weight against others.
    pub cpu_shares: Option<u64>,
    /// How many processes; 0 is no limit.
    pub pids: Option<u64>,
}

impl ContainerUpdate {
    fn apply(&self, resources: &mut Resources) {
        let change = |value: &mut u64, new: Option<u64>| *value = new.unwrap_or(*value);
        change(&mut resources.memory_bytes, self.memory_bytes);
        change(
            &mut resources.memory_reservation_bytes,
            self.memory_reservation_bytes,
        );
        resources.memory_swap_bytes = self.memory_swap_bytes.unwrap_or(resources.memory_swap_bytes);
        change(&mut resources.nano_cpus, self.nano_cpus);
        change(&mut resources.cpu_quota_us, self.cpu_quota_us);
        change(&mut resources.cpu_period_us, self.cpu_period_us);
        change(&mut resources.cpu_shares, self.cpu_shares);
        change(&mut resources.pids, self.pids);
    }
}

/// Changes a container, at once if it runs. What its microVM cannot give while it runs is refused.
pub(crate) async fn update(shared: &Arc<Shared>, live: &Arc<Live>, update: ContainerUpdate) -> Result<()> {
    let _operation = live.operation.lock().await;
    changed(shared, &live.record().config, &update)?;
    let context = format!("Cannot update container {}", live.id());
    carry_out(shared, live, update)
        .await
        .map_err(EngineError::within(context))?;
    live.tell("update", []);
    Ok(())
}

/// What a container may use after an update, and the size that its microVM must have.
fn changed(
    shared: &Shared,
    config: &ContainerCreate,
    update: &ContainerUpdate,
) -> Result<(Resources, CpuSet, VmSize)> {
    let mut resources = config.resources;
    update.apply(&mut resources);
    let cpus = update.cpuset_cpus.as_ref().unwrap_or(&config.cpuset_cpus);
    let cpus = CpuSet::parse(cpus, limits::most_cpus(&shared.host))?;
    cpuset::check_memory_nodes(update.cpuset_mems.as_deref().unwrap_or_default())?;
    let size = limits::vm_size(&resources, cpus, &shared.host)?;
    Ok((resources, cpus, size))
}

async fn carry_out(shared: &Arc<Shared>, live: &Arc<Live>, update: ContainerUpdate) -> Result<()> {
    let record = live.record();
    if live.status() == Status::Removing || live.watch().borrow().removed {
        return Err(EngineError::Conflict(
            "container is marked for removal and cannot be \"update\"".into(),
        ));
    }
    let restart = update.restart.unwrap_or(record.config.restart);
    if record.config.auto_remove && restart != RestartPolicy::No {
        return Err(EngineError::Invalid(
            "Restart policy cannot be updated because AutoRemove is enabled for the container".into(),
        ));
    }
    let (resources, cpus, size) = changed(shared, &record.config, &update)?;
    let mut vm = size;
    if live.is_up() {
        check_fits(size, record.vm)?;
        vm = record.vm;
        let run = live.running("")?;
        let had = CpuSet::parse(&record.config.cpuset_cpus, usize::from(vm.vcpus))?;
        let changed = changes(
            &limits::limits(&record.config.resources, had),
            &limits::limits(&resources, cpus),
            vm.vcpus,
        );
        let failed = |source| EngineError::Sandbox {
            action: "change the limits of",
            id: live.id().to_owned(),
            source,
        };
        run.sandbox.guest().limit(changed).await.map_err(failed)?;
        run.sandbox
            .share_cpu(limits::cpu_share(&resources))
            .map_err(failed)?;
    }
    live.change_record(|record| {
        record.config.resources = resources;
        let set =
            |list: &mut String, new: Option<String>| *list = new.unwrap_or_else(|| std::mem::take(list));
        set(&mut record.config.cpuset_cpus, update.cpuset_cpus);
        set(&mut record.config.cpuset_mems, update.cpuset_mems);
        record.config.restart = restart;
        record.vm = vm;
    })
    .await
}

/// A microVM that runs has the memory and the vCPUs that it was started with.
fn check_fits(wanted: VmSize, has: VmSize) -> Result<()> {
    let (option, wanted, has, unit) = if wanted.memory_mib > has.memory_mib {
        ("memory", wanted.memory_mib, has.memory_mib, "MiB of memory")
    } else if wanted.vcpus > has.vcpus {
        ("cpus", wanted.vcpus.into(), has.vcpus.into(), "vCPUs")
    } else {
        return Ok(());
    };
    Err(EngineError::Conflict(format!(
        "--{option}: the container's microVM runs with {has} {unit} and would need {wanted}: stop the container first"
    )))
}

/// The limits that differ. One that is taken away is as large as can be.
fn changes(old: &Limits, new: &Limits, vcpus: u8) -> Limits {
    let all = u64::MAX >> (u64::BITS - u32::from(vcpus.clamp(1, MAX_VCPUS)));
    Limits {
        memory_bytes: change(old.memory_bytes, new.memory_bytes, u64::MAX / 2),
        memory_low_bytes: change(old.memory_low_bytes, new.memory_low_bytes, 0),
        pids: change(old.pids, new.pids, MOST_PIDS),
        cpu_quota_us: change(old.cpu_quota_us, new.cpu_quota_us, MOST_QUOTA_US),
        cpu_weight: change(old.cpu_weight, new.cpu_weight, DEFAULT_WEIGHT),
        cpus: change(old.cpus, new.cpus, all),
    }
}

/// More than a kernel has ids for.
const MOST_PIDS: u64 = 1 << 22;
/// A period's time of more CPUs than a microVM can have.
const MOST_QUOTA_US: u64 = 1_000_000_000;
/// `cpu.weight` of a cgroup that nobody gave one.
const DEFAULT_WEIGHT: u32 = 100;

fn change<T: PartialEq>(old: Option<T>, new: Option<T>, none: T) -> Option<T> {
    if old == new {
        None
    } else {
        Some(new.unwrap_or(none))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_changed_and_a_limit_can_be_taken_away() {
        let before = Resources {
            memory_bytes: 64 << 20,
            pids: 10,
            ..Resources::default()
        };
        let mut after = before;
        ContainerUpdate {
            pids: Some(0),
            nano_cpus: Some(500_000_000),
            ..ContainerUpdate::default()
        }
        .apply(&mut after);
        assert_eq!(after.memory_bytes, before.memory_bytes);
        let expected = Limits {
            pids: Some(MOST_PIDS),
            cpu_quota_us: Some(50_000),
            ..Limits::default()
        };
        let (old, new) = [before, after]
            .map(|resources| limits::limits(&resources, CpuSet::default()))
            .into();
        assert_eq!(changes(&old, &new, 2), expected);
        assert_eq!(changes(&old, &old, 2), Limits::default());
        let one = limits::limits(&before, CpuSet::parse("1", 2).unwrap());
        assert_eq!(changes(&old, &one, 2).cpus, Some(0b10));
        assert_eq!(changes(&one, &old, 2).cpus, Some(0b11));
    }

    #[test]
    fn a_running_microvm_gives_no_more_than_it_has() {
        let has = VmSize {
            vcpus: 1,
            memory_mib: 129,
        };
        assert!(check_fits(has, has).is_ok());
        let more = VmSize { vcpus: 2, ..has };
        let error = check_fits(more, has).unwrap_err().to_string();
        assert!(
            error.contains("--cpus") && error.contains("would need 2"),
            "{error}"
        );
        let more = VmSize {
            memory_mib: 512,
            ..has
        };
        assert!(
            check_fits(more, has)
                .unwrap_err()
                .to_string()
                .contains("--memory")
        );
    }
}
