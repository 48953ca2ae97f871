//! A database of its own for each test: a file in a temporary folder, or a database on the test server.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};

use database::{Address, Database, Engine, Settings};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio_postgres::NoTls;

const MISSING: &str = "SWITCHBOARD_TEST_POSTGRES_URL is not set. Run this first:\n    \
    eval \"$(crates/database/tests/postgres.sh start)\"";

/// What a test gets.
pub(crate) struct Arena {
    pub(crate) database: Database,
    pub(crate) settings: Settings,
    pub(crate) engine: Engine,
    pub(crate) folder: TempDir,
    name: String,
}

/// Runs one test on one engine.
pub(crate) fn run<F: Future<Output = ()>>(engine: Engine, test: impl Fn(Arena) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let name = unique_name();
        let address = match engine {
            Engine::Sqlite => Address::Sqlite(folder.path().join("switchboard.db")),
            Engine::Postgres => {
                admin(&format!("CREATE DATABASE {name}")).await;
                Address::Postgres(url_of(&name))
            }
        };
        let settings = Settings { postgres_connections: 3, ..Settings::new(address) };
        let database = Database::open(settings.clone()).await.expect("the database opens");
        test(Arena { database: database.clone(), settings, engine, folder, name: name.clone() }).await;
        database.close().await;
        if engine == Engine::Postgres {
            admin(&format!("DROP DATABASE {name} WITH (FORCE)")).await;
            admin(&format!("DROP DATABASE IF EXISTS {name}_empty WITH (FORCE)")).await;
        }
    });
}

fn unique_name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[expect(clippy::disallowed_methods, reason = "only the environment knows where the test server is")]
pub(crate) fn admin_url() -> String {
    std::env::var("SWITCHBOARD_TEST_POSTGRES_URL").unwrap_or_else(|_| panic!("{MISSING}"))
}

fn url_of(database: &str) -> String {
    let (server, _) = admin_url().rsplit_once('/').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    format!("{server}/{database}")
}

/// Runs statements outside of the code under test, on any database of the test server.
pub(crate) async fn raw(url: &str, sql: &str) -> Vec<String> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the test server answers");
    let driven = async {
        let rows = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        drop(client);
        rows
    };
    let (rows, _) = tokio::join!(driven, connection);
    rows.into_iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).unwrap_or("∅")).collect::<Vec<_>>().join(" "))
            }
            _ => None,
        })
        .collect()
}

async fn admin(sql: &str) {
    raw(&admin_url(), sql).await;
}

impl Arena {
    /// Runs statements on this test's database, past the code under test.
    pub(crate) async fn raw(&self, sql: &str) -> Vec<String> {
        match &self.settings.address {
            Address::Postgres(url) => raw(url, sql).await,
            Address::Sqlite(path) => {
                let connection = rusqlite::Connection::open(path).unwrap();
                connection.busy_timeout(std::time::Duration::from_secs(5)).unwrap();
                let mut statement = connection.prepare(sql).unwrap();
                let columns = statement.column_count();
                let rows = statement.query_map([], |row| {
                    (0..columns)
                        .map(|i| {
                            Ok(match row.get_ref(i)? {
                                rusqlite::types::ValueRef::Null => "∅".to_owned(),
                                rusqlite::types::ValueRef::Integer(int) => int.to_string(),
                                rusqlite::types::ValueRef::Text(text) => {
                                    String::from_utf8_lossy(text).into_owned()
                                }
                                other => format!("{other:?}"),
                            })
                        })
                        .collect::<rusqlite::Result<Vec<_>>>()
                        .map(|row| row.join(" "))
                });
                rows.unwrap().map(Result::unwrap).collect()
            }
        }
    }

    /// Where a new database may be made, on the engine named.
    pub(crate) async fn empty(&self, engine: Engine) -> Settings {
        let address = match engine {
            Engine::Sqlite => Address::Sqlite(self.folder.path().join("empty.db")),
            Engine::Postgres => {
                admin(&format!("DROP DATABASE IF EXISTS {}_empty WITH (FORCE)", self.name)).await;
                admin(&format!("CREATE DATABASE {}_empty", self.name)).await;
                Address::Postgres(url_of(&format!("{}_empty", self.name)))
            }
        };
        Settings { address, ..self.settings.clone() }
    }

    /// Another node on the same data.
    pub(crate) async fn another(&self) -> Database {
        Database::open(self.settings.clone()).await.expect("a second node opens the database")
    }
}

/// A moment some seconds after the story begins.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

/// Runs something beside the test, as another caller would.
pub(crate) fn beside<T: Send + 'static>(
    caller: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    tokio::runtime::Handle::current().spawn(caller)
}
