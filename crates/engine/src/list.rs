//! Choosing containers.

use jiff::Timestamp;

use crate::{Container, ListFilter, Status};

/// What of a filter was looked up before: images and containers that it names.
#[derive(Debug, Default)]
pub(crate) struct Looked {
    /// Ids of the images; `None` if the filter names none.
    pub(crate) images: Option<Vec<String>>,
    pub(crate) before: Option<Timestamp>,
    pub(crate) since: Option<Timestamp>,
}

/// The containers that pass, the newest first.
pub(crate) fn choose(mut containers: Vec<Container>, filter: &ListFilter, looked: &Looked) -> Vec<Container> {
    containers.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.id.cmp(&b.id)));
    let limit = filter.limit.unwrap_or(usize::MAX);
    containers
        .into_iter()
        .filter(|container| passes(container, filter, looked))
        .take(limit)
        .collect()
}

fn passes(container: &Container, filter: &ListFilter, looked: &Looked) -> bool {
    let state = &container.state;
    let all =
        filter.all || filter.limit.is_some() || !filter.statuses.is_empty() || !filter.exit_codes.is_empty();
    let ended_with = |code: &i32| state.finished_at.is_some() && state.exit_code == *code;
    let mounted = |volume: &String| {
        container.mounts.iter().any(|mount| {
            mount.name == *volume || mount.target == *volume || mount.source.as_os_str() == volume.as_str()
        })
    };
    (all || matches!(
        state.status,
        Status::Running | Status::Paused | Status::Restarting
    )) && one_of(&filter.ids, |id| container.id.starts_with(id.as_str()))
        && one_of(&filter.names, |name| {
            name.is_match(&container.name) || name.is_match(&format!("/{}", container.name))
        })
        && one_of(&filter.statuses, |status| *status == state.status)
        && one_of(&filter.exit_codes, ended_with)
        && one_of(&filter.healths, |health| {
            *health == container.health.as_ref().map(|health| health.status)
        })
        && filter.labels.iter().all(|label| has_label(container, label))
        && one_of(&filter.volumes, mounted)
        && looked
            .images
            .as_ref()
            .is_none_or(|images| images.contains(&container.image_id))
        && looked.before.is_none_or(|before| container.created < before)
        && looked.since.is_none_or(|since| container.created > since)
}

fn one_of<T>(wanted: &[T], matches: impl Fn(&T) -> bool) -> bool {
    wanted.is_empty() || wanted.iter().any(matches)
}

fn has_label(container: &Container, label: &str) -> bool {
    let labels = &container.config.labels;
    match label.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|own| own == value),
        None => labels.contains_key(label),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ContainerCreate, ContainerState, MountKind, MountPoint, VmSize};

    fn container(n: i64, status: Status) -> Container {
        Container {
            id: format!("{n}0"),
            name: format!("c{n}"),
            created: Timestamp::from_second(n).unwrap(),
            image_id: format!("sha256:{n}"),
            config: ContainerCreate {
                labels: [("n".to_owned(), n.to_string())].into(),
                ..ContainerCreate::default()
            },
            args: Vec::new(),
            health: None,
            state: ContainerState {
                status,
                exit_code: n as i32,
                finished_at: (status == Status::Exited).then_some(Timestamp::UNIX_EPOCH),
                ..ContainerState::default()
            },
            mounts: vec![MountPoint {
                kind: MountKind::Volume,
                name: format!("v{n}"),
                source: "/volumes".into(),
                target: "/data".into(),
                read_only: false,
                options: String::new(),
                copy: true,
                subpath: String::new(),
                non_recursive: false,
            }],
            log_path: "/log".into(),
            disk_path: Default::default(),
            exec_ids: Vec::new(),
            vm: VmSize::default(),
            timeline: crate::Timeline::default(),
            networks: Default::default(),
            published: Vec::new(),
        }
    }

    fn chosen(filter: ListFilter, looked: Looked) -> Vec<String> {
        let containers = vec![
            container(1, Status::Running),
            container(2, Status::Exited),
            container(3, Status::Created),
        ];
        choose(containers, &filter, &looked)
            .into_iter()
            .map(|container| container.name)
            .collect()
    }

    fn filtered(filter: ListFilter) -> Vec<String> {
        chosen(filter, Looked::default())
    }

    #[test]
    fn only_running_ones_are_listed_unless_asked_and_the_newest_come_first() {
        assert_eq!(filtered(ListFilter::default()), ["c1"]);
        assert_eq!(
            filtered(ListFilter {
                all: true,
                ..ListFilter::default()
            }),
            ["c3", "c2", "c1"]
        );
        assert_eq!(
            filtered(ListFilter {
                limit: Some(2),
                ..ListFilter::default()
            }),
            ["c3", "c2"]
        );
    }

    #[test]
    fn fields_narrow_each_other_and_values_are_alternatives() {
        let all = ListFilter {
            all: true,
            ..ListFilter::default()
        };
        let patterns = |names: &[&str]| {
            names
                .iter()
                .map(|name| regex::Regex::new(name).unwrap())
                .collect()
        };
        let strings = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            filtered(ListFilter {
                names: patterns(&["c1", "^/c2", "^c3$"]),
                ..all.clone()
            }),
            ["c3", "c2", "c1"]
        );
        assert_eq!(
            filtered(ListFilter {
                ids: strings(&["3", "9"]),
                ..all.clone()
            }),
            ["c3"]
        );
        assert_eq!(
            filtered(ListFilter {
                labels: strings(&["n", "n=2"]),
                ..all.clone()
            }),
            ["c2"]
        );
        assert_eq!(
            filtered(ListFilter {
                volumes: strings(&["v3"]),
                ..all.clone()
            }),
            ["c3"]
        );
        assert_eq!(
            filtered(ListFilter {
                volumes: strings(&["/data"]),
                ..all.clone()
            })
            .len(),
            3
        );
        assert_eq!(
            filtered(ListFilter {
                statuses: vec![Status::Created],
                ..ListFilter::default()
            }),
            ["c3"]
        );
        assert_eq!(
            filtered(ListFilter {
                exit_codes: vec![2, 3],
                ..ListFilter::default()
            }),
            ["c2"]
        );
    }

    #[test]
    fn what_was_looked_up_narrows_too() {
        let all = ListFilter {
            all: true,
            ..ListFilter::default()
        };
        let images = Looked {
            images: Some(vec!["sha256:2".into()]),
            ..Looked::default()
        };
        assert_eq!(chosen(all.clone(), images), ["c2"]);
        let none = Looked {
            images: Some(Vec::new()),
            ..Looked::default()
        };
        assert!(chosen(all.clone(), none).is_empty());
        let second = Timestamp::from_second(2).unwrap();
        assert_eq!(
            chosen(
                all.clone(),
                Looked {
                    before: Some(second),
                    ..Looked::default()
                }
            ),
            ["c1"]
        );
        assert_eq!(
            chosen(
                all,
                Looked {
                    since: Some(second),
                    ..Looked::default()
                }
            ),
            ["c3"]
        );
    }
}
