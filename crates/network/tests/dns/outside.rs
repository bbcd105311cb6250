//! Servers outside: dnsmasq, and some that misbehave.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::net::{TcpStream, UdpSocket};
use tokio::process::{Child, Command};

/// How many addresses `many.test` has: more than one packet holds.
pub(crate) const MANY: u8 = 100;

const RECORDS: &str = r#"
host-record=host.test,192.0.2.10,2001:db8::10,300
host-record=mapped.test,::ffff:10.0.0.9
cname=alias.test,host.test,60
cname=alias2.test,alias.test,30
txt-record=text.test,"hello; \"world\"","second"
mx-host=mail.test,host.test,10
srv-host=_http._tcp.test,host.test,8080,1,2
naptr-record=naptr.test,1,2,s,SIP+D2U,,_sip._udp.test
caa-record=caa.test,0,issue,letsencrypt.org
dns-rr=svc.test,65,0001000001000302683200040004c0000263
dns-rr=odd.test,65280,00ff10
local=/test/
"#;

/// dnsmasq, for as long as this lives.
pub(crate) struct Outside {
    pub(crate) address: SocketAddr,
    _process: Child,
    _folder: TempDir,
}

pub(crate) async fn outside() -> Outside {
    let folder = tempfile::tempdir().unwrap();
    let address = free_address().await;
    let hosts: String = (0..MANY).map(|n| format!("198.51.100.{n} many.test\n")).collect();
    std::fs::write(folder.path().join("hosts"), hosts).unwrap();
    let config = format!(
        "port={}\nlisten-address={}\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\naddn-hosts={}\n{}",
        address.port(),
        address.ip(),
        folder.path().join("hosts").display(),
        RECORDS,
    );
    let file = folder.path().join("dnsmasq.conf");
    std::fs::write(&file, config).unwrap();
    let process = Command::new("/usr/sbin/dnsmasq")
        .args(["--keep-in-foreground", "--pid-file", "--log-facility=/dev/null"])
        .arg(format!("--conf-file={}", file.display()))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("dnsmasq of dnsmasq-base runs");
    for _ in 0..200 {
        if TcpStream::connect(address).await.is_ok() {
            return Outside {
                address,
                _process: process,
                _folder: folder,
            };
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("dnsmasq does not listen at {address}");
}

/// An address at which nobody listens.
pub(crate) async fn free_address() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.5:0").await.unwrap();
    socket.local_addr().unwrap()
}

/// A server that never says anything, for as long as its socket lives.
pub(crate) async fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.6:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// A server that says to a question what a function makes of it.
pub(crate) async fn saying(
    answers: impl Fn(&[u8], SocketAddr) -> Vec<Vec<u8>> + Send + 'static,
) -> SocketAddr {
    let (socket, address) = silent().await;
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            for answer in answers(&buffer[..length], from) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    });
    address
}
