#!/bin/bash
# Build the guest kernel and put it at OUT.
#
#   kernel-config/build.sh OUT
#
# The result is kept in hull's cache under the hash of all that goes into it, so that another
# checkout on this machine does not build it again.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
fragment=$here/guest.config
source=${HULL_KERNEL_SOURCE:-/usr/src/linux-source-6.12.tar.xz}
[ -e "$source" ] || source=$("$here/../rootfs/debian-package.sh" linux-source-6.12)/usr/src/linux-source-6.12.tar.xz
cache=${HULL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hull}
out=$(readlink -m "${1:?usage: kernel-config/build.sh OUT}")

say() { echo "[kernel] $*"; }
fail() { echo "[kernel] error: $*" >&2; exit 1; }

# A line of the fragment that the kernel's configuration did not take over was dropped because
# something it depends on is missing: the kernel would lack it without a word.
check_config() {
    local line missing=()
    while IFS= read -r line; do
        case $line in
            CONFIG_*=*) grep -qxF -- "$line" .config || missing+=("$line") ;;
            '# CONFIG_'*' is not set') ! grep -q "^${line:2:-11}=" .config || missing+=("$line") ;;
        esac
    done <"$fragment"
    [ ${#missing[@]} -eq 0 ] || fail "these lines of $fragment have no effect:" "${missing[@]/#/$'\n  '}"
}

compile() {
    local log=$work/make.log
    if ! make -j"$(nproc)" vmlinux 2>"$log" |
        awk '{ n++ } n % 200 == 0 { print "[kernel] compiling, about 6 minutes on 2 idle CPUs: " n " files done"; fflush() }'; then
        tail -n 30 "$log" >&2
        fail "the kernel did not compile; the compiler's last words are above"
    fi
}

[ -r "$source" ] || fail "$source cannot be read"
key=$(cat "$source" "$fragment" "$here/build.sh" | sha256sum | cut -c1-16)
kept=$cache/kernel-$key/vmlinux

mkdir -p "$cache"
exec 9>"$cache/kernel.lock"
flock -n 9 || { say "another build of the kernel is running: waiting for it"; flock 9; }

if [ ! -e "$kept" ]; then
    work=$(mktemp -d "$cache/kernel-build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    say "unpacking $source"
    tar -xf "$source" -C "$work" --strip-components=1
    cd "$work"
    say "configuring"
    KCONFIG_ALLCONFIG=$fragment make -s allnoconfig
    check_config
    compile
    strip --strip-all vmlinux
    mkdir -p "$(dirname "$kept")"
    mv vmlinux "$kept.new"
    mv "$kept.new" "$kept"
    cd "$here"
    say "kept in $kept"
fi

mkdir -p "$(dirname "$out")"
if ! cmp -s "$kept" "$out"; then
    cp "$kept" "$out.new"
    mv "$out.new" "$out"
    say "$(($(stat -c %s "$out") / 1024)) KiB at $out"
fi
