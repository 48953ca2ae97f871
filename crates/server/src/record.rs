//! What is kept of calls. The call path hands over a note and goes on; nothing there ever waits for the database. Notes wait in a
//! bounded queue, are written in batches by `background::record_calls`, and while the database is away they go to a bounded
//! spool on disk.

mod entry;
mod spool;

use std::sync::Arc;

use domain::call::CallStatus;
use domain::route::{Explained, IncomingCall, RouteTable, decide};
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{Mutex, mpsc};

pub use self::entry::{Entry, Route, Told, keep, tell, write};
pub use self::spool::{SPOOL_BYTES_MAX, Spool};
use crate::app::Metrics;

/// How many notes may wait to be written.
pub const QUEUE_MAX: usize = 20_000;

/// Takes notes of calls.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Note>,
    waiting: Arc<Mutex<mpsc::Receiver<Note>>>,
    /// Notes that found the queue full.
    pub lost: Counter,
    /// Notes that went to the spool.
    pub spooled: Counter,
    /// Notes that are in the database.
    pub written: Counter,
}

/// One thing to be kept.
pub enum Note {
    /// It is known in full.
    Entry(Box<Entry>),
    /// A decision, to be written out in words by whoever keeps it, not by the call that waits for its answer.
    Decided {
        /// What else is known, to be written out in words too.
        entry: Box<dyn FnOnce() -> Entry + Send>,
        /// The table that decided.
        table: Arc<RouteTable>,
        /// The call.
        call: IncomingCall,
        /// When.
        at: Timestamp,
    },
}

impl Recorder {
    /// A recorder with an empty queue.
    pub fn new(metrics: &Metrics) -> Recorder {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let recorder = Recorder {
            queue,
            waiting: Arc::new(Mutex::new(waiting)),
            lost: Counter::default(),
            spooled: Counter::default(),
            written: Counter::default(),
        };
        metrics.register(
            "call_notes_lost",
            "Notes of calls that found the queue full",
            recorder.lost.clone(),
        );
        metrics.register(
            "call_notes_spooled",
            "Notes of calls that went to the disk while the database was away",
            recorder.spooled.clone(),
        );
        metrics.register("call_notes_written", "Notes of calls in the database", recorder.written.clone());
        recorder
    }

    /// Takes a note. Never waits: where the queue is full the note is counted and dropped.
    pub fn take(&self, note: Note) {
        if self.queue.try_send(note).is_err() {
            self.lost.inc();
        }
    }

    /// The end where notes are read. There is one reader at a time.
    pub async fn reader(&self) -> tokio::sync::OwnedMutexGuard<mpsc::Receiver<Note>> {
        Arc::clone(&self.waiting).lock_owned().await
    }

    /// How many notes wait now.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

impl Note {
    /// The note in full.
    pub fn into_entry(self) -> Entry {
        match self {
            Note::Entry(entry) => *entry,
            Note::Decided { entry, table, call, at } => {
                let mut entry = entry();
                let decision = decide(&table, &call, at);
                let explained = Explained::new(&call, at, &decision);
                let mut value = serde_json::to_value(&explained).expect("an explanation is plain data");
                if let (Some(value), Some(asked)) = (value.as_object_mut(), entry.decision.take()) {
                    // What the team's server said belongs to the decision too.
                    value.insert("asked".to_owned(), asked);
                }
                entry.decision = Some(value);
                entry.status.get_or_insert(CallStatus::Ringing);
                entry
            }
        }
    }
}
