#!/bin/bash
# Build the helper VM's kernel and root file system from an installation of hull.
#
#   rootfs/machine-image.sh BIN LIB
#
# BIN holds `hull`; LIB is lib/hull, in which machine/{vmlinuz,initrd.img} are made. The root file
# system is an initramfs, uncompressed because emulated processors are slow to decompress: busybox,
# the modules of Debian's cloud kernel that the VM needs, mke2fs, nft, hull itself, and machine-agent
# (from HULL_MACHINE_AGENT) as /init.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
bin=${1:?usage: rootfs/machine-image.sh BIN LIB}
lib=${2:?usage: rootfs/machine-image.sh BIN LIB}
agent=${HULL_MACHINE_AGENT:?the path of the machine-agent program}

# Loaded at the start: the link to the host, the host's files, the disk, the network card; KVM of both makers; guests' network cards.
boot_modules="virtio_pci virtio_console virtio_blk virtiofs virtio_net kvm-amd kvm-intel tun"
# Loaded by the kernel when they are first used, so that no start pays for them: what containers' networks need, and what
# the runtimes do that `make bench` compares with.
later_modules="overlay bridge br_netfilter veth nf_conntrack nf_conntrack_bridge nf_nat nf_tables nft_chain_nat nft_nat nft_masq nft_redir nft_ct
    nf_conntrack_netlink nft_meta_bridge nft_reject_inet nft_reject_bridge nft_fib_inet nft_limit nft_log nfnetlink_log"

mkdir -p "$lib/machine"
work=$(mktemp -d "$lib/machine/image.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
root=$work/root

# The kernel's package is named after its version by the one that depends on it.
kernel_package=$(apt-cache depends --important linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/.*Depends: \(linux-image-[0-9].*-cloud-amd64\)$/\1/p' | head -n 1)
[ -n "$kernel_package" ] || { echo "error: apt does not know linux-image-cloud-amd64: run 'apt-get update'" >&2; exit 1; }
kernel=$("$here/debian-package.sh" "$kernel_package")
version=${kernel_package#linux-image-}
tree=$kernel/lib/modules/$version
[ -d "$tree" ] || tree=$kernel/usr/lib/modules/$version

put() { install -D -m "$1" "$2" "$root/$3"; }

add_busybox() {
    put 755 "$("$here/debian-package.sh" busybox-static)/bin/busybox" bin/busybox
    "$root/bin/busybox" --list-full | while read -r applet; do
        mkdir -p "$root/$(dirname "$applet")"
        [ -e "$root/$applet" ] || ln -s /bin/busybox "$root/$applet"
    done
}

# with_dependencies MODULE...: the modules' files, each after those that it depends on.
with_dependencies() {
    awk -v wanted="$*" '
        { sub(":", "", $1); file = $1; name = file; sub(".*/", "", name); sub("[.]ko.*", "", name); gsub("-", "_", name)
          path[name] = file; needs[file] = ""; for (i = NF; i > 1; i--) needs[file] = needs[file] " " $i }
        END { n = split(wanted, w, " ")
              for (i = 1; i <= n; i++) { gsub("-", "_", w[i]); if (!(w[i] in path)) { print "error: no module " w[i] > "/dev/stderr"; exit 1 }
                  m = split(needs[path[w[i]]] " " path[w[i]], f, " "); for (j = 1; j <= m; j++) if (!seen[f[j]]++) print f[j] } }
    ' "$tree/modules.dep"
}

# Modules, the list of those to load at the start, and what the kernel's modprobe needs to find the others.
add_modules() {
    # The package has no modules.dep: that is made when it is installed.
    [ -e "$tree/modules.dep" ] || depmod -b "$kernel" "$version"
    local module wanted
    # Into variables, because a pipe from a function that fails does not end this script.
    wanted=$(with_dependencies "$boot_modules" "$later_modules")
    for module in $wanted; do
        case $module in
            *.xz) mkdir -p "$root/lib/modules/$version/${module%/*}"
                  xz -dc "$tree/$module" >"$root/lib/modules/$version/${module%.xz}" ;;
            *) put 644 "$tree/$module" "lib/modules/$version/$module" ;;
        esac
    done
    wanted=$(with_dependencies "$boot_modules")
    for module in $wanted; do echo "/lib/modules/$version/${module%.xz}"; done >"$root/lib/modules/order"
    cp "$tree"/modules.{builtin,builtin.modinfo,order} "$root/lib/modules/$version"
    depmod -b "$root" "$version"
    # busybox's modprobe reads the texts.
    rm "$root/lib/modules/$version"/modules.*.bin
}

# Names are the host's: the agent asks its name servers, and its own file says the rest.
add_names() {
    ln -s /host/etc/hosts "$root/etc/hosts"
    echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
}

# add_program NAME: a program of this machine's, with the libraries that it is linked to.
add_program() {
    local program
    program=$(PATH=$PATH:/usr/sbin:/sbin command -v "$1") || { echo "error: this machine has no $1: see scripts/packages.sh" >&2; exit 1; }
    put 755 "$program" "usr/sbin/$1"
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do put 755 "$library" "${library#/}"; done
}

# mke2fs formats the data disk, and the containers' disks; nft filters what containers send and receive.
add_programs() {
    add_program mke2fs
    put 644 /etc/mke2fs.conf etc/mke2fs.conf
    add_program nft
}

add_hull() {
    put 755 "$agent" init
    put 755 "$bin/hull" usr/local/bin/hull
    local file
    for file in hulld hull-vmm; do put 755 "$lib/$file" "usr/local/lib/hull/$file"; done
    for file in vmlinux initramfs.cpio; do put 644 "$lib/$file" "usr/local/lib/hull/$file"; done
    cp -R "$lib/busybox" "$root/usr/local/lib/hull/busybox"
}

mkdir -p "$root"/{dev,proc,sys,run,tmp,host,root,etc,var/lib/hull}
echo 'root:x:0:0:root:/root:/bin/sh' >"$root/etc/passwd"
echo 'root:x:0:' >"$root/etc/group"
add_busybox
add_modules
add_names
add_programs
add_hull
# The same files give the same image, whenever it is made.
find "$root" -exec touch --no-dereference -d @0 {} +
(cd "$root" && find . -print0 | sort -z | cpio --null --quiet -o -H newc -R 0:0 --reproducible) >"$work/initrd.img"

install -m 644 "$kernel/boot/vmlinuz-$version" "$work/vmlinuz"
for file in vmlinuz initrd.img; do
    # An image that did not change keeps its time: a running VM is outdated only when it did.
    cmp -s "$work/$file" "$lib/machine/$file" || mv "$work/$file" "$lib/machine/$file"
done
echo "[machine] $(($(stat -c %s "$lib/machine/initrd.img") >> 20)) MiB root file system and Debian's kernel $version"
