use std::fs;

use tempfile::TempDir;

use super::*;
use crate::events::Events;
use crate::folder::{ContainerFolder, ContainerRecord, StateRecord};
use crate::volumes::Volumes;
use crate::{ContainerCreate, VmSize};

struct Rig {
    folder: TempDir,
    volumes: Volumes,
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(folder.path().join("volumes")).unwrap();
        Rig { folder, volumes }
    }

    fn plan(&self, mounts: &[MountCreate]) -> Result<Planned> {
        self.plan_with(Planned::default(), mounts, &[])
    }

    fn plan_with(&self, inherited: Planned, mounts: &[MountCreate], volumes: &[&str]) -> Result<Planned> {
        let config = ContainerCreate {
            mounts: mounts.to_vec(),
            volumes: volumes.iter().map(|path| (*path).to_owned()).collect(),
            ..ContainerCreate::default()
        };
        let mut hold = VolumeHold::new(&self.volumes, false);
        let planned = inherited.add(&config, &here(), &mut hold)?;
        hold.keep();
        Ok(planned)
    }
}

fn mount(source: MountSource, target: &str) -> MountCreate {
    MountCreate {
        source,
        target: target.into(),
        read_only: false,
    }
}

fn here() -> ClientFiles {
    ClientFiles::default()
}

fn named(name: &str) -> MountSource {
    MountSource::Volume {
        name: Some(name.into()),
        labels: Default::default(),
        no_copy: false,
        subpath: String::new(),
    }
}

fn tmpfs_source() -> MountSource {
    MountSource::Tmpfs {
        options: String::new(),
    }
}

fn container(planned: Planned) -> std::sync::Arc<Live> {
    let record = ContainerRecord {
        id: "aa".into(),
        name: "data".into(),
        created: jiff::Timestamp::UNIX_EPOCH,
        image_id: String::new(),
        layers: Vec::new(),
        config: ContainerCreate::default(),
        args: Vec::new(),
        mounts: planned.points,
        nameless_volumes: planned.nameless_volumes,
        vm: VmSize::default(),
        blank_disk_bytes: None,
    };
    let folder = ContainerFolder::new("/nonexistent".into());
    Live::new(record, folder, StateRecord::default(), Events::default())
}

#[test]
fn volumes_are_made_and_kept_by_name() {
    let rig = Rig::new();
    let mounts = [
        mount(named("data"), "/data"),
        mount(MountSource::nameless_volume(), "/tmp"),
    ];
    let planned = rig.plan(&mounts).unwrap();
    assert_eq!(planned.points[0].source, rig.volumes.data("data"));
    assert_eq!(planned.nameless_volumes, [planned.points[1].name.clone()]);
    assert!(
        planned
            .points
            .iter()
            .all(|point| point.source.is_dir() && point.copy)
    );
    fs::write(planned.points[0].source.join("kept"), "").unwrap();
    assert_eq!(rig.plan(&mounts[..1]).unwrap().points, planned.points[..1]);
    assert!(rig.plan(&[mount(named("../x"), "/x")]).is_err());
}

#[test]
fn paths_of_the_image_get_volumes_where_nothing_else_is_mounted() {
    let rig = Rig::new();
    let mounts = [mount(named("data"), "/data/"), mount(tmpfs_source(), "/run")];
    let planned = rig
        .plan_with(Planned::default(), &mounts, &["/data", "/run/", "/srv//www"])
        .unwrap();
    let targets: Vec<_> = planned.points.iter().map(|point| point.target.as_str()).collect();
    assert_eq!(targets, ["/data", "/run", "/srv/www"]);
    assert_eq!(planned.nameless_volumes, [planned.points[2].name.clone()]);
    assert!(rig.plan_with(Planned::default(), &[], &["data"]).is_err());
}

#[test]
fn mounts_are_taken_over_but_for_those_that_are_asked_for() {
    let rig = Rig::new();
    let bound = rig.folder.path().join("bound");
    let bind = MountSource::Bind {
        path: bound.clone(),
        create: true,
        non_recursive: false,
    };
    let mounts = [
        mount(named("data"), "/data"),
        mount(MountSource::nameless_volume(), "/other"),
        mount(bind, "/bound"),
        mount(tmpfs_source(), "/tmp"),
    ];
    let from = container(rig.plan(&mounts).unwrap());
    let record = from.record();
    let mut inherited = Planned::default();
    inherited.inherit(&from, true);
    let asked = [mount(named("own"), "/bound")];
    let planned = rig.plan_with(inherited, &asked, &["/other"]).unwrap();
    let mounted: Vec<_> = planned
        .points
        .iter()
        .map(|point| (point.target.as_str(), point.read_only, point.copy))
        .collect();
    assert_eq!(
        mounted,
        [
            ("/data", true, false),
            ("/other", true, false),
            ("/bound", false, true)
        ]
    );
    assert_eq!(planned.nameless_volumes, record.nameless_volumes);
    // What is mounted over goes with nobody.
    let mut inherited = Planned::default();
    inherited.inherit(&from, false);
    let asked = [mount(named("own"), "/other")];
    let planned = rig.plan_with(inherited, &asked, &[]).unwrap();
    assert!(planned.nameless_volumes.is_empty());
}

#[test]
fn what_lies_in_another_mount_is_mounted_behind_it() {
    let rig = Rig::new();
    let mounts = [
        mount(tmpfs_source(), "/a/b/c"),
        mount(tmpfs_source(), "/a"),
        mount(tmpfs_source(), "/a/./b"),
    ];
    let points = rig.plan(&mounts).unwrap().points;
    let targets: Vec<_> = points.iter().map(|point| point.target.as_str()).collect();
    assert_eq!(targets, ["/a", "/a/b", "/a/b/c"]);
}

#[test]
fn a_missing_folder_is_made_only_when_asked() {
    let rig = Rig::new();
    let path = rig.folder.path().join("a/b");
    let bind = |create| {
        [mount(
            MountSource::Bind {
                path: path.clone(),
                create,
                non_recursive: true,
            },
            "/x",
        )]
    };
    let error = rig.plan(&bind(false)).unwrap_err();
    assert!(
        error.to_string().contains("bind source path does not exist"),
        "{error}"
    );
    let points = rig.plan(&bind(true)).unwrap().points;
    let (folders, mounts) = realize(&points, &here(), &[]).unwrap();
    assert_eq!(folders[0].path, path.canonicalize().unwrap());
    assert!(!folders[0].recursive);
    assert_eq!(
        mounts[0].source,
        sandbox::MountSource::Shared {
            tag: FOLDERS_TAG.into(),
            path: folders[0].name.clone()
        }
    );
    fs::remove_dir(&path).unwrap();
    assert!(realize(&points, &here(), &[]).is_err());
}

#[test]
fn a_path_in_a_volume_stays_in_it_and_is_not_filled() {
    let rig = Rig::new();
    let with = |subpath: &str| {
        let MountSource::Volume { name, labels, .. } = named("data") else {
            unreachable!()
        };
        let source = MountSource::Volume {
            name,
            labels,
            no_copy: false,
            subpath: subpath.into(),
        };
        rig.plan(&[mount(source, "/x")])
    };
    let planned = with("a/b").unwrap();
    assert!(!planned.points[0].copy);
    let (folders, _) = realize(&planned.points, &here(), &[]).unwrap();
    assert_eq!(folders[0].beneath, Path::new("a/b"));
    for subpath in ["/a", "..", "a/../../b"] {
        assert!(with(subpath).is_err(), "{subpath}");
    }
}

#[test]
fn targets_are_absolute_inside_the_root_and_different() {
    let rig = Rig::new();
    for target in ["x", "/", "/.", "/a/../b", ""] {
        assert!(rig.plan(&[mount(tmpfs_source(), target)]).is_err(), "{target}");
    }
    let twice = [mount(tmpfs_source(), "/a"), mount(tmpfs_source(), "/a/")];
    assert_eq!(
        rig.plan(&twice).unwrap_err().to_string(),
        "Duplicate mount point: /a/"
    );
}

#[test]
fn tmpfs_options_are_sorted_out() {
    let options = tmpfs("size=64m,exec,mode=1777,rw").unwrap();
    assert_eq!(options.kernel, "size=64m,mode=1777");
    assert_eq!(
        options.flags,
        TmpfsFlags {
            no_exec: false,
            no_suid: true,
            no_dev: true
        }
    );
    for nonsense in ["size", "size=", "loop", "mode=1,x=2"] {
        assert!(tmpfs(nonsense).is_err(), "{nonsense}");
    }
    let read_only = [mount(MountSource::Tmpfs { options: "ro".into() }, "/x")];
    assert!(Rig::new().plan(&read_only).unwrap().points[0].read_only);
}
