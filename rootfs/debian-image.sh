#!/bin/bash
# Build the image localhost/debian:bookworm from Debian's own packages, as an OCI archive.
#
#   rootfs/debian-image.sh OUT.oci.tar
#
# It holds what a minimal installation does: the essential packages and apt. The packages come from the mirrors that this machine's
# apt uses for bookworm, or from deb.debian.org when it uses none. The same packages give the same bytes; the result is kept in the
# cache under a hash of what the mirrors offer and of how it is made, and is built again when either changes.
# Needs mmdebstrap, and root or unprivileged user namespaces (uidmap).
set -euo pipefail
export LC_ALL=C TZ=UTC

out=${1:?usage: rootfs/debian-image.sh OUT.oci.tar}
here=$(dirname "$(readlink -f "$0")")
cache=${HULL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hull}/debian-image
suite=bookworm
image=localhost/debian:$suite
architecture=amd64

mkdir -p "$cache"
work=$(mktemp -d "${TMPDIR:-/tmp}/hull-debian-image.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The mirrors, a line each: SITE SUITE.
mirrors() {
    # shellcheck disable=SC2016 # these are apt's variables
    apt-get indextargets --format '$(SITE) $(RELEASE) $(COMPONENT) $(ARCHITECTURE)' \
        'Created-By: Packages' 'Origin: Debian' 2>/dev/null |
        awk -v suite="$suite" -v architecture="$architecture" '
            ($2 == suite || $2 == suite "-updates" || $2 == suite "-security") && $3 == "main" && $4 == architecture { print $1, $2 }' |
        sort -u
}

mirrors >"$work/mirrors" || true
if ! grep -q " $suite\$" "$work/mirrors"; then
    site=http://deb.debian.org
    printf '%s\n' "$site/debian $suite" "$site/debian $suite-updates" "$site/debian-security $suite-security" >"$work/mirrors"
fi

# publish ARCHIVE: puts it where the caller wants it, unless the same one is there.
publish() {
    touch "$1"
    cmp -s "$1" "$out" && return
    mkdir -p "$(dirname "$out")"
    cp --reflink=auto "$1" "$out.new"
    mv "$out.new" "$out"
}

# What the mirrors offer: the digest of each list of packages. mmdebstrap checks the signature that this does not.
epoch=0
: >"$work/offer"
while read -r site release; do
    if ! /usr/lib/apt/apt-helper -q -o APT::Sandbox::User=root \
        download-file "$site/dists/$release/InRelease" "$work/InRelease" >"$work/apt.log" 2>&1; then
        # Without the mirror the newest image in the cache still serves.
        kept=$(find "$cache" -name '*.oci.tar' -printf '%T@ %p\n' | sort -rn | sed -n '1s/^[^ ]* //p')
        [ -n "$kept" ] || { cat "$work/apt.log" >&2; echo "error: cannot read $site/dists/$release/InRelease, and no image is in $cache" >&2; exit 1; }
        echo "[debian] $site cannot be reached: the image built on $(date -r "$kept" +%F) serves"
        publish "$kept"
        exit
    fi
    sed -n "s,^ \([0-9a-f]\{64\}\) .* main/binary-$architecture/Packages.xz\$,$release \1,p" "$work/InRelease" >>"$work/offer"
    published=$(date -d "$(sed -n 's/^Date: //p' "$work/InRelease")" +%s)
    # The release itself, not its updates: a time that stays for months.
    [ "$release" != "$suite" ] || epoch=$published
done <"$work/mirrors"
[ -s "$work/offer" ] || { echo "error: the mirrors have no packages for $architecture: $(cat "$work/mirrors")" >&2; exit 1; }

key=$(cat "$work/offer" "$0" "$here/oci-layout.sh" | sha256sum | cut -c 1-32)
archive=$cache/$key.oci.tar
if [ -e "$archive" ]; then
    publish "$archive"
    echo "[debian] $image is up to date ($(($(stat -c %s "$out") >> 20)) MiB, from the cache)"
    exit
fi

command -v mmdebstrap >/dev/null || { echo "error: no mmdebstrap: run 'scripts/packages.sh image'" >&2; exit 1; }
echo "[debian] building $image from $(cut -d/ -f3 "$work/mirrors" | sort -u | tr '\n' ' ')(about half a minute)"
begin=$SECONDS

# What the image itself asks for packages: the mirror of this machine may be its own affair.
cat >"$work/debian.sources" <<END
Types: deb
URIs: http://deb.debian.org/debian
Suites: $suite $suite-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://deb.debian.org/debian-security
Suites: $suite-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
# A container has no init system: packages' services are not started when they are installed.
printf '#!/bin/sh\nexit 101\n' >"$work/policy-rc.d"
# Lists and packages that apt keeps would be part of every image that is built on this one.
cat >"$work/hull-clean" <<'END'
APT::Keep-Downloaded-Packages "false";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
END

# Without root mmdebstrap runs as another user of a namespace, who has to read these.
chmod 755 "$work"
# shellcheck disable=SC2016 # mmdebstrap gives the hooks the new root as $1
sed 's/\(.*\) \(.*\)/deb \1 \2 main/' "$work/mirrors" |
    SOURCE_DATE_EPOCH=$epoch mmdebstrap --variant=minbase --components=main --architectures=$architecture --format=tar \
        --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr --include=usr-is-merged --skip=output/dev \
        --customize-hook='rm -rf "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/hostname "$1"/etc/resolv.conf "$1"/var/cache/apt/*.bin' \
        --customize-hook="copy-in $work/debian.sources /etc/apt/sources.list.d" \
        --customize-hook="copy-in $work/policy-rc.d /usr/sbin" \
        --customize-hook='chmod 755 "$1"/usr/sbin/policy-rc.d' \
        --customize-hook="copy-in $work/hull-clean /etc/apt/apt.conf.d" \
        "$suite" "$work/layer.tar" - 2>"$work/mmdebstrap.log" ||
    { tail -n 20 "$work/mmdebstrap.log" >&2; echo "error: mmdebstrap failed; its last words are above" >&2; exit 1; }
unpacked=$(stat -c %s "$work/layer.tar")
echo "[debian] packing $((unpacked >> 20)) MiB"

created=$(date -u -d "@$epoch" +%Y-%m-%dT%H:%M:%SZ)
"$here/oci-layout.sh" "$work/layer.tar" "$image" "$work/layout" <<END
{"created":"$created","architecture":"$architecture","os":"linux","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["bash"],"Labels":{"org.opencontainers.image.title":"Debian $suite","org.opencontainers.image.created":"$created"}},"rootfs":{"type":"layers","diff_ids":["DIFF_ID"]},"history":[{"created":"$created","created_by":"mmdebstrap --variant=minbase $suite"}]}
END
tar --create --file "$work/archive" --directory "$work/layout" --format=ustar --sort=name \
    --owner=0 --group=0 --numeric-owner --mtime="@$epoch" --mode=u=rwX,go=rX oci-layout index.json blobs

# Of earlier ones only the newest is kept, for a day without a network.
find "$cache" -name '*.oci.tar' -mtime +1 -delete
mv "$work/archive" "$archive.new.$$"
mv "$archive.new.$$" "$archive"
publish "$archive"
echo "[debian] $image: $(($(stat -c %s "$out") >> 20)) MiB in $out, after $((SECONDS - begin)) s"
