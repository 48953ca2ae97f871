//! Purchases: buying one exact number as a state machine that survives a crash at any point and never buys twice.
//!
//! [`step`] is the whole of it: a purchase, what happened, and the time go in; the next state and what to do come out. The
//! background task writes the new state down *before* it carries out the effects, so that whoever finds the row next knows at
//! least as much as was done. The rules:
//!
//! * Only an exact number is ever asked for, so the carrier itself refuses to sell it twice.
//! * The request is tagged with the purchase's id, so that what was bought can be recognised later.
//! * One request per lease. A worker that finds `posting` under a lease that has run out does not know whether the request was
//!   sent, and treats it as ambiguous.
//! * After an ambiguous answer there is only looking: at each time of [`Schedule::look_ups`]. Found with our tag: confirmed. Not
//!   found after the last: the same exact number may be asked for again, [`Schedule::posts_max`] times in all; then a person is
//!   asked, and late looks ([`Schedule::late_looks`]) still settle it.
//! * "Not available" may mean "your own earlier request worked": it leads to a look, not to a verdict. Behind an earlier
//!   ambiguous request it also ends the asking: the number is ours or somebody's, and only looking tells.
//! * The price is part of the intent. If the store asks another one now, nothing is sent.
//! * A purchase found in a restored backup may have gone on after the backup was made: it is only looked for, never sent again.
//! * Nothing is ever given back automatically.
//!
//! Who holds the lease, how a request is sent and where rows are kept is told elsewhere (`database`, `carriers`, `server`).

use std::time::Duration;

use arrayvec::ArrayVec;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

crate::words! {
    /// How far a purchase is.
    PurchaseState, "purchase state" {
        /// Written down and the budget reserved; nothing was sent.
        Requested = "requested",
        /// The request is on its way, or was when the worker died.
        Posting = "posting",
        /// Whether it was bought is unknown: looking.
        Ambiguous = "ambiguous",
        /// Bought; our settings are not all proven yet.
        Confirmed = "confirmed",
        /// Bought, configured, done.
        Active = "active",
        /// Nothing was bought.
        Failed = "failed",
        /// Nobody could tell whether it was bought; late looks go on and a person is asked.
        NeedsReview = "needs_review",
    }
}

impl PurchaseState {
    /// Whether nothing more will happen by itself.
    pub const fn is_settled(self) -> bool {
        matches!(self, PurchaseState::Active | PurchaseState::Failed)
    }
}

/// When to look after an ambiguous answer, and how often to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long after the ambiguous answer each look is made.
    pub look_ups: Vec<Duration>,
    /// How long after it the late looks are made, once a person was asked.
    pub late_looks: Vec<Duration>,
    /// How often the same exact number may be asked for.
    pub posts_max: u32,
    /// How long to wait before a step is tried again that failed for an outside reason.
    pub retry: Duration,
    /// How often configuring is tried before a person is asked.
    pub configures_max: u32,
    /// How often the carrier may say "later" to one purchase before it is given up.
    pub deferrals_max: u32,
}

/// The longest that a carrier's "later" is obeyed: it is a carrier's word, and may be nonsense.
pub const DEFERRAL_MAX: Duration = Duration::from_secs(10 * 60);

/// Up to how many times [`Schedule::retry`] the pause between tries grows.
const RETRY_FACTOR_MAX: u32 = 60;
/// How far apart looks are at least, where the schedule has them that far apart: then one listing that lags is not seen twice.
const LOOKS_APART_MAX: Duration = Duration::from_secs(10 * 60);

impl Default for Schedule {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        Schedule {
            look_ups: [5, 30, 2 * MINUTE, 10 * MINUTE].map(Duration::from_secs).to_vec(),
            // Three at the end: one listing may omit what is there, and this verdict is the last.
            late_looks: [60, 24 * 60, 24 * 60 + 10, 24 * 60 + 20]
                .map(|minutes| Duration::from_secs(minutes * MINUTE))
                .to_vec(),
            posts_max: 3,
            retry: Duration::from_secs(5),
            configures_max: 20,
            deferrals_max: 30,
        }
    }
}

/// What is known of one purchase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// How far it is.
    pub state: PurchaseState,
    /// How many requests may have reached the carrier.
    pub posts: u32,
    /// How many looks of the schedule were made since the last ambiguous answer.
    pub looks: u32,
    /// How often configuring failed.
    pub configures: u32,
    /// How often the carrier said "later".
    #[serde(default)]
    pub deferrals: u32,
    /// Since when it is ambiguous.
    pub ambiguous_since: Option<Timestamp>,
    /// The carrier's id of the number, once known.
    pub carrier_number_id: Option<String>,
    /// Why it failed, or why a person is asked.
    pub reason: Option<Reason>,
    /// When to go on; `None` once settled.
    pub wake_at: Option<Timestamp>,
}

crate::words! {
    /// Why a purchase failed or needs a person.
    Reason, "purchase reason" {
        /// Somebody else has it.
        Unavailable = "unavailable",
        /// The carrier refuses the request for another reason.
        Refused = "refused",
        /// The carrier refuses the operator's credentials.
        CarrierAuthFailed = "carrier_auth_failed",
        /// The price changed between the quote and the request.
        PriceChanged = "price_changed",
        /// No answer told whether it was bought, and no look found it yet.
        OutcomeUnknown = "outcome_unknown",
        /// The number is in the account, but this purchase did not put it there.
        NotOurPurchase = "not_our_purchase",
        /// It was bought, and the carrier does not take our settings.
        ConfigureFailed = "configure_failed",
        /// The carrier said "later" too often.
        CarrierBusy = "carrier_busy",
        /// The database was restored while it was under way.
        Restored = "restored",
        /// It was never seen in the account, even by the last look.
        NeverSeen = "never_seen",
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker has taken the lease and asks what to do.
    Claimed {
        /// Whether the store still asks the price of the purchase.
        price_holds: bool,
    },
    /// The carrier says: bought, under this id.
    PostConfirmed {
        /// The carrier's id of the number.
        carrier_number_id: String,
    },
    /// The carrier says: not available.
    PostUnavailable,
    /// The carrier says no, for this reason, and surely did nothing.
    PostRefused(Reason),
    /// The carrier surely did nothing and says: later.
    PostDeferred {
        /// After how long, if it says that too.
        retry_after: Option<Duration>,
    },
    /// No answer, half an answer, or one that does not tell.
    PostAmbiguous,
    /// A look found the number with our tag.
    Found {
        /// The carrier's id of the number.
        carrier_number_id: String,
    },
    /// A look found the number without our tag.
    FoundForeign,
    /// A look found nothing.
    NotFound,
    /// The look itself failed.
    LookFailed,
    /// Our settings are proven at the carrier.
    Configured,
    /// They are not.
    ConfigureFailed,
    /// The database was restored from a backup: what this row knows may be old.
    Restored,
}

/// What to do next, after the new state is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send the one request of this lease.
    Post,
    /// Look by tag and by number.
    LookUp,
    /// Restore the label and prove the settings.
    Configure,
    /// The number is ours: `ordering` → `active`.
    Activate,
    /// Nothing was bought: `ordering` → `failed`, and the budget is free again.
    Fail,
    /// `ordering` → `needs_review`.
    AskPerson,
}

/// The most effects of one step.
pub const EFFECTS_MAX: usize = 2;

/// Decides what follows. Events that make no sense in a state change nothing: they are echoes of a worker that lost its lease.
#[must_use]
pub fn step(
    progress: &Progress,
    event: Event,
    now: Timestamp,
    schedule: &Schedule,
) -> (Progress, ArrayVec<Effect, EFFECTS_MAX>) {
    use PurchaseState::{Active, Ambiguous, Confirmed, NeedsReview, Posting, Requested};
    let mut next = progress.clone();
    let mut effects = ArrayVec::new();
    match (progress.state, event) {
        (Requested, Event::Claimed { price_holds: false }) if progress.posts == 0 => {
            next.fail(Reason::PriceChanged, &mut effects);
        }
        // An earlier request may still take effect: no verdict, but no further request either.
        (Requested, Event::Claimed { price_holds: false }) => {
            next.ask_person(Reason::PriceChanged, now, schedule, &mut effects);
        }
        (Requested, Event::Claimed { price_holds: true }) => {
            next.state = Posting;
            next.posts += 1;
            // If this worker dies now, the next one finds `posting`.
            next.wake_at = Some(now);
            effects.push(Effect::Post);
        }
        // The lease ran out under the worker that was to send the request.
        (Posting, Event::Claimed { .. } | Event::PostAmbiguous) => next.become_ambiguous(now, schedule),
        (
            Posting | Ambiguous | NeedsReview,
            Event::PostConfirmed { carrier_number_id } | Event::Found { carrier_number_id },
        ) => {
            next.state = Confirmed;
            next.carrier_number_id = Some(carrier_number_id);
            next.reason = None;
            next.wake_at = Some(now);
            effects.push(Effect::Configure);
        }
        (Posting, Event::PostUnavailable) => {
            next.become_ambiguous(now, schedule);
            next.reason = Some(Reason::Unavailable);
            effects.push(Effect::LookUp);
        }
        // A refusal says that *this* request did nothing; an earlier one may still have worked.
        (Posting, Event::PostRefused(reason)) if progress.posts <= 1 => next.fail(reason, &mut effects),
        (Posting, Event::PostRefused(reason)) => {
            next.become_ambiguous(now, schedule);
            next.reason = Some(reason);
        }
        (Posting, Event::PostDeferred { retry_after }) => {
            next.posts = next.posts.saturating_sub(1);
            next.deferrals += 1;
            next.deferred(retry_after, now, schedule, &mut effects);
        }
        (Requested | Posting | Ambiguous, Event::Restored) if progress.reason != Some(Reason::Restored) => {
            next.become_ambiguous(now, schedule);
            next.posts = schedule.posts_max.max(progress.posts + 1);
            next.reason = Some(Reason::Restored);
        }
        (Ambiguous | NeedsReview, Event::Claimed { .. }) => effects.push(Effect::LookUp),
        (Ambiguous, Event::NotFound) => next.not_found(now, schedule, &mut effects),
        (Ambiguous | NeedsReview, Event::LookFailed) => next.wake_at = Some(after(now, schedule.retry)),
        (Ambiguous, Event::FoundForeign)
            if progress.posts <= 1 && progress.reason == Some(Reason::Unavailable) =>
        {
            // Refused as "not available" because the account has it already, and not through us: nothing was bought.
            next.fail(Reason::NotOurPurchase, &mut effects);
        }
        (Ambiguous, Event::FoundForeign) => {
            next.ask_person(Reason::NotOurPurchase, now, schedule, &mut effects);
        }
        (NeedsReview, Event::NotFound | Event::FoundForeign) => {
            next.late_not_found(now, schedule, &mut effects);
        }
        (Confirmed, Event::Claimed { .. }) => effects.push(Effect::Configure),
        (Confirmed, Event::Configured) => {
            next.state = Active;
            next.reason = None;
            next.wake_at = None;
            effects.push(Effect::Activate);
        }
        (Confirmed, Event::ConfigureFailed) => {
            next.configures += 1;
            next.wake_at = Some(after(now, schedule.retry * next.configures.min(RETRY_FACTOR_MAX)));
            if next.configures == schedule.configures_max {
                // It is ours and stays so; the person learns that calls do not arrive. Trying goes on.
                next.reason = Some(Reason::ConfigureFailed);
                effects.push(Effect::AskPerson);
            }
        }
        _ => {}
    }
    (next, effects)
}

impl Progress {
    /// A purchase as it begins.
    pub fn new(now: Timestamp) -> Progress {
        Progress {
            state: PurchaseState::Requested,
            posts: 0,
            looks: 0,
            configures: 0,
            deferrals: 0,
            ambiguous_since: None,
            carrier_number_id: None,
            reason: None,
            wake_at: Some(now),
        }
    }

    fn fail(&mut self, reason: Reason, effects: &mut ArrayVec<Effect, EFFECTS_MAX>) {
        self.state = PurchaseState::Failed;
        self.reason = Some(reason);
        self.wake_at = None;
        effects.push(Effect::Fail);
    }

    fn deferred(
        &mut self,
        retry_after: Option<Duration>,
        now: Timestamp,
        schedule: &Schedule,
        effects: &mut ArrayVec<Effect, EFFECTS_MAX>,
    ) {
        if self.deferrals < schedule.deferrals_max {
            let ours = schedule.retry * self.deferrals.min(RETRY_FACTOR_MAX);
            let theirs = retry_after.unwrap_or_default().min(DEFERRAL_MAX);
            self.state = PurchaseState::Requested;
            self.wake_at = Some(after(now, ours.max(theirs)));
        } else if self.posts == 0 {
            self.fail(Reason::CarrierBusy, effects);
        } else {
            self.ask_person(Reason::CarrierBusy, now, schedule, effects);
        }
    }

    fn become_ambiguous(&mut self, now: Timestamp, schedule: &Schedule) {
        self.state = PurchaseState::Ambiguous;
        self.ambiguous_since = Some(now);
        self.reason = None;
        self.looks = 0;
        self.wake_at = Some(schedule.look_ups.first().map_or(now, |&first| after(now, first)));
    }

    fn ask_person(
        &mut self,
        reason: Reason,
        now: Timestamp,
        schedule: &Schedule,
        effects: &mut ArrayVec<Effect, EFFECTS_MAX>,
    ) {
        self.state = PurchaseState::NeedsReview;
        self.reason = Some(reason);
        self.looks = 0;
        self.wake_at = schedule
            .late_looks
            .first()
            .map(|&first| after(self.ambiguous_since.unwrap_or(now), first).max(now));
        effects.push(Effect::AskPerson);
    }

    fn not_found(
        &mut self,
        now: Timestamp,
        schedule: &Schedule,
        effects: &mut ArrayVec<Effect, EFFECTS_MAX>,
    ) {
        let since = self.ambiguous_since.unwrap_or(now);
        // A look that comes before its time (the one at once after "not available") does not use up the schedule.
        let due = |look: u32| schedule.look_ups.get(look as usize).map(|&delay| after(since, delay));
        let is_due = due(self.looks).is_some_and(|at| at <= now);
        self.looks += u32::from(is_due);
        if let Some(next_look) = due(self.looks) {
            // Looks that should have been long ago are not made up for by one look now, nor by several at once.
            let next_look = if is_due {
                next_look.max(after(now, apart(&schedule.look_ups, self.looks)))
            } else {
                next_look
            };
            // "Not available" on the only request ever sent, and the account does not have it: somebody else was faster. One
            // scheduled look makes sure, since listings lag.
            if self.posts <= 1 && self.reason == Some(Reason::Unavailable) && self.looks >= 1 {
                self.fail(Reason::Unavailable, effects);
            } else {
                self.wake_at = Some(next_look);
            }
            return;
        }
        match self.reason {
            Some(reason @ Reason::Unavailable) if self.posts <= 1 => self.fail(reason, effects),
            // Asking again would only hear the same; whether an earlier request worked is still open.
            Some(reason @ (Reason::Unavailable | Reason::Refused | Reason::CarrierAuthFailed)) => {
                self.ask_person(reason, now, schedule, effects);
            }
            Some(reason @ Reason::Restored) => self.ask_person(reason, now, schedule, effects),
            _ if self.posts < schedule.posts_max => {
                self.state = PurchaseState::Requested;
                self.reason = None;
                self.wake_at = Some(now);
            }
            _ => self.ask_person(Reason::OutcomeUnknown, now, schedule, effects),
        }
    }

    fn late_not_found(
        &mut self,
        now: Timestamp,
        schedule: &Schedule,
        effects: &mut ArrayVec<Effect, EFFECTS_MAX>,
    ) {
        let since = self.ambiguous_since.unwrap_or(now);
        self.looks += 1;
        if let Some(&delay) = schedule.late_looks.get(self.looks as usize) {
            // Also after a time in which nobody looked, or by another clock: looks that follow each other at once are one look.
            self.wake_at = Some(after(since, delay).max(after(now, apart(&schedule.late_looks, self.looks))));
        } else {
            let told = [Reason::NotOurPurchase, Reason::Unavailable, Reason::PriceChanged];
            self.fail(
                self.reason.filter(|reason| told.contains(reason)).unwrap_or(Reason::NeverSeen),
                effects,
            );
        }
    }
}

/// How far apart a look is from the one before, at least.
fn apart(looks: &[Duration], look: u32) -> Duration {
    let at = |look: u32| looks.get(look as usize).copied().unwrap_or_default();
    at(look).saturating_sub(look.checked_sub(1).map(at).unwrap_or_default()).min(LOOKS_APART_MAX)
}

fn after(start: Timestamp, delay: Duration) -> Timestamp {
    SignedDuration::try_from(delay)
        .ok()
        .and_then(|delay| start.checked_add(delay).ok())
        .unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
