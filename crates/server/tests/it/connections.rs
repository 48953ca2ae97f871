//! Connections to the true listener: whoever says nothing is let go, so that others find room.

use std::sync::Arc;
use std::time::Duration;

use server::app::{App, Random};
use server::clock::SystemClock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::line::settings;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn whoever_says_nothing_is_let_go() {
    let folder = tempfile::tempdir().unwrap();
    let few = "limits.connections = 2\nlimits.headers_timeout_ms = 200\n";
    let app =
        App::open(settings(folder.path(), few), Arc::new(SystemClock::new()), Random::from_seed(1)).await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let mut serving = JoinSet::new();
    serving.spawn(server::serve::run(app.unwrap(), listener, stop.clone()));

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
    stop.cancel();
    serving.join_next().await.unwrap().unwrap().unwrap();
}
