#!/usr/bin/env bash
# Schemathesis against the running program: everything that openapi.json promises, and much that it does not allow, on
# both engines. Any finding fails.
#
#   crates/server/tests/schemathesis.sh [FOLDER]      FOLDER: where logs and reports stay; a temporary one without
#
# Needs target/test-venv (made by ./test) and, for PostgreSQL, SWITCHBOARD_TEST_POSTGRES_URL. Starts a simulated carrier and
# the server on free ports, each engine with a database of its own, and ends only what it started.
set -euo pipefail
cd "$(dirname "$0")/../../.."

work=${1:-$(mktemp -d "${TMPDIR:-/tmp}/switchboard-schemathesis.XXXXXX")}
mkdir -p "$work"
work=$(cd "$work" && pwd)
program=target/debug/switchboard
schemathesis=$PWD/target/test-venv/bin/schemathesis
# The same requests every time; another seed finds other things.
seed=${SWITCHBOARD_TEST_SEED:-20261121}
# At most this long for each engine.
seconds=${SWITCHBOARD_TEST_SCHEMATHESIS_SECONDS:-110}
started=()

[ -x "$schemathesis" ] || { echo "schemathesis is not installed; run ./test, or: python3 -m venv target/test-venv && target/test-venv/bin/pip install -r crates/server/tests/requirements.txt" >&2; exit 1; }
cargo build --quiet -p server --bin switchboard

end_all() {
  local pid
  for pid in "${started[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  started=()
}
trap end_all EXIT INT TERM

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# until_answers URL: waits at most 30 s.
until_answers() {
  curl --silent --fail --output /dev/null --retry 60 --retry-delay 0 --retry-max-time 30 --retry-all-errors --max-time 5 "$1" \
    || { echo "nothing answers at $1" >&2; return 1; }
}

# check ENGINE [DATABASE_URL]
check() {
  local engine=$1 url=${2:-} folder=$work/schemathesis-$1 carrier_port port key base database=
  [ -z "$url" ] || database="database_url = \"$url\""
  rm -rf "$folder"
  mkdir -p "$folder"
  carrier_port=$(free_port)
  port=$(free_port)
  base=http://127.0.0.1:$port
  "$program" simulator --listen "127.0.0.1:$carrier_port" --account-sid AC00000000000000000000000000000001 --auth-token simulated \
    >"$folder/simulator.log" 2>&1 &
  started+=($!)
  cat >"$folder/switchboard.toml" <<CONF
data_dir = "$folder/data"
listen = "127.0.0.1:$port"
public_url = "$base"
$database

[store]
supply = "demo"

[store.prices.US]
local = { monthly = "1.15" }
[store.prices.CA]
local = { monthly = "1.15" }
[store.prices.GB]
local = { monthly = "1.15" }
[store.prices.FR]
local = { monthly = "1.15" }

[store.limits]
buys_per_day = 1000000

[carriers.twilio]
base_url = "http://127.0.0.1:$carrier_port"
account_sid = "AC00000000000000000000000000000001"
auth_token = "simulated"

[limits]
requests_per_second = 10000
requests_burst = 10000
unproven_per_second = 10000
unproven_burst = 10000
CONF
  "$program" serve --config "$folder/switchboard.toml" >"$folder/serve.log" 2>&1 &
  started+=($!)
  until_answers "$base/ready" || { tail -n 20 "$folder/serve.log" >&2; end_all; return 1; }
  key=$("$program" keys create --role owner --config "$folder/switchboard.toml") || { end_all; return 1; }

  # The stream of events has no end, so no request for it would return.
  # /v1/api-keys/{id} may revoke the very key that asks; its own tests cover it.
  # Some rules of a request are no matter of its form, and are refused with these statuses although the form is right: a cursor
  # that is not one of ours (400), a version that is not the present one (412), a role or a URL that does not exist (422).
  cat >"$folder/schemathesis.toml" <<'CONF'
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "412", "422", "429"]

# A stale If-Match is refused before the body is looked at.
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "409", "412", "413", "415", "422", "429"]
CONF
  local outcome=0
  # In its folder, since it leaves its own notes where it runs.
  (cd "$folder" && exec "$schemathesis" --config-file schemathesis.toml run "$base/openapi.json" \
    --header "Authorization: Bearer $key" \
    --checks all --phases coverage,fuzzing,stateful --mode all \
    --seed "$seed" --max-examples 20 --max-time "$seconds" --continue-on-failure --request-timeout 20 \
    --exclude-path /v1/events \
    --report ndjson --report-dir . \
    >report.txt 2>&1) || outcome=$?
  if [ "$outcome" != 0 ]; then
    tail -n 400 "$folder/report.txt"
    echo "--- the end of the server's log" >&2
    tail -n 20 "$folder/serve.log" >&2
  else
    tail -n 12 "$folder/report.txt"
  fi
  end_all
  return "$outcome"
}

failed=0
echo "schemathesis on SQLite"
check sqlite || failed=1
if [ -n "${SWITCHBOARD_TEST_POSTGRES_URL:-}" ]; then
  echo "schemathesis on PostgreSQL"
  name=switchboard_schemathesis_$$
  psql=$(command -v psql || ls -d /usr/lib/postgresql/*/bin/psql | sort -V | tail -n 1)
  "$psql" --quiet "$SWITCHBOARD_TEST_POSTGRES_URL" --command "CREATE DATABASE $name"
  check postgres "${SWITCHBOARD_TEST_POSTGRES_URL%/*}/$name" || failed=1
  "$psql" --quiet "$SWITCHBOARD_TEST_POSTGRES_URL" --command "DROP DATABASE IF EXISTS $name WITH (FORCE)"
else
  echo "SWITCHBOARD_TEST_POSTGRES_URL is not set, so PostgreSQL was not tried" >&2
  failed=1
fi
exit "$failed"
