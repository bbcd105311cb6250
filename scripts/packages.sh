#!/bin/bash
# Install the Debian packages that hull needs and this machine lacks, saying what for.
#
#   scripts/packages.sh (build | run | image | test | fuzz)...
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")

# group | package | what for
packages='
build|gcc|links the programs and compiles the guest kernel
build|libc6-dev|links the programs
build|make|compiles the guest kernel
build|flex|compiles the guest kernel
build|bison|compiles the guest kernel
build|bc|compiles the guest kernel
build|libelf-dev|compiles the guest kernel
build|libssl-dev|compiles the guest kernel
build|xz-utils|unpacks the kernel source
build|cpio|packs the helper VM
build|kmod|orders the modules of the helper VM
build|e2fsprogs|formats the disks of containers and of the helper VM
run|qemu-system-x86|runs the helper VM, where this host cannot run microVMs itself
run|virtiofsd|serves the host files to the helper VM
run|nftables|filters what containers send and receive, here and in the helper VM
image|mmdebstrap|builds the Debian image
image|uidmap|lets it be built without root
test|busybox-static|is what the guest agent tests run
test|erofs-utils|checks the layer images that hull writes
test|crun|is what hull is measured against
test|runc|is what hull is measured against
test|tmux|is the real terminal of the tests
test|socat|speaks to sockets in the tests
test|iproute2|shows the network in the tests, and makes that of the peers
test|tcpdump|sees what passes in the tests
test|iputils-ping|asks whether a host is there, in the tests
test|bind9-dnsutils|asks name servers in the tests
test|dnsmasq-base|is a name server of the tests
test|iperf3|measures networks
test|wrk|measures web servers
test|docker-cli|is the client that hull must please
test|docker-compose|is a client that hull must please
test|python3-venv|holds docker-py, another one
test|docker-registry|is the registry of the tests
test|apache2-utils|makes passwords for that registry
test|skopeo|checks the images that hull writes and copies
test|umoci|checks how hull unpacks images
test|openssh-client|has the SSH agents that clients lend to builds
test|curl|speaks to the API in the tests
test|buildah|makes images for hull to run, and is what its builds are compared with
fuzz|g++|compiles libFuzzer
fuzz|erofs-utils|checks the layer images that the fuzzers make hull write
'

if ! command -v apt-get >/dev/null; then
    echo "[deps] no apt-get: this is not Debian. hull needs what these Debian packages hold:"
    echo "$packages" | awk -F'|' -v groups=" $* " 'index(groups, " " $1 " ") { print "  " $2 " (" $3 ")" }'
    exit 0
fi

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$'; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

fresh_lists=
refresh_lists() {
    [ -z "$fresh_lists" ] || return 1
    fresh_lists=yes
    "$here/package-lists.sh"
}
in_lists() { apt-cache show --no-all-versions "$1" >/dev/null 2>&1; }
known() { in_lists "$1" || { refresh_lists && in_lists "$1"; }; }

missing=()
while IFS='|' read -r group package why; do
    [[ " $* " == *" $group "* ]] || continue
    installed "$package" && continue
    # The docker CLI may come from elsewhere, and not every release splits these off.
    case $package in
        docker-cli) command -v docker >/dev/null && continue ;;
        virtiofsd) compgen -G '/usr/lib*/qemu/virtiofsd' >/dev/null && continue ;;
    esac
    if ! known "$package"; then
        echo "[deps] this release has no package $package, which $why"
        continue
    fi
    echo "[deps] $package: $why"
    missing+=("$package")
done <<<"$packages"

[ ${#missing[@]} -gt 0 ] || exit 0

# Some of these packages bring a service. Nothing here needs it to run, and a registry on this machine's port 5000 would be a
# surprise: none is started by the installation (invoke-rc.d(8)), and that one not at the next boot either.
policy=/usr/sbin/policy-rc.d
masked=/etc/systemd/system/docker-registry.service
if [[ " ${missing[*]} " == *" docker-registry "* && ! -e $masked ]]; then
    echo "[deps] docker-registry's own service stays off ('systemctl unmask docker-registry' if you want it)"
    as_root mkdir -p "${masked%/*}"
    as_root ln -s /dev/null "$masked"
fi
log=$(mktemp)
our_policy=
clean_up() {
    rm -f "$log"
    [ -z "$our_policy" ] || as_root rm -f "$our_policy"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
if [ ! -e $policy ]; then
    our_policy=$policy
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod 755 $policy
fi
echo "[deps] installing ${#missing[@]} packages with apt-get$([ "$(id -u)" -eq 0 ] || echo ' (sudo)')"
install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}" >"$log" 2>&1
}
# Old lists name versions that are no longer there.
if ! install && ! { refresh_lists && install; }; then
    tail -n 20 "$log" >&2
    echo "[deps] error: apt-get failed; its last words are above" >&2
    exit 1
fi
