//! A node for a test: the app on a database of its own (SQLite, or PostgreSQL where the test asks for both), a clock that stands
//! still, a simulated carrier, and the true router, asked in memory. [`run`] fails a test that leaves a purchase open.

use std::fmt::Write as _;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, Request};
use database::Engine;
use database::purchases::purchase_list_open;
use domain::id::WorkspaceId;
use domain::permission::BuiltInRole;
use domain::workspace::WorkspaceSettings;
use expect_test::Expect;
use http_body_util::BodyExt as _;
use secrecy::ExposeSecret as _;
use serde_json::Value;
use server::actions::keys::{KeyRole, NewKey, key_create};
use server::actions::{Answer as Done, Caller, Once};
use server::app::{App, Random, Shared};
use server::background::driver::Task as _;
use server::background::order_numbers::OrderNumbers;
use server::background::release_numbers::ReleaseNumbers;
use server::clock::{Clock as _, TestClock};
use server::config::Config;
use server::simulator::{self, RunningSimulator, SimulatorConfig};
use tokio_postgres::NoTls;
use tower::ServiceExt as _;

use crate::contract;

/// How long any one wait in these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// When every test begins.
pub(crate) const START: &str = "2026-11-21T22:00:00Z";
const MISSING: &str = "SWITCHBOARD_TEST_POSTGRES_URL is not set. Run this first:\n    \
    eval \"$(crates/database/tests/postgres.sh start)\"";

/// Makes two tests of each function: `name::sqlite` and `name::postgres`.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            #[test]
            fn sqlite() {
                $crate::harness::run(database::Engine::Sqlite, super::$name);
            }

            #[test]
            fn postgres() {
                $crate::harness::run(database::Engine::Postgres, super::$name);
            }
        }
    )* };
}
pub(crate) use on_both_engines;

/// Makes a test of each function, on SQLite.
macro_rules! on_sqlite {
    ($($name:ident),* $(,)?) => { $(
        mod $name {
            #[test]
            fn sqlite() {
                $crate::harness::run(database::Engine::Sqlite, super::$name);
            }
        }
    )* };
}
pub(crate) use on_sqlite;

/// One node.
pub(crate) struct Node {
    pub(crate) app: Shared,
    pub(crate) clock: Arc<TestClock>,
    /// Sells as long as the node lives.
    _carrier: RunningSimulator,
    pub(crate) workspace: WorkspaceId,
    /// The key that requests are made with, unless another is named.
    pub(crate) owner_key: String,
    router: Router,
    orders: OrderNumbers,
    releases: ReleaseNumbers,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// Runs one test on one engine.
pub(crate) fn run<F: Future<Output = ()>>(engine: Engine, test: impl Fn(Arc<Node>) -> F) {
    run_with(engine, "", test);
}

/// Runs one test on one engine with settings of its own.
pub(crate) fn run_with<F: Future<Output = ()>>(
    engine: Engine,
    settings: &str,
    test: impl Fn(Arc<Node>) -> F,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let mut config = format!("data_dir = \"{}\"\n", folder.path().join("data").display());
        let name = unique_name();
        if engine == Engine::Postgres {
            admin(&format!("CREATE DATABASE {name}")).await;
            let _ = write!(config, "database_url = {:?}\ndatabase_connections = 3\n", url_of(&name));
        }
        let node = Arc::new(Node::open(&(config + settings)).await);
        test(node.clone()).await;
        let open = node.app.database.read(|read| purchase_list_open(read, None, 10)).await.unwrap();
        assert!(open.is_empty(), "the test leaves purchases open: {open:#?}");
        assert!(node.app.tasks.stop(PATIENCE).await, "the test leaves tasks running");
        node.app.database.close().await;
        if engine == Engine::Postgres {
            admin(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
        }
    });
}

impl Node {
    async fn open(settings: &str) -> Node {
        let carrier = simulator::start(SimulatorConfig { time_scale: 100, ..SimulatorConfig::default() })
            .await
            .unwrap();
        let base = format!(
            "public_url = \"http://127.0.0.1:9\"\negress.danger_plain_to_loopback = true\n\
             egress.allowed_addresses = [\"127.0.0.0/8\"]\n\
             store.supply = \"demo\"\n\
             store.prices = {{ US = {{ local = {{ monthly = \"1.15\" }}, toll_free = {{ monthly = \"2.15\" }} }}, \
             CA = {{ local = {{ monthly = \"1.15\" }} }}, GB = {{ local = {{ monthly = \"1.15\", setup = \"1.00\" }} }}, \
             FR = {{ local = {{ monthly = \"1.15\" }} }} }}\n\
             carriers.twilio = {{ base_url = {:?}, account_sid = {:?}, auth_token = {:?} }}\n",
            carrier.base_url(),
            carrier.account_sid(),
            carrier.auth_token()
        );
        let config: Config = toml::from_str(&(base + settings)).unwrap();
        let clock = Arc::new(TestClock::at(START.parse().unwrap()));
        let app = App::open(config, clock.clone(), Random::from_seed(1)).await.unwrap();
        let workspace = app
            .database
            .read(|read| database::workspaces::workspace_find_by_name(read, "default"))
            .await
            .unwrap()
            .unwrap()
            .id;
        let owner_key = key_in(&app, workspace, BuiltInRole::Owner).await;
        Node {
            router: server::serve::router(&app),
            orders: OrderNumbers::new(&app),
            releases: ReleaseNumbers::new(&app),
            clock,
            _carrier: carrier,
            workspace,
            owner_key,
            app,
        }
    }

    /// A key with this role, in the workspace of the test.
    pub(crate) async fn key(&self, role: BuiltInRole) -> String {
        key_in(&self.app, self.workspace, role).await
    }

    /// A key of the owner of another workspace, which is made.
    pub(crate) async fn stranger(&self, name: &'static str) -> (WorkspaceId, String) {
        let (now, id) = (self.clock.now(), WorkspaceId::new(self.clock.now(), self.app.random.bits()));
        self.app
            .database
            .write(move |tx| {
                database::workspaces::workspace_create(tx, id, name, &WorkspaceSettings::default(), now)
            })
            .await
            .unwrap();
        (id, key_in(&self.app, id, BuiltInRole::Owner).await)
    }

    /// Asks with the owner's key.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    /// Asks with the owner's key and a body.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Asks with the owner's key and a body.
    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// Asks with the owner's key and a body.
    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// Asks with the owner's key.
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Asks with the owner's key.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.send_as(&self.owner_key, method, path, body, &[]).await
    }

    /// Asks with this key, a body and headers.
    pub(crate) async fn send_as(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = match body {
            Some(body) => {
                request.header(CONTENT_TYPE, "application/json").body(Body::from(body.to_string())).unwrap()
            }
            None => request.body(Body::empty()).unwrap(),
        };
        self.answer(request).await
    }

    /// Asks exactly this.
    pub(crate) async fn answer(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().to_string());
        let asked = async {
            let response = self.router.clone().oneshot(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            Answer {
                status: parts.status.as_u16(),
                headers: parts.headers,
                text: String::from_utf8(bytes.to_vec()).unwrap(),
            }
        };
        let answer = tokio::time::timeout(PATIENCE, asked).await.expect("every request is answered in time");
        contract::check(&method, &path, answer.status, &answer.text);
        answer
    }

    /// Buys a number of a country, for this key, and gives it as it is once the purchase is settled.
    pub(crate) async fn buy(&self, country: &str) -> Value {
        let key = format!("buy-{:032x}", self.app.random.bits());
        let body = serde_json::json!({"country": country, "max_monthly_price": {"amount": "5.00", "currency": "USD"}});
        let headers = [("idempotency-key", key.as_str())];
        let bought =
            self.send_as(&self.owner_key, Method::POST, "/v1/numbers/buy", Some(body), &headers).await;
        assert_eq!(bought.status, 202, "{}", bought.text);
        self.settle().await;
        self.get(&format!("/v1/numbers/{}", bought.json()["id"].as_str().unwrap())).await.json()
    }

    /// Lets the background carry out what is open: purchases to their end, releases that are due. The clock goes on only where a
    /// purchase waits for it.
    pub(crate) async fn settle(&self) {
        const STEP: Duration = Duration::from_secs(3);
        let settled = async {
            loop {
                self.orders.run_once(&self.app).await.unwrap();
                self.releases.run_once(&self.app).await.unwrap();
                let open = self.app.database.read(|read| purchase_list_open(read, None, 1)).await.unwrap();
                if open.is_empty() {
                    return;
                }
                // Whoever ends a step of a purchase nudges.
                let stepped = self.app.nudges.order_numbers.notified();
                if tokio::time::timeout(STEP, stepped).await.is_err() {
                    self.clock.advance(Duration::from_secs(5));
                }
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.expect("every purchase settles");
    }
}

/// Makes a key past the API, as the command line does.
async fn key_in(app: &Shared, workspace: WorkspaceId, role: BuiltInRole) -> String {
    let new = NewKey { name: format!("{role} of a test"), role: KeyRole::BuiltIn(role), expires_at: None };
    let made = key_create(app, &Caller::command_line(workspace), new, Once::without_key()).await;
    match made.unwrap() {
        Done::Fresh(made) => made.text.expose_secret().to_owned(),
        Done::Replayed { .. } => panic!("nothing was made before"),
    }
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The error code of a problem.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or("(none)").to_owned()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Compares status and body; ids, keys and quotes are cut to their prefix, since they are random.
    #[expect(clippy::needless_pass_by_value, reason = "`expect!` reads better as an argument")]
    pub(crate) fn check(&self, expected: Expect) {
        let body = match serde_json::from_str::<Value>(&self.text) {
            Ok(json) => serde_json::to_string_pretty(&json).unwrap(),
            Err(_) => self.text.clone(),
        };
        expected.assert_eq(&format!("{}\n{}\n", self.status, redacted(&body)));
    }
}

/// The text with everything random cut to its prefix.
pub(crate) fn redacted(text: &str) -> String {
    const PREFIXES: &[&str] = &[
        "wsp", "key", "rol", "num", "pur", "agt", "var", "ver", "dep", "cal", "evt", "aud", "req", "quo",
        "sbk", "sec",
    ];
    let mut out = String::new();
    let mut rest = text;
    while let Some(place) = rest.find('_') {
        let (before, after) = rest.split_at(place);
        let tail: usize =
            after[1..].bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')).count();
        let known = PREFIXES.iter().any(|prefix| {
            before.ends_with(prefix)
                && !before[..before.len() - prefix.len()]
                    .ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        });
        out.push_str(before);
        if known && tail >= 20 {
            out.push_str("_…");
        } else {
            out.push_str(&after[..=tail]);
        }
        rest = &after[1 + tail..];
    }
    out + rest
}

fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("server_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[expect(clippy::disallowed_methods, reason = "only the environment knows where the test server is")]
fn admin_url() -> String {
    std::env::var("SWITCHBOARD_TEST_POSTGRES_URL").unwrap_or_else(|_| panic!("{MISSING}"))
}

fn url_of(database: &str) -> String {
    let url = admin_url();
    let (server, _) = url.rsplit_once('/').unwrap();
    format!("{server}/{database}")
}

async fn admin(sql: &str) {
    let (client, connection) =
        tokio_postgres::connect(&admin_url(), NoTls).await.expect("the test server answers");
    let asked = async {
        client.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        drop(client);
    };
    let ((), _) = tokio::join!(asked, connection);
}

#[test]
fn redaction_keeps_what_is_not_random() {
    assert_eq!(
        redacted("num_01kb5x3a7m0000000000000000 not_e164 \"release_lock\" key_01kb5x3a7m0000000000000000\""),
        "num_… not_e164 \"release_lock\" key_…\""
    );
}
