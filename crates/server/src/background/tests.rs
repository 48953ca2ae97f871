//! The store's tasks against the simulated carrier, over HTTP: what becomes of a purchase whatever the carrier does, who may send
//! the one request, what is given back, and what a comparison finds. Crashes of the whole process are in `tests/crash`.

use std::sync::Arc;
use std::time::Duration;

use database::findings::finding_list;
use database::numbers::{Number, number_find, number_update};
use database::purchases::{Limits, Purchase, purchase_claim, purchase_create, purchase_find, purchase_step};
use domain::call::Ingress;
use domain::id::{CallId, NumberId, PurchaseId, WorkspaceId};
use domain::number::{Capabilities, Country, E164, NumberStatus, NumberType, ReleaseHold, Source};
use domain::purchase::{Event, PurchaseState, step};
use domain::reconcile::FindingKind;
use domain::route::row::{CallbackToken, NumberSettings};
use domain::workspace::WorkspaceSettings;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::build_routes;
use super::driver::Task as _;
use super::order_numbers::OrderNumbers;
use super::reconcile_numbers::reconcile;
use super::record_calls;
use super::release_numbers::{MARGIN, ReleaseNumbers};
use crate::actions::Failure;
use crate::actions::secrets::{NewSecrets, Sealer};
use crate::app::{App, Random, Shared};
use crate::clock::{Clock, SystemClock, TestClock};
use crate::config::Config;
use crate::record::{Entry, Note};
use crate::simulator::{self, RunningSimulator, SimulatorConfig};

const PATIENCE: Duration = Duration::from_secs(20);

/// A node, its database and a carrier.
struct World {
    app: Shared,
    clock: Arc<TestClock>,
    carrier: RunningSimulator,
    http: reqwest::Client,
    workspace: WorkspaceId,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let carrier = simulator::start(SimulatorConfig::default()).await.unwrap();
        let config = format!(
            "data_dir = {:?}\npublic_url = \"http://127.0.0.1:9\"\nvoice_fallback_url = \"https://fallback.example/voice\"\n\
             store.supply = \"demo\"\nstore.prices = {{ US = {{ local = {{ monthly = \"1.15\" }} }} }}\n\
             carriers.twilio = {{ base_url = {:?}, account_sid = {:?}, auth_token = {:?}, timeout_ms = 2000, read_tries = 2 }}\n",
            folder.path().join("data"),
            carrier.base_url(),
            carrier.account_sid(),
            carrier.auth_token()
        );
        let config: Config = toml::from_str(&config).unwrap();
        let clock = Arc::new(TestClock::at("2026-11-21T12:00:00Z".parse().unwrap()));
        let app = App::open(config, clock.clone(), Random::from_seed(1)).await.unwrap();
        let (workspace, now) = (WorkspaceId::from_bits(1), clock.now());
        app.database
            .write(move |tx| {
                database::workspaces::workspace_create(tx, workspace, "w", &WorkspaceSettings::default(), now)
            })
            .await
            .unwrap();
        let http =
            carriers::http::client_builder(carriers::http::Timeouts { connect: PATIENCE, total: PATIENCE });
        World { app, clock, carrier, http: http.build().unwrap(), workspace, _folder: folder }
    }

    /// Another node on the same database, with other settings.
    fn twin(&self, config: Config) -> Shared {
        let (database, keyring) = (self.app.database.clone(), self.app.keyring.clone());
        App::with(config, self.clock.clone(), Random::from_seed(2), database, keyring).unwrap()
    }

    async fn control(&self, path: &str) -> Value {
        let url = format!("{}/_control/{path}", self.carrier.base_url());
        self.http.get(url).send().await.unwrap().json().await.unwrap()
    }

    async fn faults(&self, rules: Value) {
        let url = format!("{}/_control/faults", self.carrier.base_url());
        let answer = self.http.post(url).json(&rules).send().await.unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().await.unwrap());
    }

    /// The effects at the carrier, by their names.
    async fn effects(&self) -> Vec<String> {
        let ledger = self.control("ledger").await;
        let rows = ledger.as_array().unwrap().iter();
        rows.map(|row| row["effect"].as_str().unwrap().to_owned())
            .filter(|effect| effect.starts_with("number_"))
            .collect()
    }

    /// Somebody buys a number at the carrier by other means.
    async fn buy_elsewhere(&self, phone_number: &str) {
        let url = format!(
            "{}/2010-04-01/Accounts/{}/IncomingPhoneNumbers.json",
            self.carrier.base_url(),
            self.carrier.account_sid()
        );
        let request =
            self.http.post(url).basic_auth(self.carrier.account_sid(), Some(self.carrier.auth_token()));
        let answer = request.form(&[("PhoneNumber", phone_number)]).send().await.unwrap();
        assert_eq!(answer.status(), 201);
    }

    /// Writes an intent down, as `number_buy` does.
    async fn buy(&self, phone_number: &str) -> PurchaseId {
        let now = self.clock.now();
        let id = PurchaseId::new(now, self.app.random.bits());
        let store = self.app.store.as_ref().unwrap();
        let price = store.price(Country::US, NumberType::Local).unwrap();
        let number = Number {
            id: NumberId::new(now, self.app.random.bits()),
            workspace: self.workspace,
            ingress: Ingress::STORE,
            phone_number: E164::from_carrier(phone_number).unwrap(),
            country: Some(Country::US),
            number_type: NumberType::Local,
            source: Source::Store,
            status: NumberStatus::Ordering,
            status_reason: None,
            label: Some("Front desk".into()),
            tags: Vec::new(),
            capabilities: Capabilities { voice: true, sms: false, mms: false },
            locality: None,
            region: None,
            price,
            carrier_number_id: None,
            callback_token: CallbackToken(self.app.random.bits().to_be_bytes()),
            purchase_id: Some(id),
            assignment: None,
            release_lock: false,
            settings: NumberSettings::default(),
            hold: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        let limits = Limits { buys_per_day: 100, monthly_spend: None };
        let made = self.app.database.write(move |tx| purchase_create(tx, &number, id, limits, now)).await;
        made.unwrap().unwrap().id
    }

    async fn purchase(&self, id: PurchaseId) -> Purchase {
        self.app.database.read(move |read| purchase_find(read, id)).await.unwrap().unwrap()
    }

    async fn number(&self, id: PurchaseId) -> Number {
        let (workspace, id) = (self.workspace, self.purchase(id).await.number_id);
        self.app.database.read(move |read| number_find(read, workspace, id)).await.unwrap().unwrap()
    }

    /// Lets the task work, and time pass whenever nothing is due, until the purchase is in this state.
    async fn until(&self, id: PurchaseId, state: PurchaseState) -> Purchase {
        let task = OrderNumbers::new(&self.app);
        let watch = SystemClock::new();
        loop {
            let purchase = self.purchase(id).await;
            if purchase.progress.state == state && purchase.lease.is_none() {
                return purchase;
            }
            assert!(!purchase.progress.state.is_settled(), "it ended {:?}", purchase.progress);
            assert!(watch.monotonic() < PATIENCE, "it stays {:?}", purchase.progress);
            if purchase.lease.is_none() {
                let wake_at = purchase.progress.wake_at.unwrap_or(self.clock.now());
                let ahead = wake_at.duration_since(self.clock.now());
                self.clock.advance(Duration::try_from(ahead).unwrap_or_default());
            }
            task.run_once(&self.app).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}

const NUMBER: &str = "+14155550123";

fn posts(effects: &[String]) -> usize {
    effects.iter().filter(|effect| *effect == "number_purchased").count()
}

#[tokio::test]
async fn a_number_is_bought_labelled_and_active() {
    let world = World::new().await;
    let id = world.buy(NUMBER).await;
    world.until(id, PurchaseState::Active).await;
    let number = world.number(id).await;
    assert_eq!(number.status, NumberStatus::Active);
    assert!(number.carrier_number_id.as_ref().is_some_and(|id| id.starts_with("PN")));
    let kept = world.control("numbers").await[0].clone();
    let base = format!("http://127.0.0.1:9/callbacks/twilio/{}", number.callback_token.to_hex());
    assert_eq!(kept["friendly_name"], "Front desk");
    assert_eq!(kept["voice_url"], format!("{base}/voice"));
    assert_eq!(kept["status_callback"], format!("{base}/voice-status"));
    assert_eq!(kept["voice_fallback_url"], "https://fallback.example/voice");
    let workspace = world.workspace;
    let events = world
        .app
        .database
        .read(move |read| database::events::event_list(read, workspace, 0, 10))
        .await
        .unwrap();
    assert!(events.iter().any(|entry| entry.event.kind.as_str() == "number.active"));
}

/// Whatever the carrier does, in the end the number is ours once, and asked for again only after the whole schedule.
#[tokio::test]
async fn every_misbehaviour_of_the_carrier_ends_well() {
    for (fault, needs_looks) in [
        (json!({"kind": "too_many_requests"}), false),
        (json!({"kind": "too_many_requests", "retry_after": 60}), false),
        (json!({"kind": "error_before"}), true),
        (json!({"kind": "error_after"}), true),
        (json!({"kind": "drop_before"}), true),
        (json!({"kind": "drop_after"}), true),
        (json!({"kind": "truncated_json"}), true),
        (json!({"kind": "truncated_json", "connection": true}), true),
        (json!({"kind": "html_502"}), true),
        (json!({"kind": "html_502", "after": true}), true),
        (json!({"kind": "slow", "ms": 4_000}), true),
    ] {
        let world = World::new().await;
        let mut rule = fault.clone();
        rule["operation"] = json!("numbers.create");
        rule["times"] = json!(1);
        world.faults(json!([rule])).await;
        let id = world.buy(NUMBER).await;
        let begun = world.clock.now();
        let ended = world.until(id, PurchaseState::Active).await;
        assert_eq!(posts(&world.effects().await), 1, "{fault}");
        let took = world.clock.now().duration_since(begun);
        assert_eq!(
            took >= SignedDuration::from_secs(5),
            needs_looks || fault.get("retry_after").is_some() || took == SignedDuration::from_secs(5),
            "{fault} took {took}"
        );
        if ended.progress.posts > 1 {
            assert!(took >= SignedDuration::from_mins(10), "{fault}: asked again after {took}");
        }
    }
}

#[tokio::test]
async fn somebody_elses_number_fails_and_frees_the_budget() {
    let world = World::new().await;
    world.buy_elsewhere(NUMBER).await;
    let id = world.buy(NUMBER).await;
    let ended = world.until(id, PurchaseState::Failed).await;
    // It is in our account, though not through us: bought by hand at the carrier.
    assert_eq!(ended.progress.reason.unwrap().as_str(), "not_our_purchase");
    assert_eq!(world.number(id).await.status, NumberStatus::Failed);
    let id = world.buy("+14155559999").await;
    let ended = world.until(id, PurchaseState::Failed).await;
    assert_eq!(ended.progress.reason.unwrap().as_str(), "unavailable");
    assert_eq!(posts(&world.effects().await), 1, "only by hand");
}

#[tokio::test]
async fn refused_credentials_fail_the_purchase_and_say_so() {
    let world = World::new().await;
    let id = world.buy(NUMBER).await;
    let mut config = (*world.app.config).clone();
    config.carriers.twilio.auth_token = Some(crate::config::Secret::new("wrong"));
    let app = world.twin(config);
    let task = OrderNumbers::new(&app);
    let watch = SystemClock::new();
    while world.purchase(id).await.progress.state != PurchaseState::Failed {
        assert!(watch.monotonic() < PATIENCE);
        task.run_once(&app).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(world.number(id).await.status_reason.as_deref(), Some("carrier_auth_failed"));
}

#[tokio::test]
async fn a_changed_price_sends_nothing() {
    let world = World::new().await;
    let id = world.buy(NUMBER).await;
    let mut config = (*world.app.config).clone();
    config.store.prices.get_mut(&Country::US).unwrap().get_mut(&NumberType::Local).unwrap().monthly =
        "9.00".into();
    let app = world.twin(config);
    let task = OrderNumbers::new(&app);
    let watch = SystemClock::new();
    while world.purchase(id).await.progress.state != PurchaseState::Failed {
        assert!(watch.monotonic() < PATIENCE);
        task.run_once(&app).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(world.number(id).await.status_reason.as_deref(), Some("price_changed"));
    assert_eq!(posts(&world.effects().await), 0);
}

/// A worker whose lease ran out, and one whose purchase somebody else has claimed, send nothing; nor does one under a lock.
#[tokio::test]
async fn nothing_is_sent_without_a_lease_or_under_a_lock() {
    let world = World::new().await;
    let id = world.buy(NUMBER).await;
    world.app.database.write(|tx| database::meta::purchases_lock(tx, "restored")).await.unwrap();
    let task = OrderNumbers::new(&world.app);
    let watch = SystemClock::new();
    while world.purchase(id).await.progress.deferrals == 0 {
        assert!(watch.monotonic() < PATIENCE);
        task.run_once(&world.app).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(posts(&world.effects().await), 0, "locked");
    let now = world.clock.now();
    world.app.database.write(move |tx| database::meta::reconciled(tx, now)).await.unwrap();

    // Another node claims it, writes `posting` and dies before it sends.
    world.clock.advance(Duration::from_secs(10));
    let now = world.clock.now();
    let schedule = world.app.config.purchases.schedule();
    world
        .app
        .database
        .write(move |tx| {
            let claimed = purchase_claim(tx, "dead", SignedDuration::from_secs(30), 1, now)?.remove(0);
            let (posting, _) = step(&claimed.progress, Event::Claimed { price_holds: true }, now, &schedule);
            purchase_step(tx, &claimed, &posting, true, now).map(drop)
        })
        .await
        .unwrap();
    task.run_once(&world.app).await.unwrap();
    assert_eq!(world.purchase(id).await.progress.state, PurchaseState::Posting, "its lease is respected");
    world.clock.advance(Duration::from_secs(31));
    world.until(id, PurchaseState::Ambiguous).await;
    assert_eq!(posts(&world.effects().await), 0, "nobody knows whether it was sent");
    world.until(id, PurchaseState::Active).await;
    assert_eq!(posts(&world.effects().await), 1);
}

#[tokio::test]
async fn a_purchase_from_a_backup_is_found_or_given_up_but_never_sent() {
    let world = World::new().await;
    let id = world.buy(NUMBER).await;
    world
        .app
        .database
        .write(|tx| tx.execute("UPDATE purchases SET restored = $1", &[true.into()]).map(drop))
        .await
        .unwrap();
    let ended = world.until(id, PurchaseState::NeedsReview).await;
    assert_eq!(ended.progress.reason.unwrap().as_str(), "restored");
    assert_eq!(world.number(id).await.status, NumberStatus::NeedsReview);
    let ended = world.until(id, PurchaseState::Failed).await;
    assert_eq!(ended.progress.reason.unwrap().as_str(), "never_seen");
    assert_eq!(posts(&world.effects().await), 0);
}

#[tokio::test]
async fn only_what_a_person_let_go_is_given_back_and_only_after_the_hold() {
    let world = World::new().await;
    let id = world.buy(NUMBER).await;
    world.until(id, PurchaseState::Active).await;
    let task = ReleaseNumbers::new(&world.app);
    let now = world.clock.now();
    let hold = ReleaseHold { requested_at: now, release_at: now + SignedDuration::from_hours(1) };
    let number = world.number(id).await;
    let scheduled = Number { status: NumberStatus::ReleaseScheduled, hold: Some(hold), ..number };
    world.app.database.write(move |tx| number_update(tx, &scheduled, now).map(drop)).await.unwrap();
    task.run_once(&world.app).await.unwrap();
    world.clock.advance(Duration::from_secs(3600));
    task.run_once(&world.app).await.unwrap();
    assert!(!world.effects().await.contains(&"number_released".to_owned()), "the margin is kept");
    world.clock.advance(Duration::try_from(MARGIN).unwrap());
    world.app.database.write(|tx| database::meta::purchases_lock(tx, "restored")).await.unwrap();
    task.run_once(&world.app).await.unwrap();
    assert!(
        !world.effects().await.contains(&"number_released".to_owned()),
        "a restored database gives nothing back"
    );
    let now = world.clock.now();
    world.app.database.write(move |tx| database::meta::reconciled(tx, now)).await.unwrap();
    world.faults(json!([{"operation": "numbers.delete", "times": 1, "kind": "drop_after"}])).await;
    // A clock that was set is not believed.
    let now = world.clock.now();
    world.clock.wall_set(now + SignedDuration::from_hours(24));
    task.run_once(&world.app).await.unwrap();
    world.clock.wall_set(now);
    assert_eq!(world.number(id).await.status, NumberStatus::ReleaseScheduled, "the clock had jumped");
    world.clock.server_set(now - SignedDuration::from_hours(24));
    task.run_once(&world.app).await.unwrap();
    assert_eq!(
        world.number(id).await.status,
        NumberStatus::ReleaseScheduled,
        "the database's clock disagrees"
    );
    world.clock.server_set(now);
    assert!(task.run_once(&world.app).await.is_err(), "no answer came");
    assert_eq!(world.number(id).await.status, NumberStatus::Releasing, "nobody is promised to keep it");
    task.run_once(&world.app).await.unwrap();
    assert_eq!(world.number(id).await.status, NumberStatus::Released, "already gone is gone");
    task.run_once(&world.app).await.unwrap();
    let released = world.effects().await.iter().filter(|effect| *effect == "number_released").count();
    assert_eq!(released, 1);
}

/// A note of a call.
fn note(n: u128) -> Note {
    let at = jiff::Timestamp::UNIX_EPOCH;
    Note::Entry(Box::new(Entry {
        id: CallId::from_bits(n),
        ingress: Ingress::STORE,
        carrier_call_id: format!("CA{n}"),
        workspace: None,
        number_id: None,
        from: "+15145550100".to_owned(),
        to: "+14385550100".to_owned(),
        route: None,
        status: None,
        outcome: None,
        decision: None,
        answered_at: None,
        ended_at: None,
        duration_s: None,
        kind: "status".to_owned(),
        dedupe_key: "voice".to_owned(),
        detail: json!({}),
        happened_at: at,
        at,
    }))
}

/// A database that takes nothing for a while must not make the queue run over: the disk takes notes as they come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notes_of_calls_go_to_disk_as_fast_as_they_come() {
    let world = World::new().await;
    let app = world.app.clone();
    let (held, release) = (Arc::new(std::sync::Barrier::new(2)), Arc::new(std::sync::Barrier::new(2)));
    let (begun, end) = (held.clone(), release.clone());
    let database = app.database.clone();
    // The only writer of the embedded database is kept busy.
    app.tasks.spawn("hold", async move {
        let held = database.write(move |_| {
            begun.wait();
            end.wait();
            Ok(())
        });
        // It may be told that it took too long: what counts is that nobody else could write.
        drop(held.await);
    });
    tokio::task::spawn_blocking(move || held.wait()).await.unwrap();
    app.tasks.spawn("record_calls", record_calls::run(app.clone()));
    // Far more than a database that takes one batch every two seconds would have taken.
    let count = 3_000;
    (0..u128::from(count)).for_each(|n| app.recorder.take(note(n)));
    let watch = SystemClock::new();
    while app.recorder.spooled.get() < count {
        assert!(watch.monotonic() < PATIENCE, "only {} are on disk", app.recorder.spooled.get());
        tokio::task::yield_now().await;
    }
    assert_eq!(app.recorder.lost.get(), 0);
    tokio::task::spawn_blocking(move || release.wait()).await.unwrap();
    assert!(app.tasks.stop(PATIENCE).await);
}

/// Started while the database was away, a node does not know whether its key is the right one: it seals nothing until then, and
/// ends where it is another.
#[tokio::test]
async fn a_node_with_another_key_seals_nothing_and_ends() {
    let world = World::new().await;
    let keyring = Arc::new(database::Keyring::from_bytes(&[9; 32]));
    let config = (*world.app.config).clone();
    let other =
        App::with(config, world.clock.clone(), Random::from_seed(3), world.app.database.clone(), keyring);
    let other = other.unwrap();
    other.key_is_checked.store(false, std::sync::atomic::Ordering::Release);
    let mut secrets = NewSecrets::default();
    secrets.take(domain::id::SecretId::from_bits(1), "sip_password", "correct horse");
    let (sealer, workspace, now) = (Sealer::of(&other), world.workspace, world.clock.now());
    let sealed = other.database.try_write(move |tx| secrets.store(tx, &sealer, workspace, now)).await;
    let Err(Failure::Database(why)) = sealed else { panic!("it was sealed") };
    assert!(matches!(why, database::DbError::Unavailable(_)), "{why}");
    assert!(build_routes::refresh(&other).await.is_err());
    assert!(other.key_is_wrong.is_cancelled(), "the program is told to end");

    world.app.key_is_checked.store(false, std::sync::atomic::Ordering::Release);
    build_routes::refresh(&world.app).await.unwrap();
    assert!(!world.app.key_is_wrong.is_cancelled());
    assert!(world.app.key_is_checked.load(std::sync::atomic::Ordering::Acquire));
}

#[tokio::test]
async fn differences_are_believed_after_three_listings_and_forgotten_when_they_end() {
    let world = World::new().await;
    let (store, app) = (world.app.store.clone().unwrap(), &world.app);
    let id = world.buy(NUMBER).await;
    world.until(id, PurchaseState::Active).await;
    app.database.write(|tx| database::meta::purchases_lock(tx, "restored")).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    world.buy_elsewhere("+14155550199").await;

    let mut reported = Vec::new();
    for round in 0..3 {
        let report = reconcile(app, &store, "test").await.unwrap().unwrap();
        assert_eq!((report.listed, report.ours), (2, 1));
        assert_eq!(report.unlocked.is_some(), round == 0, "the first full comparison unlocks");
        let [orphan] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
        assert_eq!(orphan.observation.kind, FindingKind::Orphan);
        reported.push(orphan.reported_at.is_some());
        world.clock.advance(Duration::from_secs(600));
    }
    assert_eq!(reported, [false, false, true]);
    assert_eq!(posts(&world.effects().await), 2, "nothing is bought or adopted");

    // A listing that fails says nothing; one that lags says "ghost", once.
    world.faults(json!([{"operation": "numbers.list", "kind": "error_before"}])).await;
    assert!(reconcile(app, &store, "test").await.is_err());
    let kept = app.database.read(|read| finding_list(read, Ingress::STORE)).await.unwrap();
    assert_eq!(kept.len(), 1);
    let url = format!("{}/_control/faults", world.carrier.base_url());
    world.http.delete(&url).send().await.unwrap();
    world
        .faults(json!([{"operation": "numbers.list", "kind": "list_lag", "seconds": 3600, "times": 1}]))
        .await;
    let lagging = reconcile(app, &store, "test").await.unwrap().unwrap();
    let kinds: Vec<FindingKind> = lagging.findings.iter().map(|finding| finding.observation.kind).collect();
    assert_eq!(kinds, [FindingKind::Ghost], "the orphan is not seen any more either");
    let again = reconcile(app, &store, "test").await.unwrap().unwrap();
    assert_eq!(again.findings.len(), 1);
    assert_eq!((again.findings[0].observation.kind, again.findings[0].seen), (FindingKind::Orphan, 1));
    assert_eq!(world.number(id).await.status, NumberStatus::Active, "no finding changes a number");
}
