//! A service of the host that says hello to everybody.

use system_tests::Hull;

/// It ends when this is dropped.
pub(super) struct Service<'a> {
    hull: &'a Hull,
    pid: String,
}

impl<'a> Service<'a> {
    pub(super) fn new(hull: &'a Hull, port: u16) -> Self {
        let serve =
            format!("busybox nc -ll -p {port} -e busybox echo hello </dev/null >/dev/null 2>&1 & echo $!");
        let pid = hull.shell(&serve).ok().trim().to_owned();
        Service { hull, pid }
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.hull.shell(&format!("kill {}", self.pid));
    }
}
