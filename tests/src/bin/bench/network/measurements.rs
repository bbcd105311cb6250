//! The rates of a pair of guests.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::round_trips;
use super::sites::Guests;
use crate::peers::{bounded, peer};

/// How long a stream lasts, and how long nginx is asked, in seconds.
pub(super) const STREAM_SECONDS: u32 = 2;
pub(super) const REQUEST_SECONDS: u32 = 3;
/// What a program of the host may take, in seconds, where the processor is emulated.
const BOUND: u32 = 60;

/// Which way data goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    GuestToHost,
    HostToGuest,
    GuestToGuest,
}

/// What arrives of a number of TCP streams together, in Gbit/s.
pub(super) fn stream([first, second]: &Guests, way: Way, streams: u32) -> Result<f64> {
    let server = if way == Way::GuestToGuest { second } else { first };
    let (address, streams) = (server.address().to_string(), streams.to_string());
    let seconds = STREAM_SECONDS.to_string();
    let mut client = vec![
        "/iperf3", "-4", "--json", "-c", &address, "-t", &seconds, "-P", &streams,
    ];
    if way == Way::GuestToHost {
        client.push("--reverse");
    }
    let report = match way {
        Way::GuestToGuest => first.call(&client)?,
        Way::GuestToHost | Way::HostToGuest => on_host(&client)?,
    };
    let report: Value = serde_json::from_str(&report)?;
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64();
    Ok(bits.with_context(|| format!("iperf3 reports no rate: {report}"))? / 1e9)
}

/// Round trips in a second from the host to a guest and back.
pub(super) fn round_trips_of_host([guest, _]: &Guests) -> Result<f64> {
    round_trips::rate(guest.address())
}

/// Round trips in a second from one guest to the other and back.
pub(super) fn round_trips_of_guests([first, second]: &Guests) -> Result<f64> {
    let address = second.address().to_string();
    let printed = first.call(&["/bench", round_trips::ARGUMENT, &address])?;
    Ok(printed.trim().parse()?)
}

/// Requests in a second that nginx answers the host.
pub(super) fn nginx([guest, _]: &Guests) -> Result<f64> {
    let page = format!("http://{}:80/", guest.address());
    let report = on_host(&["/wrk", "-t1", "-c16", &format!("-d{REQUEST_SECONDS}s"), &page])?;
    ensure!(
        !report.contains("Non-2xx") && !report.contains("Socket errors: connect"),
        "nginx does not answer as it should: {report}"
    );
    let rate = report.lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    let rate = rate.with_context(|| format!("wrk reports no rate: {report}"))?;
    Ok(rate.trim().parse()?)
}

/// What a program in the root of the peers prints.
fn on_host(command: &[&str]) -> Result<String> {
    let (program, arguments) = command.split_first().context("an empty command")?;
    let output = bounded(BOUND, &peer(program, arguments)).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let stdout = text(&output.stdout);
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {stdout}{}",
        output.status,
        text(&output.stderr)
    );
    Ok(stdout)
}
