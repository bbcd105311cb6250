//! How often a byte goes to a guest and back in a second.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The first argument of a run that prints the rate to an address: `round-trips ADDRESS`.
pub(crate) const ARGUMENT: &str = "round-trips";

/// Where guests answer.
const PORT: u16 = 7001;
/// How long is counted for.
const WINDOW: Duration = Duration::from_millis(1500);
/// How many round trips there are between two looks at the clock, and before it starts.
const BATCH: u32 = 16;
/// How long a byte may be on its way.
const PATIENCE: Duration = Duration::from_secs(20);

/// Answers whoever comes, in the background.
pub(super) fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))?;
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            // One that ends is one that has been measured.
            std::thread::spawn(move || answer(connection));
        }
    });
    Ok(())
}

fn answer(mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut byte = [0];
    loop {
        connection.read_exact(&mut byte)?;
        connection.write_all(&byte)?;
    }
}

/// Round trips in a second to a guest and back, one at a time.
pub(super) fn rate(guest: Ipv4Addr) -> Result<f64> {
    let at = SocketAddr::from((guest, PORT));
    let mut connection =
        TcpStream::connect_timeout(&at, PATIENCE).with_context(|| format!("connect to {at}"))?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [0];
    let mut batch = || -> Result<()> {
        for _ in 0..BATCH {
            connection.write_all(&byte)?;
            connection.read_exact(&mut byte).context("a byte is not back")?;
        }
        Ok(())
    };
    batch()?;
    let began = Instant::now();
    let mut count = 0;
    while began.elapsed() < WINDOW {
        batch()?;
        count += BATCH;
    }
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// Prints the rate to the guest whose address is the argument.
pub(crate) fn print_rate(arguments: &[String]) -> Result<()> {
    let [guest] = arguments else {
        anyhow::bail!("one address is wanted, not {arguments:?}");
    };
    println!("{}", rate(guest.parse()?)?);
    Ok(())
}
