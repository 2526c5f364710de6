#!/usr/bin/env bash
# Runs the benches again whose figures stand in bench/RESULTS.md, and prints them in its order: what differs is put there by hand,
# with the machine that it was. Run it on an otherwise idle machine.
#
#   bench/refresh.sh            all parts
#   bench/refresh.sh PART…      forward, instructions, micro, scale, spread, idle, network, floor, call, sockets, janus (the last two ask
#                               for npm and for a janus)
#
# CARGO_TARGET_DIR    where cargo builds, by default target/
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target="${CARGO_TARGET_DIR:-target}"
bench="$target/release/lyceum-bench"
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(forward instructions micro scale spread idle network floor call)
scratch=$(mktemp -d)
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -rf "$scratch"' EXIT

part_forward() { "$bench" forward --subscribers 1,10,100,500 --packets 1000000; }

# Instructions do not depend on what else the machine does: a change of 1 % is a change. Inclusive costs, by function: what the
# compiler has inlined elsewhere has no row.
part_instructions() {
  valgrind --tool=callgrind --toggle-collect='bench::forward::Stage::forward' --callgrind-out-file="$scratch/out" \
    "$bench" forward --count-instructions 2>"$scratch/log" >"$scratch/said"
  local packets
  packets=$(grep -o '[0-9]\+' "$scratch/said" | head -1)
  callgrind_annotate --inclusive=yes --threshold=100 "$scratch/out" 2>/dev/null >"$scratch/annotated"
  echo '| what | instructions per forwarded packet |'
  echo '|---|---|'
  local name pattern total
  while IFS='|' read -r name pattern; do
    total=$(grep -m1 -E "$pattern" "$scratch/annotated" | sed 's/^ *\([0-9,]*\).*/\1/; s/,//g') || continue
    [ -z "$total" ] || echo "| $name | $((total / packets)) |"
  done <<'ROWS'
all of it|forward\.rs:bench::forward::Stage::forward
receiving: demux, opening, the track (one packet in ten forwarded)|receive\.rs:sfu::receive
of this, opening SRTP|mod\.rs:sfu::srtp::Opener::open_rtp
egress|egress\.rs:sfu::egress::fill_run
of this, rewriting the header|subscription\.rs:sfu::subscription::Subscription::write_header
of this, sealing SRTP|gcm\.rs:sfu::srtp::gcm::Gcm::seal_rtp
ROWS
}

# Each deed with its instructions, which do not depend on the machine, beside its nanoseconds.
part_micro() {
  "$bench" micro
  echo '| deed | instructions |'
  echo '|---|---|'
  local deed times total
  for deed in sdp-write sdp-parse event broadcast join relay-out relay-in; do
    valgrind --tool=callgrind --toggle-collect='bench::micro::once' --callgrind-out-file="$scratch/micro" \
      "$bench" micro --count-instructions "$deed" 2>"$scratch/log" >"$scratch/said"
    times=$(grep -o '^[0-9]\+' "$scratch/said")
    total=$(sed -n 's/^\(totals\|summary\): *\([0-9]*\).*/\2/p' "$scratch/micro" | head -1)
    echo "| $deed | $((total / times)) |"
  done
}

part_scale() { "$bench" scale; }

part_spread() { "$bench" spread; }

# What a server's figure is held against on a machine that others use as well.
part_floor() { "$bench" floor; }

part_idle() { "$bench" idle --peers 100 --seconds 60; }

part_network() { "$bench" network || true; }

# Server and tester share the machine, so that only the server's own CPU time says something of it.
part_call() {
  env -u DATABASE_URL LYCEUM__STORE__DIR="$scratch/store" LYCEUM__TURN__PORT=0 "$target/release/lyceum" --listen 127.0.0.1:13001 \
    --admin-listen 127.0.0.1:19464 --media-port 0 --address 127.0.0.1 >/dev/null 2>"$scratch/server.log" &
  server=$!
  until grep -q listening "$scratch/server.log"; do
    kill -0 "$server" || { cat "$scratch/server.log" >&2; return 1; }
    sleep 0.1
  done
  local people
  for people in 3 10 25; do
    "$bench" call --quiet --url http://127.0.0.1:13001 --metrics http://127.0.0.1:19464/metrics --participants "$((people - 1))" \
      --audio --video --simulcast --duration 20s || true
  done
}

# Beside Node's Socket.IO, with the same client.
part_sockets() {
  ulimit -n 20000
  local url
  for name in lyceum node; do
    case $name in
      lyceum)
        url=http://127.0.0.1:13001
        env -u DATABASE_URL LYCEUM__STORE__DIR="$scratch/sockets" LYCEUM__TURN__PORT=0 LYCEUM__ROOM__CAPACITY=5000 "$target/release/lyceum" \
          --listen 127.0.0.1:13001 --admin-listen 127.0.0.1:19464 --media-port 0 --address 127.0.0.1 >/dev/null 2>&1 &
        ;;
      node)
        url=http://127.0.0.1:13002
        (cd bench/node && npm ci --silent --no-audit --no-fund)
        node bench/node/server.mjs 13002 >/dev/null 2>&1 &
        ;;
    esac
    server=$!
    until (exec 3<>"/dev/tcp/127.0.0.1/${url##*:}") 2>/dev/null; do
      kill -0 "$server" || return 1
      sleep 0.1
    done
    echo "$name"
    "$bench" sockets --url "$url" --server-pid "$server" || true
    kill "$server" && wait "$server" 2>/dev/null || true
    server=""
  done
}

part_janus() { bench/janus.sh; }

cargo build --release --locked -p lyceum -p lyceum-bench
for part in "${parts[@]}"; do
  declare -F "part_$part" >/dev/null || { echo "refresh.sh: there is no part $part" >&2; exit 2; }
  printf '\n==> %s\n' "$part"
  "part_$part"
done
