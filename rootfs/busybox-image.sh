#!/bin/sh
# Makes the busybox image that hull brings along: an OCI image layout directory with one layer, from the
# static busybox of this machine (Debian: package busybox-static). It is laid out like Docker Hub's busybox:
# every applet is a hard link in /bin. The same busybox gives the same bytes, whoever runs this and wherever.
#
# usage: rootfs/busybox-image.sh OUTDIR
# BUSYBOX names another busybox than /bin/busybox.
# Needs a shell, coreutils, tar and gzip.
set -eu
umask 022
export LC_ALL=C TZ=UTC

fail() {
    echo "busybox-image.sh: $*" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: busybox-image.sh OUTDIR"
out=${1%/}
here=$(dirname "$(readlink -f "$0")")
busybox=${BUSYBOX:-/bin/busybox}
[ -x "$busybox" ] || fail "there is no $busybox; install the package busybox-static"
"$busybox" --list >/dev/null || fail "$busybox is no busybox"

# The time that the package gave its file, so that it does not depend on when this runs.
time=$(stat -c %Y "$busybox")
created=$(date -u -d "@$time" +%Y-%m-%dT%H:%M:%SZ)

mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
root=$work/root
mkdir -p "$root"

install -d -m 0755 "$root/bin" "$root/dev" "$root/etc" "$root/home" "$root/proc" "$root/sys" \
    "$root/usr/bin" "$root/usr/sbin" "$root/var/spool/mail" "$root/var/www"
install -d -m 0700 "$root/root"
install -d -m 1777 "$root/tmp" "$root/var/tmp"
install -m 0755 "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -f "$root/bin/busybox" "$root/bin/$applet"
done
ln "$root/bin/busybox" "$root/usr/bin/env" # scripts begin with #!/usr/bin/env

cat >"$root/etc/passwd" <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
END
cat >"$root/etc/group" <<'END'
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
mail:x:8:
kmem:x:9:
wheel:x:10:root
cdrom:x:11:
dialout:x:18:
floppy:x:19:
video:x:28:
audio:x:29:
tape:x:32:
www-data:x:33:
operator:x:37:
utmp:x:43:
plugdev:x:46:
staff:x:50:
lock:x:54:
netdev:x:82:
users:x:100:
nobody:x:65534:
END
cat >"$root/etc/shadow" <<'END'
root:*:10933:0:99999:7:::
daemon:*:10933:0:99999:7:::
bin:*:10933:0:99999:7:::
sys:*:10933:0:99999:7:::
sync:*:10933:0:99999:7:::
mail:*:10933:0:99999:7:::
www-data:*:10933:0:99999:7:::
operator:*:10933:0:99999:7:::
nobody:*:10933:0:99999:7:::
END
chmod 0640 "$root/etc/shadow"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"

tar --create --file "$work/layer.tar" --directory "$root" --format=ustar --sort=name \
    --owner=0 --group=0 --numeric-owner --mtime="@$time" .
"$here/oci-layout.sh" "$work/layer.tar" localhost/busybox:latest "$out" <<END
{"created":"$created","architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["DIFF_ID"]},"history":[{"created":"$created","created_by":"busybox-static, one hard link for each applet"}]}
END
