//! What the guests have in them, as an archive for hull's containers and for QEMU's microvm, and in the root of the peers.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::peers::run;

/// The archives, in the folder of the peers and in their root.
pub(super) const TAR: &str = "guest.tar";
pub(super) const CPIO: &str = "/guest.cpio";

/// Debian's package of nginx is unpacked and not installed: it would serve this machine's port 80 from the next boot on.
const DEBIAN_PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../rootfs/debian-package.sh");

/// Makes the archives of `program`, iperf3 and nginx, and adds wrk and ip to the root in `folder`, which
/// [`peers::prepare`](crate::peers::prepare) made.
pub(crate) fn prepare(folder: &Path, program: &Path) -> Result<()> {
    let script = r#"
        cd "$1"; rm -rf guest; mkdir guest
        take() { test -e "$2$1" || cp -L --parents "$1" "$2"; }
        libraries() {
            loaded=$(ldd "$1")
            case $loaded in *'not found'*) echo "$1 lacks libraries: $loaded" >&2; exit 1;; esac
            for library in $(echo "$loaded" | grep -o '/[^ ]*'); do take "$library" "$2"; done
        }
        # tool NAME ROOT
        tool() {
            program=$(PATH=$PATH:/sbin:/usr/sbin command -v $1) || { echo "$1 is missing: run 'make bench', which installs it" >&2; exit 1; }
            take "$program" $2; ln -s "$program" $2/$1
            libraries "$program" $2
        }
        tool iperf3 guest; tool wrk root; tool ip root
        nginx=$("$3" nginx); cp "$nginx/usr/sbin/nginx" guest/nginx; libraries guest/nginx guest
        cp "$2" guest/bench; cp /bin/busybox guest/busybox
        (cd guest && mkdir -p dev proc sys tmp run etc www var/log/nginx var/lib/nginx)
        echo 'root:x:0:0:root:/:/bin/sh' > guest/etc/passwd; echo 'root:x:0:' > guest/etc/group
        head -c 612 /dev/zero | tr '\0' x > guest/www/index.html
        cat > guest/nginx.conf <<'END'
            user root root;
            worker_processes 1;
            pid /tmp/nginx.pid;
            error_log stderr crit;
            events { worker_connections 64; }
            http { access_log off; server { listen 80; root /www; } }
END
        cp -a guest/. root/
        ln -s bench guest/init
        tar --create --file guest.tar --owner=0 --group=0 --numeric-owner --directory guest .
        (cd guest && find . | cpio -o -H newc -R 0:0 --quiet) > root/guest.cpio
        # Where ip keeps its names of network namespaces; /run is a file system of its own there.
        ln -s ../run root/var/run
    "#;
    let mut command = Command::new("sh");
    command
        .args(["-euc", script, "network"])
        .args([folder, program, Path::new(DEBIAN_PACKAGE)]);
    run(&mut command).map(drop)
}
