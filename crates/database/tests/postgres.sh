#!/bin/sh
# A private PostgreSQL for the test suite: its own folder, its own free port, real fsync.
#
#   eval "$(crates/database/tests/postgres.sh start)"     sets SWITCHBOARD_TEST_POSTGRES_URL
#   crates/database/tests/postgres.sh start [FOLDER]      starts it where it is not running; prints that line
#   crates/database/tests/postgres.sh url   [FOLDER]      prints the address alone
#   crates/database/tests/postgres.sh stop  [FOLDER]      stops it and deletes the folder
#
# It installs Debian's postgresql package where the programs are missing (as root only; otherwise
# it prints the line to run and fails). The server runs as user postgres when we are root, since
# PostgreSQL refuses to run as root, and as ourselves otherwise. It listens on 127.0.0.1 only.
# It leaves to the tests: creating a database each and dropping it.
set -eu

action=${1:-}
folder=${2:-${TMPDIR:-/tmp}/switchboard-test-postgres-$(id -u)}

say() { echo "postgres.sh: $*" >&2; }

programs() {
    for candidate in $(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -rV) \
        "$(dirname "$(command -v postgres 2>/dev/null || echo /nowhere/postgres)")"; do
        if [ -x "$candidate/initdb" ] && [ -x "$candidate/pg_ctl" ]; then
            echo "$candidate"
            return 0
        fi
    done
    return 1
}

install_if_missing() {
    programs >/dev/null && return 0
    line="apt-get update && apt-get install -y --no-install-recommends postgresql"
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        say "PostgreSQL is not installed. Run this as root and try again:"
        say "    $line"
        exit 1
    fi
    say "installing PostgreSQL"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2
    # No cluster of the distribution's own: we only want the programs.
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
    apt-get install -y -qq --no-install-recommends postgresql >&2
}

as_owner() {
    if [ "$(id -u)" = 0 ]; then
        # `cd /`: the caller's folder may be closed to user postgres.
        (cd / && exec setpriv --reuid postgres --regid postgres --init-groups env HOME=/tmp "$@")
    else
        "$@"
    fi
}

url() { echo "postgres://postgres@127.0.0.1:$(cat "$folder/port")/postgres"; }

running() { [ -e "$folder/port" ] && as_owner "$bin/pg_ctl" -D "$folder/data" status >/dev/null 2>&1; }

start() {
    if running; then return 0; fi
    rm -rf "$folder"
    mkdir -p "$folder"
    chmod 755 "$folder"
    mkdir "$folder/data" "$folder/socket"
    if [ "$(id -u)" = 0 ]; then chown postgres: "$folder/data" "$folder/socket"; fi
    chmod 700 "$folder/data"
    as_owner "$bin/initdb" -D "$folder/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 >/dev/null
    cat >>"$folder/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$folder/socket'
max_connections = 400
shared_buffers = 128MB
fsync = on
synchronous_commit = on
full_page_writes = on
logging_collector = off
log_min_messages = fatal
CONF
    # A port from the kernel's unprivileged range; another program may take it first, so try again.
    for attempt in 1 2 3 4 5 6 7 8; do
        port=$((20000 + ($(od -An -N2 -tu2 /dev/urandom) % 12000)))
        if as_owner "$bin/pg_ctl" -D "$folder/data" -l "$folder/data/log" -w -t 60 \
            -o "-p $port" start >/dev/null 2>&1; then
            echo "$port" >"$folder/port"
            return 0
        fi
        say "port $port did not work (attempt $attempt); trying another"
    done
    tail -n 20 "$folder/data/log" >&2
    exit 1
}

stop() {
    [ -d "$folder" ] || return 0
    as_owner "$bin/pg_ctl" -D "$folder/data" -m fast -w -t 60 stop >/dev/null 2>&1 || true
    rm -rf "$folder"
}

# For tests of outages: gone without a word, back on the same port, stopped in its tracks, going on.
crash() { as_owner "$bin/pg_ctl" -D "$folder/data" -m immediate -w -t 60 stop >/dev/null; }

again() {
    as_owner "$bin/pg_ctl" -D "$folder/data" -l "$folder/data/log" -w -t 60 \
        -o "-p $(cat "$folder/port")" start >/dev/null
}

# The postmaster first: a session that it begins while the others are being stopped would escape.
signal_all() {
    postmaster=$(head -n 1 "$folder/data/postmaster.pid")
    kill "-$1" "$postmaster"
    tries=1000
    while [ "$1" = STOP ] && [ $tries -gt 0 ] && ! grep -q ') T ' "/proc/$postmaster/stat"; do
        tries=$((tries - 1))
    done
    for stat in /proc/[0-9]*/stat; do
        # The parent's number stands behind the name, which is in parentheses.
        parent=$(sed 's/^.*) [A-Z] //; s/ .*$//' "$stat" 2>/dev/null) || continue
        [ "$parent" = "$postmaster" ] && kill "-$1" "$(basename "$(dirname "$stat")")" 2>/dev/null
    done
    return 0
}

case "$action" in
start)
    install_if_missing
    bin=$(programs)
    start
    echo "SWITCHBOARD_TEST_POSTGRES_URL=$(url); export SWITCHBOARD_TEST_POSTGRES_URL"
    ;;
url)
    url
    ;;
stop)
    bin=$(programs)
    stop
    ;;
crash)
    bin=$(programs)
    crash
    ;;
again)
    bin=$(programs)
    again
    ;;
freeze)
    signal_all STOP
    ;;
thaw)
    signal_all CONT
    ;;
*)
    say "usage: postgres.sh start|url|stop|crash|again|freeze|thaw [FOLDER]"
    exit 2
    ;;
esac
