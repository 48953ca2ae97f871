//! How long the program takes from its start to its first answer with a million numbers, and how much memory it then
//! holds: no connection is accepted before the routes are loaded. With the database alone, and with a route snapshot
//! beside it; each beside a start with no numbers.
//! `cargo bench -p server --bench startup`; `NUMBERS=…` for another count.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time and reads its settings")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where something is not as it should be")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use database::numbers::{Number, number_create};
use domain::call::Ingress;
use domain::id::{NumberId, WorkspaceId};
use domain::money::{Currency, Money};
use domain::number::{Capabilities, Country, E164, NumberStatus, NumberType, Source};
use domain::quote::Price;
use domain::route::row::{CallbackToken, NumberSettings};
use jiff::Timestamp;
use server::app::{App, Random};
use server::clock::SystemClock;

const PATIENCE: Duration = Duration::from_secs(60);
/// How many numbers are written in one transaction.
const BATCH: u64 = 20_000;

fn number(workspace: WorkspaceId, n: u64) -> Number {
    let price = Money::from_minor(115, Currency::USD).unwrap();
    Number {
        id: NumberId::from_bits(n.into()),
        workspace,
        ingress: Ingress::STORE,
        phone_number: E164::from_digits(14_000_000_000 + n).unwrap(),
        country: Some(Country::US),
        number_type: NumberType::Local,
        source: Source::Store,
        status: NumberStatus::Active,
        status_reason: None,
        label: None,
        tags: vec![],
        capabilities: Capabilities { voice: true, sms: true, mms: false },
        locality: Some("San Francisco".into()),
        region: Some("CA".into()),
        price: Price { monthly: price, setup: price },
        carrier_number_id: Some(format!("PN{n:032x}")),
        callback_token: CallbackToken(u128::from(n).to_be_bytes()),
        purchase_id: None,
        assignment: None,
        release_lock: false,
        settings: NumberSettings::default(),
        hold: None,
        revision: 1,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn config(folder: &Path, port: u16) -> String {
    format!(
        "data_dir = '{}'\nlisten = '127.0.0.1:{port}'\npublic_url = 'https://pbx.example'\n\
         [carriers.twilio]\naccount_sid = 'AC00000000000000000000000000000001'\nauth_token = 'a token'\n",
        folder.join("data").display()
    )
}

/// A folder with a database of so many numbers.
async fn fill(folder: &Path, count: u64) {
    let settings = toml::from_str(&config(folder, 0)).unwrap();
    let app = App::open(settings, Arc::new(SystemClock::new()), Random::from_system()).await.unwrap();
    let workspace = app
        .database
        .read(|read| database::workspaces::workspace_find_by_name(read, "default"))
        .await
        .unwrap()
        .unwrap()
        .id;
    let bulk = app.database.in_bulk();
    for batch in 0..count.div_ceil(BATCH) {
        let last = ((batch + 1) * BATCH).min(count);
        bulk.write(move |tx| {
            (batch * BATCH..last).try_for_each(|n| number_create(tx, &number(workspace, n)))
        })
        .await
        .unwrap();
    }
    app.database.close().await;
}

/// Whether the server answers, which it does only once its routes are loaded, and its database does.
fn is_ready(port: u16) -> bool {
    let Ok(mut socket) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let asked = socket.write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    asked.is_ok() && socket.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// A line of `/proc/<pid>/status` in megabytes.
fn megabytes(server: &Child, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find_map(|found| found.strip_prefix(line)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap() / 1024
}

/// Starts the true program, says how long it took and how much memory it holds, and stops it.
fn start(what: &str, folder: &Path) {
    let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let file = folder.join("switchboard.toml");
    std::fs::write(&file, config(folder, port)).unwrap();
    let begun = Instant::now();
    let mut server = Command::new(env!("CARGO_BIN_EXE_switchboard"))
        .arg("serve")
        .env_clear()
        .env("SWITCHBOARD_CONFIG", &file)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap();
    while !is_ready(port) {
        let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        assert!(server.try_wait().unwrap().is_none(), "the server ended:\n{}", log());
        assert!(begun.elapsed() < PATIENCE, "the server is not ready:\n{}", log());
        std::thread::sleep(Duration::from_millis(2));
    }
    let ready = begun.elapsed();
    println!(
        "{what:<44} ready in {:>6.0} ms   RSS {:>5} MB   peak {:>5} MB",
        ready.as_secs_f64() * 1e3,
        megabytes(&server, "VmRSS:"),
        megabytes(&server, "VmHWM:")
    );
    let stopped = Command::new("kill").arg(server.id().to_string()).status().unwrap();
    assert!(stopped.success() && server.wait().unwrap().success(), "the server stops when asked");
}

fn main() {
    let count: u64 = std::env::var("NUMBERS").map_or(1_000_000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for count in [0, count] {
        let folder = tempfile::tempdir().unwrap();
        runtime.block_on(fill(folder.path(), count));
        start(&format!("{count} numbers, from the database"), folder.path());
        start(&format!("{count} numbers, beside a snapshot"), folder.path());
    }
}
