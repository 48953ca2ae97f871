//! Two nodes on one PostgreSQL: what one changes, calls at the other obey. Each node is the whole program but for its process: an
//! app with a listener of its own. Changes are made through one node's API, and seen as a carrier would see them: in the TwiML
//! that the other node answers to a signed callback.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use server::actions::keys::{KeyRole, NewKey, key_create};
use server::actions::{Answer, Caller, Once};
use server::app::{App, Random, Shared, WORKSPACE_DEFAULT};
use server::clock::{Clock as _, SystemClock};
use server::config::{Config, PriceSetting, Secret, Supply};
use server::simulator::{self, RunningSimulator, SimulatorConfig, VoiceRequest, signed_voice_request};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;
use url::Url;

/// How long any one wait in these tests may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How soon the other node knows of a change.
const SEEN_WITHIN: Duration = Duration::from_secs(1);
/// The same without notifications, and for a key that was revoked.
const SEEN_WITHOUT_NOTIFICATIONS_WITHIN: Duration = Duration::from_secs(5);
/// How often the other node is asked whether it knows.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How often it is watched while many changes are made.
const WATCH_EVERY: Duration = Duration::from_millis(25);
/// Who calls: a number reserved for fiction.
const CALLER: &str = "+15145550199";

const MISSING: &str = "SWITCHBOARD_TEST_POSTGRES_URL is not set. Run this first:\n    \
    eval \"$(crates/database/tests/postgres.sh start)\"";

/// A database of this test's own on the test server.
struct TestDatabase {
    server: String,
    name: String,
}

impl TestDatabase {
    async fn create() -> TestDatabase {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        #[expect(clippy::disallowed_methods, reason = "only the environment knows where the test server is")]
        let server = std::env::var("SWITCHBOARD_TEST_POSTGRES_URL").unwrap_or_else(|_| panic!("{MISSING}"));
        let name = format!("nodes_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let database = TestDatabase { server, name };
        database.administer(&format!("CREATE DATABASE {}", database.name)).await;
        database
    }

    fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').unwrap();
        format!("{server}/{}", self.name)
    }

    /// Runs a statement past the code under test, and gives how many rows it had.
    async fn administer(&self, statement: &str) -> usize {
        let (client, connection) =
            tokio_postgres::connect(&self.server, NoTls).await.expect("the test server answers");
        let asked = async {
            let rows = client.simple_query(statement).await.unwrap();
            drop(client);
            rows.iter().filter(|row| matches!(row, tokio_postgres::SimpleQueryMessage::Row(_))).count()
        };
        tokio::join!(asked, connection).0
    }

    /// Cuts the connections on which nodes hear of each other's changes, and gives how many there were.
    async fn cut_notifications(&self) -> usize {
        self.administer(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}' \
             AND (query LIKE 'LISTEN%' OR query LIKE 'NOTIFY%')",
            self.name
        ))
        .await
    }

    async fn drop(self) {
        self.administer(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

/// One node.
struct Node {
    app: Shared,
    url: String,
    stop: CancellationToken,
}

/// Two nodes, the carrier that supplies their store, and a number that nobody is assigned to: what it says is its fallback's message.
struct Cluster {
    database: TestDatabase,
    carrier: RunningSimulator,
    nodes: [Node; 2],
    serving: JoinSet<anyhow::Result<()>>,
    http: reqwest::Client,
    key: String,
    number: Value,
    /// Where the carrier sends the number's calls, behind a node's address.
    voice_path: String,
    public_url: String,
    clock: SystemClock,
    _folder: TempDir,
}

impl Cluster {
    async fn start(notifications: bool) -> Cluster {
        let database = TestDatabase::create().await;
        let folder = tempfile::tempdir().unwrap();
        let carrier = simulator::start(SimulatorConfig::default()).await.unwrap();
        let listeners = [listener().await, listener().await];
        // Behind a load balancer both would have one address; the carrier is told the first one's.
        let public_url = format!("http://{}", listeners[0].local_addr().unwrap());
        let mut serving = JoinSet::new();
        let mut nodes = Vec::new();
        for (name, listener) in ["a", "b"].into_iter().zip(listeners) {
            let mut config = Config {
                data_dir: folder.path().join(name),
                // A cluster has one key.
                encryption_key_file: Some(folder.path().join("key")),
                database_url: Some(Secret::new(database.url())),
                database_connections: 4,
                database_notifications: notifications,
                public_url: Some(public_url.parse().unwrap()),
                drain_timeout_ms: 2_000,
                ..Config::default()
            };
            config.store.supply = Some(Supply::Demo);
            let price = PriceSetting { monthly: "1.15".to_owned(), setup: "0.00".to_owned() };
            let (country, number_type) = ("US".parse().unwrap(), "local".parse().unwrap());
            config.store.prices.entry(country).or_default().insert(number_type, price);
            config.carriers.twilio.base_url = carrier.base_url().parse().unwrap();
            config.carriers.twilio.account_sid = Some(carrier.account_sid().to_owned());
            config.carriers.twilio.auth_token = Some(Secret::new(carrier.auth_token()));
            config.limits.requests_burst = 10_000;
            config.limits.requests_per_second = 10_000;
            config.check().unwrap();
            let app = App::open(config, Arc::new(SystemClock::new()), Random::from_system()).await.unwrap();
            let (url, stop) =
                (format!("http://{}", listener.local_addr().unwrap()), CancellationToken::new());
            serving.spawn(server::serve::run(app.clone(), listener, stop.clone()));
            nodes.push(Node { app, url, stop });
        }
        let [a, b]: [Node; 2] = nodes.try_into().ok().unwrap();
        let key = key_of(&a.app).await;
        let mut cluster = Cluster {
            database,
            carrier,
            nodes: [a, b],
            serving,
            http: client(),
            key,
            number: Value::Null,
            voice_path: String::new(),
            public_url,
            clock: SystemClock::new(),
            _folder: folder,
        };
        cluster.buy().await;
        cluster
    }

    async fn buy(&mut self) {
        let request = self
            .http
            .post(format!("{}/v1/numbers/buy", self.nodes[0].url))
            .bearer_auth(&self.key)
            .header("idempotency-key", "the-number")
            .json(&json!({"country": "US", "max_monthly_price": {"amount": "2.00", "currency": "USD"}}));
        let bought = request.send().await.unwrap();
        let status = bought.status();
        let number: Value = bought.json().await.unwrap();
        assert_eq!(status.as_u16(), 202, "{number:#}");
        let path = format!("/v1/numbers/{}", number["id"].as_str().unwrap());
        self.until("the number is active", PATIENCE, async || {
            self.ask(0, Method::GET, &path, None).await.1["status"] == "active"
        })
        .await;
        let url = format!("{}/_control/numbers", self.carrier.base_url());
        let at_carrier: Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
        let voice_url: Url = at_carrier[0]["voice_url"].as_str().unwrap().parse().unwrap();
        voice_url.path().clone_into(&mut self.voice_path);
        self.number = number;
    }

    /// Asks a node's API.
    async fn ask(&self, node: usize, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        self.ask_as(&self.key, node, method, path, body).await
    }

    async fn ask_as(
        &self,
        key: &str,
        node: usize,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let request = self.http.request(method, format!("{}{path}", self.nodes[node].url)).bearer_auth(key);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Sets what the number says, at the first node.
    async fn say(&self, change: u32) {
        let path = format!("/v1/numbers/{}", self.number["id"].as_str().unwrap());
        let message = json!({"fallback": {"message": format!("change {change}")}});
        let (status, body) = self.ask(0, Method::PATCH, &path, Some(message)).await;
        assert_eq!(status, 200, "{body:#}");
    }

    /// What a caller is told when the carrier asks this node: the number of a change; 0 before the first.
    async fn told(&self, node: usize) -> u32 {
        let twiml = self.answered(node, None).await;
        let said = twiml.split_once("change ").map(|(_, rest)| rest);
        said.map_or(0, |rest| rest[..rest.find('<').unwrap()].parse().unwrap())
    }

    /// What the carrier is answered when it asks this node about a call, a new one unless it is named.
    async fn answered(&self, node: usize, call_sid: Option<&str>) -> String {
        let signed = signed_voice_request(VoiceRequest {
            url: &format!("{}{}", self.public_url, self.voice_path),
            auth_token: self.carrier.auth_token(),
            account_sid: self.carrier.account_sid(),
            from: CALLER,
            to: self.number["phone_number"].as_str().unwrap(),
            call_sid,
        });
        let request = self
            .http
            .post(format!("{}{}", self.nodes[node].url, self.voice_path))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-twilio-signature", signed.signature)
            .body(signed.body);
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let twiml = answer.text().await.unwrap();
        assert_eq!(status, 200, "{twiml}");
        twiml
    }

    /// Waits until something holds, and gives how long that took.
    async fn until(&self, what: &str, limit: Duration, mut holds: impl AsyncFnMut() -> bool) -> Duration {
        let begun = self.clock.monotonic();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let waiting = async {
            while !holds().await {
                looks.tick().await;
            }
        };
        assert!(tokio::time::timeout(limit, waiting).await.is_ok(), "waited {limit:?} in vain: {what}");
        self.clock.monotonic().saturating_sub(begun)
    }

    /// Makes so many changes at the first node, each seen at the second within a limit, and prints how long that took.
    async fn changes_are_seen(&self, how: &str, changes: std::ops::Range<u32>, limit: Duration) {
        let mut waits = Vec::new();
        for change in changes {
            self.say(change).await;
            let seen = self.until("the other node knows", limit, async || self.told(1).await == change);
            waits.push(seen.await);
        }
        waits.sort_unstable();
        println!(
            "{how}: {} changes seen at the other node, median {:?}, slowest {:?}",
            waits.len(),
            waits[waits.len() / 2],
            waits[waits.len() - 1]
        );
    }

    async fn end(mut self) {
        for node in &self.nodes {
            node.stop.cancel();
        }
        while let Some(ended) = self.serving.join_next().await {
            ended.unwrap().unwrap();
        }
        self.carrier.shutdown().await;
        drop(self.nodes);
        self.database.drop().await;
    }
}

async fn listener() -> TcpListener {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

#[expect(clippy::disallowed_methods, reason = "the tests' own client, of the far side")]
fn client() -> reqwest::Client {
    // Another test may have installed it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

/// The key of an owner.
async fn key_of(app: &Shared) -> String {
    let found =
        app.database.read(|read| database::workspaces::workspace_find_by_name(read, WORKSPACE_DEFAULT)).await;
    let caller = Caller::command_line(found.unwrap().unwrap().id);
    let role = KeyRole::BuiltIn("owner".parse().unwrap());
    let new = NewKey { name: "test".to_owned(), role, expires_at: None };
    match key_create(app, &caller, new, Once::without_key()).await {
        Ok(Answer::Fresh(made)) => made.text.expose_secret().to_owned(),
        _ => panic!("a key is made"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_seen_by_the_other_node_at_once() {
    let cluster = Cluster::start(true).await;
    cluster.changes_are_seen("with notifications", 1..31, SEEN_WITHIN).await;

    // Whoever listens is cut off, again and again, before each change.
    let cutting = CancellationToken::new();
    let cutter = async {
        let mut cut = 0;
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !cutting.is_cancelled() {
            cut += cluster.database.cut_notifications().await;
            ticks.tick().await;
        }
        cut
    };
    let changing = async {
        let limit = SEEN_WITHOUT_NOTIFICATIONS_WITHIN;
        cluster.changes_are_seen("with notifications cut", 31..41, limit).await;
        cutting.cancel();
    };
    let (cut, ()) = tokio::join!(cutter, changing);
    assert!(cut > 0, "there were connections to cut");
    println!("{cut} listening connections were cut");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_notifications_a_change_is_seen_within_seconds_and_a_revoked_key_is_refused() {
    let cluster = Cluster::start(false).await;
    cluster.changes_are_seen("without notifications", 1..6, SEEN_WITHOUT_NOTIFICATIONS_WITHIN).await;

    let new = json!({"name": "soon revoked", "role": "viewer"});
    let (status, made) = cluster.ask(0, Method::POST, "/v1/api-keys", Some(new)).await;
    assert_eq!(status, 201, "{made:#}");
    let (id, text) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let (status, body) = cluster.ask_as(text, 1, Method::GET, "/v1/numbers", None).await;
    assert_eq!(status, 200, "{body:#}");
    let path = format!("/v1/api-keys/{id}");
    let (status, body) = cluster.ask(0, Method::DELETE, &path, None).await;
    assert!(matches!(status, 200 | 204), "{status} {body:#}");
    let refused = cluster
        .until("the key is refused", SEEN_WITHOUT_NOTIFICATIONS_WITHIN, async || {
            cluster.ask_as(text, 1, Method::GET, "/v1/numbers", None).await.0 == 401
        })
        .await;
    println!("a revoked key is refused at the other node after {refused:?}");
    cluster.end().await;
}

/// A carrier that repeats a callback may well reach the other node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_has_one_id_whichever_node_is_asked() {
    let cluster = Cluster::start(true).await;
    // A target that is dialled, so that the answer tells the id.
    let path = format!("/v1/numbers/{}", cluster.number["id"].as_str().unwrap());
    let target = json!({"fallback": {"targets": [{"type": "phone", "phone_number": "+14155550123"}]}});
    let (status, body) = cluster.ask(0, Method::PATCH, &path, Some(target)).await;
    assert_eq!(status, 200, "{body:#}");
    let id = async |node, call_sid| {
        let twiml = cluster.answered(node, Some(call_sid)).await;
        let (_, rest) = twiml.split_once("call=").unwrap_or_else(|| panic!("{twiml}"));
        rest.split('&').next().unwrap().to_owned()
    };
    let dials = async |node| cluster.answered(node, None).await.contains("<Dial");
    cluster.until("both nodes dial", PATIENCE, async || dials(0).await && dials(1).await).await;
    let (first, second) = ("CA00000000000000000000000000000001", "CA00000000000000000000000000000002");
    let here = id(0, first).await;
    assert_eq!(id(1, first).await, here);
    assert_eq!(id(0, first).await, here);
    assert_ne!(id(1, second).await, here);
    // And by that id it is found, from either node.
    for node in [0, 1] {
        let path = format!("/v1/calls/{here}");
        cluster
            .until("the call is kept", PATIENCE, async || {
                cluster.ask(node, Method::GET, &path, None).await.0 == 200
            })
            .await;
        let (_, call) = cluster.ask(node, Method::GET, &path, None).await;
        assert_eq!(call["carrier_call_id"], first, "{call:#}");
        assert_eq!(
            call["timeline"].as_array().unwrap().len(),
            1,
            "a repetition is no second event: {call:#}"
        );
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_never_goes_back_while_the_other_changes_things() {
    const CHANGES: u32 = 200;
    let cluster = Cluster::start(true).await;
    let done = CancellationToken::new();
    let changing = async {
        for change in 1..=CHANGES {
            cluster.say(change).await;
        }
        done.cancel();
    };
    let watching = async {
        let (mut latest, mut version, mut looks) = (0, 0, 0_u32);
        // Each look is a call, whose record is written by the very database that the changes need.
        let mut ticks = tokio::time::interval(WATCH_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !done.is_cancelled() {
            ticks.tick().await;
            let told = cluster.told(1).await;
            assert!(told >= latest, "change {latest} was seen, and then change {told}");
            let table = cluster.nodes[1].app.routes.current().version();
            assert!(table >= version, "version {version} was in use, and then version {table}");
            (latest, version, looks) = (told, table, looks + 1);
        }
        looks
    };
    let ((), looks) = tokio::join!(changing, watching);
    assert!(looks > 20, "the other node was watched meanwhile: {looks} times");
    let seen = cluster.until("the last change", SEEN_WITHIN, async || cluster.told(1).await == CHANGES).await;
    println!(
        "{CHANGES} changes, {looks} looks at the other node, never backwards; the last seen after {seen:?}"
    );
    cluster.end().await;
}
