//! What Prometheus gets at `--metrics-addr`.

use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use system_tests::{Daemon, DaemonSpec};

/// Head and body of an answer.
fn get(address: &str, path: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// The value of a series.
fn value(text: &str, series: &str) -> Result<f64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.with_context(|| format!("{series} is not in:\n{text}"))?
        .parse()
        .context("no number")
}

#[test]
fn what_goes_on_is_counted_and_the_api_is_not_served_there() -> Result<()> {
    let daemon = Daemon::start_with(DaemonSpec {
        arguments: ["--metrics-addr", "127.0.0.1:0"].map(Into::into).into(),
        ..DaemonSpec::default()
    })?;
    let log = daemon.log()?;
    let address = log
        .split("http://")
        .nth(1)
        .and_then(|rest| rest.split('/').next());
    let address = address.with_context(|| format!("no address in {log}"))?;

    daemon.hull(["create", "busybox", "true"]).ok();
    daemon.hull(["inspect", "nosuch"]).exits(1);
    // Nobody listens there.
    daemon.hull(["pull", "127.0.0.1:1/a/b"]);

    let (head, text) = get(address, "/metrics")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    ensure!(
        head.to_lowercase()
            .contains("application/openmetrics-text; version=1.0.0"),
        "{head}"
    );
    ensure!(text.ends_with("# EOF\n"), "{text}");
    for (series, expected) in [
        ("hull_containers{state=\"stopped\"}", 1.0),
        ("hull_containers{state=\"running\"}", 0.0),
        ("hull_images", 1.0),
        ("hull_container_start_duration_seconds_count", 0.0),
        ("hull_image_pulls_total", 0.0),
        ("hull_image_pull_bytes_total", 0.0),
        ("hull_execs_total", 0.0),
        ("hull_templates_made_total", 0.0),
        ("hull_build_info{version=\"0.1.0\"}", 1.0),
    ] {
        assert_eq!(value(&text, series)?, expected, "{series}");
    }
    ensure!(value(&text, "hull_api_requests_total{method=\"POST\",status=\"2xx\"}")? >= 1.0);
    ensure!(value(&text, "hull_api_requests_total{method=\"GET\",status=\"4xx\"}")? >= 1.0);
    // Scrapes are no requests to the API.
    let (_, again) = get(address, "/metrics")?;
    let gets = "hull_api_requests_total{method=\"GET\",status=\"2xx\"}";
    assert_eq!(
        value(&text, gets).unwrap_or(0.0),
        value(&again, gets).unwrap_or(0.0)
    );

    for path in ["/info", "/v1.51/containers/json"] {
        let (head, _) = get(address, path)?;
        ensure!(head.starts_with("HTTP/1.1 404"), "{path}: {head}");
    }
    Ok(())
}
