//! A carrier, a database, nodes on it, and the judge who holds the carrier's ledger against our inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use database::numbers::{Number, NumberFilter, number_list};
use database::purchases::{Limits, Purchase, purchase_create, purchase_find, purchase_list_open};
use database::{Database, Engine};
use domain::call::Ingress;
use domain::id::{NumberId, PurchaseId, WorkspaceId};
use domain::money::{Currency, Money};
use domain::number::{Capabilities, Country, E164, NumberStatus, NumberType, Source};
use domain::purchase::PurchaseState;
use domain::quote::Price;
use domain::route::row::{CallbackToken, NumberSettings};
use domain::workspace::WorkspaceSettings;
use serde_json::{Value, json};
use server::app::Random;
use server::clock::{Clock as _, SystemClock};
use server::config::Config;

use crate::program::{PATIENCE, Program, until};

/// The workspace that buys.
pub(crate) const WORKSPACE: WorkspaceId = WorkspaceId::from_bits(7);
/// Area codes whose 555-01xx the simulator sells: a hundred numbers each.
const AREA_CODES: [u32; 36] = [
    212, 718, 516, 585, 415, 510, 650, 408, 213, 310, 619, 916, 312, 773, 617, 508, 202, 206, 509, 503, 303,
    719, 602, 520, 702, 801, 512, 214, 713, 210, 305, 407, 813, 904, 404, 704,
];

/// Everything that outlives a killed node.
pub(crate) struct World {
    pub(crate) database: Database,
    pub(crate) random: Random,
    pub(crate) clock: SystemClock,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) settings: String,
    simulator: Option<Program>,
    base_url: String,
    pub(crate) http: reqwest::Client,
    postgres: Option<String>,
    nodes: AtomicU32,
    numbers: AtomicU32,
}

const ACCOUNT: &str = "AC00000000000000000000000000000001";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

impl World {
    pub(crate) async fn new(engine: Engine, seed: u64) -> World {
        let folder = tempfile::tempdir().unwrap();
        let (simulator, base_url) = start_simulator(&folder, seed).await;
        let postgres = (engine == Engine::Postgres).then(create_postgres);
        let settings = settings(&folder, &base_url, postgres.as_deref());
        let config: Config = toml::from_str(&settings).unwrap();
        std::fs::create_dir_all(&config.data_dir).unwrap();
        let database = Database::open(config.database_settings()).await.unwrap();
        let clock = SystemClock::new();
        let now = clock.now();
        let create = move |tx: &database::Tx<'_>| {
            database::workspaces::workspace_create(
                tx,
                WORKSPACE,
                "buyers",
                &WorkspaceSettings::default(),
                now,
            )
        };
        database.write(create).await.unwrap();
        let http =
            carriers::http::client_builder(carriers::http::Timeouts { connect: PATIENCE, total: PATIENCE });
        World {
            database,
            random: Random::from_seed(seed),
            clock,
            folder,
            settings,
            simulator: Some(simulator),
            base_url,
            http: http.build().unwrap(),
            postgres,
            nodes: AtomicU32::new(0),
            numbers: AtomicU32::new(0),
        }
    }

    /// Starts a node; with a place to crash or stop at, if given.
    pub(crate) fn node(&self, failpoint: Option<&str>) -> Program {
        self.node_with(&failpoint.map_or(String::new(), |name| format!("danger_failpoint = {name:?}\n")))
    }

    /// Starts a node with further settings.
    pub(crate) fn node_with(&self, further: &str) -> Program {
        let file = self.settings_file(&format!("listen = \"{}\"\n{further}", free_address()));
        Program::start(&["serve", "--config", &file], &self.folder.path().join("nodes.log"))
    }

    /// Starts a node and waits until it serves: its address too.
    pub(crate) async fn serving(&self) -> (Program, String) {
        let address = free_address();
        let file = self.settings_file(&format!("listen = \"{address}\"\n"));
        let node = Program::start(&["serve", "--config", &file], &self.folder.path().join("nodes.log"));
        let url = format!("http://{address}");
        until("its serving", async || self.http.get(format!("{url}/live")).send().await.is_ok()).await;
        (node, url)
    }

    fn settings_file(&self, first: &str) -> String {
        let count = self.nodes.fetch_add(1, Ordering::Relaxed);
        let file = self.folder.path().join(format!("node-{count}.toml"));
        std::fs::write(&file, format!("{first}{}", self.settings)).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Runs a command on these settings to its end; what it printed.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let file = self.settings_file("");
        let output = Command::new(env!("CARGO_BIN_EXE_switchboard"))
            .args(args)
            .args(["--config", &file])
            .env_remove("SWITCHBOARD_CONFIG")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A number on sale that was not taken before.
    pub(crate) fn next_number(&self) -> E164 {
        let count = self.numbers.fetch_add(1, Ordering::Relaxed);
        let area_code = AREA_CODES[(count / 100) as usize];
        E164::from_carrier(&format!("+1{area_code}5550{}", 100 + count % 100)).unwrap()
    }

    /// Writes an intent to buy down, as the API does.
    pub(crate) async fn buy(&self, phone_number: E164) -> PurchaseId {
        let now = self.clock.now();
        let id = PurchaseId::new(now, self.random.bits());
        let money = |minor| Money::from_minor(minor, Currency::USD).unwrap();
        let number = Number {
            id: NumberId::new(now, self.random.bits()),
            workspace: WORKSPACE,
            ingress: Ingress::STORE,
            phone_number,
            country: Some(Country::US),
            number_type: NumberType::Local,
            source: Source::Store,
            status: NumberStatus::Ordering,
            status_reason: None,
            label: Some(format!("Line {phone_number}")),
            tags: Vec::new(),
            capabilities: Capabilities { voice: true, sms: false, mms: false },
            locality: None,
            region: None,
            price: Price { monthly: money(115), setup: money(0) },
            carrier_number_id: None,
            callback_token: CallbackToken(self.random.bits().to_be_bytes()),
            purchase_id: Some(id),
            assignment: None,
            release_lock: false,
            settings: NumberSettings::default(),
            hold: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        let limits = Limits { buys_per_day: 1_000_000, monthly_spend: None };
        let made = self.database.write(move |tx| purchase_create(tx, &number, id, limits, now)).await;
        made.unwrap().unwrap().id
    }

    pub(crate) async fn purchase(&self, id: PurchaseId) -> Purchase {
        self.database.read(move |read| purchase_find(read, id)).await.unwrap().unwrap()
    }

    /// Waits until a purchase is in this state.
    pub(crate) async fn until(&self, id: PurchaseId, state: PurchaseState) -> Purchase {
        let mut purchase = self.purchase(id).await;
        until(&format!("{state:?} of {id}"), async || {
            purchase = self.purchase(id).await;
            purchase.progress.state == state
        })
        .await;
        purchase
    }

    /// Waits until no purchase goes on any more.
    pub(crate) async fn until_settled(&self) {
        until("the end of all purchases", async || {
            self.database.read(|read| purchase_list_open(read, None, 1)).await.unwrap().is_empty()
        })
        .await;
    }

    /// Our numbers in one of these states.
    pub(crate) async fn numbers(&self, statuses: &[NumberStatus]) -> Vec<Number> {
        let filter = NumberFilter { statuses: statuses.to_vec(), ..NumberFilter::default() };
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let filter = filter.clone();
            let page = self
                .database
                .read(move |read| number_list(read, WORKSPACE, &filter, after, 500))
                .await
                .unwrap();
            let Some(last) = page.last() else { return all };
            after = Some(last.id);
            all.extend(page);
        }
    }

    pub(crate) async fn faults(&self, rules: Value) {
        let answer = self.http.post(self.control("faults")).json(&rules).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    pub(crate) async fn faults_clear(&self) {
        self.http.delete(self.control("faults")).send().await.unwrap();
    }

    fn control(&self, path: &str) -> String {
        format!("{}/_control/{path}", self.base_url)
    }

    async fn read_control(&self, path: &str) -> Value {
        self.http.get(self.control(path)).send().await.unwrap().json().await.unwrap()
    }

    /// From now on the requests to buy are counted.
    pub(crate) async fn count_posts(&self) {
        self.faults(json!([{"operation": "numbers.create", "probability": 0.0, "kind": "drop_before"}]))
            .await;
    }

    /// How many there were.
    pub(crate) async fn posts_counted(&self) -> u64 {
        let rules = self.read_control("faults").await;
        let rules = rules.as_array().unwrap();
        rules.iter().find(|rule| rule["probability"] == 0.0).unwrap()["seen"].as_u64().unwrap()
    }

    /// Somebody buys a number in the same account by other means.
    pub(crate) async fn buy_elsewhere(&self, phone_number: E164) {
        let url = format!("{}/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers.json", self.base_url);
        let request = self.http.post(url).basic_auth(ACCOUNT, Some(TOKEN));
        let answer = request.form(&[("PhoneNumber", phone_number.to_string())]).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    /// What the carrier truly did: how often each number was sold and given back.
    pub(crate) async fn ledger(&self) -> BTreeMap<String, (u32, u32)> {
        let rows = self.read_control("ledger").await;
        let mut told: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for row in rows.as_array().unwrap() {
            match row["effect"].as_str().unwrap() {
                "number_purchased" => {
                    let number = row["number"]["phone_number"].as_str().or(row["number"]["e164"].as_str());
                    told.entry(number.unwrap().to_owned()).or_default().0 += 1;
                }
                "number_released" => {
                    told.entry(row["phone_number"].as_str().unwrap().to_owned()).or_default().1 += 1;
                }
                _ => {}
            }
        }
        told
    }

    /// Once nothing is open: what the carrier sold is what we have, each once, and nothing was given back. How many that is.
    pub(crate) async fn judge(&self, bought_elsewhere: &[E164]) -> usize {
        self.until_settled().await;
        let ledger = self.ledger().await;
        for (number, (sold, released)) in &ledger {
            assert_eq!((*sold, *released), (1, 0), "{number} was sold {sold} times, given back {released}");
        }
        let elsewhere: BTreeSet<String> = bought_elsewhere.iter().map(ToString::to_string).collect();
        let sold: BTreeSet<String> =
            ledger.into_keys().filter(|number| !elsewhere.contains(number)).collect();
        let active = self.numbers(&[NumberStatus::Active]).await;
        let ours: BTreeSet<String> = active.iter().map(|number| number.phone_number.to_string()).collect();
        assert_eq!(ours.len(), active.len(), "a number stands twice");
        let lost: Vec<&String> = sold.difference(&ours).collect();
        assert!(lost.is_empty(), "bought and lost: {lost:?}");
        let imagined: Vec<&String> = ours.difference(&sold).collect();
        assert!(imagined.is_empty(), "active and never bought: {imagined:?}");
        ours.len()
    }

    /// Lets go of everything, in order.
    pub(crate) async fn end(mut self) {
        if let Some(simulator) = self.simulator.take() {
            simulator.kill();
        }
        self.database.close().await;
        if let Some(name) = self.postgres.take() {
            psql(&format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
}

async fn start_simulator(folder: &tempfile::TempDir, seed: u64) -> (Program, String) {
    let log = folder.path().join("simulator.log");
    let ledger = folder.path().join("ledger.jsonl");
    let seed = seed.to_string();
    let args = [
        "simulator",
        "--listen",
        "127.0.0.1:0",
        "--time-scale",
        "100",
        "--account-sid",
        ACCOUNT,
        "--auth-token",
        TOKEN,
        "--fault-seed",
        &seed,
        "--ledger",
        ledger.to_str().unwrap(),
    ];
    let simulator = Program::start(&args, &log);
    let mut base_url = None;
    until("the simulator's address", async || {
        let said = simulator.said();
        base_url = said
            .split_whitespace()
            .find(|word| word.starts_with("http://127.0.0.1:"))
            .filter(|_| said.contains("Try:"))
            .map(str::to_owned);
        base_url.is_some()
    })
    .await;
    (simulator, base_url.unwrap())
}

fn settings(folder: &tempfile::TempDir, base_url: &str, postgres: Option<&str>) -> String {
    let data_dir = folder.path().join("data");
    let data_dir = data_dir.display();
    let database_url =
        postgres.map(|name| format!("database_url = {:?}\n", postgres_url(name))).unwrap_or_default();
    format!(
        r#"data_dir = "{data_dir}"
{database_url}database_connections = 3
public_url = "http://127.0.0.1:9"
drain_timeout_ms = 2000
[log]
filter = "info"
[store]
supply = "demo"
prices = {{ US = {{ local = {{ monthly = "1.15" }} }} }}
[store.limits]
buys_per_day = 1000000
[limits]
requests_per_second = 1000
requests_burst = 10000
[purchases]
look_ups_ms = [50, 300, 1200, 6000]
late_looks_ms = [7000, 8000, 9000, 10000]
retry_ms = 50
lease_ms = 1200
poll_ms = 20
[reconcile]
period_ms = 3000
listing_gap_ms = 6000
[carriers.twilio]
base_url = "{base_url}"
account_sid = "{ACCOUNT}"
auth_token = "{TOKEN}"
timeout_ms = 500
connect_timeout_ms = 400
read_tries = 2
"#
    )
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[expect(clippy::disallowed_methods, reason = "only the environment knows where the test server is")]
fn postgres_server() -> String {
    std::env::var("SWITCHBOARD_TEST_POSTGRES_URL").unwrap_or_else(|_| {
        panic!(
            "SWITCHBOARD_TEST_POSTGRES_URL is not set. Run this first:\n    \
             eval \"$(crates/database/tests/postgres.sh start)\""
        )
    })
}

fn postgres_url(name: &str) -> String {
    let server = postgres_server();
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/{name}")
}

fn create_postgres() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("crash_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    psql(&format!("CREATE DATABASE {name}"));
    name
}

fn psql(sql: &str) {
    let output = Command::new("psql").args([&postgres_server(), "-qXc", sql]).output().unwrap();
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
}
