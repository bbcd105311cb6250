//! The list of containers.

use axum::Json;
use axum::extract::State;
use bollard_stubs::models::{
    ContainerSummary, ContainerSummaryHostConfig, ContainerSummaryNetworkSettings, ContainerSummaryStateEnum,
};
use engine::{Container, ContainerState, Engine, Health, HealthStatus, ListFilter, Status};
use jiff::Timestamp;

use super::endpoints;
use super::inspect::describe_mount;
use super::list_ports::Ports;
use crate::create::networks::describe_mode;
use crate::error::ApiError;
use crate::filters::Filters;
use crate::human_time;
use crate::name_patterns;
use crate::query::Params;

/// Filters that are understood.
const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation", // says nothing on Linux
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];

/// `GET /containers/json`
pub(super) async fn list(
    State(engine): State<Engine>,
    params: Params,
) -> Result<Json<Vec<ContainerSummary>>, ApiError> {
    let filters = params.filters()?.only(FILTERS)?;
    let mut filter = read_filter(&filters)?;
    filter.all = params.flag("all");
    filter.limit = params
        .number::<i64>("limit")?
        .and_then(|limit| usize::try_from(limit).ok())
        .filter(|&l| l > 0);
    if asks_for_what_none_has(&filters) {
        return Ok(Json(Vec::new()));
    }
    let chosen = Chosen::read(&filters)?;
    let limit = filter.limit;
    if !chosen.is_everything() {
        // Those that are left are counted, running or not.
        filter.all |= limit.is_some();
        filter.limit = None;
    }
    let mut containers = engine.list(&filter).await?;
    containers.retain(|container| chosen.passes(container));
    containers.truncate(limit.unwrap_or(usize::MAX));
    let mut summaries = summarize_all(&engine, containers).await?;
    if params.flag("size") {
        tell_sizes(&engine, &mut summaries).await?;
    }
    Ok(Json(summaries))
}

async fn tell_sizes(engine: &Engine, summaries: &mut [ContainerSummary]) -> Result<(), ApiError> {
    let ids: Vec<String> = summaries
        .iter()
        .filter_map(|summary| summary.id.clone())
        .collect();
    let sizes = engine.container_sizes(&ids).await?;
    let number = |size| i64::try_from(size).unwrap_or(i64::MAX);
    for summary in summaries {
        let own = summary.id.as_ref().and_then(|id| sizes.get(id));
        summary.size_rw = own.map(|sizes| number(sizes.written));
        summary.size_root_fs = own.and_then(|sizes| sizes.root).map(number);
    }
    Ok(())
}

/// What is told of containers in a list. A name that leads to another image now, or nowhere, is none of a container's
/// image any more: then it is told by its id.
pub(super) async fn summarize_all(
    engine: &Engine,
    containers: Vec<Container>,
) -> Result<Vec<ContainerSummary>, ApiError> {
    let named = |container: &Container| (container.config.image.clone(), container.image_id.clone());
    let current = engine
        .current_image_names(containers.iter().map(named).collect())
        .await?;
    let now = Timestamp::now();
    let summarize = |container: Container| {
        let id = (!current.contains(&named(&container))).then(|| container.image_id.clone());
        let mut summary = summarize(container, now);
        summary.image = id.or(summary.image);
        summary
    };
    Ok(containers.into_iter().map(summarize).collect())
}

fn read_filter(filters: &Filters) -> Result<ListFilter, ApiError> {
    let values = |name: &str| filters.values(name).to_vec();
    let exit_code = |code: &String| {
        code.parse()
            .map_err(|_| ApiError::bad_request(format!("invalid filter 'exited={code}'")))
    };
    Ok(ListFilter {
        all: false,
        limit: None,
        ids: values("id"),
        names: name_patterns::read(filters)?,
        statuses: filters
            .values("status")
            .iter()
            .filter(|status| *status != "dead")
            .map(|status| read_status(status))
            .collect::<Result<_, _>>()?,
        healths: filters
            .values("health")
            .iter()
            .map(|health| read_health(health))
            .collect::<Result<_, _>>()?,
        exit_codes: filters
            .values("exited")
            .iter()
            .map(exit_code)
            .collect::<Result<_, _>>()?,
        labels: values("label"),
        images: values("ancestor"),
        volumes: values("volume"),
        before: filters.values("before").first().cloned(),
        since: filters.values("since").first().cloned(),
    })
}

/// What of the filters the engine does not look at: ports and networks.
struct Chosen<'a> {
    exposed: Ports,
    published: Ports,
    networks: &'a [String],
}

impl<'a> Chosen<'a> {
    fn read(filters: &'a Filters) -> Result<Self, ApiError> {
        Ok(Self {
            exposed: Ports::read(filters, "expose")?,
            published: Ports::read(filters, "publish")?,
            networks: filters.values("network"),
        })
    }

    fn is_everything(&self) -> bool {
        self.exposed.is_empty() && self.published.is_empty() && self.networks.is_empty()
    }

    /// A port counts as published if that was asked for, whether the container runs or not, as with Docker.
    fn passes(&self, container: &Container) -> bool {
        let exposed = container.config.exposed_ports.iter();
        let published = container
            .config
            .ports
            .iter()
            .map(|binding| binding.port.to_string());
        let is_in = |wanted: &String| {
            let mut networks = container.networks.iter();
            networks.any(|(name, network)| name == wanted || network.id.starts_with(wanted.as_str()))
        };
        (self.exposed.is_empty() || self.exposed.any_of(exposed))
            && (self.published.is_empty() || self.published.any_of(published))
            && (self.networks.is_empty() || self.networks.iter().any(is_in))
    }
}

/// Whether the filters ask for what no container of hull has: a task of a swarm, or the state that Docker leaves a container
/// in that it could not remove.
fn asks_for_what_none_has(filters: &Filters) -> bool {
    let only = |name: &str, none: fn(&str) -> bool| {
        let values = filters.values(name);
        !values.is_empty() && values.iter().all(|value| none(value))
    };
    only("is-task", |task| matches!(task, "1" | "true")) || only("status", |status| status == "dead")
}

/// Statuses that nobody knows are refused.
fn read_status(status: &str) -> Result<Status, ApiError> {
    let known = [
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Exited,
        Status::Restarting,
        Status::Removing,
    ];
    match known.into_iter().find(|known| known.as_str() == status) {
        Some(status) => Ok(status),
        None => Err(ApiError::bad_request(format!("invalid filter 'status={status}'"))),
    }
}

/// `none` is a container that nothing checks.
fn read_health(health: &str) -> Result<Option<HealthStatus>, ApiError> {
    let known = [
        HealthStatus::Starting,
        HealthStatus::Healthy,
        HealthStatus::Unhealthy,
    ];
    match known.into_iter().find(|known| known.as_str() == health) {
        None if health != "none" => Err(ApiError::bad_request(format!("invalid filter 'health={health}'"))),
        health => Ok(health),
    }
}

fn summarize(container: Container, now: Timestamp) -> ContainerSummary {
    let status = status_words(&container.state, container.health.as_ref(), now);
    let (ports, networks) = (
        endpoints::port_summaries(&container),
        endpoints::networks(&container),
    );
    ContainerSummary {
        names: Some(vec![format!("/{}", container.name)]),
        image: Some(container.config.image.clone()),
        image_id: Some(container.image_id),
        command: Some(command_line(&container.args)),
        created: Some(container.created.as_second()),
        ports: Some(ports),
        state: Some(summary_state(container.state.status)),
        status: Some(status),
        host_config: Some(ContainerSummaryHostConfig {
            network_mode: Some(describe_mode(&container.config).to_owned()),
            annotations: None,
        }),
        network_settings: Some(ContainerSummaryNetworkSettings {
            networks: Some(networks),
        }),
        mounts: Some(container.mounts.iter().map(describe_mount).collect()),
        labels: Some(container.config.labels.into_iter().collect()),
        id: Some(container.id),
        ..ContainerSummary::default()
    }
}

fn summary_state(status: Status) -> ContainerSummaryStateEnum {
    match status {
        Status::Created => ContainerSummaryStateEnum::CREATED,
        Status::Running => ContainerSummaryStateEnum::RUNNING,
        Status::Paused => ContainerSummaryStateEnum::PAUSED,
        Status::Exited => ContainerSummaryStateEnum::EXITED,
        Status::Restarting => ContainerSummaryStateEnum::RESTARTING,
        Status::Removing => ContainerSummaryStateEnum::REMOVING,
    }
}

/// A command as one line; an argument with a blank in it is quoted, as in Docker's list.
fn command_line(args: &[String]) -> String {
    let quoted = args.iter().enumerate().map(|(index, arg)| {
        if index > 0 && arg.contains(' ') {
            format!("'{arg}'")
        } else {
            arg.clone()
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn status_words(state: &ContainerState, health: Option<&Health>, now: Timestamp) -> String {
    let since = |moment: Option<Timestamp>| {
        human_time::words(moment.map_or(0, |moment| now.as_second() - moment.as_second()))
    };
    match state.status {
        Status::Created => "Created".into(),
        Status::Running => {
            let health = match health.map(|health| health.status) {
                // What the engine says of a container that runs is that its guest does not answer.
                _ if !state.error.is_empty() => " (not responding)",
                None => "",
                Some(HealthStatus::Starting) => " (health: starting)",
                Some(HealthStatus::Healthy) => " (healthy)",
                Some(HealthStatus::Unhealthy) => " (unhealthy)",
            };
            format!("Up {}{health}", since(state.started_at))
        }
        Status::Paused => format!("Up {} (Paused)", since(state.started_at)),
        Status::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
        Status::Restarting => {
            format!(
                "Restarting ({}) {} ago",
                state.exit_code,
                since(state.finished_at)
            )
        }
        Status::Removing => "Removal In Progress".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(json: &str) -> Result<ListFilter, ApiError> {
        read_filter(&Filters::parse(json)?.only(FILTERS)?)
    }

    #[test]
    fn filters_reach_the_engine() {
        let filter =
            filter(r#"{"status":["exited","running"],"exited":["3"],"label":["a=b"],"before":["x"]}"#)
                .unwrap();
        assert_eq!(filter.statuses, [Status::Exited, Status::Running]);
        assert_eq!(filter.exit_codes, [3]);
        assert_eq!(filter.labels, ["a=b"]);
        assert_eq!(filter.before.as_deref(), Some("x"));
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for (json, message) in [
            (r#"{"status":["asleep"]}"#, "invalid filter 'status=asleep'"),
            (r#"{"health":["fine"]}"#, "invalid filter 'health=fine'"),
            (r#"{"exited":["three"]}"#, "invalid filter 'exited=three'"),
            (r#"{"colour":["red"]}"#, "invalid filter 'colour'"),
        ] {
            assert_eq!(filter(json).unwrap_err().message(), message);
        }
    }

    #[test]
    fn what_no_container_has_is_known() {
        for (json, none) in [
            (r#"{"status":["dead"]}"#, true),
            (r#"{"status":["dead","running"]}"#, false),
            (r#"{"is-task":["false"]}"#, false),
            ("", false),
        ] {
            let filters = Filters::parse(json).unwrap().only(FILTERS).unwrap();
            assert_eq!(asks_for_what_none_has(&filters), none, "{json}");
        }
    }

    #[test]
    fn a_status_is_said_in_dockers_words() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let ago = |seconds: i64| Some(Timestamp::from_second(1_000_000 - seconds).unwrap());
        let words = |status, started, finished| {
            let state = ContainerState {
                status,
                exit_code: 3,
                started_at: started,
                finished_at: finished,
                ..ContainerState::default()
            };
            status_words(&state, None, now)
        };
        assert_eq!(words(Status::Created, None, None), "Created");
        assert_eq!(words(Status::Running, ago(3), None), "Up 3 seconds");
        let well = Health {
            status: HealthStatus::Healthy,
            ..Health::default()
        };
        let running = ContainerState {
            status: Status::Running,
            started_at: ago(3),
            ..ContainerState::default()
        };
        let words_of = |health| status_words(&running, Some(health), now);
        assert_eq!(words_of(&well), "Up 3 seconds (healthy)");
        assert_eq!(words_of(&Health::default()), "Up 3 seconds (health: starting)");
        let silent = ContainerState {
            error: "the guest has not answered for 60 s".into(),
            ..running
        };
        assert_eq!(
            status_words(&silent, Some(&well), now),
            "Up 3 seconds (not responding)"
        );
        assert_eq!(words(Status::Paused, ago(60), None), "Up About a minute (Paused)");
        assert_eq!(words(Status::Exited, ago(9), ago(7200)), "Exited (3) 2 hours ago");
        assert_eq!(
            words(Status::Restarting, ago(9), ago(2)),
            "Restarting (3) 2 seconds ago"
        );
    }

    #[test]
    fn a_command_is_one_line_with_blanks_quoted() {
        let args = ["sh", "-c", "echo hi"].map(String::from);
        assert_eq!(command_line(&args), "sh -c 'echo hi'");
    }
}
