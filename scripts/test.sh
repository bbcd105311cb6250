#!/bin/bash
# Run all tests, and say how many ran in a microVM and how many could not.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo nextest --version >/dev/null 2>&1; then
    echo "[test] cargo-nextest runs the tests: installing it with cargo"
    cargo install --locked --quiet cargo-nextest
fi

tally=$(mktemp)
trap 'rm -f "$tally"' EXIT

# The tests have an instance of hull of their own. One that is left from another run may run other programs than these.
cargo build --release --locked --quiet --workspace --bins
instance=target/x86_64-unknown-linux-gnu/release/instance
$instance remove
result=0
nextest() { HULL_TEST_TALLY=$tally cargo nextest run --release --workspace --locked "$@" || result=$?; }
# One after the other: an emulated machine that has to share the host's CPUs with registries being killed is slow and frail.
echo "[test] what needs no microVM"
nextest -E 'not binary(microvm)'
echo "[test] what runs in microVMs"
nextest -E 'binary(microvm)'

$instance remove

echo "[test] $(grep -c '^ran ' "$tally" || true) of these tests ran in a microVM," \
    "$(grep -c '^skipped ' "$tally" || true) were skipped because none can run here"
exit "$result"
