#!/bin/bash
# Run a container with the hull of this checkout and show what it ran in.
set -euo pipefail
cd "$(dirname "$0")/.."

# A daemon that does not run yet is started by the first command, which says so and why.
./bin/hull info >/dev/null
./bin/hull machine status 2>/dev/null | sed -n 's/^Image: */Note: the helper VM is /p'

# shellcheck disable=SC2016 # the container's shell expands it
script='echo started
echo "image:     localhost/busybox, $(busybox | head -n 1)"
echo "kernel:    $(uname -r)"
echo "memory:    $(($(sed -n "s/^MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo) / 1024)) MiB"
echo "clocks:    $(cat /sys/devices/system/clocksource/clocksource0/available_clocksource)(kvm-clock: a guest of real KVM)"
echo "this sh:   process $$ of $(ls -d /proc/[0-9]* | wc -l)"'

echo
echo "\$ hull run --rm busybox sh -c ..."
begin=$EPOCHREALTIME
./bin/hull run --rm busybox sh -c "$script" | {
    read -r first
    [ "$first" = started ]
    end=$EPOCHREALTIME
    sed 's/^/  /'
    echo
    echo "Host kernel:                         $(uname -r)"
    echo "From key press to the first output:  $(((${end/./} - ${begin/./}) / 1000)) ms"
}
./bin/hull doctor | sed -n 's/^ *microVMs  */microVMs run:                        /p'
echo "Yours now:                           ./bin/hull run --rm -it busybox"
