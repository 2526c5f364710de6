#!/bin/sh
# Runs the tests by foreign clients: `run.sh [js] [python] [aiortc] [coturn]`, all four when none is named.
#
# LYCEUM_BIN              the binary, by default target/ci/lyceum
# LYCEUM_CLIENTS_CACHE    where the Python environment is kept, by default target/clients
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${LYCEUM_CLIENTS_CACHE:-$root/target/clients}
export LYCEUM_BIN="${LYCEUM_BIN:-$root/target/ci/lyceum}"
if [ ! -x "$LYCEUM_BIN" ]; then
    echo "run.sh: no binary at $LYCEUM_BIN; build it, or name one in LYCEUM_BIN" >&2
    exit 2
fi
LYCEUM_BIN=$(realpath "$LYCEUM_BIN")
export PYTHONDONTWRITEBYTECODE=1
cd "$here"

# aiortc gathers no candidate on loopback, so the namespace gets an address and a default route of its own.
if [ "${1:-}" = --in-namespace ]; then
    shift
    ip link set lo up
    ip link add veth0 type veth peer name veth1
    ip address add 10.77.0.1/24 dev veth0
    ip link set veth0 up
    ip link set veth1 up
    ip route add default via 10.77.0.254 dev veth0
    exec "$@"
fi

for part in ${*:-all}; do
    case $part in js | python | aiortc | coturn | all) ;; *) echo "run.sh: no part named $part; there are js, python, aiortc, coturn" >&2; exit 2 ;; esac
done
wants() {
    case " ${parts} " in *" all "* | *" $1 "*) return 0 ;; *) return 1 ;; esac
}
parts=${*:-all}

if wants python || wants aiortc || wants coturn; then
    # Made anew when the pinned versions change; the mark is written last, so that a broken environment is not kept.
    mark=$cache/venv/made-from
    if ! cmp -s requirements.txt "$mark"; then
        rm -rf "$cache/venv"
        python3 -m venv "$cache/venv"
        "$cache/venv/bin/pip" install --quiet --disable-pip-version-check -r requirements.txt
        cp requirements.txt "$mark"
    fi
fi
if wants js && ! cmp -s package-lock.json node_modules/made-from; then
    npm ci --no-audit --no-fund
    cp package-lock.json node_modules/made-from
fi

failed=0
namespace="unshare -n $here/run.sh --in-namespace"
pytest="$cache/venv/bin/python -m pytest -p no:cacheprovider"
if wants python; then $namespace $pytest test_python_socketio.py test_webhooks.py test_traces.py test_api.py || failed=1; fi
if wants aiortc; then $namespace $pytest test_aiortc.py test_whip.py || failed=1; fi
if wants coturn; then $namespace $pytest test_coturn.py || failed=1; fi
# Last, because the closing lines of `node --test` are what is counted.
if wants js; then $namespace npm test --silent || failed=1; fi
exit $failed
