#!/usr/bin/env bash
# Our registration keeper meets a Kamailio that challenges with short-lived, counted nonces: four registrations, two
# of them refreshes with a nonce that has become stale, and one that ends it. Recipe: apt-get install kamailio.
set -euo pipefail
cd "$(dirname "$0")"
command -v kamailio >/dev/null || { echo "kamailio is missing: apt-get install kamailio" >&2; exit 1; }
cargo build --quiet -p sip --example register
modules=$(dirname "$(find /usr/lib* -name registrar.so -path '*kamailio*' | head -1)")
work=$(mktemp -d)
process=
finish() { [ -z "$process" ] || kill "$process" 2>/dev/null || true; rm -rf "$work"; }
trap finish EXIT
port=$((31000 + RANDOM % 5000))
sed -e "s|@MODULES@|$modules|" registrar.cfg >"$work/registrar.cfg"
kamailio -f "$work/registrar.cfg" -l "udp:127.0.0.1:$port" -DD -E -Y "$work" >"$work/kamailio.out" 2>&1 &
process=$!
sleep 2
kill -0 "$process" || { cat "$work/kamailio.out" >&2; exit 1; }
"${CARGO_TARGET_DIR:-../../../../target}/debug/examples/register" "127.0.0.1:$port" sip:me@example.test secret 12 3
echo "registered, refreshed and ended"
if "${CARGO_TARGET_DIR:-../../../../target}/debug/examples/register" "127.0.0.1:$port" sip:me@example.test wrong 12 3; then
  echo "a wrong password was taken" >&2
  exit 1
fi
echo "a wrong password is a failure after one answer"
