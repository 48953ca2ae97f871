//! How things stand, for `/metrics`: what somebody would be woken for. Asked of the database at most every [`ASK_EVERY`], whoever scrapes
//! and however often; what is counted as it happens stands with whatever does it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use database::Read;
use database::findings::finding_count;
use database::meta::purchases_locked;
use database::numbers::number_count_all;
use database::purchases::{purchase_count, purchase_list_open};
use database::routes::route_version;
use domain::number::NumberStatus;
use domain::purchase::PurchaseState;
use domain::reconcile::FindingKind;
use jiff::Timestamp;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{App, Metrics};

/// How often the database is asked, at most.
const ASK_EVERY: Duration = Duration::from_secs(15);
/// How long it may take to answer; then the figures stay as they were.
const ASK_LIMIT: Duration = Duration::from_secs(2);

/// How things stand.
pub struct Gauges {
    numbers: Family<StatusLabels, Count>,
    purchases: Family<StateLabels, Count>,
    purchase_oldest_s: Count,
    purchases_locked: Count,
    findings: Family<KindLabels, Count>,
    database_up: Count,
    route_version: Count,
    routes: Count,
    routes_age_s: Count,
    routes_stale: Count,
    notes_waiting: Count,
    asked: Mutex<Option<Duration>>,
    /// The route version that numbers were counted at.
    counted: Mutex<Option<i64>>,
}

type Count = Gauge<i64, AtomicI64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// What the database says.
struct Asked {
    /// By status, with the route version that they were counted at; none where they were counted at it before.
    numbers: Option<(i64, Vec<(NumberStatus, i64)>)>,
    purchases: Vec<(PurchaseState, i64)>,
    oldest: Option<Timestamp>,
    locked: bool,
    findings: Vec<(FindingKind, i64)>,
}

impl Gauges {
    /// Nothing known yet.
    pub fn new(metrics: &Metrics) -> Gauges {
        let gauges = Gauges {
            numbers: Family::default(),
            purchases: Family::default(),
            purchase_oldest_s: Count::default(),
            purchases_locked: Count::default(),
            findings: Family::default(),
            database_up: Count::default(),
            route_version: Count::default(),
            routes: Count::default(),
            routes_age_s: Count::default(),
            routes_stale: Count::default(),
            notes_waiting: Count::default(),
            asked: Mutex::default(),
            counted: Mutex::default(),
        };
        metrics.register("numbers", "Numbers by status; needs_review wants a person", gauges.numbers.clone());
        metrics.register("purchases", "Purchases by state", gauges.purchases.clone());
        let single = [
            (
                "purchase_oldest_seconds",
                "Age of the oldest purchase that is not decided",
                &gauges.purchase_oldest_s,
            ),
            ("purchases_locked", "1 while buying is locked until a reconcile", &gauges.purchases_locked),
            ("database_up", "1 while the database answers", &gauges.database_up),
            ("route_version", "The version of the routes that calls are decided by", &gauges.route_version),
            ("routes", "Numbers that calls are routed for", &gauges.routes),
            (
                "routes_age_seconds",
                "How long ago the database confirmed the routes; -1: never",
                &gauges.routes_age_s,
            ),
            ("routes_stale", "1 while numbers may be missing from the routes", &gauges.routes_stale),
            ("call_notes_waiting", "Notes of calls that wait to be written", &gauges.notes_waiting),
        ];
        for (name, help, gauge) in single {
            metrics.register(name, help, gauge.clone());
        }
        let help = "Differences between the carrier's list and ours that are believed";
        metrics.register("findings", help, gauges.findings.clone());
        gauges
    }

    /// Brings them up to date.
    pub async fn refresh(&self, app: &App) {
        let table = app.routes.current();
        set(&self.route_version, table.version());
        set(&self.routes, table.numbers());
        let age =
            app.routes.unconfirmed_for().map_or(-1, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        self.routes_age_s.set(age);
        self.routes_stale.set(i64::from(app.routes.is_stale()));
        set(&self.notes_waiting, app.recorder.waiting());
        if !self.is_due(app.clock.monotonic()) {
            return;
        }
        let counted = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = app.database.within(ASK_LIMIT).read(move |read| ask(read, counted)).await;
        self.database_up.set(i64::from(asked.is_ok()));
        if let Ok(asked) = asked {
            self.show(&asked, app.clock.now());
        }
    }

    fn is_due(&self, now: Duration) -> bool {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = asked.is_none_or(|before| now.saturating_sub(before) >= ASK_EVERY);
        if is_due {
            *asked = Some(now);
        }
        is_due
    }

    fn show(&self, asked: &Asked, now: Timestamp) {
        // What there is none of any more reads 0, not what it was.
        if let Some((version, numbers)) = &asked.numbers {
            for &status in NumberStatus::ALL {
                let count = count_of(numbers, status);
                self.numbers.get_or_create(&StatusLabels { status: status.as_str() }).set(count);
            }
            *self.counted.lock().unwrap_or_else(PoisonError::into_inner) = Some(*version);
        }
        for &state in PurchaseState::ALL {
            let count = count_of(&asked.purchases, state);
            self.purchases.get_or_create(&StateLabels { state: state.as_str() }).set(count);
        }
        for &kind in FindingKind::ALL {
            let count = count_of(&asked.findings, kind);
            self.findings.get_or_create(&KindLabels { kind: kind.as_str() }).set(count);
        }
        self.purchase_oldest_s.set(asked.oldest.map_or(0, |at| now.duration_since(at).as_secs().max(0)));
        self.purchases_locked.set(i64::from(asked.locked));
    }
}

fn ask(read: &Read<'_>, counted: Option<i64>) -> Result<Asked, database::DbError> {
    // Counting goes through all numbers, and no number changes without the version.
    let version = route_version(read)?;
    let numbers = if counted == Some(version) { None } else { Some((version, number_count_all(read)?)) };
    Ok(Asked {
        numbers,
        purchases: purchase_count(read)?,
        oldest: purchase_list_open(read, None, 1)?.first().map(|purchase| purchase.created_at),
        locked: purchases_locked(read)?.is_some(),
        findings: finding_count(read)?,
    })
}

fn count_of<T: PartialEq + Copy>(counts: &[(T, i64)], of: T) -> i64 {
    counts.iter().find(|(one, _)| *one == of).map_or(0, |(_, count)| *count)
}

fn set(gauge: &Count, value: impl TryInto<i64>) {
    gauge.set(value.try_into().unwrap_or(i64::MAX));
}
