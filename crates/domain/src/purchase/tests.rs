//! Every state met by every event, in one table; and the stories that the table cannot tell.

use std::fmt::Write as _;

use expect_test::expect;

use super::*;

fn start() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

/// A purchase in a state, as it would be after `posts` requests.
fn in_state(state: PurchaseState, posts: u32) -> Progress {
    Progress {
        state,
        posts,
        ambiguous_since: matches!(state, PurchaseState::Ambiguous | PurchaseState::NeedsReview).then(start),
        ..Progress::new(start())
    }
}

fn events() -> Vec<(&'static str, Event)> {
    let carrier_number_id = || "PN1".to_owned();
    vec![
        ("claimed", Event::Claimed { price_holds: true }),
        ("claimed, dearer", Event::Claimed { price_holds: false }),
        ("post confirmed", Event::PostConfirmed { carrier_number_id: carrier_number_id() }),
        ("post unavailable", Event::PostUnavailable),
        ("post refused", Event::PostRefused(Reason::Refused)),
        ("post deferred", Event::PostDeferred { retry_after: None }),
        ("post ambiguous", Event::PostAmbiguous),
        ("found", Event::Found { carrier_number_id: carrier_number_id() }),
        ("found foreign", Event::FoundForeign),
        ("not found", Event::NotFound),
        ("look failed", Event::LookFailed),
        ("configured", Event::Configured),
        ("configure failed", Event::ConfigureFailed),
        ("restored", Event::Restored),
    ]
}

fn seconds(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "never".into(), |at| format!("{} s", at.duration_since(start()).as_secs()))
}

#[test]
fn every_state_meets_every_event() {
    let schedule = Schedule::default();
    let mut table = String::new();
    for &state in PurchaseState::ALL {
        for posts in if state == PurchaseState::Requested { [0, 1] } else { [1, 2] } {
            let before = in_state(state, posts);
            writeln!(table, "{state}, {posts} sent").unwrap();
            let mut ignored = Vec::new();
            for (name, event) in events() {
                // Half a minute later: the first two looks of the schedule are due.
                let (after, effects) =
                    step(&before, event, start() + SignedDuration::from_secs(30), &schedule);
                if after == before && effects.is_empty() {
                    ignored.push(name);
                    continue;
                }
                let reason = after.reason.map_or(String::new(), |reason| format!(" ({reason})"));
                writeln!(
                    table,
                    "  {name:16} -> {}{reason}, {} sent, wakes {}: {:?}",
                    after.state,
                    after.posts,
                    seconds(after.wake_at),
                    effects.as_slice()
                )
                .unwrap();
            }
            writeln!(table, "  unmoved by: {}", ignored.join(", ")).unwrap();
        }
    }
    expect![[r#"
        requested, 0 sent
          claimed          -> posting, 1 sent, wakes 30 s: [Post]
          claimed, dearer  -> failed (price_changed), 0 sent, wakes never: [Fail]
          restored         -> ambiguous (restored), 3 sent, wakes 35 s: []
          unmoved by: post confirmed, post unavailable, post refused, post deferred, post ambiguous, found, found foreign, not found, look failed, configured, configure failed
        requested, 1 sent
          claimed          -> posting, 2 sent, wakes 30 s: [Post]
          claimed, dearer  -> needs_review (price_changed), 1 sent, wakes 3630 s: [AskPerson]
          restored         -> ambiguous (restored), 3 sent, wakes 35 s: []
          unmoved by: post confirmed, post unavailable, post refused, post deferred, post ambiguous, found, found foreign, not found, look failed, configured, configure failed
        posting, 1 sent
          claimed          -> ambiguous, 1 sent, wakes 35 s: []
          claimed, dearer  -> ambiguous, 1 sent, wakes 35 s: []
          post confirmed   -> confirmed, 1 sent, wakes 30 s: [Configure]
          post unavailable -> ambiguous (unavailable), 1 sent, wakes 35 s: [LookUp]
          post refused     -> failed (refused), 1 sent, wakes never: [Fail]
          post deferred    -> requested, 0 sent, wakes 35 s: []
          post ambiguous   -> ambiguous, 1 sent, wakes 35 s: []
          found            -> confirmed, 1 sent, wakes 30 s: [Configure]
          restored         -> ambiguous (restored), 3 sent, wakes 35 s: []
          unmoved by: found foreign, not found, look failed, configured, configure failed
        posting, 2 sent
          claimed          -> ambiguous, 2 sent, wakes 35 s: []
          claimed, dearer  -> ambiguous, 2 sent, wakes 35 s: []
          post confirmed   -> confirmed, 2 sent, wakes 30 s: [Configure]
          post unavailable -> ambiguous (unavailable), 2 sent, wakes 35 s: [LookUp]
          post refused     -> ambiguous (refused), 2 sent, wakes 35 s: []
          post deferred    -> requested, 1 sent, wakes 35 s: []
          post ambiguous   -> ambiguous, 2 sent, wakes 35 s: []
          found            -> confirmed, 2 sent, wakes 30 s: [Configure]
          restored         -> ambiguous (restored), 3 sent, wakes 35 s: []
          unmoved by: found foreign, not found, look failed, configured, configure failed
        ambiguous, 1 sent
          claimed          -> ambiguous, 1 sent, wakes 0 s: [LookUp]
          claimed, dearer  -> ambiguous, 1 sent, wakes 0 s: [LookUp]
          post confirmed   -> confirmed, 1 sent, wakes 30 s: [Configure]
          found            -> confirmed, 1 sent, wakes 30 s: [Configure]
          found foreign    -> needs_review (not_our_purchase), 1 sent, wakes 3600 s: [AskPerson]
          not found        -> ambiguous, 1 sent, wakes 55 s: []
          look failed      -> ambiguous, 1 sent, wakes 35 s: []
          restored         -> ambiguous (restored), 3 sent, wakes 35 s: []
          unmoved by: post unavailable, post refused, post deferred, post ambiguous, configured, configure failed
        ambiguous, 2 sent
          claimed          -> ambiguous, 2 sent, wakes 0 s: [LookUp]
          claimed, dearer  -> ambiguous, 2 sent, wakes 0 s: [LookUp]
          post confirmed   -> confirmed, 2 sent, wakes 30 s: [Configure]
          found            -> confirmed, 2 sent, wakes 30 s: [Configure]
          found foreign    -> needs_review (not_our_purchase), 2 sent, wakes 3600 s: [AskPerson]
          not found        -> ambiguous, 2 sent, wakes 55 s: []
          look failed      -> ambiguous, 2 sent, wakes 35 s: []
          restored         -> ambiguous (restored), 3 sent, wakes 35 s: []
          unmoved by: post unavailable, post refused, post deferred, post ambiguous, configured, configure failed
        confirmed, 1 sent
          claimed          -> confirmed, 1 sent, wakes 0 s: [Configure]
          claimed, dearer  -> confirmed, 1 sent, wakes 0 s: [Configure]
          configured       -> active, 1 sent, wakes never: [Activate]
          configure failed -> confirmed, 1 sent, wakes 35 s: []
          unmoved by: post confirmed, post unavailable, post refused, post deferred, post ambiguous, found, found foreign, not found, look failed, restored
        confirmed, 2 sent
          claimed          -> confirmed, 2 sent, wakes 0 s: [Configure]
          claimed, dearer  -> confirmed, 2 sent, wakes 0 s: [Configure]
          configured       -> active, 2 sent, wakes never: [Activate]
          configure failed -> confirmed, 2 sent, wakes 35 s: []
          unmoved by: post confirmed, post unavailable, post refused, post deferred, post ambiguous, found, found foreign, not found, look failed, restored
        active, 1 sent
          unmoved by: claimed, claimed, dearer, post confirmed, post unavailable, post refused, post deferred, post ambiguous, found, found foreign, not found, look failed, configured, configure failed, restored
        active, 2 sent
          unmoved by: claimed, claimed, dearer, post confirmed, post unavailable, post refused, post deferred, post ambiguous, found, found foreign, not found, look failed, configured, configure failed, restored
        failed, 1 sent
          unmoved by: claimed, claimed, dearer, post confirmed, post unavailable, post refused, post deferred, post ambiguous, found, found foreign, not found, look failed, configured, configure failed, restored
        failed, 2 sent
          unmoved by: claimed, claimed, dearer, post confirmed, post unavailable, post refused, post deferred, post ambiguous, found, found foreign, not found, look failed, configured, configure failed, restored
        needs_review, 1 sent
          claimed          -> needs_review, 1 sent, wakes 0 s: [LookUp]
          claimed, dearer  -> needs_review, 1 sent, wakes 0 s: [LookUp]
          post confirmed   -> confirmed, 1 sent, wakes 30 s: [Configure]
          found            -> confirmed, 1 sent, wakes 30 s: [Configure]
          found foreign    -> needs_review, 1 sent, wakes 86400 s: []
          not found        -> needs_review, 1 sent, wakes 86400 s: []
          look failed      -> needs_review, 1 sent, wakes 35 s: []
          unmoved by: post unavailable, post refused, post deferred, post ambiguous, configured, configure failed, restored
        needs_review, 2 sent
          claimed          -> needs_review, 2 sent, wakes 0 s: [LookUp]
          claimed, dearer  -> needs_review, 2 sent, wakes 0 s: [LookUp]
          post confirmed   -> confirmed, 2 sent, wakes 30 s: [Configure]
          found            -> confirmed, 2 sent, wakes 30 s: [Configure]
          found foreign    -> needs_review, 2 sent, wakes 86400 s: []
          not found        -> needs_review, 2 sent, wakes 86400 s: []
          look failed      -> needs_review, 2 sent, wakes 35 s: []
          unmoved by: post unavailable, post refused, post deferred, post ambiguous, configured, configure failed, restored
    "#]].assert_eq(&table);
}

/// Lets one event after the other happen, each when the purchase woke.
fn story(events: &[Event]) -> Progress {
    let schedule = Schedule::default();
    let mut progress = Progress::new(start());
    for event in events {
        let now = progress.wake_at.unwrap_or(start());
        progress = step(&progress, event.clone(), now, &schedule).0;
    }
    progress
}

const CLAIMED: Event = Event::Claimed { price_holds: true };

#[test]
fn a_number_that_somebody_else_was_faster_to_buy_fails_within_seconds() {
    let at_once = story(&[CLAIMED, Event::PostUnavailable]);
    assert_eq!(at_once.state, PurchaseState::Ambiguous, "it may be our own earlier request");
    let settled = story(&[CLAIMED, Event::PostUnavailable, CLAIMED, Event::NotFound]);
    assert_eq!((settled.state, settled.reason), (PurchaseState::Failed, Some(Reason::Unavailable)));
}

#[test]
fn the_same_number_is_asked_for_again_only_after_the_whole_schedule() {
    let mut told = vec![CLAIMED, Event::PostAmbiguous];
    for look in 0..4 {
        told.extend([CLAIMED, Event::NotFound]);
        let expected = if look < 3 { PurchaseState::Ambiguous } else { PurchaseState::Requested };
        assert_eq!(story(&told).state, expected, "after look {look}");
    }
    let again = story(&told);
    assert_eq!(seconds(again.wake_at), "600 s");
    told.push(CLAIMED);
    assert_eq!((story(&told).state, story(&told).posts), (PurchaseState::Posting, 2));
}

#[test]
fn not_available_after_an_ambiguous_request_is_never_a_verdict() {
    let mut told = vec![CLAIMED, Event::PostAmbiguous];
    (0..4).for_each(|_| told.extend([CLAIMED, Event::NotFound]));
    told.extend([CLAIMED, Event::PostUnavailable]);
    let mut found = told.clone();
    found.push(Event::Found { carrier_number_id: "PN1".into() });
    assert_eq!(story(&found).state, PurchaseState::Confirmed);
    (0..4).for_each(|_| told.extend([CLAIMED, Event::NotFound]));
    let unknown = story(&told);
    assert_eq!((unknown.state, unknown.posts), (PurchaseState::NeedsReview, 2), "not asked for a third time");
    (0..4).for_each(|_| told.extend([CLAIMED, Event::NotFound]));
    let late = story(&told);
    assert_eq!((late.state, late.reason), (PurchaseState::Failed, Some(Reason::Unavailable)));
}

#[test]
fn a_dearer_number_is_not_bought_and_an_earlier_request_not_forgotten() {
    let dearer = Event::Claimed { price_holds: false };
    assert_eq!(story(std::slice::from_ref(&dearer)).reason, Some(Reason::PriceChanged));
    let mut told = vec![CLAIMED, Event::PostAmbiguous];
    (0..4).for_each(|_| told.extend([CLAIMED, Event::NotFound]));
    told.push(dearer);
    assert_eq!(story(&told).state, PurchaseState::NeedsReview);
    told.extend([CLAIMED, Event::Found { carrier_number_id: "PN1".into() }]);
    assert_eq!(story(&told).state, PurchaseState::Confirmed, "the first request worked after all");
}

#[test]
fn a_busy_carrier_is_asked_ever_more_slowly_and_at_last_no_more() {
    let schedule = Schedule::default();
    let mut progress = Progress::new(start());
    let mut pauses = Vec::new();
    while !progress.state.is_settled() {
        let now = progress.wake_at.unwrap();
        progress = step(&progress, CLAIMED, now, &schedule).0;
        progress = step(&progress, Event::PostDeferred { retry_after: None }, now, &schedule).0;
        pauses.extend(progress.wake_at.map(|at| at.duration_since(now).as_secs()));
    }
    assert_eq!((pauses.len(), pauses[0], pauses[28]), (29, 5, 145));
    assert_eq!((progress.state, progress.reason), (PurchaseState::Failed, Some(Reason::CarrierBusy)));

    let told = Event::PostDeferred { retry_after: Some(Duration::from_secs(1_000_000)) };
    let obeyed = story(&[CLAIMED, told]);
    assert_eq!(seconds(obeyed.wake_at), "600 s", "a carrier's word is obeyed, within reason");
}

#[test]
fn what_a_backup_remembers_is_looked_for_and_never_sent_again() {
    let mut told = vec![Event::Restored];
    (0..4).for_each(|_| told.extend([CLAIMED, Event::NotFound]));
    let unseen = story(&told);
    assert_eq!((unseen.state, unseen.reason), (PurchaseState::NeedsReview, Some(Reason::Restored)));
    let found = story(&[Event::Restored, CLAIMED, Event::Found { carrier_number_id: "PN1".into() }]);
    assert_eq!(found.state, PurchaseState::Confirmed);
}

#[test]
fn progress_is_read_as_it_was_written() {
    let progress = Progress {
        carrier_number_id: Some("PN1".into()),
        reason: Some(Reason::OutcomeUnknown),
        ..in_state(PurchaseState::NeedsReview, 3)
    };
    let text = serde_json::to_string(&progress).unwrap();
    assert_eq!(serde_json::from_str::<Progress>(&text).unwrap(), progress);
    for &state in PurchaseState::ALL {
        assert_eq!(state.as_str().parse::<PurchaseState>().unwrap(), state);
    }
}
