//! Writes what the call path noted: in batches to the database, and while that is away to the spool, from where it follows later
//! in the same order.

use std::sync::Arc;
use std::time::Duration;

use database::{Database, DbError};
use tokio::sync::mpsc::Receiver;
use tracing::{debug, error, info, warn};

use crate::app::Shared;
use crate::record::{Entry, Note, Recorder, Spool, write};

/// How many notes are written at once, at most. What others wait for is locked only at the batch's end: see [`write()`].
const BATCH_MAX: usize = 100;
/// By how much the next batch is smaller after one that could not be written in time. A database that is merely slow takes small
/// ones; without this it would be given the same large one for ever.
const BATCH_SHRINK: usize = 4;
/// How many notes go to the spool at once, at most.
const SPOOL_BATCH_MAX: usize = 1_000;
/// How many batches of the spool are written between two looks at the queue.
const REPLAY_BATCHES_MAX: usize = 10;
/// How long writing a batch may take before it goes to the spool.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// How long until the database is tried again while notes wait in the spool.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Runs until the app stops; then what still waits is written or spooled.
pub async fn run(app: Shared) {
    let folder = app.config.data_dir.clone();
    let spool = match tokio::task::spawn_blocking(move || Spool::open(folder)).await {
        Ok(Ok(spool)) => Some(spool),
        Ok(Err(why)) => {
            error!(
                "the spool of calls cannot be opened, so records are lost while the database is away: {why}"
            );
            None
        }
        Err(why) => {
            error!("opening the spool of calls panicked: {why}");
            None
        }
    };
    let mut writer = Writer {
        database: app.database.within(WRITE_LIMIT),
        recorder: app.recorder.clone(),
        spool,
        batch: BATCH_MAX,
        is_down: false,
    };
    let stopping = app.tasks.stopping();
    let mut queue = app.recorder.reader().await;
    // While notes wait on disk the database is tried now and then only: each try takes time in which the queue fills.
    let mut pause = Box::pin(tokio::time::sleep(Duration::ZERO));
    loop {
        let mut notes = Vec::new();
        // The disk takes whole batches, however small those are that a slow database takes.
        let most = if writer.has_spooled() { SPOOL_BATCH_MAX } else { writer.batch };
        let is_pause_over = tokio::select! {
            _ = queue.recv_many(&mut notes, most) => false,
            () = &mut pause, if writer.has_spooled() => true,
            () = stopping.cancelled() => break,
        };
        writer.take(notes).await;
        if is_pause_over && !writer.replay().await {
            pause = Box::pin(tokio::time::sleep(RETRY_PAUSE));
        }
    }
    writer.finish(&mut queue).await;
}

struct Writer {
    database: Database,
    recorder: Recorder,
    spool: Option<Spool>,
    /// How many notes are written at once now.
    batch: usize,
    /// Whether the last try failed: told once, not for each batch.
    is_down: bool,
}

impl Writer {
    fn has_spooled(&self) -> bool {
        self.spool.as_ref().is_some_and(|spool| !spool.is_empty())
    }

    async fn take(&mut self, notes: Vec<Note>) {
        let entries: Vec<Entry> = notes.into_iter().map(Note::into_entry).collect();
        if self.has_spooled() {
            // Whatever waits already goes first.
            self.keep(entries).await;
        } else if !entries.is_empty() {
            let left = self.write(entries).await;
            self.keep(left).await;
        }
    }

    async fn finish(&mut self, queue: &mut Receiver<Note>) {
        let mut notes = Vec::new();
        while let Ok(note) = queue.try_recv() {
            notes.push(note);
            if notes.len() == BATCH_MAX {
                self.take(std::mem::take(&mut notes)).await;
            }
        }
        self.take(notes).await;
        if self.has_spooled() {
            self.replay().await;
        }
    }

    /// Writes entries to the database; what it has no ear for now comes back.
    async fn write(&mut self, entries: Vec<Entry>) -> Vec<Entry> {
        let entries = Arc::new(entries);
        let batch = Arc::clone(&entries);
        let written = self.database.write(move |tx| write(tx, &batch));
        match written.await {
            Ok(()) => {
                self.recorder.written.inc_by(entries.len() as u64);
                self.batch = (self.batch * 2).min(BATCH_MAX);
                if std::mem::take(&mut self.is_down) {
                    info!("calls are written to the database again");
                }
                Vec::new()
            }
            Err(why) if is_away(&why) => {
                self.tell_down(&why);
                self.batch = (self.batch / BATCH_SHRINK).max(1);
                entries.to_vec()
            }
            Err(why) => {
                warn!("a batch of calls cannot be written, so each is tried alone: {why}");
                self.write_each(&entries).await
            }
        }
    }

    /// One bad entry must not keep the others away.
    async fn write_each(&mut self, entries: &[Entry]) -> Vec<Entry> {
        for (place, entry) in entries.iter().enumerate() {
            let alone = entry.clone();
            match self.database.write(move |tx| write(tx, std::slice::from_ref(&alone))).await {
                Ok(()) => _ = self.recorder.written.inc(),
                Err(why) if is_away(&why) => {
                    self.tell_down(&why);
                    return entries[place..].to_vec();
                }
                Err(why) => {
                    self.recorder.lost.inc();
                    error!(call.id = %entry.id, "a note of the call {} cannot be written and is dropped: {why}", entry.id);
                }
            }
        }
        Vec::new()
    }

    fn tell_down(&mut self, why: &DbError) {
        if self.is_down {
            debug!("calls still cannot be written to the database: {why}");
        } else {
            self.is_down = true;
            warn!("calls cannot be written to the database and wait on disk: {why}");
        }
    }

    /// Appends entries to the spool.
    async fn keep(&mut self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let count = entries.len() as u64;
        let Some(mut spool) = self.spool.take() else {
            self.recorder.lost.inc_by(count);
            return;
        };
        let kept = tokio::task::spawn_blocking(move || {
            let result = spool.append(&entries);
            (spool, result)
        });
        match kept.await {
            Ok((spool, result)) => {
                self.spool = Some(spool);
                match result {
                    Ok(left_out) => {
                        self.recorder.spooled.inc_by(count - left_out as u64);
                        if left_out > 0 {
                            self.recorder.lost.inc_by(left_out as u64);
                            error!("the spool of calls is full: {left_out} notes are lost");
                        }
                    }
                    Err(why) => {
                        self.recorder.lost.inc_by(count);
                        error!("the spool of calls cannot be written: {count} notes are lost: {why}");
                    }
                }
            }
            Err(why) => {
                self.recorder.lost.inc_by(count);
                error!("writing the spool of calls panicked: {count} notes are lost: {why}");
            }
        }
    }

    /// Writes some of what waits in the spool; the loop comes back for more, after a look at the queue.
    /// False where the database would not have them now.
    async fn replay(&mut self) -> bool {
        for _ in 0..REPLAY_BATCHES_MAX {
            if !self.has_spooled() {
                return true;
            }
            let Some(mut spool) = self.spool.take() else { return false };
            let batch = self.batch;
            let peeked = tokio::task::spawn_blocking(move || {
                let result = spool.peek(batch);
                (spool, result)
            });
            let Ok((spool, result)) = peeked.await else { return false };
            let (entries, place) = match result {
                Ok(peeked) => peeked,
                Err(why) => {
                    error!("the spool of calls cannot be read: {why}");
                    self.spool = Some(spool);
                    return false;
                }
            };
            let left = self.write(entries).await;
            if !left.is_empty() {
                self.spool = Some(spool);
                return false;
            }
            let done = tokio::task::spawn_blocking(move || {
                let mut spool = spool;
                let result = spool.done(place);
                (spool, result)
            });
            let Ok((spool, result)) = done.await else { return false };
            self.spool = Some(spool);
            if let Err(why) = result {
                error!("the spool of calls cannot be emptied: {why}");
                return false;
            }
        }
        true
    }
}

/// Whether the database may take the same batch later.
const fn is_away(why: &DbError) -> bool {
    matches!(why, DbError::Unavailable(_) | DbError::ReadOnly(_) | DbError::Full(_))
}
