//! A name server outside: dnsmasq.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::Duration;

use tempfile::TempDir;

/// Where it listens, on the host.
const ADDRESS: &str = "127.0.0.1:5300";

/// dnsmasq, for as long as this lives.
pub(crate) struct NameServer {
    process: Child,
    folder: TempDir,
}

impl NameServer {
    /// Begins with addresses of names: `address name` lines; answers may be kept for `ttl` seconds.
    pub(crate) fn begin(hosts: &str, ttl: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hosts"), hosts).unwrap();
        let process = Command::new("/usr/sbin/dnsmasq")
            .args(["--keep-in-foreground", "--pid-file", "--log-facility=/dev/null"])
            .args([
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
                "--user=root",
            ])
            .args(["--bind-interfaces", "--listen-address=127.0.0.1", "--port=5300"])
            .args(["--cname=alias.test,real.elsewhere", "--local=/#/"])
            .arg(format!("--local-ttl={ttl}"))
            .arg(format!("--addn-hosts={}", folder.path().join("hosts").display()))
            .spawn()
            .expect("dnsmasq of dnsmasq-base runs");
        let server = Self { process, folder };
        server.await_listener();
        server
    }

    fn await_listener(&self) {
        for _ in 0..200 {
            if TcpStream::connect(ADDRESS).is_ok() {
                return;
            }
            sleep(Duration::from_millis(25));
        }
        panic!("dnsmasq does not listen at {ADDRESS}");
    }

    pub(crate) fn address() -> SocketAddr {
        ADDRESS.parse().unwrap()
    }

    fn hosts(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }

    /// Other addresses from now on.
    pub(crate) fn change(&self, hosts: &str) {
        fs::write(self.hosts(), hosts).unwrap();
        let id = nix::unistd::Pid::from_raw(self.process.id().try_into().unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGHUP).unwrap();
        sleep(Duration::from_millis(200));
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
