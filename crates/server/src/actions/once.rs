//! Doing a thing once, however often it is asked for: an `Idempotency-Key` commits in the transaction of what it protects.
//!
//! The transaction takes the workspace's lock first, so a twin that comes at the same time waits for this commit and then finds
//! its answer. A refusal rolls back and is not kept. A kept answer never holds a secret: what was shown once reads
//! `{"set":true,"last4":…}` when it is replayed.

use database::Tx;
use database::idempotency::{self, Slot};
use domain::error::{Code, Refusal};
use jiff::Timestamp;

use super::{Caller, Failure};

/// One request that is to be done once.
pub struct Once<T> {
    /// The route, such as `POST /v1/numbers/buy`.
    pub route: &'static str,
    /// What the caller sent as `Idempotency-Key`.
    pub key: Option<String>,
    /// A fingerprint of the request: method, address, condition and body.
    pub body_hash: [u8; 32],
    /// The answer to keep: status and body, without secrets, written as a later GET writes it.
    pub answer: fn(&T) -> (u16, String),
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<T> {
    /// It was done now.
    Fresh(T),
    /// It had been done before; this was the answer.
    Replayed {
        /// The HTTP status.
        status: u16,
        /// The body, byte for byte.
        body: String,
    },
}

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Once { route: self.route, key: self.key.clone(), body_hash: self.body_hash, answer: self.answer }
    }
}

impl<T> Once<T> {
    /// A request without an `Idempotency-Key`: it is done each time it is asked for.
    pub fn without_key() -> Once<T> {
        Once { route: "", key: None, body_hash: [0; 32], answer: |_| (0, String::new()) }
    }

    /// What was answered before, if it was. For a look ahead, before work that is only needed when it was not.
    pub fn replay(
        &self,
        read: &database::Read<'_>,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<Option<Answer<T>>, Failure> {
        let Some(key) = &self.key else { return Ok(None) };
        let slot = Slot { workspace: caller.workspace, route: self.route, key };
        let Some(kept) = idempotency::idempotency_find(read, slot, now)? else { return Ok(None) };
        if kept.body_hash != self.body_hash {
            return Err(Failure::Refused(Refusal::new(
                Code::IdempotencyConflict,
                "this Idempotency-Key was sent before with another request; use a new key for a new request",
            )));
        }
        Ok(Some(Answer::Replayed { status: kept.status, body: kept.body }))
    }

    /// Does it, unless it was done before, and keeps the answer in the same transaction.
    pub fn run(
        &self,
        tx: &Tx<'_>,
        caller: &Caller,
        now: Timestamp,
        work: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<Answer<T>, Failure> {
        tx.workspace_lock(caller.workspace)?;
        if let Some(replayed) = self.replay(tx, caller, now)? {
            return Ok(replayed);
        }
        let done = work()?;
        if let Some(key) = &self.key {
            let (status, body) = (self.answer)(&done);
            let kept = idempotency::Answer { body_hash: self.body_hash.to_vec(), status, body };
            let slot = Slot { workspace: caller.workspace, route: self.route, key };
            idempotency::idempotency_keep(tx, slot, &kept, now)?;
        }
        Ok(Answer::Fresh(done))
    }
}
