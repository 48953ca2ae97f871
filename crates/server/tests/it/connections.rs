//! Connections to the true listener: whoever says nothing or takes nothing is let go, and calls find room whoever else is there.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::Response;
use server::app::{App, Random};
use server::clock::SystemClock;
use server::connections::{Rules, accept};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::line::settings;

const DOCS: &str = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n";
const CALL: &str = "POST /callbacks/twilio/token/voice HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\
    Content-Type: application/x-www-form-urlencoded\r\n\r\na=b";
const PATIENCE: Duration = Duration::from_secs(20);

/// The program, listening.
struct Node {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinSet<anyhow::Result<()>>,
    _folder: TempDir,
}

impl Node {
    async fn start(limits: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let config = settings(folder.path(), limits);
        let app = App::open(config, Arc::new(SystemClock::new()), Random::from_seed(1)).await.unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(server::serve::run(app, listener, stop.clone()));
        Node { address, stop, serving, _folder: folder }
    }

    async fn stop(mut self) {
        self.stop.cancel();
        self.serving.join_next().await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn whoever_says_nothing_is_let_go() {
    let node = Node::start("limits.connections = 2\nlimits.headers_timeout_ms = 200\n").await;
    let address = node.address;

    let asked = async {
        let mut silent = Vec::new();
        for _ in 0..4 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut asking = TcpStream::connect(address).await.unwrap();
        asking.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        asking.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        for mut connection in silent {
            let mut rest = Vec::new();
            // An error is a connection that was let go, too.
            let _ = connection.read_to_end(&mut rest).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("places are free again");
    node.stop().await;
}

/// Sends one request over a connection and reads what comes at once: the head and, for short answers, the body.
async fn ask(connection: &mut TcpStream, request: &str) -> String {
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let read = connection.read(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Listeners and API clients can take every place but those that calls need.
#[tokio::test]
async fn callbacks_find_room_when_all_else_is_taken() {
    let node = Node::start("limits.connections = 4\nlimits.connections_reserved = 2\n").await;
    let address = node.address;

    let asked = async {
        let mut open = Vec::new();
        for _ in 0..2 {
            let mut connection = TcpStream::connect(address).await.unwrap();
            let answer = ask(&mut connection, DOCS).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            open.push(connection);
        }
        let mut late = TcpStream::connect(address).await.unwrap();
        let answer = ask(&mut late, DOCS).await.to_ascii_lowercase();
        for part in ["http/1.1 503", "connection: close", "retry-after: 1", "overloaded", "x-request-id"] {
            assert!(answer.contains(part), "{part}: {answer}");
        }
        assert_eq!(late.read(&mut [0]).await.unwrap(), 0, "and its place is free again");
        let mut carrier = TcpStream::connect(address).await.unwrap();
        let answer = ask(&mut carrier, CALL).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "it is not signed, but it is looked at: {answer}");
        // From the same connection, once another has ended.
        drop(open.pop());
        loop {
            let answer = ask(&mut carrier, DOCS).await;
            if answer.starts_with("HTTP/1.1 200") {
                break;
            }
            carrier = TcpStream::connect(address).await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it is answered in time");
    node.stop().await;
}

/// Whoever reads nothing of an answer that goes on is let go, and a listener's place with it.
#[tokio::test]
async fn whoever_takes_nothing_is_let_go() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, tracker) = (CancellationToken::new(), TaskTracker::new());
    let rules = Rules {
        connections_max: 1,
        reserved: 0,
        per_address_max: 1,
        proxies: Vec::new(),
        headers_limit: PATIENCE,
        write_limit: Duration::from_millis(200),
        drain_limit: Duration::ZERO,
    };
    let endless = |_, _, _| async {
        let chunks =
            futures_util::stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from(vec![b'x'; 65_536])));
        Ok::<_, Infallible>(Response::new(Body::from_stream(chunks)))
    };
    let mut serving = JoinSet::new();
    serving.spawn(accept(listener, rules, stop.clone(), tracker.clone(), endless));
    let asked = async {
        let mut stalled = TcpStream::connect(address).await.unwrap();
        ask(&mut stalled, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        // There is one place, and it is free only once the first has been let go.
        let mut next = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut next, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("the place is free again");
    stop.cancel();
    serving.join_next().await.unwrap().unwrap();
}
