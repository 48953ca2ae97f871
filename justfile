# Ten recipes at most. `./test` needs none of them.

# Everything that must hold, as CI runs it
check:
    ./test

# Tests only, on both engines
test:
    ./test tests

# The main job with no account and no settings
demo:
    cargo run -- demo

# For real: switchboard.toml beside you, or SWITCHBOARD_… in the environment
run *args:
    cargo run --release -- serve {{args}}

# Fifty signed calls a second, two minutes each with the database killed, frozen, slow, read-only; needs SWITCHBOARD_TEST_POSTGRES_URL
outage:
    SWITCHBOARD_TEST_OUTAGE_S=120 cargo test --release -p server --test it outage:: -- --nocapture --test-threads=1

doc:
    cargo doc --workspace --no-deps --document-private-items --open

# Figures, each beside its baseline in the same run
bench:
    cargo bench --workspace

# 2,000 SIGKILL purchases on SQLite and 300 on PostgreSQL against a misbehaving carrier
crash:
    SWITCHBOARD_TEST_CRASH_SQLITE=2000 SWITCHBOARD_TEST_CRASH_POSTGRES=300 ./test tests

# An hour on each fuzz target; once: rustup toolchain install nightly && cargo install cargo-fuzz --locked
fuzz seconds="3600":
    cd fuzz && for t in $(cargo +nightly fuzz list); do mkdir -p corpus/$t && cargo +nightly fuzz run $t corpus/$t ../crates/sip/testdata/fuzz/$t ../crates/sip/testdata/torture/rfc4475 -- -max_total_time={{seconds}} -max_len=8192 -rss_limit_mb=1024 -timeout=10 || exit 1; done

# Needs a network for the advisory database
advisories:
    cargo deny check advisories
