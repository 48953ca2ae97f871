//! How long it takes to read everything that routes are made of into a table: a million numbers from SQLite, and, where
//! `SWITCHBOARD_TEST_POSTGRES_URL` is set, from PostgreSQL. `cargo bench -p database`; `NUMBERS=…` for another count.
#![expect(clippy::unwrap_used, reason = "a benchmark that fails should stop")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its settings")]

use std::time::Instant;

use database::numbers::{Number, number_create};
use database::routes::{route_rows, route_table};
use database::workspaces::workspace_create;
use database::{Address, Database, Settings};
use domain::assignment::Assignment;
use domain::call::Ingress;
use domain::environment::Environment;
use domain::id::{AgentId, NumberId, WorkspaceId};
use domain::money::{Currency, Money};
use domain::number::{Capabilities, Country, E164, NumberStatus, NumberType, Source};
use domain::quote::Price;
use domain::route::row::{CallbackToken, NumberSettings};
use domain::workspace::WorkspaceSettings;
use jiff::Timestamp;

const HOME: WorkspaceId = WorkspaceId::from_bits(1);
/// How many are written in one transaction.
const BATCH: u64 = 20_000;

fn number(n: u64) -> Number {
    let free = Money::from_minor(115, Currency::USD).unwrap();
    let assignment = Assignment {
        agent_id: AgentId::from_bits(1 + u128::from(n % 100)),
        environment: Environment::Live,
        variant_id: None,
    };
    Number {
        id: NumberId::from_bits(n.into()),
        workspace: HOME,
        ingress: Ingress::STORE,
        phone_number: E164::from_digits(14_000_000_000 + n).unwrap(),
        country: Some(Country::US),
        number_type: NumberType::Local,
        source: Source::Store,
        status: NumberStatus::Active,
        status_reason: None,
        label: Some(format!("number {n}")),
        tags: vec![],
        capabilities: Capabilities { voice: true, sms: true, mms: false },
        locality: Some("San Francisco".into()),
        region: Some("CA".into()),
        price: Price { monthly: free, setup: free },
        carrier_number_id: Some(format!("PN{n:032x}")),
        callback_token: CallbackToken(u128::from(n).to_be_bytes()),
        purchase_id: None,
        assignment: Some(assignment),
        release_lock: false,
        settings: NumberSettings::default(),
        hold: None,
        revision: 1,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

async fn run(name: &str, address: Address, count: u64) {
    let database = Database::open(Settings::new(address)).await.unwrap().in_bulk();
    let began = Instant::now();
    database
        .write(|tx| {
            workspace_create(tx, HOME, "home", &WorkspaceSettings::default(), Timestamp::UNIX_EPOCH)?;
            let agent = "INSERT INTO agents (id, workspace_id, name, name_search, content, revision, created_at, \
                updated_at) VALUES ($1, $2, 'a', 'a', $3, 1, $4, $4)";
            for n in 1..=100 {
                let content = database::Value::json(&domain::agent::Content::default());
                tx.execute(
                    agent,
                    &[
                        database::Value::text(&AgentId::from_bits(n)),
                        database::Value::text(&HOME),
                        content,
                        Timestamp::UNIX_EPOCH.into(),
                    ],
                )?;
            }
            Ok(())
        })
        .await
        .unwrap();
    for batch in 0..count.div_ceil(BATCH) {
        let last = ((batch + 1) * BATCH).min(count);
        database
            .write(move |tx| (batch * BATCH..last).try_for_each(|n| number_create(tx, &number(n))))
            .await
            .unwrap();
    }
    println!("{name}: {count} numbers written one by one in {:.1?}", began.elapsed());
    for round in 1..=3 {
        let began = Instant::now();
        let rows = database
            .read(|read| {
                let mut rows = 0_u64;
                route_rows(read, |row| {
                    std::hint::black_box(row);
                    rows += 1;
                    Ok(())
                })?;
                Ok(rows)
            })
            .await
            .unwrap();
        let read_s = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let table = route_table(&database).await.unwrap();
        let table_s = began.elapsed().as_secs_f64();
        assert_eq!(table.numbers() as u64, count);
        println!(
            "{name}: round {round}: {rows} rows into a table in {table_s:.2} s, only read, by one connection, in {read_s:.2} s, ratio {:.2}",
            table_s / read_s
        );
    }
    database.close().await;
}

fn main() {
    let count = std::env::var("NUMBERS").map_or(1_000_000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        run("sqlite", Address::Sqlite(folder.path().join("bench.db")), count).await;
        let Ok(url) = std::env::var("SWITCHBOARD_TEST_POSTGRES_URL") else { return };
        let name = format!("bench_{}", std::process::id());
        let admin = async |sql: String| {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
            let run = async {
                client.batch_execute(&sql).await.unwrap();
                drop(client);
            };
            let ((), ended) = tokio::join!(run, connection);
            ended.unwrap();
        };
        admin(format!("CREATE DATABASE {name}")).await;
        let (server, _) = url.rsplit_once('/').unwrap();
        run("postgres", Address::Postgres(format!("{server}/{name}")), count.min(200_000)).await;
        admin(format!("DROP DATABASE {name} WITH (FORCE)")).await;
    });
}
