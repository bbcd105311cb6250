#!/bin/bash
# Fetch apt's package lists: the ones on this machine know nothing of a package, or of where it is now.
set -euo pipefail
echo "[deps] fetching the package lists" >&2
if [ "$(id -u)" -eq 0 ]; then root=; else root=sudo; fi
$root apt-get -q update >/dev/null
