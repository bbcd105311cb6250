#!/bin/bash
# Print the folder with a Debian package's files, downloading the package when it is not in the cache.
#
#   rootfs/debian-package.sh PACKAGE
#
# Nothing is installed on this machine: a kernel package, for one, would change how it boots.
set -euo pipefail

here=$(dirname "$(readlink -f "$0")")
package=${1:?usage: rootfs/debian-package.sh PACKAGE}
cache=${HULL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hull}

newest() { apt-cache policy "$package" 2>/dev/null | sed -n 's/^ *Candidate: \([^(]\)/\1/p'; }
version=$(newest)
if [ -z "$version" ] && "$here/../scripts/package-lists.sh"; then version=$(newest); fi
if [ -z "$version" ]; then
    # Without package lists the newest copy in the cache still serves.
    kept=$(find "$cache/deb" -maxdepth 1 -name "${package}_*" -printf '%T@ %p\n' 2>/dev/null | sort -rn | sed -n '1s/^[^ ]* //p')
    [ -n "$kept" ] || { echo "error: apt does not know $package; does /etc/apt name Debian's updates and security?" >&2; exit 1; }
    echo "$kept"
    exit
fi

folder_of() { echo "$cache/deb/${package}_${1//[:\/]/_}"; }
kept=$(folder_of "$version")
if [ ! -d "$kept" ]; then
    mkdir -p "$cache/deb"
    work=$(mktemp -d "$cache/deb/download.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    echo "[deps] downloading $package $version (unpacked into the cache, not installed)" >&2
    download() { (cd "$work" && apt-get -q -o APT::Sandbox::User=root download "$package" >apt.log 2>&1); }
    # Old lists name a version that is no longer there; with new ones it may be another.
    download || { "$here/../scripts/package-lists.sh" && download; } || { cat "$work/apt.log" >&2; exit 1; }
    dpkg-deb -x "$work"/*.deb "$work/files"
    kept=$(folder_of "$(dpkg-deb -f "$work"/*.deb Version)")
    # Somebody else may have been faster.
    mv -T "$work/files" "$kept" 2>/dev/null || [ -d "$kept" ]
fi
echo "$kept"
