//! What happens, as it happens.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use engine::{Engine, Event, EventKind, EventStream};
use futures_util::stream;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::error::ApiError;
use crate::filters::{Filters, label_matches};
use crate::query::Params;

/// Filters that are understood. Those for things that hull does not have let nothing pass.
const FILTERS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];
/// Filters that name things by the beginning of their id or name, whatever the event is about.
const THINGS: &[&str] = &[
    "config",
    "container",
    "daemon",
    "network",
    "node",
    "plugin",
    "secret",
    "service",
    "volume",
];

/// `GET /events`
pub(super) async fn events(State(engine): State<Engine>, params: Params) -> Result<Response, ApiError> {
    let since = moment(&params, "since")?;
    let until = moment(&params, "until")?;
    if let (Some(since), Some(until)) = (since, until)
        && until < since
    {
        return Err(ApiError::bad_request(format!(
            "`since` time ({}) cannot be after `until` time ({})",
            params.text("since").unwrap_or_default(),
            params.text("until").unwrap_or_default()
        )));
    }
    let filters = params.filters()?.only(FILTERS)?;
    // Who gives an end without a beginning wants all that there was until then.
    let since = since.or(until.map(|_| Timestamp::UNIX_EPOCH));
    let listener = Listener {
        events: engine.events(since),
        until,
        filters,
    };
    let told = stream::unfold(listener, async |mut listener| {
        let event = listener.next().await?;
        Some((Ok::<_, Infallible>(line(&event)), listener))
    });
    let mut response = Response::new(Body::from_stream(told));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

fn moment(params: &Params, name: &str) -> Result<Option<Timestamp>, ApiError> {
    // Docker takes 0 for not given.
    let given = params.timestamp(name)?.filter(|&nanoseconds| nanoseconds != 0);
    let moment = |nanoseconds| {
        Timestamp::from_nanosecond(nanoseconds).map_err(|_| {
            ApiError::bad_request(format!(
                "the query parameter `{name}` is a moment that no calendar has"
            ))
        })
    };
    given.map(moment).transpose()
}

struct Listener {
    events: EventStream,
    until: Option<Timestamp>,
    filters: Filters,
}

impl Listener {
    /// The next event that passes; `None` at the end.
    async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            let event = self.wait().await?;
            if self.until.is_some_and(|until| event.time > until) {
                return None;
            }
            if passes(&event, &self.filters) {
                return Some(event);
            }
        }
    }

    async fn wait(&mut self) -> Option<Arc<Event>> {
        if let Some(event) = self.events.past() {
            return Some(event);
        }
        let Some(until) = self.until else {
            return self.events.next().await;
        };
        let left = Duration::try_from(until.duration_since(Timestamp::now())).ok()?;
        tokio::time::timeout(left, self.events.next()).await.ok()?
    }
}

/// Whether an event is asked for: Docker's rules.
fn passes(event: &Event, filters: &Filters) -> bool {
    let name = event.attributes.get("name").map_or("", String::as_str);
    let begins = |wanted: &String| event.id.starts_with(wanted.as_str()) || name.starts_with(wanted.as_str());
    let label =
        |wanted: &String| label_matches(wanted, |name| event.attributes.get(name).map(String::as_str));
    filters.any("event", |wanted| is_action(&event.action, wanted))
        && filters.any("type", |wanted| wanted == kind(event))
        && filters.any("scope", |wanted| wanted == "local")
        && THINGS.iter().all(|thing| filters.any(thing, begins))
        && filters.any("image", |wanted| is_image(event, wanted))
        && filters.all("label", label)
}

/// Actions that say more behind a colon are asked for without it.
fn is_action(action: &str, wanted: &str) -> bool {
    let more = matches!(wanted, "exec_create" | "exec_start" | "health_status");
    action == wanted || more && action.starts_with(wanted)
}

/// An image is asked for by its id or its name, with or without a tag.
fn is_image(event: &Event, wanted: &str) -> bool {
    let attribute = match event.kind {
        EventKind::Image => "name",
        EventKind::Container => "image",
        EventKind::Volume | EventKind::Network => return false,
    };
    let name = event.attributes.get(attribute).map_or("", String::as_str);
    [event.id.as_str(), name]
        .into_iter()
        .any(|own| wanted == own || wanted == without_tag(own))
}

fn without_tag(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare,
        _ => name,
    }
}

fn kind(event: &Event) -> &'static str {
    match event.kind {
        EventKind::Container => "container",
        EventKind::Image => "image",
        EventKind::Volume => "volume",
        EventKind::Network => "network",
    }
}

fn line(event: &Event) -> Bytes {
    let mut object = Map::new();
    // What the first versions of the API told, which there are still clients that read.
    object.insert("status".into(), event.action.clone().into());
    object.insert("id".into(), event.id.clone().into());
    if let Some(image) = event.attributes.get("image") {
        object.insert("from".into(), image.clone().into());
    }
    object.insert("Type".into(), kind(event).into());
    object.insert("Action".into(), event.action.clone().into());
    object.insert(
        "Actor".into(),
        json!({ "ID": event.id, "Attributes": event.attributes }),
    );
    object.insert("scope".into(), "local".into());
    object.insert("time".into(), event.time.as_second().into());
    // 64 bits of nanoseconds last until the year 2262.
    let nanoseconds = i64::try_from(event.time.as_nanosecond()).unwrap_or(i64::MAX);
    object.insert("timeNano".into(), nanoseconds.into());
    format!("{}\n", Value::Object(object)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, action: &str, id: &str, attributes: &[(&str, &str)]) -> Event {
        Event {
            kind,
            action: action.into(),
            id: id.into(),
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            time: Timestamp::from_second(5).unwrap(),
        }
    }

    fn start() -> Event {
        let attributes = [("image", "busybox:1"), ("name", "web"), ("tier", "front")];
        event(EventKind::Container, "exec_start: ls /", "abc123", &attributes)
    }

    #[test]
    fn filters_choose_as_dockers_do() {
        for (filters, expected) in [
            ("", true),
            (r#"{"type":["container"]}"#, true),
            (r#"{"type":["image"]}"#, false),
            (r#"{"event":["exec_start"]}"#, true),
            (r#"{"event":["exec_start: ls /"]}"#, true),
            (r#"{"event":["exec"]}"#, false),
            (r#"{"event":["die","exec_start"]}"#, true),
            (r#"{"container":["abc"]}"#, true),
            (r#"{"container":["web"]}"#, true),
            (r#"{"container":["other"]}"#, false),
            (r#"{"image":["busybox"]}"#, true),
            (r#"{"image":["busybox:1"]}"#, true),
            (r#"{"image":["busybox:2"]}"#, false),
            (r#"{"label":["tier"]}"#, true),
            (r#"{"label":["tier=back"]}"#, false),
            (r#"{"label":["tier","none"]}"#, false),
            (r#"{"network":["bridge"]}"#, false),
            (r#"{"scope":["swarm"]}"#, false),
        ] {
            let parsed = Filters::parse(filters).unwrap().only(FILTERS).unwrap();
            assert_eq!(passes(&start(), &parsed), expected, "{filters}");
        }
    }

    #[test]
    fn a_network_is_asked_for_by_id_and_by_name() {
        let attributes = [("name", "web"), ("type", "bridge"), ("container", "0123")];
        let connected = event(EventKind::Network, "connect", "fedcba", &attributes);
        for (filters, expected) in [
            (r#"{"type":["network"]}"#, true),
            (r#"{"network":["web"]}"#, true),
            (r#"{"network":["fed"]}"#, true),
            (r#"{"network":["db"]}"#, false),
            (r#"{"event":["connect"]}"#, true),
            (r#"{"image":["web"]}"#, false),
        ] {
            let parsed = Filters::parse(filters).unwrap().only(FILTERS).unwrap();
            assert_eq!(passes(&connected, &parsed), expected, "{filters}");
        }
        let line: Value = serde_json::from_slice(&line(&connected)).unwrap();
        assert_eq!(line["Type"], "network");
    }

    #[test]
    fn an_image_is_asked_for_by_id_and_by_name() {
        let pulled = event(EventKind::Image, "pull", "r:5000/a:1", &[("name", "r:5000/a")]);
        for (wanted, expected) in [("r:5000/a:1", true), ("r:5000/a", true), ("r", false)] {
            assert_eq!(is_image(&pulled, wanted), expected, "{wanted}");
        }
    }

    #[test]
    fn a_line_has_the_old_fields_and_the_new() {
        let line: Value = serde_json::from_slice(&line(&start())).unwrap();
        assert_eq!(line["status"], "exec_start: ls /");
        assert_eq!(
            (&line["id"], &line["from"]),
            (&json!("abc123"), &json!("busybox:1"))
        );
        assert_eq!(line["Actor"]["Attributes"]["tier"], "front");
        assert_eq!(
            (&line["time"], &line["timeNano"]),
            (&json!(5), &json!(5_000_000_000_u64))
        );
    }
}
