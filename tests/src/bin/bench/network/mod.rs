//! The network of microVMs: against QEMU's microvm with the same kernel, and against network namespaces of the host.

mod bridge;
mod control;
mod guest;
mod measurements;
mod prepare;
mod round_trips;
mod sites;
mod start;

use anyhow::{Context, Result};

pub(crate) use guest::{ARGUMENT as GUEST, be_guest, be_init};
pub(crate) use prepare::prepare;
pub(crate) use round_trips::{ARGUMENT as ROUND_TRIPS, print_rate as print_round_trips};

use crate::Places;
use crate::figures::Series;
use measurements::{Way, nginx, stream};
use sites::{Guests, Hull, Native, Qemu};

/// As often each rate is measured, in turn with the others.
const ROUNDS: usize = 5;
/// hull is to be at least so much faster than QEMU.
const GOAL: f64 = 1.0;

/// A row of the table.
struct Row {
    what: &'static str,
    unit: &'static str,
    /// Digits behind the point.
    digits: usize,
    rate: fn(&Guests) -> Result<f64>,
}

impl Row {
    const fn stream(what: &'static str, rate: fn(&Guests) -> Result<f64>) -> Row {
        Row {
            what,
            unit: "Gbit/s",
            digits: 2,
            rate,
        }
    }

    const fn requests(what: &'static str, rate: fn(&Guests) -> Result<f64>) -> Row {
        Row {
            what,
            unit: "1/s",
            digits: 0,
            rate,
        }
    }
}

const ROWS: [Row; 9] = [
    Row::stream("guest to host, 1 stream", |guests| {
        stream(guests, Way::GuestToHost, 1)
    }),
    Row::stream("guest to host, 4 streams", |guests| {
        stream(guests, Way::GuestToHost, 4)
    }),
    Row::stream("host to guest, 1 stream", |guests| {
        stream(guests, Way::HostToGuest, 1)
    }),
    Row::stream("host to guest, 4 streams", |guests| {
        stream(guests, Way::HostToGuest, 4)
    }),
    Row::stream("guest to guest, 1 stream", |guests| {
        stream(guests, Way::GuestToGuest, 1)
    }),
    Row::stream("guest to guest, 4 streams", |guests| {
        stream(guests, Way::GuestToGuest, 4)
    }),
    Row::requests("round trips, host and guest", measurements::round_trips_of_host),
    Row::requests(
        "round trips, guest and guest",
        measurements::round_trips_of_guests,
    ),
    Row::requests("nginx in a guest, wrk on the host", nginx),
];

/// Prints the table of rates, and that of starts with a network and without.
pub(crate) fn measure(places: &Places) -> Result<()> {
    rates(places)?;
    start::measure(places)
}

fn rates(places: &Places) -> Result<()> {
    eprintln!("starting the guests");
    let native = Native::start()?;
    let qemu = Qemu::start()?;
    let hull = Hull::start(places)?;
    let sites = [
        ("native", &native.guests),
        ("QEMU", &qemu.guests),
        ("hull", &hull.guests),
    ];
    let rate = |row: &Row, name: &str, guests: &Guests| {
        (row.rate)(guests).with_context(|| format!("{}, {name}", row.what))
    };
    // An emulated processor translates what it runs for the first time.
    for (name, guests) in sites {
        rate(&ROWS[0], name, guests)?;
    }
    println!("\nNetwork: TCP with an MTU of 1500, medians of {ROUNDS} rounds in turn\n");
    println!("| what | unit | native | QEMU | hull | hull / QEMU | goal | hull / native |");
    println!("|---|---|---:|---:|---:|---:|---:|---:|");
    for row in &ROWS {
        let mut series = sites.map(|_| Series::new());
        for _ in 0..ROUNDS {
            for ((name, guests), series) in sites.iter().zip(&mut series) {
                series.add_rate(rate(row, name, guests)?);
            }
        }
        println!("{}", cells(row, series.each_ref().map(Series::median)));
    }
    println!(
        "\n- native: network namespaces, each with a veth pair to a bridge of the host, without a packet filter of their own; \
         they have all CPUs of the host."
    );
    println!(
        "- QEMU: its microvm with virtio-net over TAP (vhost=off) on a bridge of the host, the same kernel, 512 MiB and one CPU, \
         without a packet filter of its own. hull: containers on the default bridge, behind hull's rules."
    );
    println!(
        "- Streams are iperf3's, for {} s. What a guest sends the host goes over a connection that the host made (iperf3 -R).",
        measurements::STREAM_SECONDS
    );
    println!(
        "- Round trips are of 1 byte each way over one connection. nginx has one worker and serves 612 bytes; wrk has one thread \
         and 16 connections for {} s.",
        measurements::REQUEST_SECONDS
    );
    Ok(())
}

fn cells(row: &Row, [native, qemu, hull]: [f64; 3]) -> String {
    let Row {
        what, unit, digits, ..
    } = row;
    format!(
        "| {what} | {unit} | {native:.digits$} | {qemu:.digits$} | {hull:.digits$} | {:.2} | ≥ {GOAL:.1} | {:.2} |",
        hull / qemu,
        hull / native
    )
}
