//! What containers use, once or as a stream.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::Response;
use engine::{DeviceUsage, Engine, GuestUsage, InterfaceUsage, Sample};
use futures_util::stream;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::error::ApiError;
use crate::query::Params;

/// The time from one sample to the next.
const INTERVAL: Duration = Duration::from_secs(1);
/// What stands for a moment that has not been.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// `GET /containers/{name}/stats`
pub(super) async fn stats(
    State(engine): State<Engine>,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let stream = params.flag_or("stream", true);
    let once = params.flag("one-shot");
    if stream && once {
        return Err(ApiError::bad_request("cannot have stream=true and one-shot=true"));
    }
    let container = engine.inspect(&name).await?;
    let mut watch = Watch {
        engine,
        id: container.id,
        name: container.name,
        before: None,
        next: Instant::now(),
    };
    // A single answer tells the use of a second, too, unless it is not waited for.
    if !stream && !once && watch.next().await?["read"] == NEVER {
        watch.next = Instant::now();
    }
    let first = watch.next().await?;
    let body = if stream {
        Body::from_stream(stream::unfold(
            (Some(first), watch),
            async |(first, mut watch)| {
                let value = match first {
                    Some(first) => first,
                    // One that is removed has no statistics any more.
                    None => watch.next().await.ok()?,
                };
                Some((Ok::<_, Infallible>(format!("{value}\n")), (None, watch)))
            },
        ))
    } else {
        Body::from(format!("{first}\n"))
    };
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    Ok(response)
}

struct Watch {
    engine: Engine,
    id: String,
    name: String,
    before: Option<Sample>,
    /// When the next sample is due.
    next: Instant,
}

impl Watch {
    async fn next(&mut self) -> Result<Value, ApiError> {
        tokio::time::sleep_until(self.next).await;
        let sample = self.engine.sample(&self.id).await?;
        self.next = Instant::now() + INTERVAL;
        let name = self
            .engine
            .inspect(&self.id)
            .await
            .map(|container| container.name);
        self.name = name.unwrap_or_else(|_| std::mem::take(&mut self.name));
        let told = describe(&self.id, &self.name, &sample, self.before.as_ref());
        self.before = Some(sample);
        Ok(told)
    }
}

fn describe(id: &str, name: &str, sample: &Sample, before: Option<&Sample>) -> Value {
    let read = |sample: Option<&Sample>| match sample.filter(|sample| sample.usage.is_some()) {
        Some(sample) => sample.time.to_string(),
        None => NEVER.into(),
    };
    let usage = sample.usage.as_ref();
    let earlier = before.and_then(|sample| sample.usage.as_ref());
    let interfaces = usage.map_or(&[][..], |usage| &usage.interfaces);
    json!({
        "id": id,
        "name": format!("/{name}"),
        "os_type": "linux",
        "read": read(Some(sample)),
        "preread": read(before),
        "cpu_stats": cpu(usage),
        "precpu_stats": cpu(earlier),
        "memory_stats": usage.map_or_else(|| json!({}), memory),
        "pids_stats": usage.map_or_else(|| json!({}), pids),
        "blkio_stats": blkio(usage.map_or(&[][..], |usage| &usage.io)),
        "num_procs": 0,
        "storage_stats": {},
        "networks": networks(interfaces),
    })
}

fn networks(interfaces: &[InterfaceUsage]) -> Map<String, Value> {
    let entry = |interface: &InterfaceUsage| {
        let InterfaceUsage { name, received, sent } = interface;
        let counters = json!({
            "rx_bytes": received.bytes,
            "rx_packets": received.packets,
            "rx_errors": received.errors,
            "rx_dropped": received.dropped,
            "tx_bytes": sent.bytes,
            "tx_packets": sent.packets,
            "tx_errors": sent.errors,
            "tx_dropped": sent.dropped,
        });
        (name.clone(), counters)
    };
    interfaces.iter().map(entry).collect()
}

/// The use of the guest's CPUs: its clock for each of them is all that they could do.
fn cpu(usage: Option<&GuestUsage>) -> Value {
    let Some(usage) = usage else {
        return json!({
            "cpu_usage": { "total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0 },
            "throttling_data": { "periods": 0, "throttled_periods": 0, "throttled_time": 0 },
        });
    };
    let count = |name: &str| counter(&usage.cpu, name);
    let nanoseconds = |name: &str| count(name).saturating_mul(1000);
    json!({
        "cpu_usage": {
            "total_usage": nanoseconds("usage_usec"),
            "usage_in_kernelmode": nanoseconds("system_usec"),
            "usage_in_usermode": nanoseconds("user_usec"),
        },
        "system_cpu_usage": usage.clock_ns.saturating_mul(u64::from(usage.cpus)),
        "online_cpus": usage.cpus,
        "throttling_data": {
            "periods": count("nr_periods"),
            "throttled_periods": count("nr_throttled"),
            "throttled_time": nanoseconds("throttled_usec"),
        },
    })
}

fn memory(usage: &GuestUsage) -> Value {
    let stats: Map<String, Value> = usage
        .memory
        .iter()
        .map(|(name, value)| (name.clone(), (*value).into()))
        .collect();
    json!({ "usage": usage.memory_bytes, "limit": usage.memory_limit, "stats": stats })
}

fn pids(usage: &GuestUsage) -> Value {
    // The largest number is how Docker says that there is no limit.
    json!({ "current": usage.pids, "limit": usage.pids_limit.unwrap_or(u64::MAX) })
}

fn blkio(devices: &[DeviceUsage]) -> Value {
    let entries = |read: fn(&DeviceUsage) -> u64, write: fn(&DeviceUsage) -> u64| {
        let entry = |device: &DeviceUsage, op: &str, value: u64| json!({ "major": device.major, "minor": device.minor, "op": op, "value": value });
        let entries: Vec<Value> = devices
            .iter()
            .flat_map(|device| {
                [
                    entry(device, "read", read(device)),
                    entry(device, "write", write(device)),
                ]
            })
            .collect();
        // As Go encodes a list that nothing was put into.
        if entries.is_empty() {
            Value::Null
        } else {
            entries.into()
        }
    };
    json!({
        "io_service_bytes_recursive": entries(|device| device.read_bytes, |device| device.written_bytes),
        "io_serviced_recursive": entries(|device| device.reads, |device| device.writes),
        "io_queue_recursive": null,
        "io_service_time_recursive": null,
        "io_wait_time_recursive": null,
        "io_merged_recursive": null,
        "io_time_recursive": null,
        "sectors_recursive": null,
    })
}

fn counter(counters: &[(String, u64)], name: &str) -> u64 {
    let found = counters.iter().find(|(own, _)| own == name);
    found.map_or(0, |(_, value)| *value)
}

#[cfg(test)]
mod tests {
    use engine::Traffic;
    use jiff::Timestamp;

    use super::*;

    fn sample(second: i64, usec: u64) -> Sample {
        Sample {
            time: Timestamp::from_second(second).unwrap(),
            usage: Some(GuestUsage {
                clock_ns: second as u64 * 1_000_000_000,
                cpus: 2,
                cpu: vec![("usage_usec".into(), usec), ("nr_periods".into(), 3)],
                memory_bytes: 4096,
                memory_limit: 8192,
                memory: vec![("inactive_file".into(), 100)],
                pids: 2,
                pids_limit: None,
                io: vec![DeviceUsage {
                    major: 254,
                    read_bytes: 5,
                    ..DeviceUsage::default()
                }],
                interfaces: vec![InterfaceUsage {
                    name: "eth0".into(),
                    received: Traffic {
                        bytes: 7,
                        ..Traffic::default()
                    },
                    sent: Traffic {
                        packets: 8,
                        ..Traffic::default()
                    },
                }],
            }),
        }
    }

    #[test]
    fn a_sample_tells_what_clients_compute_with() {
        let told = describe("id", "web", &sample(2, 500), Some(&sample(1, 200)));
        assert_eq!(told["name"], "/web");
        assert_eq!(told["cpu_stats"]["cpu_usage"]["total_usage"], 500_000);
        assert_eq!(told["precpu_stats"]["cpu_usage"]["total_usage"], 200_000);
        assert_eq!(told["cpu_stats"]["system_cpu_usage"], 4_000_000_000_u64);
        assert_eq!(told["cpu_stats"]["online_cpus"], 2);
        assert_eq!(told["cpu_stats"]["throttling_data"]["periods"], 3);
        assert_eq!(told["memory_stats"]["stats"]["inactive_file"], 100);
        assert_eq!(told["pids_stats"]["limit"], u64::MAX);
        let io = &told["blkio_stats"]["io_service_bytes_recursive"];
        assert_eq!(
            io[0],
            json!({ "major": 254, "minor": 0, "op": "read", "value": 5 })
        );
        let interface = &told["networks"]["eth0"];
        assert_eq!(
            (&interface["rx_bytes"], &interface["tx_packets"]),
            (&json!(7), &json!(8))
        );
        assert_eq!(told["preread"], "1970-01-01T00:00:01Z");
    }

    #[test]
    fn one_that_does_not_run_uses_nothing() {
        let none = Sample {
            time: Timestamp::now(),
            usage: None,
        };
        let told = describe("id", "web", &none, None);
        assert_eq!((&told["read"], &told["preread"]), (&json!(NEVER), &json!(NEVER)));
        assert_eq!(told["memory_stats"], json!({}));
        assert_eq!(told["cpu_stats"]["cpu_usage"]["total_usage"], 0);
    }
}
