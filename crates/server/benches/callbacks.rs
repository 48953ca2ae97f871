//! Signed voice callbacks over HTTP beside an empty handler, in the same run: throughput and the ninety-ninth of a hundred
//! answers. `cargo bench -p server --bench callbacks`.

#![expect(clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::unwrap_used, reason = "a benchmark ends where something is not as it should be")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::routing::post;
use domain::agent::{Content, Draft};
use domain::assignment::Assignment;
use domain::call::Ingress;
use domain::endpoint::{Dial, Plain, StreamUrl, Target};
use domain::environment::Environment;
use domain::id::{AgentId, NumberId, VersionId, WorkspaceId};
use domain::number::E164;
use domain::route::RouteTable;
use domain::route::row::{CallbackToken, NumberRow, Row, RunningRow, WorkspaceRow};
use domain::workspace::WorkspaceSettings;
use server::app::{App, Random};
use server::background::record_calls;
use server::clock::SystemClock;
use server::simulator::signature::{VoiceRequest, signed_voice_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const NUMBERS: u64 = 100_000;
const REQUESTS: usize = 30_000;
const CONNECTIONS: usize = 32;
const ACCOUNT: &str = "AC00000000000000000000000000000001";
const TOKEN: &str = "the account's token";
const PUBLIC: &str = "https://pbx.example";

fn number(n: u64) -> E164 {
    E164::from_digits(14_000_000_000 + n).unwrap()
}

fn table(workspace: WorkspaceId) -> RouteTable {
    let url = StreamUrl::parse("wss://agent.example/media", Plain::Refuse).unwrap();
    let dial = Dial { target: Target::Stream { url }, ring_timeout_s: 20 };
    let content =
        Content { draft: Draft { endpoint: Some(dial.into()), ..Draft::default() }, variants: vec![] };
    let (agent_id, environment) = (AgentId::from_bits(2), Environment::Live);
    let running = RunningRow {
        version_id: VersionId::from_bits(3),
        version: 1,
        agent_name: "Support".into(),
        content: Arc::new(content),
    };
    let numbers = (0..NUMBERS).map(|n| {
        let row = NumberRow {
            number_id: NumberId::from_bits(u128::from(n)),
            workspace_id: workspace,
            callback_token: CallbackToken(u128::from(n).to_be_bytes()),
            assignment: Some(Assignment { agent_id, environment, variant_id: None }),
            own: None,
        };
        Row::Number((Ingress::STORE, number(n)), Some(row))
    });
    let shared = [
        Row::Workspace(workspace, Some(WorkspaceRow { settings: WorkspaceSettings::default() })),
        Row::Running((agent_id, environment), Some(running)),
    ];
    RouteTable::build(numbers.chain(shared), 1)
}

/// Signed requests as they stand on the wire; `path` takes the place of the true one where it is given.
fn requests(path: Option<&str>, round: &str) -> Vec<Vec<u8>> {
    (0..REQUESTS)
        .map(|n| {
            let called = (n as u64 * 7_919) % NUMBERS;
            let own = format!(
                "/callbacks/twilio/{}/voice",
                CallbackToken(u128::from(called).to_be_bytes()).to_hex()
            );
            let sid = format!("CA{round}{n:030}");
            let signed = signed_voice_request(VoiceRequest {
                url: &format!("{PUBLIC}{own}"),
                auth_token: TOKEN,
                account_sid: ACCOUNT,
                from: "+15145550100",
                to: &number(called).to_string(),
                call_sid: Some(&sid),
            });
            format!(
                "POST {} HTTP/1.1\r\nhost: pbx.example\r\nx-twilio-signature: {}\r\n\
                 content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{}",
                path.unwrap_or(&own),
                signed.signature,
                signed.body.len(),
                signed.body
            )
            .into_bytes()
        })
        .collect()
}

/// Sends one request and reads its answer.
async fn exchange(socket: &mut TcpStream, request: &[u8], buffer: &mut Vec<u8>) {
    socket.write_all(request).await.unwrap();
    buffer.clear();
    loop {
        let read = socket.read_buf(buffer).await.unwrap();
        assert!(read > 0, "the server hung up");
        let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(&buffer[..end]).unwrap();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        if buffer.len() >= end + 4 + length.map_or(0, |length| length.parse().unwrap()) {
            return;
        }
    }
}

/// Requests a second, and how long the ninety-ninth of a hundred answers took.
async fn drive(port: u16, requests: Vec<Vec<u8>>) -> (f64, Duration) {
    let requests = Arc::new(requests);
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for client in 0..CONNECTIONS {
        let requests = requests.clone();
        clients.spawn(async move {
            let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            socket.set_nodelay(true).unwrap();
            let mut buffer = Vec::with_capacity(4096);
            let mut took = Vec::new();
            for request in requests.iter().skip(client).step_by(CONNECTIONS) {
                let begun = Instant::now();
                exchange(&mut socket, request, &mut buffer).await;
                took.push(begun.elapsed());
            }
            took
        });
    }
    let mut took: Vec<Duration> = clients.join_all().await.into_iter().flatten().collect();
    let seconds = begun.elapsed().as_secs_f64();
    took.sort_unstable();
    (REQUESTS as f64 / seconds, took[took.len() * 99 / 100])
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!(
        "data_dir = '{}'\npublic_url = {PUBLIC:?}\n[carriers.twilio]\naccount_sid = {ACCOUNT:?}\nauth_token = {TOKEN:?}\n",
        folder.path().join("data").display()
    );
    let config = toml::from_str(&settings).unwrap();
    let app = App::open(config, Arc::new(SystemClock::new()), Random::from_system()).await.unwrap();
    let workspace = app
        .database
        .read(|read| database::workspaces::workspace_find_by_name(read, "default"))
        .await
        .unwrap()
        .unwrap()
        .id;
    app.routes.replace(table(workspace));
    app.routes.confirm();
    let router = server::serve::router(&app).route("/empty", post(async || ""));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut serving = JoinSet::new();
    serving.spawn(async move { axum::serve(listener, router).await.unwrap() });

    println!(
        "{REQUESTS} requests over {CONNECTIONS} connections, {NUMBERS} numbers, client and server on one machine"
    );
    drive(port, requests(Some("/empty"), "00")).await;
    let mut best = [(0.0_f64, Duration::MAX); 2];
    for round in 1..=3 {
        for (place, path) in [Some("/empty"), None].into_iter().enumerate() {
            let (rate, p99) = drive(port, requests(path, &format!("{round}{place}"))).await;
            best[place] = (best[place].0.max(rate), best[place].1.min(p99));
        }
    }
    let [(empty, empty_p99), (voice, voice_p99)] = best;
    println!("empty handler            {empty:>9.0} /s   p99 {:>7.2} ms", empty_p99.as_secs_f64() * 1e3);
    println!(
        "voice callback           {voice:>9.0} /s   p99 {:>7.2} ms   ratio {:.2}",
        voice_p99.as_secs_f64() * 1e3,
        voice / empty
    );
    app.tasks.spawn("record_calls", record_calls::run(app.clone()));
    let (kept, kept_p99) = drive(port, requests(None, "90")).await;
    println!(
        "… with records written   {kept:>9.0} /s   p99 {:>7.2} ms   ratio {:.2}   ({} notes lost at this rate)",
        kept_p99.as_secs_f64() * 1e3,
        kept / empty,
        app.recorder.lost.get()
    );
}
