#!/bin/sh
# Usage: initramfs.sh AGENT_BINARY OUT.cpio
#
# Writes the initramfs of a microVM: an uncompressed newc cpio archive
# (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel)
# with the static guest agent as /init, the directories it mounts on, and
# /dev/null, without which the Rust runtime does not start in a guest that has
# no console. The same agent always gives the same bytes, and root is not needed.
set -eu

[ $# -eq 2 ] || { echo "usage: $0 AGENT_BINARY OUT.cpio" >&2; exit 2; }
agent=$1
out=$2
[ -f "$agent" ] || { echo "$0: no agent at $agent: build it with 'cargo build --release -p guest-agent'" >&2; exit 1; }

new=$out.new
trap 'rm -f "$new"' EXIT
: >"$new"
inode=0

# header NAME MODE SIZE [DEVICE_MAJOR DEVICE_MINOR]
header() {
    inode=$((inode + 1))
    printf '070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%s\0' \
        $inode "$2" 0 0 1 0 "$3" 0 0 "${4:-0}" "${5:-0}" $((${#1} + 1)) 0 "$1" >>"$new"
    pad $((110 + ${#1} + 1))
}

# pad LENGTH: zeroes up to the next multiple of four
pad() {
    case $((($1) % 4)) in
    1) printf '\0\0\0' ;;
    2) printf '\0\0' ;;
    3) printf '\0' ;;
    esac >>"$new"
}

directory=$((0040755))
executable=$((0100755))
character_device=$((0020666))

for name in dev proc run sys; do
    header $name $directory 0
done
header dev/null $character_device 0 1 3
size=$(wc -c <"$agent")
header init $executable "$size"
cat "$agent" >>"$new"
pad "$size"
header 'TRAILER!!!' 0 0
mv "$new" "$out"
trap - EXIT
