//! PostgreSQL killed, frozen, read-only, cut off from notifications, down at the start: who asks is told
//! quickly, what was acknowledged is there, and all goes on by itself once the server is back.
//!
//! Each test has a server of its own, made by `postgres.sh` as the shared one is. (SQLite has no server
//! to lose; what a full disk does to it stands at the end.)

use std::process::Command;
use std::time::Duration;

use database::{Address, Database, DbError, Settings, Tx};
use tempfile::TempDir;

use crate::arena::{beside, raw};

/// Longer than anything here takes; a test that waits so long fails.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a caller waits in these tests.
const DEADLINE: Duration = Duration::from_millis(800);

/// When a caller must have an answer at the latest, on a machine that is busy with other tests too.
const ANSWERED: Duration = Duration::from_secs(5);

/// A PostgreSQL server of one test's own.
pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
}

fn script(action: &str, folder: &TempDir) -> String {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres.sh");
    let output = Command::new(program).arg(action).arg(folder.path().join("postgres")).output().unwrap();
    assert!(output.status.success(), "{action}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Server {
    pub(crate) fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        // User postgres must be able to pass through.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        script("start", &folder);
        let url = script("url", &folder).trim().to_owned();
        Server { folder, url }
    }

    fn is(&self, action: &str) {
        script(action, &self.folder);
    }

    pub(crate) fn settings(&self) -> Settings {
        let address = Address::Postgres(self.url.clone());
        Settings { deadline: DEADLINE, postgres_connections: 2, ..Settings::new(address) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Frozen servers do not stop.
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres.sh");
        for action in ["thaw", "stop"] {
            drop(Command::new(program).arg(action).arg(self.folder.path().join("postgres")).output());
        }
    }
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(LIMIT, test).await.expect("it ends in time") });
}

fn note(tx: &Tx<'_>, name: &str) -> Result<(), DbError> {
    tx.execute("INSERT INTO meta (name, value) VALUES ($1, 'x')", &[name.into()]).map(drop)
}

async fn write(database: &Database, name: String) -> Result<(), DbError> {
    database.write(move |tx| note(tx, &name)).await
}

async fn notes(database: &Database) -> Result<i64, DbError> {
    patient(database)
        .read(|read| read.query_one("SELECT count(*) FROM meta WHERE value = 'x'", &[], |row| row.read(0)))
        .await
}

/// The same database for what must succeed, however busy the machine is.
fn patient(database: &Database) -> Database {
    database.within(LIMIT)
}

/// Asks until it answers; the harness's limit ends what never does.
async fn until_back(database: &Database) -> i64 {
    loop {
        match notes(database).await {
            Ok(count) => return count,
            Err(DbError::Unavailable(_)) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_killed_server_is_noticed_and_found_again() {
    run(async {
        let server = Server::start();
        let database = Database::open(server.settings()).await.unwrap();
        let mut acknowledged = 0;
        for n in 0..20 {
            write(&patient(&database), format!("before {n}")).await.unwrap();
            acknowledged += 1;
        }
        server.is("crash");
        // All are told, and none waits beyond the deadline.
        for n in 0..50 {
            let asked = tokio::time::timeout(ANSWERED, write(&database, format!("during {n}"))).await;
            assert!(matches!(asked.expect("an answer in time"), Err(DbError::Unavailable(_))));
        }
        server.is("again");
        assert_eq!(until_back(&database).await, acknowledged, "what was acknowledged, and nothing else");
        write(&patient(&database), "after".into()).await.unwrap();
        assert_eq!(notes(&database).await, Ok(acknowledged + 1));
        database.close().await;
    });
}

#[test]
fn a_frozen_server_holds_nobody_up() {
    run(async {
        let server = Server::start();
        let database = Database::open(server.settings()).await.unwrap();
        write(&patient(&database), "before".into()).await.unwrap();
        server.is("freeze");
        let mut callers = Vec::new();
        for n in 0..40 {
            let database = database.clone();
            callers.push(beside(async move {
                tokio::time::timeout(ANSWERED, write(&database, format!("during {n}"))).await
            }));
        }
        for caller in callers {
            let answer = caller.await.unwrap().expect("an answer in time");
            assert!(matches!(answer, Err(DbError::Unavailable(_))), "{answer:?}");
        }
        server.is("thaw");
        let kept = until_back(&database).await;
        // The two that had been sent may have been done; those that only waited were not.
        assert!((1..=3).contains(&kept), "{kept}");
        database.close().await;
    });
}

#[test]
fn a_server_that_is_down_at_the_start_is_waited_for() {
    run(async {
        let server = Server::start();
        server.is("crash");
        let refused = Database::open(server.settings()).await;
        assert!(matches!(refused, Err(DbError::Unavailable(_))));
        let settings = Settings { may_start_down: true, ..server.settings() };
        let database = Database::open(settings).await.unwrap();
        assert!(matches!(notes(&database).await, Err(DbError::Unavailable(_))));
        server.is("again");
        assert_eq!(until_back(&database).await, 0, "its schema was made meanwhile");
        write(&patient(&database), "after".into()).await.unwrap();
        database.close().await;
    });
}

#[test]
fn a_read_only_server_is_read_and_never_acknowledges_a_write() {
    run(async {
        let server = Server::start();
        let database = Database::open(server.settings()).await.unwrap();
        write(&patient(&database), "before".into()).await.unwrap();
        raw(&server.url, "ALTER SYSTEM SET default_transaction_read_only = on").await;
        raw(&server.url, "SELECT pg_reload_conf()").await;
        // The reload reaches each connection a moment later; until then a write may still be kept.
        let mut kept = 1;
        let refused = loop {
            match write(&database, format!("during {kept}")).await {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, DbError::ReadOnly(_)), "{refused:?}");
        assert_eq!(notes(&database).await, Ok(kept));
        raw(&server.url, "ALTER SYSTEM RESET default_transaction_read_only").await;
        raw(&server.url, "SELECT pg_reload_conf()").await;
        while write(&database, "after".into()).await.is_err() {
            tokio::task::yield_now().await;
        }
        assert_eq!(notes(&database).await, Ok(kept + 1));
        database.close().await;
    });
}

#[test]
fn connections_cut_all_the_time_lose_and_double_nothing() {
    run(async {
        let server = Server::start();
        let database = Database::open(server.settings()).await.unwrap();
        let cut = {
            let url = server.url.clone();
            beside(async move {
                for _ in 0..30 {
                    raw(
                        &url,
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                         WHERE application_name = 'switchboard'",
                    )
                    .await;
                }
            })
        };
        let (mut acknowledged, mut unknown) = (0, 0);
        let mut n = 0;
        while !cut.is_finished() || acknowledged < 20 {
            n += 1;
            match write(&database, format!("note {n}")).await {
                Ok(()) => acknowledged += 1,
                Err(DbError::Unavailable(_)) => unknown += 1,
                Err(other) => panic!("{other}"),
            }
        }
        let kept = until_back(&database).await;
        assert!(
            kept >= acknowledged && kept <= acknowledged + unknown,
            "{kept} of {acknowledged} to {unknown} more"
        );
        // Listeners come back too.
        let mut changes = database.changes();
        changes.borrow_and_update();
        let other = Database::open(server.settings()).await.unwrap();
        while !changes.has_changed().unwrap() {
            other
                .write(|tx| {
                    tx.nudge();
                    Ok(())
                })
                .await
                .unwrap();
        }
        other.close().await;
        database.close().await;
    });
}

#[test]
fn a_plan_that_another_node_changed_is_made_anew() {
    run(async {
        let server = Server::start();
        let database = Database::open(server.settings()).await.unwrap();
        raw(&server.url, "CREATE TABLE other (a BIGINT); INSERT INTO other VALUES (1)").await;
        let read = async || {
            let database = patient(&database);
            database.read(|read| read.query_one("SELECT * FROM other", &[], |row| row.read::<i64>(0))).await
        };
        // On each connection, so that each has it prepared.
        for _ in 0..10 {
            assert_eq!(read().await, Ok(1));
        }
        raw(&server.url, "ALTER TABLE other ADD COLUMN b TEXT").await;
        for _ in 0..10 {
            assert_eq!(read().await, Ok(1));
        }
        database.close().await;
    });
}

#[test]
fn a_lost_idle_transaction_stops_nobody_for_long() {
    run(async {
        let server = Server::start();
        let database = Database::open(server.settings()).await.unwrap();
        // A node that was paused in the middle of a transaction holds a lock that we want.
        let (client, connection) = tokio_postgres::connect(&server.url, tokio_postgres::NoTls).await.unwrap();
        let driver = beside(connection);
        client.batch_execute("BEGIN; UPDATE route_state SET version = version").await.unwrap();
        let waiting = database
            .write(|tx| tx.execute("UPDATE route_state SET version = version + 1", &[]).map(drop))
            .await;
        assert!(matches!(waiting, Err(DbError::Unavailable(_))), "{waiting:?}");
        drop(client);
        drop(driver.await);
        let after = patient(&database)
            .write(|tx| tx.execute("UPDATE route_state SET version = version + 1", &[]).map(drop))
            .await;
        assert_eq!(after, Ok(()));
        database.close().await;
    });
}

#[test]
fn a_full_disk_is_told_and_passes() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Sqlite(folder.path().join("switchboard.db"));
        let database = Database::open(Settings::new(address)).await.unwrap();
        write(&patient(&database), "before".into()).await.unwrap();
        let limit = async |pages: i64| {
            database
                .write(move |tx| {
                    // As a disk with so much room; SQLite answers just as it does to ENOSPC.
                    tx.query_one(&format!("PRAGMA max_page_count = {pages}"), &[], |row| row.read::<i64>(0))
                })
                .await
                .unwrap()
        };
        limit(1).await;
        let long = "y".repeat(1_000_000);
        let fill = "INSERT INTO meta (name, value) VALUES ('long', $1)";
        let full = {
            let long = long.clone();
            database.write(move |tx| tx.execute(fill, &[(&long).into()])).await
        };
        assert!(matches!(full, Err(DbError::Full(_))), "{full:?}");
        assert_eq!(notes(&database).await, Ok(1), "reads go on");
        limit(1_000_000).await;
        assert_eq!(database.write(move |tx| tx.execute(fill, &[(&long).into()])).await, Ok(1));
        database.close().await;
    });
}
