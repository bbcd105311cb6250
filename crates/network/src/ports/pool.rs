//! Ports of the host for who asks for no particular one.

use std::fs;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};

use super::PortError;

/// Where the kernel says which ports may be given to who asks for none: two numbers (ip(7), `ip_local_port_range`).
const RANGE_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// Docker's range where the kernel does not say (RFC 6335, section 6, without its first port).
const DEFAULT_RANGE: RangeInclusive<u16> = 49153..=65535;

/// How many refusals of an outer host a search takes. It does not say whether another port would do.
const MAX_REFUSALS: u32 = 32;

/// Finds ports of the host that are free.
///
/// They are tried in turn, and one that was given back is tried only when all behind it were: who still has it in mind is not led
/// to somebody else's container at once.
#[derive(Debug)]
pub struct PortPool {
    range: RangeInclusive<u16>,
    next: AtomicU16,
}

impl PortPool {
    /// Of the range that the kernel gives ports from, as Docker does.
    pub fn of_this_host() -> Self {
        let said = fs::read_to_string(RANGE_FILE).ok();
        Self::new(said.and_then(|text| parse(&text)).unwrap_or(DEFAULT_RANGE))
    }

    /// Of this range.
    pub fn new(range: RangeInclusive<u16>) -> Self {
        let next = AtomicU16::new(*range.start());
        Self { range, next }
    }

    /// Has `open` try ports until it has one: of `asked` the first that is free, or else the next one of the pool.
    ///
    /// What `open` is to hold of a port it opens at once (the sockets of IPv4 and IPv6, say), and drops all of it when it fails: a
    /// port that was only looked at could be gone a moment later. Where somebody has the port the search goes on; other errors end
    /// it. Where `asked` is a single port, its error is the answer.
    pub async fn find<T, Open, Opening>(
        &self,
        asked: Option<RangeInclusive<u16>>,
        mut open: Open,
    ) -> Result<T, PortError>
    where
        Open: FnMut(u16) -> Opening,
        Opening: Future<Output = Result<T, PortError>>,
    {
        let range = asked.as_ref().unwrap_or(&self.range);
        // Port 0 is none: the kernel would choose.
        let (first, last) = ((*range.start()).max(1), *range.end());
        let begin = match asked {
            Some(_) => first,
            None => self.next.load(Ordering::Relaxed).clamp(first, last.max(first)),
        };
        let mut refusals = 0;
        for port in (begin..=last).chain(first..begin) {
            match open(port).await {
                Ok(opened) => {
                    if asked.is_none() {
                        let next = if port >= last { first } else { port + 1 };
                        self.next.store(next, Ordering::Relaxed);
                    }
                    return Ok(opened);
                }
                Err(error) if first == last => return Err(error),
                Err(PortError::InUse { .. }) => {}
                Err(PortError::OuterRefused(_)) if refusals < MAX_REFUSALS => refusals += 1,
                Err(error) => return Err(error),
            }
        }
        Err(PortError::UsedUp { first, last })
    }
}

fn parse(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last)), None) if (1..=last).contains(&first) => Some(first..=last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::ports::testing::{in_namespace, listen};
    use crate::{Forward, Listen, Protocol};

    /// Both families of a port, as `-p 80` asks for.
    async fn both(protocol: Protocol, port: u16) -> Result<[Forward; 2], PortError> {
        let target = "127.0.0.1:80".parse().unwrap();
        let open = async |address| {
            let listen = Listen {
                port,
                ..listen(protocol, address)
            };
            Forward::open(&listen, target).await
        };
        Ok([open("0.0.0.0").await?, open("::").await?])
    }

    /// Daemons search in tasks that move between threads.
    fn movable<T: Send>(search: T) -> T {
        search
    }

    fn port(found: &Result<[Forward; 2], PortError>) -> u16 {
        found.as_ref().unwrap()[0].port()
    }

    #[test]
    fn ports_are_given_out_in_turn_and_those_in_use_are_not() {
        in_namespace("fd00::5", || async {
            let pool = PortPool::new(50000..=50004);
            let _v4 = TcpListener::bind("127.0.0.1:50001").unwrap();
            let _v6 = TcpListener::bind("[fd00::5]:50003").unwrap();
            let _other = UdpSocket::bind("0.0.0.0:50002").unwrap();
            let tcp = |port| both(Protocol::Tcp, port);
            let first = movable(pool.find(None, tcp)).await;
            let second = pool.find(None, tcp).await;
            assert_eq!((port(&first), port(&second)), (50000, 50002));
            drop(second);
            let third = pool.find(None, tcp).await;
            assert_eq!(port(&third), 50004);
            let again = pool.find(None, tcp).await;
            assert_eq!(port(&again), 50002);
            let error = pool.find(None, tcp).await.err().unwrap().to_string();
            assert!(
                error.starts_with("all ports are allocated: none of 50000-50004 is free"),
                "{error}"
            );
        });
    }

    #[test]
    fn of_a_range_the_first_that_is_free_is_taken() {
        in_namespace("fd00::5", || async {
            let pool = PortPool::of_this_host();
            let udp = |port| both(Protocol::Udp, port);
            let _somebody = UdpSocket::bind("127.0.0.1:8000").unwrap();
            for _ in 0..2 {
                assert_eq!(port(&pool.find(Some(8000..=8010), udp).await), 8001);
            }
            let error = pool.find(Some(8000..=8000), udp).await.err().unwrap();
            assert!(matches!(error, PortError::InUse { .. }), "{error}");
            #[expect(clippy::reversed_empty_ranges, reason = "what somebody may ask for")]
            let error = pool.find(Some(9..=8), udp).await.err().unwrap();
            assert!(
                matches!(error, PortError::UsedUp { first: 9, last: 8 }),
                "{error}"
            );
            let range = parse(&fs::read_to_string(RANGE_FILE).unwrap()).unwrap();
            assert!(range.contains(&port(&pool.find(None, udp).await)));
        });
    }

    #[tokio::test]
    async fn an_outer_host_is_not_asked_for_all_ports() {
        let pool = PortPool::new(1000..=65535);
        let mut asked = 0;
        let refused = pool.find(None, |port| {
            asked += 1;
            std::future::ready(Err::<(), _>(PortError::OuterRefused(format!("not {port}"))))
        });
        let error = refused.await.unwrap_err().to_string();
        assert_eq!((error.as_str(), asked), ("not 1032", 33));
        let found = pool.find(None, |port| {
            std::future::ready(match port {
                1005 => Ok(port),
                _ => Err(PortError::OuterRefused("taken".into())),
            })
        });
        assert_eq!(found.await.unwrap(), 1005);
    }

    #[test]
    fn a_range_that_cannot_be_is_not_taken() {
        assert_eq!(parse("32768\t60999\n"), Some(32768..=60999));
        for wrong in ["", "1", "0 9", "9 8", "1 65536", "1 2 3", "a b"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
