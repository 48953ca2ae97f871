//! The database goes away, in each of the ways that databases do, and calls go on: none lost, none sent elsewhere, none slow;
//! and a start without it routes from the snapshot on disk.
//!
//! `SWITCHBOARD_TEST_OUTAGE_S=120` makes each outage two minutes long, and then a slow answer is a failure too.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use database::{Address, Database};
use server::app::{App, Random};
use server::background::{build_routes, record_calls};
use server::clock::{Clock as _, SystemClock, TestClock};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::line::{Laid, Line, PATIENCE, settings, stream};

/// Calls a second.
const CALLS_PER_S: u32 = 50;
/// The ninety-ninth of a hundred answers comes within this.
const P99: Duration = Duration::from_millis(50);

/// How long each outage is, and whether slow answers count.
#[expect(clippy::disallowed_methods, reason = "a switch of the test suite, no setting of the program")]
fn length() -> (u32, bool) {
    match std::env::var("SWITCHBOARD_TEST_OUTAGE_S").ok().and_then(|text| text.parse().ok()) {
        Some(seconds) => (seconds, true),
        None => (2, false),
    }
}

/// What the way to the database does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Connections end, and no new one comes about.
    Dead,
    /// Nothing comes through, and nothing ends.
    Frozen,
    /// Whatever comes through takes five seconds.
    Slow,
}

/// A way to PostgreSQL that a test can close.
struct Proxy {
    port: u16,
    way: watch::Sender<Way>,
    _carrying: JoinSet<()>,
}

impl Proxy {
    async fn start(to: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (way, seen) = watch::channel(Way::Open);
        let mut carrying = JoinSet::new();
        carrying.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                if *seen.borrow() == Way::Dead {
                    continue;
                }
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                connections.spawn(carry(near_read, far_write, seen.clone()));
                connections.spawn(carry(far_read, near_write, seen.clone()));
            }
        });
        Proxy { port, way, _carrying: carrying }
    }

    fn is(&self, way: Way) {
        self.way.send_replace(way);
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut way: watch::Receiver<Way>,
) {
    let mut bytes = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut bytes) => read.unwrap_or(0),
            _ = way.wait_for(|way| *way == Way::Dead) => 0,
        };
        if read == 0 {
            return;
        }
        if way.wait_for(|way| *way != Way::Frozen).await.is_err() {
            return;
        }
        if *way.borrow() == Way::Slow {
            let _ = tokio::time::timeout(Duration::from_secs(5), way.wait_for(|way| *way != Way::Slow)).await;
        }
        if *way.borrow() == Way::Dead || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// A database of its own behind a way that can be closed.
struct Far {
    name: String,
    proxy: Proxy,
    url: String,
}

/// Where the tests' PostgreSQL is.
#[expect(clippy::disallowed_methods, reason = "a switch of the test suite, no setting of the program")]
fn cluster_url() -> String {
    std::env::var("SWITCHBOARD_TEST_POSTGRES_URL").expect(
        "SWITCHBOARD_TEST_POSTGRES_URL is not set. Run this first:\n    eval \"$(crates/database/tests/postgres.sh start)\"",
    )
}

/// The cluster of the tests: its address without the database's name, and its port.
fn cluster() -> (String, u16) {
    let url = cluster_url();
    let (base, _) = url.rsplit_once('/').unwrap();
    let port = base.rsplit_once(':').unwrap().1.parse().unwrap();
    (base.to_owned(), port)
}

async fn admin(database: &str, statement: &str) -> i64 {
    let (base, _) = cluster();
    let (client, connection) =
        tokio_postgres::connect(&format!("{base}/{database}"), tokio_postgres::NoTls).await.unwrap();
    let mut driving = JoinSet::new();
    driving.spawn(async move { drop(connection.await) });
    let messages = client.simple_query(statement).await.unwrap();
    messages
        .iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0)?.parse().ok(),
            _ => None,
        })
        .unwrap_or(0)
}

impl Far {
    async fn open() -> Far {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("outage_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        admin("postgres", &format!("CREATE DATABASE {name}")).await;
        let (base, port) = cluster();
        let proxy = Proxy::start(port).await;
        let url = format!("{}/{name}", base.replace(&format!(":{port}"), &format!(":{}", proxy.port)));
        Far { name, proxy, url }
    }

    fn settings(&self) -> String {
        format!("database_url = {:?}\ndatabase_connections = 3", self.url)
    }

    async fn drop(self) {
        admin("postgres", &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

fn laid() -> Laid {
    Laid { parameters: vec![("site", "all")], ..Laid::dial(stream()) }
}

/// Places calls, fifty a second, and returns how many, and how long the slowest of ninety-nine in a hundred took.
async fn calls(line: &Arc<Line>, name: &str, seconds: u32) -> (u32, Duration) {
    let clock = SystemClock::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / CALLS_PER_S);
    let mut under_way = JoinSet::new();
    let count = seconds * CALLS_PER_S;
    for n in 0..count {
        ticks.tick().await;
        let (line, sid) = (line.clone(), format!("CA-{name}-{n}"));
        under_way.spawn(async move {
            let begun = clock.monotonic();
            let twiml = line.voice(&sid).await;
            let took = clock.monotonic().saturating_sub(begun);
            assert!(twiml.contains("wss://agent.example/media"), "{twiml}");
            took
        });
    }
    let mut took = under_way.join_all().await;
    took.sort_unstable();
    (count, took[took.len() * 99 / 100])
}

/// The database goes away as `away` says and comes back as `back` says; calls come in all the while.
async fn survive(
    name: &str,
    far: Option<Far>,
    away: impl AsyncFn(&Line, &Option<Far>),
    back: impl AsyncFn(&Line, &Option<Far>),
) {
    let (seconds, strict) = length();
    let more = far.as_ref().map(Far::settings).unwrap_or_default();
    let line = Arc::new(Line::open_with(laid(), &more).await);
    // One before, so that connections stand.
    line.voice("CA-before").await;
    line.kept(1).await;
    away(&line, &far).await;
    let (count, p99) = calls(&line, name, seconds).await;
    println!("{name}: {count} calls, p99 {} ms", p99.as_millis());
    assert!(!strict || p99 <= P99, "{name}: p99 was {p99:?}");
    back(&line, &far).await;
    let recorder = &line.app.recorder;
    let all_kept = async {
        while recorder.written.get() < u64::from(count) + 1 {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE * 2, all_kept).await;
    assert!(
        waited.is_ok(),
        "{name}: {} of {count} kept, {} lost",
        recorder.written.get(),
        recorder.lost.get()
    );
    assert_eq!(recorder.lost.get(), 0, "{name}");
    if let Some(far) = &far {
        assert_eq!(
            admin(&far.name, "SELECT count(*) FROM calls WHERE decision IS NOT NULL").await,
            i64::from(count) + 1
        );
    }
    assert!(line.app.tasks.stop(PATIENCE).await);
    line.app.database.close().await;
    if let Some(far) = far {
        far.drop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_while_the_database_is_killed() {
    let far = Some(Far::open().await);
    let set = |way| async move |_: &Line, far: &Option<Far>| far.as_ref().unwrap().proxy.is(way);
    survive("killed", far, set(Way::Dead), set(Way::Open)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_while_the_database_is_frozen() {
    let far = Some(Far::open().await);
    let set = |way| async move |_: &Line, far: &Option<Far>| far.as_ref().unwrap().proxy.is(way);
    survive("frozen", far, set(Way::Frozen), set(Way::Open)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_while_the_database_is_slow() {
    let far = Some(Far::open().await);
    let set = |way| async move |_: &Line, far: &Option<Far>| far.as_ref().unwrap().proxy.is(way);
    survive("slow", far, set(Way::Slow), set(Way::Open)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_while_the_database_is_read_only() {
    let far = Some(Far::open().await);
    let set = |on: bool| {
        async move |_: &Line, far: &Option<Far>| {
            let name = &far.as_ref().unwrap().name;
            admin("postgres", &format!("ALTER DATABASE {name} SET default_transaction_read_only = {on}"))
                .await;
            let others =
                format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
            admin("postgres", &others).await;
        }
    };
    survive("read-only", far, set(true), set(false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_while_sqlite_hangs() {
    // Whoever writes holds the one writer until it is told to let go.
    let (let_go, held) = std::sync::mpsc::sync_channel::<()>(1);
    let held = Arc::new(Mutex::new(held));
    let hanging: Mutex<JoinSet<()>> = Mutex::new(JoinSet::new());
    let away = async |line: &Line, _: &Option<Far>| {
        let (database, held) = (line.app.database.in_bulk(), held.clone());
        hanging.lock().unwrap().spawn(async move {
            database
                .write(move |_| {
                    held.lock().unwrap().recv().unwrap();
                    Ok(())
                })
                .await
                .unwrap();
        });
    };
    let back = async |_: &Line, _: &Option<Far>| let_go.send(()).unwrap();
    survive("sqlite hangs", None, away, back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_the_database_routes_from_the_snapshot() {
    let far = Far::open().await;
    let folder = tempfile::tempdir().unwrap();
    let config = || settings(folder.path(), &far.settings());
    let clock = Arc::new(TestClock::at("2026-11-23T15:30:00Z".parse().unwrap()));
    let app = App::open(config(), clock.clone(), Random::from_seed(1)).await.unwrap();
    let workspace = app
        .database
        .read(|read| database::workspaces::workspace_find_by_name(read, "default"))
        .await
        .unwrap()
        .unwrap()
        .id;
    app.routes_disk.save(&laid().table(workspace, 41)).unwrap();
    app.routes_disk.save(&laid().table(workspace, 42)).unwrap();
    app.database.close().await;
    drop(app);

    far.proxy.is(Way::Dead);
    for damage in [false, true] {
        let mut version = 42;
        if damage {
            let newest = folder.path().join("data/routes.snapshot");
            let bytes = std::fs::read(&newest).unwrap();
            std::fs::write(&newest, &bytes[..bytes.len() - 9]).unwrap();
            version = 41;
        }
        let wall = SystemClock::new();
        let app = App::open(config(), clock.clone(), Random::from_seed(1)).await.unwrap();
        build_routes::load_first(&app).await;
        let took = wall.monotonic();
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(app.routes.current().version(), version);
        let line = Line::on(app.clone(), clock.clone(), workspace, tempfile::tempdir().unwrap());
        assert!(line.voice("CA1").await.contains("wss://agent.example/media"));
        assert!(app.routes.is_stale());
        if !damage {
            app.database.close().await;
            continue;
        }
        // It comes back: the call is kept, the key is compared, and what the database says counts.
        app.tasks.spawn("record_calls", record_calls::run(app.clone()));
        far.proxy.is(Way::Open);
        let back = async {
            while build_routes::refresh(&app).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, back).await.unwrap();
        assert!(!app.routes.is_stale());
        assert_eq!(line.kept(1).await.len(), 1);
        assert!(app.tasks.stop(PATIENCE).await);
        app.database.close().await;
    }
    far.drop().await;
}

#[tokio::test]
async fn a_database_that_is_down_is_told_apart_from_one_that_answers() {
    let far = Far::open().await;
    far.proxy.is(Way::Dead);
    let mut settings = database::Settings::new(Address::Postgres(far.url.clone()));
    settings.may_start_down = true;
    let database = Database::open(settings).await.unwrap();
    let asked = database.within(Duration::from_secs(1)).read(database::routes::route_version).await;
    assert!(matches!(asked, Err(database::DbError::Unavailable(_))), "{asked:?}");
    database.close().await;
    far.drop().await;
}
