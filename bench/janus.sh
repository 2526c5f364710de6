#!/usr/bin/env bash
# Lyceum beside a Janus (Debian's package `janus`): the same people and the same traffic on the same machine, in rounds that
# alternate. A line for each round: server CPU for each packet that came, loss, delay, memory for each person.
#
#   bench/janus.sh                     100 watch one camera of 280 packets a second, 100 hear one microphone, 8 talk to each other
#   ROUNDS=3 VIEWERS=200 SECONDS_EACH=15 bench/janus.sh
#
# It needs root, for a network namespace of its own: Janus leaves loopback interfaces out, so both are reached at a veth's address.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target="${CARGO_TARGET_DIR:-$PWD/target}"
export LYCEUM="${LYCEUM:-$target/release/lyceum}" BENCH="${BENCH:-$target/release/lyceum-bench}"
command -v janus >/dev/null || { echo "janus is not installed; with Debian's the service is to be masked: systemctl mask janus" >&2; exit 1; }
if [ "${LYCEUM_BENCH_NETNS:-}" != 1 ]; then
  LYCEUM_BENCH_NETNS=1 exec unshare --net "bench/$(basename "$0")" "$@"
fi
address=10.88.0.1
ip link set lo up
ip link add veth0 type veth peer name veth1
ip addr add $address/24 dev veth0
ip link set veth0 up
ip link set veth1 up
ulimit -n 20000

scratch=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$scratch"' EXIT

# Servers of one round, so that each begins with memory of its own size.
start_janus() {
  local loops=$1 config="$scratch/janus-$1"
  mkdir -p "$config"
  cat >"$config/janus.jcfg" <<CONFIG
general: {
  configs_folder = "$config"
  plugins_folder = "$(dirname "$(find /usr/lib -name libjanus_videoroom.so | head -1)")"
  transports_folder = "$(dirname "$(find /usr/lib -name libjanus_websockets.so | head -1)")"
  debug_level = 1
  $([ "$loops" = default ] || echo "event_loops = $loops")
}
nat: { ice_lite = true, ice_enforce_list = "$address" }
plugins: { disable = "libjanus_audiobridge.so,libjanus_duktape.so,libjanus_echotest.so,libjanus_lua.so,libjanus_nosip.so,libjanus_recordplay.so,libjanus_sip.so,libjanus_streaming.so,libjanus_textroom.so,libjanus_videocall.so,libjanus_voicemail.so" }
transports: { disable = "libjanus_http.so,libjanus_mqtt.so,libjanus_nanomsg.so,libjanus_pfunix.so,libjanus_rabbitmq.so" }
CONFIG
  echo 'general: {}' >"$config/janus.plugin.videoroom.jcfg"
  echo "general: { ws = true, ws_port = 8188, ws_ip = \"$address\" }" >"$config/janus.transport.websockets.jcfg"
  janus -F "$config" >"$scratch/janus.log" 2>&1 &
  server=$! url=ws://$address:8188 port=8188
}
start_lyceum() {
  env -u DATABASE_URL -u JWT_SECRET LYCEUM__STORE__DIR="$scratch/store-$RANDOM" LYCEUM__TURN__PORT=0 "$LYCEUM" --listen $address:13001 \
    --admin-listen 127.0.0.1:19464 --media-port 7882 --address $address --workers 1 >"$scratch/lyceum.log" 2>&1 &
  server=$! url=http://$address:13001 port=13001
}
round() {
  local name=$1 what=$2 to=lyceum
  case $name in janus*) to=janus; start_janus "${name#janus-}" ;; *) start_lyceum ;; esac
  pids+=("$server")
  until (exec 3<>/dev/tcp/$address/$port) 2>/dev/null; do
    kill -0 "$server" || { cat "$scratch"/*.log >&2; exit 1; }
    sleep 0.1
  done
  # shellcheck disable=SC2086
  "$BENCH" call --quiet --target $to --url $url --server-pid "$server" $what --ramp 5s --duration "${SECONDS_EACH:-15}s" \
    --json "$scratch/report.json" >"$scratch/said" || true
  python3 - "$name" "$scratch/report.json" <<'P'
import json, sys
report = json.load(open(sys.argv[2]))
media, process, tester = report['media'], report['process'] or {}, report['tester']
delay = media['delay_ms']
number = lambda value, digits: '–' if value is None else f'{value:.{digits}f}'
print(f"| {sys.argv[1]} | {media['joined']} of {report['people']} | {number(process.get('cpu_us_per_packet'), 2)} | {media['loss_percent']:.3f} "
      f"| {number(delay['p50'], 1)} / {number(delay['p99'], 1)} | {number(process.get('memory_kib_per_person'), 0)} "
      f"| {number(tester['machine_busy_percent'], 0)} | {'; '.join(report['failures'][:1] + tester['limits'])} |", flush=True)
P
  kill "$server" && wait "$server" 2>/dev/null || true
}
rounds() {
  printf '\n%s\n\n| server | joined | µs/packet | loss %% | delay p50 / p99 ms | KiB a person | machine busy %% | notes |\n|---|---|---|---|---|---|---|---|\n' "$1"
  for _ in $(seq "${ROUNDS:-3}"); do
    for name in ${SERVERS:-lyceum janus-2 janus-default}; do round "$name" "$2"; done
  done
}
viewers=${VIEWERS:-100}
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(camera microphone talk)
for part in "${parts[@]}"; do
  case $part in
    camera) rounds "One camera, $viewers watch: 28 frames a second of ten packets" "--instructors 1 --participants 0 --viewers $viewers --video --fps 28 --bitrate 2464k" ;;
    microphone) rounds "One microphone, $viewers listen: 50 packets a second" "--instructors 1 --participants 0 --viewers $viewers --audio" ;;
    talk) rounds "8 talk to each other, microphones and cameras" "--instructors 1 --participants 7 --audio --video" ;;
  esac
done
