//! Purchases: the durable intent to buy one exact number, its budget, and who works on it.
//!
//! What follows on what is decided by `domain::purchase`; here its progress is written down, only by the
//! worker that holds the present lease: each lease has a higher `fence`, and a write with an older one
//! changes nothing.

use domain::call::Ingress;
use domain::id::{NumberId, PurchaseId, WorkspaceId};
use domain::money::Money;
use domain::number::E164;
use domain::purchase::Progress;
use domain::quote::Price;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::meta;
use crate::numbers::{self, Number};
use crate::value::{Row, Value};

/// One purchase.
#[derive(Debug, Clone, PartialEq)]
pub struct Purchase {
    /// Its id; the tag at the carrier is made of it.
    pub id: PurchaseId,
    /// Who buys.
    pub workspace: WorkspaceId,
    /// The number as it will be.
    pub number_id: NumberId,
    /// From which account.
    pub ingress: Ingress,
    /// Which number exactly.
    pub phone_number: E164,
    /// For how much.
    pub price: Price,
    /// How far it is.
    pub progress: Progress,
    /// Who works on it, and until when nobody else may.
    pub lease: Option<(String, Timestamp)>,
    /// Grows with each lease.
    pub fence: i64,
    /// Found in a restored backup: what it knows may be old. Cleared by the next step.
    pub restored: bool,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last went on.
    pub updated_at: Timestamp,
}

/// What a workspace may spend.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Numbers bought in one UTC day.
    pub buys_per_day: u32,
    /// Monthly prices of all numbers together, with this month's setup prices; none: no limit.
    pub monthly_spend: Option<Money>,
}

/// Why nothing may be bought now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BudgetRefusal {
    /// All buying is stopped until the carrier's list has been compared with ours; why.
    Locked(String),
    /// As many as are allowed were bought today.
    BuysPerDay {
        /// How many that is.
        limit: u32,
        /// When the next day begins.
        again_at: Timestamp,
    },
    /// It would cost too much.
    MonthlySpend {
        /// What is allowed.
        limit: Money,
        /// What is spent already, in minor units of the same currency.
        spent_minor: i64,
    },
}

macro_rules! columns {
    () => {
        "id, workspace_id, number_id, ingress, phone_number, monthly_minor, setup_minor, currency, progress, \
         lease_holder, lease_until, fence, restored, created_at, updated_at"
    };
}
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM purchases ", $rest)
    };
}

const FIND: &str = select!("WHERE id = $1");
const FIND_BY_NUMBER: &str = select!("WHERE number_id = $1");
const OPEN: &str = select!("WHERE wake_at IS NOT NULL AND id > $1 ORDER BY id LIMIT $2");
const CREATE: &str = "INSERT INTO purchases (id, workspace_id, number_id, ingress, phone_number, monthly_minor, \
    setup_minor, currency, state, progress, wake_at, budget_day, fence, restored, created_at, updated_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, $13, $14, $14)";
const BOUGHT_TODAY: &str =
    "SELECT count(*) FROM purchases WHERE workspace_id = $1 AND budget_day = $2 AND state <> 'failed'";
const SPENT_MONTHLY: &str = "SELECT CAST(coalesce(sum(monthly_minor), 0) AS BIGINT) FROM numbers \
    WHERE workspace_id = $1 AND currency = $2 AND status NOT IN ('failed', 'released')";
const SPENT_SETUP: &str = "SELECT CAST(coalesce(sum(setup_minor), 0) AS BIGINT) FROM purchases \
    WHERE workspace_id = $1 AND currency = $2 AND budget_day LIKE $3 AND state <> 'failed'";
const CLAIM: Both = Both {
    // SQLite has one writer, so nobody else can claim the same rows meanwhile.
    sqlite: concat!(
        "UPDATE purchases SET lease_holder = $3, lease_until = $4, fence = fence + 1 WHERE id IN \
         (SELECT id FROM purchases WHERE wake_at <= $1 AND (lease_until IS NULL OR lease_until <= $1) \
         ORDER BY wake_at LIMIT $2) RETURNING ",
        columns!()
    ),
    // Rows that another worker is claiming are passed over; MATERIALIZED, or the planner may ask twice.
    postgres: concat!(
        "WITH due AS MATERIALIZED (SELECT id AS due_id FROM purchases WHERE wake_at <= $1 \
         AND (lease_until IS NULL OR lease_until <= $1) ORDER BY wake_at LIMIT $2 FOR UPDATE SKIP LOCKED) \
         UPDATE purchases SET lease_holder = $3, lease_until = $4, fence = fence + 1 FROM due \
         WHERE id = due_id RETURNING ",
        columns!()
    ),
};
const STEP: &str = "UPDATE purchases SET state = $3, progress = $4, wake_at = $5, restored = $6, \
    lease_until = CASE WHEN $7 THEN lease_until END, lease_holder = CASE WHEN $7 THEN lease_holder END, \
    updated_at = $8 WHERE id = $1 AND fence = $2 AND lease_until IS NOT NULL";
const RENEW: &str =
    "UPDATE purchases SET lease_until = $3 WHERE id = $1 AND fence = $2 AND lease_until IS NOT NULL";
const NEXT_WAKE: &str = "SELECT min(CASE WHEN lease_until > wake_at THEN lease_until ELSE wake_at END) \
    FROM purchases WHERE wake_at IS NOT NULL";
const COUNT: &str = "SELECT state, count(*) FROM purchases GROUP BY state";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("purchases::FIND", Both::same(FIND)),
    ("purchases::FIND_BY_NUMBER", Both::same(FIND_BY_NUMBER)),
    ("purchases::OPEN", Both::same(OPEN)),
    ("purchases::CREATE", Both::same(CREATE)),
    ("purchases::BOUGHT_TODAY", Both::same(BOUGHT_TODAY)),
    ("purchases::SPENT_MONTHLY", Both::same(SPENT_MONTHLY)),
    ("purchases::SPENT_SETUP", Both::same(SPENT_SETUP)),
    ("purchases::CLAIM", CLAIM),
    ("purchases::STEP", Both::same(STEP)),
    ("purchases::RENEW", Both::same(RENEW)),
    ("purchases::NEXT_WAKE", Both::same(NEXT_WAKE)),
    ("purchases::COUNT", Both::same(COUNT)),
];

fn purchase(row: &Row<'_>) -> Result<Purchase, DbError> {
    let holder: Option<String> = row.read(9)?;
    Ok(Purchase {
        id: row.parse(0)?,
        workspace: row.parse(1)?,
        number_id: row.parse(2)?,
        ingress: numbers::ingress(row, 3)?,
        phone_number: numbers::e164(row, 4)?,
        price: numbers::price(row, 5)?,
        progress: row.json(8)?,
        lease: holder.zip(row.read::<Option<Timestamp>>(10)?),
        fence: row.read(11)?,
        restored: row.read(12)?,
        created_at: row.read(13)?,
        updated_at: row.read(14)?,
    })
}

/// A purchase, in whatever workspace.
pub fn purchase_find(read: &Read<'_>, id: PurchaseId) -> Result<Option<Purchase>, DbError> {
    read.query_opt(FIND, &[Value::text(&id)], purchase)
}

/// The purchase of a number.
pub fn purchase_find_by_number(read: &Read<'_>, number: NumberId) -> Result<Option<Purchase>, DbError> {
    read.query_opt(FIND_BY_NUMBER, &[Value::text(&number)], purchase)
}

/// Purchases that will go on by themselves, oldest first; `after` is the last id of the page before.
pub fn purchase_list_open(
    read: &Read<'_>,
    after: Option<PurchaseId>,
    limit: u32,
) -> Result<Vec<Purchase>, DbError> {
    let after = after.map_or_else(String::new, |id| id.to_string());
    read.query(OPEN, &[after.into(), limit.into()], purchase)
}

/// Reserves the budget and keeps the number and the intent to buy it, all or nothing.
///
/// The workspace is locked first, so that of two buyers at the limit one is refused.
/// [`DbError::Conflict`] (`numbers_owner`) where someone has the number, or is buying it.
pub fn purchase_create(
    tx: &Tx<'_>,
    number: &Number,
    id: PurchaseId,
    limits: Limits,
    now: Timestamp,
) -> Result<Result<Purchase, BudgetRefusal>, DbError> {
    tx.workspace_lock(number.workspace)?;
    if let Some(refusal) = budget_refusal(tx, number.workspace, number.price, limits, now)? {
        return Ok(Err(refusal));
    }
    numbers::number_create(tx, number)?;
    let purchase = Purchase {
        id,
        workspace: number.workspace,
        number_id: number.id,
        ingress: number.ingress,
        phone_number: number.phone_number,
        price: number.price,
        progress: Progress::new(now),
        lease: None,
        fence: 0,
        restored: false,
        created_at: now,
        updated_at: now,
    };
    tx.execute(
        CREATE,
        &[
            Value::text(&id),
            Value::text(&purchase.workspace),
            Value::text(&purchase.number_id),
            purchase.ingress.get().into(),
            Value::text(&purchase.phone_number),
            purchase.price.monthly.minor().into(),
            purchase.price.setup.minor().into(),
            Value::text(&purchase.price.monthly.currency()),
            purchase.progress.state.as_str().into(),
            Value::json(&purchase.progress),
            purchase.progress.wake_at.into(),
            day(now).into(),
            false.into(),
            now.into(),
        ],
    )?;
    tx.nudge();
    Ok(Ok(purchase))
}

/// Why a workspace may not buy at this price now, if it may not. Binding only under the workspace's lock.
pub fn budget_refusal(
    read: &Read<'_>,
    workspace: WorkspaceId,
    price: Price,
    limits: Limits,
    now: Timestamp,
) -> Result<Option<BudgetRefusal>, DbError> {
    if let Some(why) = meta::purchases_locked(read)? {
        return Ok(Some(BudgetRefusal::Locked(why)));
    }
    let today = day(now);
    let workspace = workspace.to_string();
    let bought: i64 =
        read.query_one(BOUGHT_TODAY, &[(&workspace).into(), (&today).into()], |row| row.read(0))?;
    if bought >= i64::from(limits.buys_per_day) {
        let again_at = now.to_zoned(TimeZone::UTC).tomorrow().and_then(|next| next.start_of_day());
        let again_at = again_at.map_or(Timestamp::MAX, |next| next.timestamp());
        return Ok(Some(BudgetRefusal::BuysPerDay { limit: limits.buys_per_day, again_at }));
    }
    let Some(limit) = limits.monthly_spend else { return Ok(None) };
    let currency = limit.currency();
    let month = format!("{}%", &today[..7]);
    let monthly: i64 =
        read.query_one(SPENT_MONTHLY, &[(&workspace).into(), Value::text(&currency)], |row| row.read(0))?;
    let setup: i64 =
        read.query_one(SPENT_SETUP, &[(&workspace).into(), Value::text(&currency), month.into()], |row| {
            row.read(0)
        })?;
    let spent_minor = monthly.saturating_add(setup);
    let wanted = price.monthly.minor().saturating_add(price.setup.minor());
    if spent_minor.saturating_add(wanted) > limit.minor() {
        return Ok(Some(BudgetRefusal::MonthlySpend { limit, spent_minor }));
    }
    Ok(None)
}

/// The UTC day that a purchase counts for.
fn day(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).date().to_string()
}

/// Takes up purchases that are due and that nobody works on. The lease must outlast the longest request.
pub fn purchase_claim(
    tx: &Tx<'_>,
    holder: &str,
    lasts: SignedDuration,
    limit: u32,
    now: Timestamp,
) -> Result<Vec<Purchase>, DbError> {
    let until = now.checked_add(lasts).unwrap_or(Timestamp::MAX);
    tx.query(tx.pick(CLAIM), &[now.into(), limit.into(), holder.into(), until.into()], purchase)
}

/// Writes down how a purchase goes on, if its lease is still the present one; none where it was lost.
///
/// With `keep_lease` the worker goes on; without, whoever finds it due may take it up.
pub fn purchase_step(
    tx: &Tx<'_>,
    purchase: &Purchase,
    progress: &Progress,
    keep_lease: bool,
    now: Timestamp,
) -> Result<Option<Purchase>, DbError> {
    let written = tx.execute(
        STEP,
        &[
            Value::text(&purchase.id),
            purchase.fence.into(),
            progress.state.as_str().into(),
            Value::json(progress),
            progress.wake_at.into(),
            false.into(),
            keep_lease.into(),
            now.into(),
        ],
    )?;
    if !keep_lease {
        tx.nudge();
    }
    let lease = purchase.lease.clone().filter(|_| keep_lease);
    Ok((written > 0).then(|| Purchase {
        progress: progress.clone(),
        lease,
        restored: false,
        updated_at: now,
        ..purchase.clone()
    }))
}

/// Makes a lease last longer; false where it was lost.
pub fn purchase_renew(
    tx: &Tx<'_>,
    purchase: &Purchase,
    lasts: SignedDuration,
    now: Timestamp,
) -> Result<bool, DbError> {
    let until = now.checked_add(lasts).unwrap_or(Timestamp::MAX);
    Ok(tx.execute(RENEW, &[Value::text(&purchase.id), purchase.fence.into(), until.into()])? > 0)
}

/// When the next purchase will be due; none where none is open.
pub fn purchase_next_wake(read: &Read<'_>) -> Result<Option<Timestamp>, DbError> {
    read.query_one(NEXT_WAKE, &[], |row| row.read(0))
}

/// How many purchases are in each state, by the domain's words.
pub fn purchase_count(read: &Read<'_>) -> Result<Vec<(domain::purchase::PurchaseState, i64)>, DbError> {
    read.query(COUNT, &[], |row| Ok((row.parse(0)?, row.read(1)?)))
}
