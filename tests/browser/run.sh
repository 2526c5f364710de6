#!/bin/sh
# Runs the browser tests in a network namespace of their own: ports never clash and no packet can leave.
#   ./run.sh                    all tests          ./run.sh plain.test.mjs      one file
#   ./run.sh shots, shots-admin  screenshots of the call page, of the operators' page, into $SHOTS_DIR
#   ./run.sh budget             how long joins take, for bench/RESULTS.md
# LYCEUM_BIN is the server (default target/ci/lyceum); BROWSERS=chromium leaves Firefox out; TEST_NAME selects by name.
set -eu
cd "$(dirname "$0")"
[ -d node_modules ] || npm ci --no-audit --no-fund
if [ "${LYCEUM_TEST_NETNS:-}" != 1 ]; then
  # Packages come from where there is a network; without the application only its own test fails.
  case " ${*:-next.test.mjs} " in *" next.test.mjs "*) NEXT_APP=$(./next.sh) || NEXT_APP=""; export NEXT_APP ;; esac
  user_namespace=""
  [ "$(id -u)" = 0 ] || user_namespace="--map-root-user"
  LYCEUM_TEST_NETNS=1 exec unshare --net --mount $user_namespace "./$(basename "$0")" "$@"
fi
# Names mean what the tests say, and no name server is waited for.
mount --bind hosts /etc/hosts
mount --bind /dev/null /etc/resolv.conf
# Firefox gathers no candidates when there is only `lo`: an address with a default route makes it do so.
ip link set lo up
if ! ip link show veth0 >/dev/null 2>&1; then
  ip link add veth0 type veth peer name veth1
  ip addr add 10.77.0.1/24 dev veth0
  ip link set veth0 up
  ip link set veth1 up
  ip route add default via 10.77.0.2
fi
case "${1:-}" in shots | shots-admin | budget) exec node "$1.mjs" ;; esac
[ $# -gt 0 ] || set -- *.test.mjs
run() { node --test --test-concurrency=1 ${TEST_NAME:+--test-name-pattern="$TEST_NAME"} "$1"; }
# Three browsers that encode in software on two cores shared with strangers may be given no time for a minute, which no
# deadline tells from a fault. So a file that fails is run once more when all others are done, and has to pass then.
again=""
for file in "$@"; do run "$file" || again="$again $file"; done
failed=""
for file in $again; do
  echo "# $file failed and is run once more"
  run "$file" || failed="$failed $file"
done
[ -z "$failed" ] || echo "# failed twice:$failed"
[ -z "$failed" ]
