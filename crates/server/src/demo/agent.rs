//! The demo agent: a small WebSocket server of the Media Streams protocol that greets with three notes and then says
//! back what it hears. It stands where a team's own voice agent would.
//!
//! It understands nothing and remembers nothing, apart from how often it was called.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::simulator::audio::{FRAME_BYTES, tone};

/// The path that streams are opened on.
const PATH: &str = "/media";
/// The mark that is sent behind the greeting: it comes back when the caller has heard all of it.
pub const GREETING_MARK: &str = "greeting";
/// The largest message from a carrier.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// How many calls are held at once; further ones are refused.
const SESSIONS_MAX: u64 = 1_000;
/// How long stopping waits for calls to be closed.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// The greeting: a major chord, one note after the other.
const GREETING: [(f64, u32); 3] = [(523.25, 300), (659.25, 300), (783.99, 400)];

/// A demo agent that runs. It stops when this is dropped.
#[derive(Debug)]
pub struct RunningAgent {
    /// What to put in an agent's `stream` endpoint.
    pub url: String,
    agent: Arc<Agent>,
}

#[derive(Debug)]
struct Agent {
    greeting: Vec<u8>,
    started: AtomicU64,
    open: AtomicU64,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl RunningAgent {
    /// How many streams have been started, closed ones included.
    pub fn sessions(&self) -> u64 {
        self.agent.started.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub fn sessions_open(&self) -> u64 {
        self.agent.open.load(Ordering::SeqCst)
    }

    /// Closes every stream and stops listening.
    pub async fn shutdown(self) {
        self.agent.stop.cancel();
        self.agent.tracker.close();
        if tokio::time::timeout(SHUTDOWN_LIMIT, self.agent.tracker.wait()).await.is_err() {
            tracing::warn!("the demo agent stops although a call was still open");
        }
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        self.agent.stop.cancel();
        self.agent.tracker.close();
    }
}

/// Starts the demo agent; port 0 takes a free one.
pub async fn start(listen: SocketAddr) -> anyhow::Result<RunningAgent> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("the demo agent cannot listen on {listen}"))?;
    let address = listener.local_addr().context("a listener has an address")?;
    let agent = Arc::new(Agent {
        greeting: GREETING.iter().flat_map(|(hertz, ms)| tone(*hertz, *ms)).collect(),
        started: AtomicU64::new(0),
        open: AtomicU64::new(0),
        stop: CancellationToken::new(),
        tracker: TaskTracker::new(),
    });
    let router = Router::new().route(PATH, get(upgrade)).with_state(Arc::clone(&agent));
    let stop = agent.stop.clone();
    agent.tracker.spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!("the demo agent no longer listens: {error}");
        }
    });
    Ok(RunningAgent { url: format!("ws://{address}{PATH}"), agent })
}

async fn upgrade(State(agent): State<Arc<Agent>>, upgrade: WebSocketUpgrade) -> Response {
    if agent.open.load(Ordering::SeqCst) >= SESSIONS_MAX {
        let mut refused = Response::new("too many calls".into());
        *refused.status_mut() = axum::http::StatusCode::SERVICE_UNAVAILABLE;
        return refused;
    }
    upgrade.max_message_size(MESSAGE_BYTES_MAX).on_upgrade(move |socket| async move {
        let tracker = agent.tracker.clone();
        // The upgrade's own task is axum's; tracking the conversation lets shutdown wait for it.
        tracker
            .track_future(async move {
                agent.open.fetch_add(1, Ordering::SeqCst);
                agent.converse(socket).await;
                agent.open.fetch_sub(1, Ordering::SeqCst);
            })
            .await;
    })
}

impl Agent {
    /// Greets, then says back what it hears, until the call is over or either side leaves.
    async fn converse(&self, mut socket: WebSocket) {
        loop {
            let message = tokio::select! {
                message = socket.recv() => message,
                () = self.stop.cancelled() => break,
            };
            let text = match message {
                Some(Ok(Message::Text(text))) => text,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_))) => continue,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
            };
            let event: Value = serde_json::from_str(&text).unwrap_or_default();
            let said = match event["event"].as_str() {
                Some("start") => {
                    self.started.fetch_add(1, Ordering::SeqCst);
                    self.greet(&mut socket, &event["streamSid"]).await
                }
                Some("media") => {
                    let media = json!({
                        "event": "media",
                        "streamSid": event["streamSid"],
                        "media": {"payload": event["media"]["payload"]},
                    });
                    socket.send(Message::text(media.to_string())).await
                }
                Some("stop") => break,
                _ => Ok(()),
            };
            if said.is_err() {
                return;
            }
        }
        // The other side may have left already, which is as good.
        let _ = socket.send(Message::Close(None)).await;
    }

    async fn greet(&self, socket: &mut WebSocket, stream_sid: &Value) -> Result<(), axum::Error> {
        for frame in self.greeting.chunks(FRAME_BYTES) {
            let media = json!({"event": "media", "streamSid": stream_sid, "media": {"payload": STANDARD.encode(frame)}});
            socket.send(Message::text(media.to_string())).await?;
        }
        let mark = json!({"event": "mark", "streamSid": stream_sid, "mark": {"name": GREETING_MARK}});
        socket.send(Message::text(mark.to_string())).await
    }
}
