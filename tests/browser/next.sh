#!/bin/sh
# Installs and builds the example application of web/examples/next as its own users would, each only when what it is made from has
# changed, and writes where it is. It is built without a network.
#
# LYCEUM_CLIENTS_CACHE    where it is kept, by default target/clients
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
place=${LYCEUM_CLIENTS_CACHE:-$root/target/clients}/next
app=$place/examples/next
export NEXT_TELEMETRY_DISABLED=1

cd "$root/web"
sum() { find "$@" -type f -not -path '*/node_modules/*' -not -path '*/.next/*' | LC_ALL=C sort | xargs sha256sum | sha256sum; }
installed=$(sum examples/next/package.json examples/next/package-lock.json examples/next/.npmrc packages/client/package.json packages/react/package.json)
built=$(sum examples/next/app examples/next/next.config.mjs examples/next/tsconfig.json packages/client/src packages/react/src)$installed

is_made() { [ "$(cat "$place/$1" 2>/dev/null)" = "$2" ]; }
if ! is_made built-from "$built"; then
  rm -rf "$place/packages" "$place/built-from" "$app/app" "$app/.next"
  mkdir -p "$place/packages/client" "$place/packages/react" "$app"
  for package in client react; do cp -R "packages/$package/package.json" "packages/$package/src" "$place/packages/$package/"; done
  cp -R examples/next/app examples/next/.npmrc examples/next/*.json examples/next/*.mjs "$app/"
  if is_made installed-from "$installed"; then
    for package in client react; do
      rm -rf "$app/node_modules/@lyceum/$package"
      cp -R "$place/packages/$package" "$app/node_modules/@lyceum/"
    done
  else
    rm -rf "$app/node_modules" "$place/installed-from"
    (cd "$app" && npm ci --no-audit --no-fund >&2)
    echo "$installed" >"$place/installed-from"
  fi
  user_namespace=""
  [ "$(id -u)" = 0 ] || user_namespace="--map-root-user"
  (cd "$app" && unshare --net $user_namespace node node_modules/next/dist/bin/next build >&2)
  echo "$built" >"$place/built-from"
fi
echo "$app"
