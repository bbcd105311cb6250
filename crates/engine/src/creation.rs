//! Making a container.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use image_store::Hold;
use jiff::Timestamp;

use crate::container::Live;
use crate::cpuset::{self, CpuSet};
use crate::disk::DiskSize;
use crate::engine::Shared;
use crate::folder::{ContainerFolder, ContainerRecord, StateRecord, make_folder, sync_folder};
use crate::host::Host;
use crate::mounts::Planned;
use crate::registry::Reservation;
use crate::streams::blocking;
use crate::volumes::VolumeHold;
use crate::{
    ContainerCreate, Created, EngineError, RestartPolicy, Result, VmSize, capabilities, guest_spec, limits,
    merge, network_files, networks, signals,
};

/// The size of the microVM for a container.
pub(crate) fn vm_size(create: &ContainerCreate, host: &Host) -> Result<VmSize> {
    let cpus = CpuSet::parse(&create.cpuset_cpus, limits::most_cpus(host))?;
    cpuset::check_memory_nodes(&create.cpuset_mems)?;
    limits::vm_size(&create.resources, cpus, host)
}

/// A container that was made, and whom nobody has seen yet.
struct New<'a> {
    live: Arc<Live>,
    reservation: Reservation<'a>,
    hold: Hold,
    volumes: VolumeHold,
    warnings: Vec<String>,
}

/// Makes a container: its folder with all that it needs to start. Nothing of it is left if that fails.
pub(crate) async fn create(shared: &Arc<Shared>, create: ContainerCreate) -> Result<Created> {
    let began = Instant::now();
    let new = prepare(shared, create).await?;
    let id = new.live.id().to_owned();
    shared.images.hold_for(&id, new.hold);
    new.reservation.keep(new.live.clone());
    for volume in new.volumes.keep() {
        shared.tell_volume("create", &volume.name);
    }
    new.live.tell("create", []);
    tracing::debug!(container = id, made = ?began.elapsed(), "a container was made");
    Ok(Created {
        id,
        warnings: new.warnings,
    })
}

/// Makes a container that is in no list.
pub(crate) async fn create_unseen(shared: &Arc<Shared>, create: ContainerCreate) -> Result<Arc<Live>> {
    let new = prepare(shared, create).await?;
    shared.images.hold_for(new.live.id(), new.hold);
    Ok(new.live)
}

async fn prepare(shared: &Arc<Shared>, mut create: ContainerCreate) -> Result<New<'_>> {
    check(&create)?;
    let (image, hold) = shared.images.resolve_and_hold(&create.image).await?;
    networks::normalize(shared, &mut create)?;
    let args = merge::merge(&mut create, &image.config, image.docker)?;
    create.health.check()?;
    if !create.stop_signal.is_empty() {
        signals::parse(&create.stop_signal)?;
    }
    let warnings = warnings(&create);
    let vm = vm_size(&create, &shared.host)?;
    let reservation = shared.registry.reserve(create.name.as_deref())?;
    create.name = Some(reservation.name.clone());
    let record = ContainerRecord {
        id: reservation.id.clone(),
        name: reservation.name.clone(),
        created: Timestamp::now(),
        image_id: image.id,
        layers: image.layers.into_iter().map(|layer| layer.path).collect(),
        config: create,
        args,
        mounts: Vec::new(),
        nameless_volumes: Vec::new(),
        vm,
        blank_disk_bytes: None,
    };
    record.config.log.check(&record)?;
    let mut planned = Planned::default();
    for from in &record.config.volumes_from {
        // Not as what is not found: clients would take the image for missing.
        let live = shared.registry.find(&from.container);
        let live = live.map_err(|error| EngineError::Invalid(error.to_string()))?;
        planned.inherit(&live, from.read_only);
    }
    let work = shared.clone();
    let (live, volumes) = blocking("make a container", move || make(&work, record, planned)).await?;
    Ok(New {
        live,
        reservation,
        hold,
        volumes,
        warnings,
    })
}

/// What is asked for and will not be so, as Docker says it.
fn warnings(create: &ContainerCreate) -> Vec<String> {
    let resources = &create.resources;
    let swap = resources.memory_swap_bytes;
    let wants_swap = swap > 0 && swap.unsigned_abs() > resources.memory_bytes;
    let warnings = [
        (wants_swap, "A microVM has no swap. Memory limited without swap."),
        (
            create.oom_kill_disable,
            "cgroup v2 does not support OomKillDisable. OomKillDisable discarded.",
        ),
    ];
    warnings
        .into_iter()
        .filter(|(is_so, _)| *is_so)
        .map(|(_, warning)| warning.to_owned())
        .collect()
}

/// Refuses what cannot be.
pub(crate) fn check(create: &ContainerCreate) -> Result<()> {
    if create.auto_remove && create.restart != RestartPolicy::No {
        return Err(EngineError::Invalid(
            "can't create 'AutoRemove' container with restart policy".into(),
        ));
    }
    capabilities::resolve(&create.cap_add, &create.cap_drop)?;
    guest_spec::seccomp(create)?;
    DiskSize::of(&create.storage)?;
    network_files::check_extra_hosts(&create.extra_hosts)?;
    networks::check_egress(create)?;
    if create.hostname.len() > 63 || create.hostname.contains(|c: char| c.is_whitespace() || c == '/') {
        return Err(EngineError::Invalid(format!(
            "invalid hostname format: {}",
            create.hostname
        )));
    }
    if !create.working_dir.is_empty() && !create.working_dir.starts_with('/') {
        return Err(EngineError::Invalid(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            create.working_dir
        )));
    }
    if create.image.is_empty() {
        return Err(EngineError::Invalid("no image was named".into()));
    }
    Ok(())
}

fn make(shared: &Shared, mut record: ContainerRecord, inherited: Planned) -> Result<(Arc<Live>, VolumeHold)> {
    let mut volumes = VolumeHold::new(&shared.volumes, !record.config.auto_remove);
    let planned = inherited.add(&record.config, &shared.spec.client_files, &mut volumes)?;
    record.mounts = planned.points;
    record.nameless_volumes = planned.nameless_volumes;
    let containers = shared.containers();
    let new = containers.join(format!(".new-{}", record.id));
    let made = fill(shared, record, &containers, &new);
    let (folder, record) = made.inspect_err(|_| {
        // The error that is about to be told matters more than one from here; the next start removes what stays.
        let _ = fs::remove_dir_all(&new);
    })?;
    let live = Live::new(record, folder, StateRecord::default(), shared.events.clone());
    Ok((live, volumes))
}

/// Fills the folder, then gives it its name.
fn fill(
    shared: &Shared,
    mut record: ContainerRecord,
    containers: &Path,
    new: &Path,
) -> Result<(ContainerFolder, ContainerRecord)> {
    make_folder(new)?;
    let durable = !record.config.auto_remove;
    let folder = ContainerFolder::new(new.to_owned());
    record.blank_disk_bytes = shared
        .disks
        .make(&folder.disk(), DiskSize::of(&record.config.storage)?)?;
    folder.write_record(&record, durable)?;
    let path = containers.join(&record.id);
    fs::rename(new, &path).map_err(EngineError::io("make the folder", &path))?;
    if durable {
        sync_folder(containers)?;
    }
    Ok((ContainerFolder::new(path), record))
}
