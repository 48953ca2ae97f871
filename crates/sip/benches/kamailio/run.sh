#!/usr/bin/env bash
# The example edge beside Kamailio, one core each, the same SIPp scenarios, rounds in turn.
#
#   crates/sip/benches/kamailio/run.sh [calls/s] [seconds a round] [rounds] [seconds of rest]
#
# Needs: sipp (Debian sip-tester), kamailio (Debian), taskset, two cores or more: the one that is measured runs on
# core 0, SIPp on the others. Kamailio runs with `-x tlsf -X tlsf`: its default allocator is three times dearer, and
# beating that would be a false win. Figures are printed, never asserted. What they mean:
#
#   CPU  user and system time of all processes of the one measured, per 1,000 calls; noise moves it least
#   p50, p99  from INVITE to the first response, by SIPp, in milliseconds
#   KiB  proportional resident memory of all its processes before, and after the rest (35 s: 64·T1 is 32 s)
set -euo pipefail
rate=${1:-500} seconds=${2:-10} rounds=${3:-3} rest_seconds=${4:-35}
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../../.." && pwd)
scenarios="$root/crates/sip/tests/sipp"
for tool in sipp kamailio taskset awk; do
  command -v $tool >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
cargo build --quiet --release --manifest-path "$root/Cargo.toml" -p sip --example edge
edge="${CARGO_TARGET_DIR:-$root/target}/release/examples/edge"
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
cpu_ms() { # user and system time in milliseconds
  local process total=0
  for process in $(family "$1"); do
    total=$((total + $(awk '{ sub(/.*\) /, ""); print ($12 + $13) * 10 }' "/proc/$process/stat" 2>/dev/null || echo 0)))
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
  -buff_size 8000000 >"$work/agent.out" 2>&1 &
started+=($!)
sleep 1

port=$((31000 + RANDOM % 5000))
# Each in a session of its own, as a service would be: a busy machine shares time by sessions.
start() { # who, mode: sets `process` and `address`
  port=$((port + 1))
  address=127.0.0.1:$port
  if [ "$1" = edge ]; then
    taskset -c 0 setsid "$edge" "$2" "$address" "127.0.0.1:$agent_port" >/dev/null 2>"$work/edge.err" &
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

printf '%-10s %-9s %5s %8s %16s %8s %8s %18s\n' mode who round failed 'CPU s/1000 calls' p50 p99 'memory KiB'
for mode in redirect stateless stateful; do
  scenario=routed
  if [ $mode = redirect ]; then scenario=redirected; fi
  for round in $(seq "$rounds"); do
    for who in edge kamailio; do
      start $who $mode
      before=$(cpu_ms "$process") memory=$(rss_kib "$process")
      calls=$((rate * seconds))
      (cd "$work" && rm -f ./*_rtt.csv && taskset -c "$others" sipp "$address" -sf "$scenarios/$scenario.xml" -i 127.0.0.1 \
        -r "$rate" -m "$calls" -nostdin -buff_size 8000000 -timeout $((seconds + 60)) -trace_rtt -rtt_freq 100 \
        -trace_stat -stf stat.csv -fd 1 >sipp.out 2>&1) || true
      after=$(cpu_ms "$process")
      failed=$(awk -F';' 'NR == 1 { for (at = 1; at <= NF; at++) column[$at] = at } { bad = $column["FailedCall(C)"] } END { print bad }' "$work/stat.csv")
      times=$({ cat "$work"/*_rtt.csv 2>/dev/null || true; } | awk -F';' 'NR > 1 && $2 + 0 > 0 || $2 == "0" { print $2 }' | sort -n |
        awk '{ all[NR] = $1 } END { if (NR) print all[int((NR + 1) / 2)], all[int(NR * 0.99) + (NR < 100)] ; else print "- -" }')
      sleep "$rest_seconds"
      rest=$(rss_kib "$process")
      awk -v mode=$mode -v who=$who -v round="$round" -v failed="$failed" -v cpu=$((after - before)) -v calls=$calls \
        -v times="$times" -v memory="$memory" -v rest="$rest" 'BEGIN {
          split(times, t, " ")
          printf "%-10s %-9s %5d %8s %16.4f %8s %8s %8d → %7d\n", mode, who, round, failed, cpu / calls, t[1], t[2], memory, rest
        }' | tee -a "$work/all"
      kill "$process"; wait "$process" 2>/dev/null || true
    done
  done
done
echo
awk '{ if (!(($1, $2) in best) || $5 < best[$1, $2]) best[$1, $2] = $5; modes[$1] = 1 }
  END { for (mode in modes) if (best[mode, "kamailio"] > 0) printf "%-10s edge / kamailio, best round of each: %.2f\n", mode, best[mode, "edge"] / best[mode, "kamailio"] }' "$work/all"
