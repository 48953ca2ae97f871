#!/usr/bin/env bash
# Real peers meet the engine: SIPp calls through the example edge in each mode, and no call may fail.
#
#   crates/sip/smoke.sh                 200 calls/s for 3 s in each mode, debug build: for ./test
#   crates/sip/smoke.sh 1000 30 release the full run
#
# Needs sipp (Debian: sip-tester). Everything runs on 127.0.0.1 and ports that are free.
set -euo pipefail
rate=${1:-200} seconds=${2:-3} profile=${3:-debug}
cd "$(dirname "$0")"
command -v sipp >/dev/null || { echo "sipp is missing: apt-get install sip-tester" >&2; exit 1; }

flags=()
if [ "$profile" = release ]; then flags=(--release); fi
cargo build --quiet -p sip --example edge "${flags[@]}"
edge="${CARGO_TARGET_DIR:-../../target}/$profile/examples/edge"

work=$(mktemp -d)
started=()
finish() {
  for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
  rm -rf "$work"
}
trap finish EXIT

# An agent on a port that nobody has; SIPp says by itself when a port is taken.
agent_port=
for _ in 1 2 3 4 5; do
  port=$((20000 + RANDOM % 20000))
  sipp -sf tests/sipp/uas.xml -i 127.0.0.1 -p "$port" -mp $((port + 2)) -nostdin -buff_size 4000000 \
    >"$work/agent.out" 2>&1 &
  process=$!
  sleep 0.5 # SIPp gives no sign that it listens; if it is late, retransmissions bridge the gap
  if kill -0 "$process" 2>/dev/null; then started+=("$process"); agent_port=$port; break; fi
done
[ -n "$agent_port" ] || { cat "$work/agent.out" >&2; exit 1; }

for mode in redirect stateless stateful; do
  : >"$work/$mode.out" # it is looked into before the edge may have opened it
  "$edge" "$mode" 127.0.0.1:0 "127.0.0.1:$agent_port" >"$work/$mode.out" 2>"$work/$mode.figures" &
  process=$!
  started+=("$process")
  address=
  for _ in $(seq 100); do
    address=$(sed -n 's/^listening on //p' "$work/$mode.out")
    [ -n "$address" ] && break
    kill -0 "$process"
    sleep 0.05
  done
  scenario=routed
  if [ "$mode" = redirect ]; then scenario=redirected; fi
  calls=$((rate * seconds))
  if ! sipp "$address" -sf "tests/sipp/$scenario.xml" -i 127.0.0.1 -r "$rate" -m "$calls" -nostdin \
    -buff_size 4000000 -timeout $((seconds + 60)) -trace_stat -stf "$work/$mode.csv" -fd 1 >"$work/sipp.out" 2>&1; then
    tail -40 "$work/sipp.out" >&2
    tail -3 "$work/$mode.figures" >&2
    echo "$mode: SIPp says that calls failed" >&2
    exit 1
  fi
  # The last line of SIPp's statistics, by the names of its columns.
  awk -F';' -v mode="$mode" -v rate="$rate" '
    NR == 1 { for (at = 1; at <= NF; at++) column[$at] = at }
    { good = $column["SuccessfulCall(C)"]; bad = $column["FailedCall(C)"]; again = $column["Retransmissions(C)"] }
    END {
      printf "%-9s %d calls at %d/s: %d failed, %d retransmissions\n", mode, good + bad, rate, bad, again
      exit (bad > 0 || good == 0)
    }' "$work/$mode.csv"
  sleep 1.1 # it tells its figures once a second
  cpu=$(awk '{ print ($14 + $15) * 10 }' "/proc/$process/stat")
  echo "          $cpu ms of CPU, $((cpu * 1000 / calls)) µs a call; $(tail -1 "$work/$mode.figures")"
  kill "$process"
done
