#!/usr/bin/env bash
# The example edge beside Kamailio, one core each, the same scenarios, rounds in turn.
#
#   crates/sip/benches/kamailio/run.sh cpu    [calls/s] [seconds a round] [rounds]    (1500 10 3: 4 minutes)
#   crates/sip/benches/kamailio/run.sh first  [calls a round] [rounds]                (10000 3: 2 minutes)
#   crates/sip/benches/kamailio/run.sh memory [calls/s] [calls] [seconds of rest]     (2000 100000 40: 10 minutes)
#
# Needs: sipp (Debian sip-tester), kamailio (Debian), taskset, two cores or more: the one that is measured runs on
# core 0, its peers on the others. Kamailio runs with `-x tlsf -X tlsf`: its default allocator is three times dearer,
# and beating that would be a false win; it has one UDP worker, no TCP, and no module that the scenario does not need.
# For `memory` the edge's allocator is told to give memory back at once (MIMALLOC_PURGE_DELAY=0); that costs some
# microseconds a call where calls come one by one.
# MODES="redirect stateful" runs some modes only. Figures are printed, never asserted. What they mean:
#
#   CPU µs     user and system time of all processes of the one measured, a call, as the scheduler counts it;
#              SIPp makes the calls. A redirected call is 2 messages in and 1 out, the others are 6 in and 6 out.
#   p50, p99   µs from INVITE to the first response that is not 100; calls one after another (examples/first_response)
#   KiB        proportional resident memory of all its processes: before, after the calls, after the rest (64·T1 is
#              32 s: so long a transaction has to be remembered)
set -euo pipefail
what=${1:-cpu}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../../.." && pwd)
scenarios="$root/crates/sip/tests/sipp"
for tool in sipp kamailio taskset awk; do
  command -v $tool >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p sip --example edge --example first_response
examples="${CARGO_TARGET_DIR:-$root/target}/release/examples"
modules=$(dirname "$(find /usr/lib* -name tm.so -path '*kamailio*' | head -1)")
others=$(seq -s, 1 $(($(nproc) - 1)))
[ -n "$others" ] || others=0

work=$(mktemp -d)
started=()
finish() {
  for process in "${started[@]}"; do kill "$process" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap finish EXIT

# A process and all that descend from it.
family() {
  local process
  echo "$1"
  for process in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do family "$process"; done
}
cpu_ns() {
  local process total=0
  for process in $(family "$1"); do
    total=$((total + $(awk '{ print $1 }' "/proc/$process/schedstat" 2>/dev/null || echo 0)))
  done
  echo "$total"
}
rss_kib() {
  local process total=0
  for process in $(family "$1"); do
    total=$((total + $(awk '/^Pss:/ { print $2 }' "/proc/$process/smaps_rollup" 2>/dev/null || echo 0)))
  done
  echo "$total"
}

agent_port=$((20000 + RANDOM % 10000))
taskset -c "$others" sipp -sf "$scenarios/uas.xml" -i 127.0.0.1 -p $agent_port -mp $((agent_port + 2)) -nostdin \
  -buff_size 4000000 >"$work/agent.out" 2>&1 &
started+=($!)
sleep 1

port=$((31000 + RANDOM % 5000))
edge_settings=()
if [ "$what" = memory ]; then edge_settings=(MIMALLOC_PURGE_DELAY=0); fi
# Each in a session of its own, as a service would be: a busy machine shares time by sessions.
start() { # who, mode: sets `process` and `address`
  port=$((port + 1))
  address=127.0.0.1:$port
  if [ "$1" = edge ]; then
    env "${edge_settings[@]}" taskset -c 0 setsid "$examples/edge" "$2" "$address" "127.0.0.1:$agent_port" >/dev/null 2>"$work/edge.err" &
  else
    sed -e "s|@MODULES@|$modules|" -e "s|@TARGET@|127.0.0.1:$agent_port|g" "$here/kamailio.cfg" >"$work/kamailio.cfg"
    taskset -c 0 setsid kamailio -f "$work/kamailio.cfg" -A "MODE_${2^^}" -l "udp:$address" -x tlsf -X tlsf -m 512 -M 32 \
      -DD -E -Y "$work" >"$work/kamailio.err" 2>&1 &
  fi
  process=$!
  started+=("$process")
  sleep 2
  kill -0 "$process" || { cat "$work/$1.err" >&2; exit 1; }
}
stop() {
  kill "$process"
  wait "$process" 2>/dev/null || true
}
calls() { # mode, rate, calls: sets `failed`
  local scenario=routed
  if [ "$1" = redirect ]; then scenario=redirected; fi
  (cd "$work" && taskset -c "$others" sipp "$address" -sf "$scenarios/$scenario.xml" -i 127.0.0.1 -r "$2" -m "$3" \
    -nostdin -buff_size 4000000 -timeout $(($3 / $2 + 60)) -trace_stat -stf stat.csv -fd 1 >sipp.out 2>&1) || true
  failed=$(awk -F';' 'NR == 1 { for (at = 1; at <= NF; at++) column[$at] = at }
    { bad = $column["FailedCall(C)"] } END { print bad }' "$work/stat.csv")
}
ratios() { # name of the figure, its column
  echo
  awk -v name="$1" -v column="$2" '{ if (!(($1, $2) in best) || $column < best[$1, $2]) best[$1, $2] = $column; modes[$1] = 1 }
    END { for (mode in modes) if (best[mode, "kamailio"] > 0)
      printf "%-10s %s, edge / kamailio, best round of each: %.2f\n", mode, name, best[mode, "edge"] / best[mode, "kamailio"] }' "$work/all"
}

modes=${MODES:-redirect stateless stateful}
case "$what" in
cpu)
  rate=${2:-1500} seconds=${3:-10} rounds=${4:-3}
  echo "$rate calls/s for $seconds s"
  printf '%-10s %-9s %5s %8s %13s\n' mode who round failed 'CPU µs a call'
  for mode in $modes; do
    for round in $(seq "$rounds"); do
      for who in edge kamailio; do
        start $who "$mode"
        before=$(cpu_ns "$process")
        calls "$mode" "$rate" $((rate * seconds))
        cpu=$(($(cpu_ns "$process") - before))
        stop
        awk -v mode="$mode" -v who=$who -v round="$round" -v failed="$failed" -v cpu=$cpu -v calls=$((rate * seconds)) \
          'BEGIN { printf "%-10s %-9s %5d %8s %12.1f\n", mode, who, round, failed, cpu / calls / 1000 }' | tee -a "$work/all"
      done
    done
  done
  ratios 'CPU a call' 5
  ;;
first)
  calls=${2:-10000} rounds=${3:-3}
  echo "$calls calls one after another, µs to the first response"
  printf '%-10s %-9s %5s %8s %8s %8s\n' mode who round p50 p99 lost
  for mode in $modes; do
    for round in $(seq "$rounds"); do
      for who in edge kamailio; do
        start $who "$mode"
        read -r p50 p99 lost <<<"$(taskset -c "$others" "$examples/first_response" "$address" "$calls")"
        stop
        printf '%-10s %-9s %5d %8s %8s %8s\n' "$mode" $who "$round" "$p50" "$p99" "$lost" | tee -a "$work/all"
      done
    done
  done
  ratios p50 4
  ratios p99 5
  ;;
memory)
  rate=${2:-2000} count=${3:-100000} rest=${4:-40}
  echo "$count calls at $rate/s, then $rest s of rest"
  printf '%-10s %-9s %8s %12s %12s %12s\n' mode who failed 'KiB before' 'after calls' 'after rest'
  for mode in $modes; do
    for who in ${WHO:-edge kamailio}; do
      start $who "$mode"
      before=$(rss_kib "$process")
      calls "$mode" "$rate" "$count"
      after=$(rss_kib "$process")
      sleep "$rest"
      printf '%-10s %-9s %8s %12d %12d %12d\n' "$mode" $who "$failed" "$before" "$after" "$(rss_kib "$process")"
      stop
    done
  done
  ;;
*)
  echo "usage: run.sh cpu|first|memory …" >&2
  exit 2
  ;;
esac
