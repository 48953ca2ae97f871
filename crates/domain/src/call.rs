//! Calls: what a call came in on, and the states it goes through as carriers report them, in whatever order they do.

use serde::{Deserialize, Serialize};

/// What a call came in on, as the route table knows it: a small integer that the database hands out. Today the store's
/// carrier account is the only one; integrations and trunks get theirs when they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Ingress(u32);

impl Ingress {
    /// How many bits it has: there are at most 16,777,216 of them.
    pub const BITS: u32 = 24;
    /// The store's carrier account.
    pub const STORE: Ingress = Ingress(0);

    /// The ingress of this place; `None` from 2²⁴ on.
    pub const fn new(place: u32) -> Option<Ingress> {
        if place >> Ingress::BITS == 0 { Some(Ingress(place)) } else { None }
    }

    /// Its place.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl From<Ingress> for u32 {
    fn from(ingress: Ingress) -> u32 {
        ingress.0
    }
}

impl TryFrom<u32> for Ingress {
    type Error = &'static str;

    fn try_from(place: u32) -> Result<Ingress, &'static str> {
        Ingress::new(place).ok_or("an ingress is below 16,777,216")
    }
}

/// The longest id that a carrier gives a call, in bytes.
pub const CARRIER_CALL_ID_BYTES_MAX: usize = 128;
/// The most entries in one call's timeline; later ones are counted, not kept.
pub const TIMELINE_MAX: usize = 200;

crate::words! {
    /// Which way a call goes.
    Direction, "call direction" {
        /// From the world to an agent.
        Inbound = "inbound",
    }
}

crate::words! {
    /// How far a call is.
    CallStatus, "call status" {
        /// Waiting to be placed.
        Queued = "queued",
        /// Not answered yet.
        Ringing = "ringing",
        /// Answered.
        InProgress = "in_progress",
        /// Ended after it was answered.
        Completed = "completed",
        /// Refused as busy.
        Busy = "busy",
        /// Could not be connected.
        Failed = "failed",
        /// Nobody answered.
        NoAnswer = "no_answer",
        /// The caller hung up before it was answered.
        Canceled = "canceled",
    }
}

impl CallStatus {
    /// Whether the call is over.
    pub const fn is_final(self) -> bool {
        matches!(
            self,
            CallStatus::Completed
                | CallStatus::Busy
                | CallStatus::Failed
                | CallStatus::NoAnswer
                | CallStatus::Canceled
        )
    }

    const fn rank(self) -> u8 {
        match self {
            CallStatus::Queued => 0,
            CallStatus::Ringing => 1,
            CallStatus::InProgress => 2,
            _ => 3,
        }
    }

    /// What is known after another report has arrived. Reports come late, twice and out of order: a call never goes back, and
    /// the first final state stays.
    #[must_use]
    pub const fn merged(self, reported: CallStatus) -> CallStatus {
        if reported.rank() > self.rank() { reported } else { self }
    }
}

crate::words! {
    /// How a call ended, in one word for lists and filters.
    Outcome, "call outcome" {
        /// The agent's own target took it.
        Answered = "answered",
        /// A fallback target took it.
        FellBack = "fell_back",
        /// A message was spoken.
        Announced = "announced",
        /// It was refused.
        Rejected = "rejected",
        /// The caller left before anybody answered.
        Abandoned = "abandoned",
        /// Everything was tried and nothing answered.
        Unanswered = "unanswered",
    }
}

/// A connected call that took less than this, in seconds, and of which nobody reported who took it, counts as left by its caller.
pub const TALK_S_MIN: i64 = 2;

impl Outcome {
    /// The outcome of a call that is over and of which no report said how it ended: one was lost, or the carrier never asked us.
    /// `None` while the call goes on.
    pub const fn of_silence(
        status: CallStatus,
        was_decided: bool,
        duration_s: Option<i64>,
    ) -> Option<Outcome> {
        if !status.is_final() {
            return None;
        }
        Some(match (was_decided, status, duration_s) {
            (false, ..) | (_, CallStatus::Busy | CallStatus::Failed, _) => Outcome::Unanswered,
            (_, CallStatus::Completed, Some(duration)) if duration >= TALK_S_MIN => Outcome::Answered,
            _ => Outcome::Abandoned,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_that_is_over_has_an_outcome() {
        for &status in CallStatus::ALL {
            for (decided, duration) in [(false, None), (true, None), (true, Some(0)), (true, Some(60))] {
                let outcome = Outcome::of_silence(status, decided, duration);
                assert_eq!(outcome.is_some(), status.is_final(), "{status}");
                assert!(decided || outcome.is_none_or(|it| it == Outcome::Unanswered), "{status}");
            }
        }
        let of = |duration| Outcome::of_silence(CallStatus::Completed, true, duration);
        assert_eq!((of(Some(0)), of(Some(60))), (Some(Outcome::Abandoned), Some(Outcome::Answered)));
    }

    #[test]
    fn a_call_never_goes_back() {
        use CallStatus::{Busy, Completed, InProgress, Ringing};
        for (reports, known) in [
            (vec![Ringing, InProgress, Completed], Completed),
            (vec![Completed, InProgress, Ringing], Completed),
            (vec![Completed, Busy], Completed),
            (vec![InProgress, Ringing, Ringing], InProgress),
        ] {
            let merged = reports.iter().copied().reduce(CallStatus::merged).unwrap();
            assert_eq!(merged, known, "{reports:?}");
        }
    }
}
