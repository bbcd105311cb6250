#!/bin/bash
# Run the fuzzers in fuzz/, one after the other, FUZZ_SECONDS each; all of them, or those that are named.
#
# They are compiled with the sanitizers of an unstable compiler, which RUSTC_BOOTSTRAP asks of a stable one. What they find
# interesting stays in fuzz/corpus, so that a later run goes on from there; an input that fails is in fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=${FUZZ_SECONDS:-60}
[ $# -gt 0 ] || set -- reference manifest challenge tar_to_erofs create_body attach_stream dns dockerfile virtio_net

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "[fuzz] cargo-fuzz runs the fuzzers: installing it with cargo"
    cargo install --locked --quiet cargo-fuzz
fi

# Archives as another program writes them: each format of GNU tar has other headers for long names, times and sparse files.
make_archives() {
    local folder=$1 tree
    tree=$(mktemp -d)
    mkdir "$tree/dir" "$tree/lower"
    echo hello >"$tree/dir/small"
    head -c 5000 /dev/zero | tr '\0' b >"$tree/dir/block"
    ln "$tree/dir/small" "$tree/hard"
    ln -s dir "$tree/link"
    mkfifo "$tree/pipe"
    : >"$tree/.wh.gone"
    : >"$tree/lower/.wh..wh..opq"
    truncate -s 64K "$tree/sparse"
    printf end >>"$tree/sparse"
    echo long >"$tree/$(printf 'n%.0s' {1..120})"
    mkdir -p "$folder"
    for format in v7 ustar gnu oldgnu posix; do
        # Not every format can hold every file.
        tar --create --format=$format --sparse --sort=name --mtime=@1700000000.5 --owner=0 --group=0 --numeric-owner \
            --blocking-factor=1 --directory "$tree" --file "$folder/$format.tar" . 2>/dev/null || true
    done
    rm -r "$tree"
}

for target; do
    echo "[fuzz] $target: $seconds seconds"
    mkdir -p "corpus/$target" "seeds/$target"
    seeds=(seeds/"$target")
    if [ "$target" = tar_to_erofs ]; then
        make_archives "corpus/archives"
        seeds+=(corpus/archives)
    fi
    # One allocation and all memory are bounded, the sanitizer's own included: what grows with a hostile number is a finding.
    RUSTC_BOOTSTRAP=1 ASAN_OPTIONS="quarantine_size_mb=16:${ASAN_OPTIONS:-}" \
        cargo fuzz run "$target" "corpus/$target" "${seeds[@]}" -- \
        -max_total_time="$seconds" -max_len=65536 -timeout=20 -malloc_limit_mb=64 -rss_limit_mb=512 -verbosity=0 \
        -print_final_stats=1
done
