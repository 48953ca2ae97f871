//! Media streams: a true WebSocket client that speaks the carrier's side, sends what a caller would say (a tone), and
//! measures what it hears.
//!
//! It has no TLS: a `wss` address is accepted, as the carrier accepts no other, and then cannot be reached. Agents to be
//! tried with the simulator listen on this machine and are addressed with `ws`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::audio::{FRAME_BYTES, FRAME_MS, SAMPLES_PER_SECOND, decode, tone};
use super::call::{Command, Flow, Follower, Interrupt, Party, Source};
use super::callbacks::{self, Callback, Failure, Via, remark};
use super::form::{Form, sid};
use super::state::Shared;
use super::twiml::Element;

/// How long the WebSocket's handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long is waited for the other side to close as well.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// The largest message from an agent.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// How many marks may wait for their sound to be played.
const MARKS_MAX: usize = 1_000;
/// After so many messages that make no sense, the stream is given up.
const MALFORMED_MAX: u32 = 10;
/// The longest name and value of a parameter together.
const PARAMETER_LENGTH_MAX: usize = 500;
/// What the caller hums.
const CALLER_HERTZ: f64 = 440.0;
/// How often the timeline learns how the stream does, in frames.
const SHOW_EVERY_FRAMES: u64 = 5;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How a stream ended when nobody on the telephone ended it.
enum Ended {
    AgentClosed,
    Failed,
}

/// One stream, from the handshake to its last statistics.
struct Session {
    shared: Arc<Shared>,
    call_sid: String,
    stream_sid: String,
    name: String,
    report_to: Option<(String, Via)>,
    /// Which of the call's streams it is.
    index: usize,
    shown: Map<String, Value>,
    voice: Vec<u8>,
    sequence: u64,
    frames_sent: u64,
    frames_heard: u64,
    bytes_heard: u64,
    peak_heard: u16,
    malformed: u32,
    opened_at: Duration,
    first_audio_ms: Option<u64>,
    /// Until which moment of the stream there is something to play, in ms.
    played_until_ms: f64,
    /// What was sent and thrown away unplayed, in ms.
    cleared_ms: f64,
    marks: VecDeque<(f64, String)>,
    marks_returned: Vec<String>,
}

impl Follower {
    /// `<Connect><Stream>`: the call is the stream's until the agent closes it or somebody hangs up.
    pub(super) async fn connect(&mut self, verb: &Element) -> Result<Flow, Interrupt> {
        self.answer();
        let action =
            verb.filled("action").map(|url| (self.absolute(url), Via::read(verb.attribute("method"))));
        let mut session = Session::new(&self.shared, &self.sid, &verb.children[0], "bidirectional");
        let outcome = self.converse(&mut session, &verb.children[0]).await;
        let mut extra = Form::default();
        extra.push("StreamSid", session.stream_sid.as_str());
        match outcome {
            Ok(()) => Ok(match action {
                Some((url, via)) => Flow::Goto(Source::Url { operation: "callback.action", url, via, extra }),
                None => Flow::Next,
            }),
            Err(interrupt) => {
                if let (Interrupt::HangUp(by), Some((url, via))) = (&interrupt, &action)
                    && *by != Party::Simulator
                {
                    self.notify("callback.action", url, *via, &extra);
                }
                Err(interrupt)
            }
        }
    }

    /// `<Start><Stream>`: a copy of the caller's sound, beside the call, until the call is over.
    pub(super) fn start_streams(&mut self, verb: &Element) {
        self.answer();
        for noun in &verb.children {
            let (noun, over) = (noun.clone(), self.over.clone());
            let mut session = Session::new(&self.shared, &self.sid, &noun, "one-way");
            self.shared.tracker.spawn(async move {
                let Some(mut socket) = session.open(&noun).await else { return };
                let mut ticks = ticks();
                let ended_by = loop {
                    tokio::select! {
                        () = over.cancelled() => break "call_over",
                        _ = ticks.tick() => if session.tick(&mut socket).await.is_err() { break "agent_closed" },
                        message = socket.next() => if !matches!(message, Some(Ok(m)) if !m.is_close()) { break "agent_closed" },
                    }
                };
                session.close(socket, ended_by).await;
            });
        }
    }

    async fn converse(&mut self, session: &mut Session, noun: &Element) -> Result<(), Interrupt> {
        let Some(mut socket) = self.until(session.open(noun)).await? else { return Ok(()) };
        let mut ticks = ticks();
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    if let Some(Command::Dtmf(digits)) = command {
                        for digit in digits.chars() {
                            let dtmf = json!({"track": "inbound_track", "digit": digit.to_string()});
                            // A socket that is gone is noticed below.
                            let _ = session.send(&mut socket, "dtmf", dtmf).await;
                        }
                    } else if let Some(interrupt) = self.interrupt(command) {
                        let ended_by = if matches!(interrupt, Interrupt::HangUp(_)) { "hung_up" } else { "redirected" };
                        session.close(socket, ended_by).await;
                        return Err(interrupt);
                    }
                }
                () = self.shared.stop.cancelled() => {
                    session.close(socket, "simulator_stopped").await;
                    return Err(Interrupt::HangUp(Party::Simulator));
                }
                // Before the agent's messages, so that an agent that never stops talking cannot stop the clock.
                _ = ticks.tick() => if session.tick(&mut socket).await.is_err() {
                    session.close(socket, "agent_closed").await;
                    return Ok(());
                },
                message = socket.next() => {
                    let ended = match message {
                        Some(Ok(Message::Text(text))) => session.hear(&mut socket, &text).await,
                        Some(Ok(Message::Close(_)) | Err(_)) | None => Some(Ended::AgentClosed),
                        Some(Ok(_)) => None,
                    };
                    if let Some(ended) = ended {
                        let ended_by = if matches!(ended, Ended::AgentClosed) { "agent_closed" } else { "malformed" };
                        session.close(socket, ended_by).await;
                        return Ok(());
                    }
                }
            }
        }
    }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(Duration::from_millis(FRAME_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}

impl Session {
    fn new(shared: &Arc<Shared>, call_sid: &str, noun: &Element, mode: &str) -> Self {
        let stream_sid = sid("MZ");
        let parameters: Map<String, Value> = noun
            .children
            .iter()
            .map(|child| {
                let of = |name: &str| child.attribute(name).unwrap_or_default().to_owned();
                (of("name"), json!(of("value")))
            })
            .collect();
        let mut shown = Map::new();
        shown.insert("stream_sid".into(), json!(stream_sid));
        shown.insert("url".into(), json!(noun.attribute("url").unwrap_or_default()));
        shown.insert("mode".into(), json!(mode));
        shown.insert("parameters".into(), Value::Object(parameters));
        shown.insert("state".into(), json!("connecting"));
        let mut state = shared.lock();
        let index = state.calls.by_sid_mut(call_sid).map_or(0, |call| {
            call.streams.push(Value::Object(shown.clone()));
            call.streams.len() - 1
        });
        drop(state);
        let report_to = noun
            .filled("statusCallback")
            .map(|url| (url.to_owned(), Via::read(noun.attribute("statusCallbackMethod"))));
        Self {
            shared: Arc::clone(shared),
            call_sid: call_sid.to_owned(),
            name: noun.filled("name").unwrap_or(&stream_sid).to_owned(),
            stream_sid,
            report_to,
            index,
            shown,
            voice: tone(CALLER_HERTZ, 1_000),
            sequence: 0,
            frames_sent: 0,
            frames_heard: 0,
            bytes_heard: 0,
            peak_heard: 0,
            malformed: 0,
            opened_at: shared.clock.monotonic(),
            first_audio_ms: None,
            played_until_ms: 0.0,
            cleared_ms: 0.0,
            marks: VecDeque::new(),
            marks_returned: Vec::new(),
        }
    }

    /// Connects and introduces the call. None: it could not be, and that has been reported.
    async fn open(&mut self, noun: &Element) -> Option<Socket> {
        let opened = match self.handshake(noun.attribute("url").unwrap_or_default()).await {
            Ok(mut socket) => match self.introduce(&mut socket, noun).await {
                Ok(()) => Ok(socket),
                Err(error) => Err(Failure::new(31_920, error.to_string())),
            },
            Err(failure) => Err(failure),
        };
        match opened {
            Ok(socket) => {
                self.opened_at = self.shared.clock.monotonic();
                self.show("open");
                self.report("stream-started", None);
                Some(socket)
            }
            Err(failure) => {
                self.shared.note_error(&self.call_sid, failure.code, &failure.message);
                self.shown.insert("error".into(), json!(failure.message));
                self.show("failed");
                self.report("stream-error", Some(&failure.message));
                None
            }
        }
    }

    async fn handshake(&mut self, url: &str) -> Result<Socket, Failure> {
        let parsed =
            url::Url::parse(url).map_err(|error| Failure::new(11_100, format!("{url:?}: {error}")))?;
        if parsed.query().is_some() {
            return Err(Failure::new(11_100, format!("a stream's URL cannot have a query: {url}")));
        }
        let loopback = matches!(parsed.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        if parsed.scheme() != "wss" && !(parsed.scheme() == "ws" && loopback) {
            return Err(Failure::new(
                11_100,
                format!("a stream's URL must be wss (or ws to this machine): {url}"),
            ));
        }
        let mut request =
            url.into_client_request().map_err(|error| Failure::new(11_100, error.to_string()))?;
        let signature = super::signature::sign(&self.shared.auth_token, url, &[]);
        let value = HeaderValue::from_str(&signature).expect("Base64 is a header value");
        request.headers_mut().insert("x-twilio-signature", value);
        self.shown.insert("signature".into(), json!(signature));
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        match timeout(HANDSHAKE_LIMIT, connect_async_with_config(request, Some(config), true)).await {
            Ok(Ok((socket, _))) => Ok(socket),
            Ok(Err(error)) => Err(Failure::new(31_920, format!("WebSocket handshake with {url}: {error}"))),
            Err(_) => Err(Failure::new(31_920, format!("WebSocket handshake with {url} took too long"))),
        }
    }

    async fn introduce(&mut self, socket: &mut Socket, noun: &Element) -> anyhow::Result<()> {
        for child in &noun.children {
            let length =
                ["name", "value"].iter().map(|name| child.attribute(name).map_or(0, str::len)).sum::<usize>();
            if length >= PARAMETER_LENGTH_MAX {
                let text = format!("a <Parameter> of {length} characters is too long");
                self.shared.note(&self.call_sid, "remark", remark(&text));
            }
        }
        let connected = json!({"event": "connected", "protocol": "Call", "version": "1.0.0"});
        socket.send(Message::Text(Utf8Bytes::from(connected.to_string()))).await?;
        let tracks = match noun.attribute("track") {
            Some("both_tracks") => json!(["inbound", "outbound"]),
            Some("outbound_track") => json!(["outbound"]),
            _ => json!(["inbound"]),
        };
        let start = json!({
            "streamSid": self.stream_sid,
            "accountSid": self.shared.account_sid,
            "callSid": self.call_sid,
            "tracks": tracks,
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": SAMPLES_PER_SECOND, "channels": 1},
            "customParameters": self.shown["parameters"],
        });
        self.send(socket, "start", start).await
    }

    /// Sends one event of the protocol, with the next number. All counters are strings on this wire.
    async fn send(&mut self, socket: &mut Socket, event: &str, content: Value) -> anyhow::Result<()> {
        self.sequence += 1;
        let message = json!({
            "event": event,
            "sequenceNumber": self.sequence.to_string(),
            "streamSid": self.stream_sid,
            event: content,
        });
        socket.send(Message::Text(Utf8Bytes::from(message.to_string()))).await?;
        Ok(())
    }

    /// 20 ms have passed: the caller's next frame is sent, and marks whose sound has been played are returned.
    async fn tick(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let frames = self.voice.len() / FRAME_BYTES;
        let at = usize::try_from(self.frames_sent).unwrap_or(0) % frames * FRAME_BYTES;
        let payload = STANDARD.encode(&self.voice[at..at + FRAME_BYTES]);
        let media = json!({
            "track": "inbound",
            "chunk": (self.frames_sent + 1).to_string(),
            "timestamp": (self.frames_sent * FRAME_MS).to_string(),
            "payload": payload,
        });
        self.send(socket, "media", media).await?;
        self.frames_sent += 1;
        let now_ms = self.now_ms();
        while self.marks.front().is_some_and(|(due, _)| *due <= now_ms) {
            let (_, name) = self.marks.pop_front().expect("just seen");
            self.mark_return(socket, name).await?;
        }
        if self.frames_sent.is_multiple_of(SHOW_EVERY_FRAMES) {
            self.show("open");
        }
        Ok(())
    }

    /// The stream's own time, counted in frames.
    #[expect(clippy::cast_precision_loss, reason = "a stream of 2^53 ms does not happen")]
    fn now_ms(&self) -> f64 {
        (self.frames_sent * FRAME_MS) as f64
    }

    /// What was sent and still waits to be played.
    fn unplayed_ms(&self) -> f64 {
        (self.played_until_ms - self.now_ms()).max(0.0)
    }

    /// How much sound came out of the caller's telephone so far: agents send faster than it plays, and callers hang up.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "whole milliseconds of one call"
    )]
    fn heard_ms(&self) -> u64 {
        let received = self.bytes_heard as f64 * 1_000.0 / f64::from(SAMPLES_PER_SECOND);
        (received - self.cleared_ms - self.unplayed_ms()).max(0.0) as u64
    }

    async fn mark_return(&mut self, socket: &mut Socket, name: String) -> anyhow::Result<()> {
        self.send(socket, "mark", json!({"name": name})).await?;
        if self.marks_returned.len() < MARKS_MAX {
            self.marks_returned.push(name);
        }
        Ok(())
    }

    /// A message from the agent.
    async fn hear(&mut self, socket: &mut Socket, text: &str) -> Option<Ended> {
        let message: Value = serde_json::from_str(text).unwrap_or_default();
        if message["streamSid"] != self.stream_sid.as_str() {
            return self.complain("a message without this stream's streamSid");
        }
        match message["event"].as_str() {
            Some("media") => {
                let Some(bytes) =
                    message["media"]["payload"].as_str().and_then(|payload| STANDARD.decode(payload).ok())
                else {
                    return self.complain("media without a Base64 payload");
                };
                if self.first_audio_ms.is_none() {
                    let waited = self.shared.clock.monotonic().saturating_sub(self.opened_at);
                    self.first_audio_ms = Some(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
                }
                self.frames_heard += 1;
                self.bytes_heard += bytes.len() as u64;
                let peak = bytes.iter().map(|byte| decode(*byte).unsigned_abs()).max().unwrap_or(0);
                self.peak_heard = self.peak_heard.max(peak);
                let length_ms = f64::from(u32::try_from(bytes.len()).unwrap_or(u32::MAX)) * 1_000.0
                    / f64::from(SAMPLES_PER_SECOND);
                self.played_until_ms = self.played_until_ms.max(self.now_ms()) + length_ms;
                None
            }
            Some("mark") => {
                let Some(name) = message["mark"]["name"].as_str() else {
                    return self.complain("a mark without a name");
                };
                if self.marks.len() >= MARKS_MAX {
                    return self.complain("too many marks are waiting");
                }
                if self.played_until_ms <= self.now_ms() {
                    return self.mark_return(socket, name.to_owned()).await.err().map(|_| Ended::AgentClosed);
                }
                self.marks.push_back((self.played_until_ms, name.to_owned()));
                None
            }
            Some("clear") => {
                self.cleared_ms += self.unplayed_ms();
                self.played_until_ms = 0.0;
                self.shared.note(&self.call_sid, "stream_cleared", json!({"stream_sid": self.stream_sid}));
                while let Some((_, name)) = self.marks.pop_front() {
                    if self.mark_return(socket, name).await.is_err() {
                        return Some(Ended::AgentClosed);
                    }
                }
                None
            }
            _ => self.complain("an unknown event"),
        }
    }

    fn complain(&mut self, what: &str) -> Option<Ended> {
        self.malformed += 1;
        self.shared.note_error(&self.call_sid, 31_951, &format!("stream: {what}"));
        (self.malformed >= MALFORMED_MAX).then_some(Ended::Failed)
    }

    /// Says goodbye, closes, and writes the last statistics.
    async fn close(&mut self, mut socket: Socket, ended_by: &str) {
        let stop = json!({"accountSid": self.shared.account_sid, "callSid": self.call_sid});
        let farewell = async {
            if ended_by != "agent_closed" {
                let _ = self.send(&mut socket, "stop", stop).await;
            }
            let _ = socket.close(None).await;
            while let Some(Ok(_)) = socket.next().await {}
        };
        let _ = timeout(CLOSE_LIMIT, farewell).await;
        self.shown.insert("ended_by".into(), json!(ended_by));
        self.show("ended");
        self.report("stream-stopped", None);
    }

    fn show(&mut self, state: &str) {
        for (name, value) in [
            ("state", json!(state)),
            ("frames_sent", json!(self.frames_sent)),
            ("frames_heard", json!(self.frames_heard)),
            ("bytes_heard", json!(self.bytes_heard)),
            ("heard_ms", json!(self.heard_ms())),
            ("first_audio_ms", json!(self.first_audio_ms)),
            ("peak_heard", json!(self.peak_heard)),
            ("marks_returned", json!(self.marks_returned)),
            ("malformed", json!(self.malformed)),
        ] {
            self.shown.insert(name.to_owned(), value);
        }
        if let Some(call) = self.shared.lock().calls.by_sid_mut(&self.call_sid)
            && let Some(slot) = call.streams.get_mut(self.index)
        {
            *slot = Value::Object(self.shown.clone());
        }
    }

    /// Tells the stream's status callback. These carry nothing but what is here.
    fn report(&self, event: &str, error: Option<&str>) {
        self.shared.note(&self.call_sid, event, json!({"stream_sid": self.stream_sid}));
        let Some((url, via)) = &self.report_to else { return };
        let mut params = Form::default();
        params.push("AccountSid", self.shared.account_sid.as_str());
        params.push("CallSid", self.call_sid.as_str());
        params.push("StreamSid", self.stream_sid.as_str());
        params.push("StreamName", self.name.as_str());
        params.push("StreamEvent", event);
        if let Some(error) = error {
            params.push("StreamError", error);
        }
        params.push("Timestamp", self.shared.clock.now().to_string());
        let callback = Callback { operation: "callback.stream", url: url.clone(), via: *via, params };
        drop(callbacks::send(&self.shared, &self.call_sid, callback));
    }
}
