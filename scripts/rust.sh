#!/bin/bash
# Check that there is a Rust toolchain that can build hull.
set -euo pipefail

needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
if ! command -v cargo >/dev/null; then
    echo "error: no cargo. hull needs Rust $needed or newer, which Debian 12 does not have: see https://rustup.rs" >&2
    exit 1
fi
present=$(rustc --version | cut -d' ' -f2)
if [ "$(printf '%s\n' "$needed" "$present" | sort -V | head -n 1)" != "$needed" ]; then
    echo "error: Rust $present is too old: hull needs $needed or newer ('rustup update stable')" >&2
    exit 1
fi
