//! Calls that come back: a number of one workspace may lead to a number of another, and that one back. Nothing in a call tells how
//! often it came by, so what is counted is how often the same caller was sent on from the same number within a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use domain::number::E164;

/// How often a call may be sent on from one number to another of ours.
const HOPS_MAX: u32 = 5;
/// Within this time: a circle is quicker than the shortest ringing.
const WITHIN: Duration = Duration::from_secs(20);
/// How many callers are remembered.
const CALLERS_MAX: usize = 10_000;

/// Who was sent on lately, and how often.
#[derive(Debug, Default)]
pub(super) struct Hops {
    seen: Mutex<HashMap<(String, E164), Seen>>,
}

#[derive(Debug)]
struct Seen {
    since: Duration,
    count: u32,
}

impl Hops {
    /// Counts one more, and says whether it may go on.
    pub(super) fn may_go_on(&self, from: &str, to: E164, now: Duration) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= CALLERS_MAX {
            seen.retain(|_, seen| now.saturating_sub(seen.since) < WITHIN);
        }
        if seen.len() >= CALLERS_MAX {
            // Nobody knows which of them go in a circle, so none is sent on.
            return false;
        }
        let entry = seen.entry((from.to_owned(), to)).or_insert(Seen { since: now, count: 0 });
        if now.saturating_sub(entry.since) >= WITHIN {
            *entry = Seen { since: now, count: 0 };
        }
        entry.count += 1;
        entry.count <= HOPS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_ends_and_callers_may_call_again_later() {
        let hops = Hops::default();
        let to: E164 = "+14385950345".parse().unwrap();
        let other: E164 = "+14385950346".parse().unwrap();
        let at = Duration::from_secs;
        let went = (0..10).filter(|&second| hops.may_go_on("+15145550100", to, at(second))).count();
        assert_eq!(went, 5);
        assert!(hops.may_go_on("+15145550101", to, at(9)), "another caller");
        assert!(hops.may_go_on("+15145550100", other, at(9)), "another number");
        assert!(hops.may_go_on("+15145550100", to, at(30)), "later");
    }
}
