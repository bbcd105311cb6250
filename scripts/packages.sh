#!/bin/bash
# Install the Debian packages that hull needs and this machine lacks, saying what for.
#
#   scripts/packages.sh (build | run | test)...
set -euo pipefail

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
test|erofs-utils|checks the layer images that hull writes
test|crun|is what hull is measured against
test|runc|is what hull is measured against
test|tmux|is the real terminal of the tests
test|socat|speaks to sockets in the tests
test|docker-cli|is the client that hull must please
'

if ! command -v apt-get >/dev/null; then
    echo "[deps] no apt-get: this is not Debian. hull needs what these Debian packages hold:"
    echo "$packages" | awk -F'|' -v groups=" $* " 'index(groups, " " $1 " ") { print "  " $2 " (" $3 ")" }'
    exit 0
fi

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$'; }
known() { apt-cache show --no-all-versions "$1" >/dev/null 2>&1; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }

# Without package lists nothing is known.
if ! known busybox-static; then
    echo "[deps] fetching the package lists"
    as_root apt-get -q update >/dev/null
fi

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
echo "[deps] installing ${#missing[@]} packages with apt-get$([ "$(id -u)" -eq 0 ] || echo ' (sudo)')"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "${missing[@]}" >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "[deps] error: apt-get failed; its last words are above" >&2
    exit 1
fi
