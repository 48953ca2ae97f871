//! The event feed as server-sent events (WHATWG HTML §9.2): a listener that was cut off says which event it saw last, and goes on
//! behind it, in the order of commits.
//!
//! Nothing is buffered for a slow listener: a batch is read when the last one was taken. A listener whose key is revoked, or whose
//! role changes, notices within [`KEY_CHECK_EVERY`].

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body as AxumBody, Bytes};
use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use domain::error::{Code, Refusal};
use domain::event::{Event, EventKind};
use domain::id::EventId;
use futures_util::{FutureExt as _, stream};
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;
use utoipa_axum::routes;

use super::body::Query;
use super::error::{FieldError, Problem};
use super::router::Routes;
use super::schema::{self, time};
use crate::actions::events::{Gap, caller_again, feed_begin, feed_changes, feed_read};
use crate::actions::{Caller, Failure};
use crate::app::Shared;
use crate::limits::{Full, Listening};

/// How many events are read at once.
const BATCH: u32 = 100;
/// How often a silent connection is kept open: most proxies wait a minute.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);
/// How often the feed is looked at without a hint: hints of other nodes can be lost.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often the key of a listener is looked at.
pub const KEY_CHECK_EVERY: Duration = Duration::from_secs(3);
/// How soon a listener that was cut off comes back, in milliseconds.
const RETRY_MS: u32 = 2_000;

static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
static X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// The routes of events.
pub fn routes() -> Routes {
    Routes::new().with(routes!(listen), &[Code::BadEventId, Code::InvalidValue])
}

/// One event.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Event)]
pub struct EventOut {
    /// Its id; send the last one as `Last-Event-ID` to go on behind it.
    #[schema(example = "evt_01kb5x3a7m0000000000000000")]
    pub id: String,
    /// What happened.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "agent.published")]
    pub kind: EventKind,
    /// When.
    #[schema(value_type = schema::Time)]
    pub at: String,
    /// The id of what it happened to.
    #[schema(example = "agt_01kb5x3a7m0000000000000000")]
    pub subject: String,
    /// The thing as the API shows it, or what matters of it. Never a secret.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

impl From<Event> for EventOut {
    fn from(event: Event) -> Self {
        EventOut {
            id: event.id.to_string(),
            kind: event.kind,
            at: time(event.at),
            subject: event.subject,
            data: event.data,
        }
    }
}

/// What `Last-Event-ID` says, if it was sent.
pub struct LastEventId(Option<EventId>);

impl<S: Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(sent) = parts.headers.get(&LAST_EVENT_ID).filter(|sent| !sent.is_empty()) else {
            return Ok(LastEventId(None));
        };
        let id = String::from_utf8_lossy(sent.as_bytes()).parse::<EventId>();
        let id = id.map_err(|refusal| Refusal { code: Code::BadEventId, ..refusal });
        let id = id.map_err(|refusal| Problem::invalid(vec![FieldError::new("Last-Event-ID", refusal)]))?;
        Ok(LastEventId(Some(id)))
    }
}

fn kinds_parse(text: &str) -> Result<BTreeSet<EventKind>, Refusal> {
    text.split(',').map(|word| word.trim().parse()).collect()
}

/// Listen to events
///
/// Server-sent events, in the order in which they were committed: `id`, `event` (the type) and `data` (the event as JSON). Without
/// `Last-Event-ID` only what comes next is sent. Where the event named there is no longer kept, an event `stream.gap` comes first,
/// then the oldest that is; where your workspace knows no such event, `stream.gap` comes first, then only what happens from now on.
/// In both cases read anew what you show. You hear of what your key may read; silence is broken by a comment every 15 seconds.
#[utoipa::path(
    get, path = "/v1/events", tag = "Audit", operation_id = "event_listen",
    params(
        ("type" = Option<String>, Query, description = "Only these types, separated by commas", example = "number.active,agent.published"),
        ("Last-Event-ID" = Option<String>, Header, description = "The id of the event that you saw last"),
    ),
    responses((status = 200, description = "A stream of events", body = EventOut, content_type = "text/event-stream"))
)]
pub async fn listen(
    State(app): State<Shared>,
    caller: Caller,
    LastEventId(last_seen): LastEventId,
    query: Query,
) -> Result<Response, Problem> {
    let kinds = query.read(|fields| Some(fields.optional("type", |json| json.text(kinds_parse))))?;
    let place = app.listeners.enter(caller.workspace, caller.key).map_err(full)?;
    // Subscribed first: what is committed from here on is either read or hinted at.
    let changes = feed_changes(&app);
    let begin = feed_begin(&app, &caller, last_seen).await?;
    let mut ready = VecDeque::from([format!("retry: {RETRY_MS}\n: listening\n\n")]);
    if let Some(gap) = begin.gap {
        ready.push_back(gap_frame(gap));
    }
    let listener = Listener {
        stopping: app.tasks.stopping(),
        changes,
        caller,
        kinds,
        after: begin.after,
        ready,
        keep_alive: ticking(KEEP_ALIVE_EVERY),
        look: ticking(LOOK_EVERY),
        key_check: ticking(KEY_CHECK_EVERY),
        app,
        _place: place,
    };
    let chunks = stream::unfold(listener, |mut listener| async move {
        let chunk = listener.next().await?;
        Some((Ok::<Bytes, Infallible>(Bytes::from(chunk)), listener))
    });
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // Proxies that collect answers would keep events back.
        (X_ACCEL_BUFFERING.clone(), HeaderValue::from_static("no")),
    ];
    Ok((StatusCode::OK, headers, AxumBody::from_stream(chunks)).into_response())
}

/// Why there is no room for one more listener.
fn full(full: Full) -> Problem {
    let (code, detail) = match full {
        Full::Key(most) => (
            Code::RateLimited,
            format!(
                "this key has {most} listeners at this node, the most that one key may have; close one, or use a key for each program"
            ),
        ),
        Full::Workspace(most) => (
            Code::RateLimited,
            format!("this workspace has {most} listeners at this node, the most it may have; close one"),
        ),
        Full::Node(most) => (
            Code::Overloaded,
            format!("this node has {most} listeners, the most it takes; close one, or try again later"),
        ),
    };
    Problem::new(code, detail).retry_after(10)
}

fn gap_frame(gap: Gap) -> String {
    let detail = match gap {
        Gap::Forgotten => {
            "the event that you saw last is no longer kept; read what you show anew. The oldest that is kept comes next"
        }
        Gap::Unknown => {
            "this workspace has no such event as you saw last; read what you show anew. Only what happens from now on comes next"
        }
    };
    format!("event: stream.gap\ndata: {}\n\n", serde_json::json!({ "detail": detail }))
}

fn ticking(every: Duration) -> Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}

/// One connection.
struct Listener {
    app: Shared,
    caller: Caller,
    kinds: Option<BTreeSet<EventKind>>,
    after: i64,
    /// What is written next; never more than one batch.
    ready: VecDeque<String>,
    changes: watch::Receiver<u64>,
    stopping: CancellationToken,
    keep_alive: Interval,
    look: Interval,
    key_check: Interval,
    _place: Listening,
}

impl Listener {
    /// The next piece of the answer; `None` ends it.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Some(chunk);
            }
            // Also while there is so much to read that this listener never waits.
            if self.key_check.tick().now_or_never().is_some() && !self.still_stands().await {
                return None;
            }
            self.changes.mark_unchanged();
            match feed_read(&self.app, &self.caller, self.after, BATCH).await {
                Ok(batch) => {
                    self.after = batch.after;
                    let wanted = batch.entries.into_iter().map(|entry| entry.event);
                    let wanted = wanted
                        .filter(|event| self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind)));
                    self.ready.extend(wanted.map(frame));
                    if !batch.is_empty {
                        continue;
                    }
                }
                // The database is away for a while: the listener stays, and hears on when it is back.
                Err(Failure::Database(_)) => {}
                Err(_) => return None,
            }
            tokio::select! {
                () = self.stopping.cancelled() => return None,
                changed = self.changes.changed() => if changed.is_err() { return None },
                _ = self.look.tick() => {}
                _ = self.keep_alive.tick() => return Some(": still here\n\n".to_owned()),
                _ = self.key_check.tick() => if !self.still_stands().await { return None },
            }
        }
    }

    /// Whether the key still lets in; what it allows may have changed.
    async fn still_stands(&mut self) -> bool {
        match caller_again(&self.app, &self.caller).await {
            Ok(caller) => self.caller = caller,
            // The database is away: nobody can tell, and nothing new is read either.
            Err(Failure::Database(_)) => {}
            Err(_) => return false,
        }
        true
    }
}

fn frame(event: Event) -> String {
    let (id, kind) = (event.id, event.kind);
    let data = serde_json::to_string(&EventOut::from(event)).expect("our own types always serialise");
    // JSON on one line: it holds no line break that would end the field.
    format!("id: {id}\nevent: {kind}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_event_whatever_is_in_it() {
        let event = Event {
            id: EventId::from_bits(7),
            workspace_id: domain::id::WorkspaceId::from_bits(1),
            kind: EventKind::AgentUpdated,
            at: jiff::Timestamp::UNIX_EPOCH,
            subject: "agt_x".to_owned(),
            data: serde_json::json!({"name": "a\n\ndata: forged\r\n\u{2028}"}),
        };
        let frame = frame(event);
        assert_eq!(frame.matches('\n').count(), 4, "{frame}");
        assert!(!frame.contains('\r') && frame.ends_with("\n\n"), "{frame}");
        assert!(
            frame.starts_with("id: evt_00000000000000000000000007\nevent: agent.updated\ndata: {"),
            "{frame}"
        );
    }

    #[test]
    fn types_are_words_separated_by_commas() {
        assert_eq!(kinds_parse("number.active, agent.published").unwrap().len(), 2);
        assert_eq!(kinds_parse("number.active,").unwrap_err().code, Code::InvalidValue);
    }
}
