#!/bin/sh
# Fuzzes each target for SECONDS_PER_TARGET, one after the other: fuzz/run.sh SECONDS_PER_TARGET [target...]
# What it learns is kept in fuzz/found (not committed); crashes go, minimised, to fuzz/crashes, which the tests replay. Exit code 1
# when there was one. Needs cargo-fuzz and a C++ compiler; the stable toolchain will do.
set -eu
seconds=${1:?usage: fuzz/run.sh SECONDS_PER_TARGET [target...]}
shift
cd "$(dirname "$0")/.."
command -v cargo-fuzz >/dev/null || { echo "fuzz/run.sh: cargo install cargo-fuzz --locked" >&2; exit 2; }
# The sancov flags of cargo-fuzz are no stable ones everywhere; no sanitizer is needed where nothing is unsafe.
export RUSTC_BOOTSTRAP=1
[ $# -gt 0 ] || set -- $(cd fuzz/fuzz_targets && ls | sed 's/\.rs$//')
cargo fuzz build --sanitizer none
failed=0
for target in "$@"; do
    mkdir -p "fuzz/found/$target" "fuzz/crashes/$target"
    before=$(ls "fuzz/crashes/$target" | wc -l)
    echo "fuzz: $target for $seconds s"
    cargo fuzz run --sanitizer none "$target" "fuzz/found/$target" "fuzz/corpus/$target" "fuzz/crashes/$target" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=16384 -print_final_stats=1 \
        -artifact_prefix="fuzz/crashes/$target/" || failed=1
    for crash in $(ls -t "fuzz/crashes/$target" | head -n $(($(ls "fuzz/crashes/$target" | wc -l) - before))); do
        failed=1
        rm -rf fuzz/artifacts/min
        mkdir -p fuzz/artifacts/min
        cargo fuzz tmin --sanitizer none "$target" "fuzz/crashes/$target/$crash" -- -artifact_prefix=fuzz/artifacts/min/ || true
        smallest=$(ls -rS fuzz/artifacts/min | head -n 1)
        [ -z "$smallest" ] || mv "fuzz/artifacts/min/$smallest" "fuzz/crashes/$target/min-$crash"
    done
    rmdir "fuzz/crashes/$target" 2>/dev/null || true
done
rmdir fuzz/crashes 2>/dev/null || true
exit $failed
