//! What a table of many numbers costs: memory, deciding, building, publishing one change, snapshots; each beside a plain
//! `HashMap` in the same run. `cargo bench -p domain --bench route_table [-- 10000000]`.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use domain::agent::{Content, Draft, Variant};
use domain::assignment::Assignment;
use domain::call::Ingress;
use domain::caller::Caller;
use domain::endpoint::{Dial, SipUri, Target};
use domain::environment::Environment;
use domain::id::{AgentId, NumberId, VariantId, VersionId, WorkspaceId};
use domain::number::E164;
use domain::route::row::{CallbackToken, NumberRow, Row, RunningRow, WorkspaceRow};
use domain::route::{IncomingCall, RouteTable, decide, snapshot};
use domain::workspace::WorkspaceSettings;
use jiff::Timestamp;

/// One agent for so many numbers.
const NUMBERS_PER_AGENT: u64 = 100;
/// How many lookups are timed at once.
const SLICE: u64 = 50_000;
/// How many slices of each kind of lookup there are.
const SLICES: u64 = 40;

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let made = black_box(work());
    (made, start.elapsed().as_secs_f64())
}

/// Half of the numbers stand in blocks, half are scattered: multiples modulo a prime, so that none comes twice.
fn number(n: u64) -> E164 {
    let digits = if n.is_multiple_of(2) {
        14_000_000_000 + n / 2
    } else {
        440_000_000_000 + n * 7_368_787 % 9_999_999_967
    };
    E164::from_digits(digits).expect("12 digits at most")
}

fn mix(n: u64) -> u64 {
    let x = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

fn number_row(n: u64) -> NumberRow {
    let agent = n / NUMBERS_PER_AGENT;
    NumberRow {
        number_id: NumberId::from_bits(u128::from(mix(n)) << 64 | u128::from(n)),
        workspace_id: WorkspaceId::from_bits(u128::from(agent / 10)),
        callback_token: CallbackToken((u128::from(mix(n)) * 3).to_le_bytes()),
        assignment: Some(Assignment {
            agent_id: AgentId::from_bits(u128::from(agent)),
            environment: Environment::Live,
            variant_id: n.is_multiple_of(3).then(|| VariantId::from_bits(u128::from(agent * 2))),
        }),
        own: None,
    }
}

fn running_row(agent: u64) -> RunningRow {
    let uri = SipUri::parse(&format!("sip:agent-{agent}@agents.example")).expect("a URI");
    let dial = Dial { target: Target::Sip { uri, auth: None }, ring_timeout_s: 20 };
    let variant = |n: u64| Variant {
        id: VariantId::from_bits(u128::from(agent * 2 + n)),
        name: format!("site {n}"),
        attributes: domain::agent::Parameters::default(),
        endpoint: None,
    };
    RunningRow {
        version_id: VersionId::from_bits(u128::from(agent)),
        version: 1,
        agent_name: format!("agent {agent}").into(),
        content: Arc::new(Content {
            draft: Draft { endpoint: Some(dial.into()), ..Draft::default() },
            variants: vec![variant(0), variant(1)],
        }),
    }
}

fn shared_rows(numbers: u64) -> impl Iterator<Item = Row> {
    let agents = numbers.div_ceil(NUMBERS_PER_AGENT);
    let workspaces = (0..agents.div_ceil(10)).map(|n| {
        let settings = WorkspaceSettings::default();
        Row::Workspace(WorkspaceId::from_bits(u128::from(n)), Some(WorkspaceRow { settings }))
    });
    let running = (0..agents)
        .map(|n| Row::Running((AgentId::from_bits(u128::from(n)), Environment::Live), Some(running_row(n))));
    workspaces.chain(running)
}

fn number_rows(numbers: u64) -> impl Iterator<Item = Row> {
    (0..numbers).map(|n| Row::Number((Ingress::STORE, number(n)), Some(number_row(n))))
}

/// What a plain map would hold for each number to answer the same.
#[derive(Clone)]
struct Plain {
    #[expect(dead_code, reason = "it is there for its size")]
    number_id: NumberId,
    #[expect(dead_code, reason = "it is there for its size")]
    token: CallbackToken,
    route: Arc<RunningRow>,
}

fn main() {
    let numbers: u64 =
        std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    println!("{numbers} numbers, {NUMBERS_PER_AGENT} to an agent");
    let now: Timestamp = "2026-11-23T15:30:00Z".parse().expect("a time");

    let mut made = None;
    let shared = allocation_counter::measure(|| made = Some(RouteTable::build(shared_rows(numbers), 1)));
    drop(made.take());
    let mut build_s = 0.0;
    let whole = allocation_counter::measure(|| {
        let rows = shared_rows(numbers).chain(number_rows(numbers));
        let (table, seconds) = timed(|| RouteTable::build(rows, 1));
        build_s = seconds;
        made = Some(table);
    });
    let table = made.expect("just built");
    assert_eq!(table.numbers() as u64, numbers, "the numbers are distinct");

    let mut plain = HashMap::new();
    let mut plain_build_s = 0.0;
    let plain_bytes = allocation_counter::measure(|| {
        let routes: Vec<Arc<RunningRow>> =
            (0..numbers.div_ceil(NUMBERS_PER_AGENT)).map(|n| Arc::new(running_row(n))).collect();
        let (map, seconds) = timed(|| {
            let mut map: HashMap<(Ingress, E164), Plain> = HashMap::new();
            for n in 0..numbers {
                let row = number_row(n);
                let route = usize::try_from(n / NUMBERS_PER_AGENT).expect("fits");
                let entry = Plain {
                    number_id: row.number_id,
                    token: row.callback_token,
                    route: Arc::clone(&routes[route]),
                };
                map.insert((Ingress::STORE, number(n)), entry);
            }
            map
        });
        plain_build_s = seconds;
        plain = map;
    });
    let per_number = |bytes: i64, without: i64| (bytes - without) as f64 / numbers as f64;
    let plain_shared = allocation_counter::measure(|| {
        for n in 0..numbers.div_ceil(NUMBERS_PER_AGENT) {
            std::mem::forget(Arc::new(running_row(n)));
        }
    });
    row(
        "bytes per number",
        per_number(whole.bytes_current, shared.bytes_current),
        per_number(plain_bytes.bytes_current, plain_shared.bytes_current),
        "B",
    );
    row(
        "… with all that they share",
        per_number(whole.bytes_current, 0),
        per_number(plain_bytes.bytes_current, 0),
        "B",
    );
    row("build", build_s * 1e3, plain_build_s * 1e3, "ms");

    // Lookups in no order, so that each touches memory that is not in a cache.
    let calls = |offset: u64| {
        move |i: u64| IncomingCall {
            ingress: Ingress::new(u32::from(offset > 0)).expect("small"),
            to: number(mix(i) % numbers),
            caller: Caller::Anonymous,
        }
    };
    let (hit, miss) = (calls(0), calls(1));
    let plain_get = |call: IncomingCall| {
        plain.get(&(call.ingress, call.to)).is_some_and(|entry| black_box(entry.route.version) > 0)
    };
    let find = |call: IncomingCall| black_box(table.find(call.ingress, call.to)).is_some();
    let ours = |call: IncomingCall| black_box(&decide(&table, &call, now)).number.is_some();
    let [empty_ns, decide_hit, decide_miss, plain_hit, plain_miss, find_hit] = per_lookup([
        (true, &|i| black_box(hit(i)).to.digits() > 0),
        (true, &|i| ours(hit(i))),
        (false, &|i| ours(miss(i))),
        (true, &|i| plain_get(hit(i))),
        (false, &|i| plain_get(miss(i))),
        (true, &|i| find(hit(i))),
    ]);
    let lookup = |what: &str, ns: [f64; 2], plain_ns: [f64; 2]| {
        row(what, ns[0] - empty_ns[0], plain_ns[0] - empty_ns[0], "ns");
        row("… when neighbours are quietest", ns[1] - empty_ns[1], plain_ns[1] - empty_ns[1], "ns");
    };
    lookup("decide, hit (map: lookup only)", decide_hit, plain_hit);
    lookup("decide, miss", decide_miss, plain_miss);
    lookup("find alone, hit", find_hit, plain_hit);

    let mut table = table;
    let changes = 200;
    let ((), seconds) = timed(|| {
        for n in 0..changes {
            let mut row = number_row(n);
            row.assignment = None;
            let change = Row::Number((Ingress::STORE, number(n)), Some(row));
            table = table.applied([change], table.version() + 1).expect("newer");
        }
    });
    let (clone, plain_seconds) = timed(|| plain.clone());
    drop(clone);
    row("publish one number", seconds * 1e6 / changes as f64, plain_seconds * 1e6, "µs");
    let ((), seconds) = timed(|| {
        for n in 0..changes {
            let change =
                Row::Running((AgentId::from_bits(u128::from(n)), Environment::Live), Some(running_row(n)));
            table = table.applied([change], table.version() + 1).expect("newer");
        }
    });
    row("publish one version", seconds * 1e6 / changes as f64, plain_seconds * 1e6, "µs");

    let mut bytes = Vec::new();
    let ((), seconds) = timed(|| snapshot::encode(&table, &mut |piece| bytes.extend_from_slice(piece)));
    println!("snapshot: {} MB, written in {:.0} ms", bytes.len() / 1_000_000, seconds * 1e3);
    let (read, seconds) = timed(|| snapshot::decode(&bytes).expect("just written"));
    println!("snapshot: read in {:.0} ms", seconds * 1e3);
    assert_eq!(read.numbers(), table.numbers());
}

/// The time of one lookup of each kind, in nanoseconds: in the middle slice, and in the quickest. The kinds take turns, so that
/// a noisy moment of the machine meets all of them.
fn per_lookup<const N: usize>(kinds: [(bool, &dyn Fn(u64) -> bool); N]) -> [[f64; 2]; N] {
    let mut slices = [(); N].map(|()| Vec::new());
    for slice in 0..SLICES {
        for ((is_hit, work), times) in kinds.iter().zip(&mut slices) {
            let lookups = slice * SLICE..(slice + 1) * SLICE;
            let (hits, seconds) = timed(|| lookups.filter(|&i| work(i)).count() as u64);
            assert_eq!(hits, if *is_hit { SLICE } else { 0 });
            times.push(seconds * 1e9 / SLICE as f64);
        }
    }
    slices.map(|mut times| {
        times.sort_by(f64::total_cmp);
        [times[times.len() / 2], times[0]]
    })
}

fn row(what: &str, ours: f64, plain: f64, unit: &str) {
    println!(
        "{what:<32} {ours:>10.1} {unit:<2}  HashMap {plain:>10.1} {unit:<2}  ratio {:>6.3}",
        ours / plain
    );
}
