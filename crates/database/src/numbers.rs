//! Numbers: found, listed, kept, changed.
//!
//! Which change is allowed is the domain's business, recording it is the caller's. Every change here sends
//! calls elsewhere, or may; so each is noted for the route tables.

use std::fmt::Write as _;

use domain::assignment::Assignment;
use domain::call::Ingress;
use domain::environment::Environment;
use domain::id::{AgentId, NumberId, PurchaseId, VariantId, WorkspaceId};
use domain::money::{Currency, Money};
use domain::number::{
    Capabilities, Capability, Country, E164, NumberStatus, NumberType, ReleaseHold, Source,
};
use domain::quote::Price;
use domain::route::row::{CallbackToken, NumberSettings};
use jiff::Timestamp;

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::routes::RouteChange;
use crate::value::{Row, Value};

/// One number.
#[derive(Debug, Clone, PartialEq)]
pub struct Number {
    /// Its id.
    pub id: NumberId,
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// What its calls come in on.
    pub ingress: Ingress,
    /// The number itself.
    pub phone_number: E164,
    /// Its country, where the numbering plan tells.
    pub country: Option<Country>,
    /// Its kind.
    pub number_type: NumberType,
    /// Where it comes from.
    pub source: Source,
    /// How far it is.
    pub status: NumberStatus,
    /// Why it failed or needs a person: one of the domain's words.
    pub status_reason: Option<String>,
    /// What people call it.
    pub label: Option<String>,
    /// What people sort it by.
    pub tags: Vec<String>,
    /// What it can do.
    pub capabilities: Capabilities,
    /// Its town.
    pub locality: Option<String>,
    /// Its region or state.
    pub region: Option<String>,
    /// What it costs.
    pub price: Price,
    /// The carrier's id of it, once it is bought.
    pub carrier_number_id: Option<String>,
    /// The random part of the path of its callbacks.
    pub callback_token: CallbackToken,
    /// The purchase that it comes from.
    pub purchase_id: Option<PurchaseId>,
    /// Who answers it.
    pub assignment: Option<Assignment>,
    /// While set, it cannot be released.
    pub release_lock: bool,
    /// Its own settings, where it differs from its agent and workspace.
    pub settings: NumberSettings,
    /// When it is to be given back.
    pub hold: Option<ReleaseHold>,
    /// Grows with each change; the `ETag`.
    pub revision: i64,
    /// When it was made here.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Number {
    /// Whether calls to it are routed: also while a person is asked, if the carrier has sold it to us, since it rings here then.
    pub fn takes_calls(&self) -> bool {
        let is_bought = self.carrier_number_id.is_some();
        self.status.takes_calls()
            || is_bought && matches!(self.status, NumberStatus::Ordering | NumberStatus::NeedsReview)
    }
}

/// Which numbers to list. The default is: all.
#[derive(Debug, Clone, Default)]
pub struct NumberFilter {
    /// Assigned in this environment.
    pub environment: Option<Environment>,
    /// Assigned to this agent.
    pub agent: Option<AgentId>,
    /// Of this source.
    pub source: Option<Source>,
    /// In one of these states; empty: in any.
    pub statuses: Vec<NumberStatus>,
    /// With these digits anywhere, or this text in the label.
    pub search: Option<String>,
    /// Of this country.
    pub country: Option<Country>,
    /// That can do this.
    pub capability: Option<Capability>,
    /// Assigned to nobody.
    pub is_unassigned: bool,
}

macro_rules! columns {
    () => {
        "id, workspace_id, ingress, phone_number, country, number_type, source, status, status_reason, label, \
         tags, voice, sms, mms, locality, region, monthly_minor, setup_minor, currency, carrier_number_id, \
         callback_token, purchase_id, agent_id, environment, variant_id, release_lock, settings, \
         release_requested_at, release_at, revision, created_at, updated_at"
    };
}
macro_rules! select {
    ($rest:literal) => {
        concat!("SELECT ", columns!(), " FROM numbers ", $rest)
    };
}

const FIND: &str = select!("WHERE id = $1 AND workspace_id = $2");
const FIND_BY_PHONE_NUMBER: &str = select!(
    "WHERE workspace_id = $1 AND phone_number = $2 AND status NOT IN ('failed', 'released') ORDER BY id LIMIT 100"
);
const FIND_BY_OWNER: &str =
    select!("WHERE ingress = $1 AND phone_number = $2 AND status NOT IN ('failed', 'released')");
const FIND_BY_CALLBACK_TOKEN: &str = select!("WHERE callback_token = $1");
const LIST: &str = select!("WHERE workspace_id = $1 AND id > $2");
const OF_INGRESS: &str =
    select!("WHERE ingress = $1 AND status NOT IN ('failed', 'released') ORDER BY phone_number");
const TO_RELEASE: &str =
    select!("WHERE release_at IS NOT NULL AND release_at <= $1 ORDER BY release_at LIMIT $2");
const CREATE: &str = concat!(
    "INSERT INTO numbers (",
    columns!(),
    ", label_search) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
     $19, $20, $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33)"
);
const UPDATE: &str = "UPDATE numbers SET status = $3, status_reason = $4, label = $5, label_search = $6, tags = $7, \
    voice = $8, sms = $9, mms = $10, carrier_number_id = $11, agent_id = $12, environment = $13, \
    variant_id = $14, release_lock = $15, settings = $16, release_requested_at = $17, release_at = $18, \
    updated_at = $19, revision = revision + 1 WHERE id = $1 AND revision = $2";
const WITH_SETTINGS: &str = select!(
    "WHERE agent_id = $1 AND id > $2 AND settings IS NOT NULL AND status NOT IN ('failed', 'released') \
     ORDER BY id LIMIT $3"
);
const ASSIGNED: &str = "SELECT id, phone_number, environment, variant_id FROM numbers \
    WHERE agent_id = $1 AND status NOT IN ('failed', 'released') ORDER BY id LIMIT $2";
const COUNT: &str = "SELECT status, count(*) FROM numbers WHERE workspace_id = $1 GROUP BY status";

const COUNT_ALL: &str = "SELECT status, count(*) FROM numbers GROUP BY status";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("numbers::FIND", Both::same(FIND)),
    ("numbers::FIND_BY_PHONE_NUMBER", Both::same(FIND_BY_PHONE_NUMBER)),
    ("numbers::FIND_BY_OWNER", Both::same(FIND_BY_OWNER)),
    ("numbers::FIND_BY_CALLBACK_TOKEN", Both::same(FIND_BY_CALLBACK_TOKEN)),
    ("numbers::LIST", Both::same(LIST)),
    ("numbers::OF_INGRESS", Both::same(OF_INGRESS)),
    ("numbers::TO_RELEASE", Both::same(TO_RELEASE)),
    ("numbers::CREATE", Both::same(CREATE)),
    ("numbers::UPDATE", Both::same(UPDATE)),
    ("numbers::WITH_SETTINGS", Both::same(WITH_SETTINGS)),
    ("numbers::ASSIGNED", Both::same(ASSIGNED)),
    ("numbers::COUNT", Both::same(COUNT)),
    ("numbers::COUNT_ALL", Both::same(COUNT_ALL)),
];

/// The number in a column. The database is believed as a carrier is: rules about numbers change with time.
pub(crate) fn e164(row: &Row<'_>, column: usize) -> Result<E164, DbError> {
    let text = row.text(column)?;
    E164::from_carrier(text).ok_or_else(|| DbError::Corrupt(format!("`{text}` is no E.164 number")))
}

/// The ingress in a column.
pub(crate) fn ingress(row: &Row<'_>, column: usize) -> Result<Ingress, DbError> {
    let place = row.read(column)?;
    Ingress::new(place).ok_or_else(|| DbError::Corrupt(format!("{place} is no ingress")))
}

/// The price in three columns.
pub(crate) fn price(row: &Row<'_>, monthly: usize) -> Result<Price, DbError> {
    let currency: Currency = row.parse(monthly + 2)?;
    let money = |column: usize| {
        let minor = row.read(column)?;
        Money::from_minor(minor, currency)
            .ok_or_else(|| DbError::Corrupt(format!("{minor} is no amount of money")))
    };
    Ok(Price { monthly: money(monthly)?, setup: money(monthly + 1)? })
}

/// The assignment in three columns.
pub(crate) fn assignment(row: &Row<'_>, agent: usize) -> Result<Option<Assignment>, DbError> {
    let Some(agent_id) = row.parse_opt(agent)? else { return Ok(None) };
    Ok(Some(Assignment {
        agent_id,
        environment: row.parse(agent + 1)?,
        variant_id: row.parse_opt(agent + 2)?,
    }))
}

/// The callback token in a column.
pub(crate) fn callback_token(row: &Row<'_>, column: usize) -> Result<CallbackToken, DbError> {
    CallbackToken::parse(row.text(column)?)
        .ok_or_else(|| DbError::Corrupt("a callback token is not 32 hexadecimal digits".into()))
}

fn number(row: &Row<'_>) -> Result<Number, DbError> {
    let hold = match (row.read(27)?, row.read(28)?) {
        (Some(requested_at), Some(release_at)) => Some(ReleaseHold { requested_at, release_at }),
        _ => None,
    };
    Ok(Number {
        id: row.parse(0)?,
        workspace: row.parse(1)?,
        ingress: ingress(row, 2)?,
        phone_number: e164(row, 3)?,
        country: row.parse_opt(4)?,
        number_type: row.parse(5)?,
        source: row.parse(6)?,
        status: row.parse(7)?,
        status_reason: row.read(8)?,
        label: row.read(9)?,
        tags: row.json(10)?,
        capabilities: Capabilities { voice: row.read(11)?, sms: row.read(12)?, mms: row.read(13)? },
        locality: row.read(14)?,
        region: row.read(15)?,
        price: price(row, 16)?,
        carrier_number_id: row.read(19)?,
        callback_token: callback_token(row, 20)?,
        purchase_id: row.parse_opt(21)?,
        assignment: assignment(row, 22)?,
        release_lock: row.read(25)?,
        settings: row.json_opt(26)?.unwrap_or_default(),
        hold,
        revision: row.read(29)?,
        created_at: row.read(30)?,
        updated_at: row.read(31)?,
    })
}

/// A number of a workspace.
pub fn number_find(read: &Read<'_>, workspace: WorkspaceId, id: NumberId) -> Result<Option<Number>, DbError> {
    read.query_opt(FIND, &[Value::text(&id), Value::text(&workspace)], number)
}

/// A workspace's numbers with this E.164 form: one an ingress. Failed and released ones are left out.
pub fn number_find_by_phone_number(
    read: &Read<'_>,
    workspace: WorkspaceId,
    phone_number: E164,
) -> Result<Vec<Number>, DbError> {
    read.query(FIND_BY_PHONE_NUMBER, &[Value::text(&workspace), Value::text(&phone_number)], number)
}

/// Whoever holds this number on this ingress, in whatever workspace.
pub fn number_find_by_owner(
    read: &Read<'_>,
    ingress: Ingress,
    phone_number: E164,
) -> Result<Option<Number>, DbError> {
    read.query_opt(FIND_BY_OWNER, &[ingress.get().into(), Value::text(&phone_number)], number)
}

/// The number whose callbacks come to this path, in whatever workspace and state.
pub fn number_find_by_callback_token(
    read: &Read<'_>,
    token: CallbackToken,
) -> Result<Option<Number>, DbError> {
    read.query_opt(FIND_BY_CALLBACK_TOKEN, &[token.to_hex().into()], number)
}

/// A workspace's numbers, oldest first; `after` is the last id of the page before.
pub fn number_list(
    read: &Read<'_>,
    workspace: WorkspaceId,
    filter: &NumberFilter,
    after: Option<NumberId>,
    limit: u32,
) -> Result<Vec<Number>, DbError> {
    let mut sql = LIST.to_owned();
    let after = after.map_or_else(String::new, |id| id.to_string());
    let mut params: Vec<Value<'_>> = vec![Value::text(&workspace), after.into()];
    let mut and = |condition: &str, value: Value<'static>| {
        params.push(value);
        sql.push_str(" AND ");
        sql.push_str(&condition.replace("$$", &format!("${}", params.len())));
    };
    if let Some(environment) = filter.environment {
        and("environment = $$", environment.as_str().into());
    }
    if let Some(agent) = filter.agent {
        and("agent_id = $$", Value::text(&agent));
    }
    if let Some(source) = filter.source {
        and("source = $$", source.as_str().into());
    }
    if let Some(country) = filter.country {
        and("country = $$", Value::text(&country));
    }
    if let Some(search) = filter.search.as_deref().map(str::trim).filter(|search| !search.is_empty()) {
        let digits: String = search.chars().filter(char::is_ascii_digit).collect();
        let is_number =
            search.chars().all(|c| c.is_ascii_digit() || c.is_whitespace() || "+-().".contains(c));
        let label = like(&search.to_lowercase());
        if is_number && !digits.is_empty() {
            and("(phone_number LIKE $$ OR label_search LIKE $$ ESCAPE '\\')", like(&digits).into());
        } else {
            and("label_search LIKE $$ ESCAPE '\\'", label.into());
        }
    }
    // Closed sets of words and flags stand in the text itself: there are few, and each is a known word.
    match filter.capability {
        Some(Capability::Voice) => sql.push_str(" AND voice = $T"),
        Some(Capability::Sms) => sql.push_str(" AND sms = $T"),
        Some(Capability::Mms) => sql.push_str(" AND mms = $T"),
        None => {}
    }
    if sql.ends_with("$T") {
        params.push(true.into());
        sql = sql.replace("$T", &format!("${}", params.len()));
    }
    if !filter.statuses.is_empty() {
        let words: Vec<String> =
            filter.statuses.iter().map(|status| format!("'{}'", status.as_str())).collect();
        let _ = write!(sql, " AND status IN ({})", words.join(", "));
    }
    if filter.is_unassigned {
        sql.push_str(" AND agent_id IS NULL");
    }
    params.push(limit.into());
    let _ = write!(sql, " ORDER BY id LIMIT ${}", params.len());
    read.query(&sql, &params, number)
}

/// A pattern that finds a text anywhere, whatever letters it holds.
pub(crate) fn like(text: &str) -> String {
    format!("%{}%", text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"))
}

/// Every number that is, or may be, ours on an ingress, in the order of the numbers: what the carrier's
/// list is compared with.
pub fn number_each_of_ingress(
    read: &Read<'_>,
    ingress: Ingress,
    mut each: impl FnMut(Number) -> Result<(), DbError>,
) -> Result<(), DbError> {
    read.query_each(OF_INGRESS, &[ingress.get().into()], |row| each(number(row)?))
}

/// Numbers whose hold has ended, in whatever workspace: `release_scheduled` and `releasing`.
pub fn number_to_release(read: &Read<'_>, now: Timestamp, limit: u32) -> Result<Vec<Number>, DbError> {
    read.query(TO_RELEASE, &[now.into(), limit.into()], number)
}

/// A number that an agent answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Assigned {
    /// Its id.
    pub id: NumberId,
    /// Its digits.
    pub phone_number: E164,
    /// In which environment.
    pub environment: Environment,
    /// As which variant.
    pub variant_id: Option<VariantId>,
}

/// The numbers that an agent answers, each with its environment and variant.
pub fn number_assigned(read: &Read<'_>, agent: AgentId, limit: u32) -> Result<Vec<Assigned>, DbError> {
    read.query(ASSIGNED, &[Value::text(&agent), limit.into()], |row| {
        Ok(Assigned {
            id: row.parse(0)?,
            phone_number: e164(row, 1)?,
            environment: row.parse(2)?,
            variant_id: row.parse_opt(3)?,
        })
    })
}

/// The numbers that an agent answers and that have settings of their own; `after` is the last id of the page before.
pub fn number_with_settings(
    read: &Read<'_>,
    agent: AgentId,
    after: Option<NumberId>,
    limit: u32,
) -> Result<Vec<Number>, DbError> {
    let after = after.map_or_else(String::new, |id| id.to_string());
    read.query(WITH_SETTINGS, &[Value::text(&agent), after.into(), limit.into()], number)
}

/// How many numbers of a workspace are in each state.
pub fn number_count(read: &Read<'_>, workspace: WorkspaceId) -> Result<Vec<(NumberStatus, i64)>, DbError> {
    read.query(COUNT, &[Value::text(&workspace)], |row| Ok((row.parse(0)?, row.read(1)?)))
}

fn settings(number: &Number) -> Value<'static> {
    if number.settings == NumberSettings::default() { Value::Null } else { Value::json(&number.settings) }
}

/// Keeps a new number. [`DbError::Conflict`] (`numbers_owner`) where someone has it on this ingress.
pub fn number_create(tx: &Tx<'_>, number: &Number) -> Result<(), DbError> {
    let label_search = number.label.as_ref().map(|label| label.to_lowercase());
    let assignment = number.assignment;
    tx.execute(
        CREATE,
        &[
            Value::text(&number.id),
            Value::text(&number.workspace),
            number.ingress.get().into(),
            Value::text(&number.phone_number),
            Value::text_opt(number.country.as_ref()),
            number.number_type.as_str().into(),
            number.source.as_str().into(),
            number.status.as_str().into(),
            number.status_reason.as_ref().into(),
            number.label.as_ref().into(),
            Value::json(&number.tags),
            number.capabilities.voice.into(),
            number.capabilities.sms.into(),
            number.capabilities.mms.into(),
            number.locality.as_ref().into(),
            number.region.as_ref().into(),
            number.price.monthly.minor().into(),
            number.price.setup.minor().into(),
            Value::text(&number.price.monthly.currency()),
            number.carrier_number_id.as_ref().into(),
            number.callback_token.to_hex().into(),
            Value::text_opt(number.purchase_id.as_ref()),
            Value::text_opt(assignment.map(|it| it.agent_id).as_ref()),
            assignment.map(|it| it.environment.as_str()).into(),
            Value::text_opt(assignment.and_then(|it| it.variant_id).as_ref()),
            number.release_lock.into(),
            settings(number),
            number.hold.map(|hold| hold.requested_at).into(),
            number.hold.map(|hold| hold.release_at).into(),
            number.revision.into(),
            number.created_at.into(),
            number.updated_at.into(),
            label_search.as_ref().into(),
        ],
    )?;
    tx.route_changed(RouteChange::Number(number.id));
    Ok(())
}

/// Writes everything about a number that may change – state, label, tags, capabilities, carrier's id,
/// assignment, lock, settings, hold – if it is still at its `revision`; gives it as it is now.
pub fn number_update(tx: &Tx<'_>, number: &Number, now: Timestamp) -> Result<Number, DbError> {
    let label_search = number.label.as_ref().map(|label| label.to_lowercase());
    let assignment = number.assignment;
    let written = tx.execute(
        UPDATE,
        &[
            Value::text(&number.id),
            number.revision.into(),
            number.status.as_str().into(),
            number.status_reason.as_ref().into(),
            number.label.as_ref().into(),
            label_search.as_ref().into(),
            Value::json(&number.tags),
            number.capabilities.voice.into(),
            number.capabilities.sms.into(),
            number.capabilities.mms.into(),
            number.carrier_number_id.as_ref().into(),
            Value::text_opt(assignment.map(|it| it.agent_id).as_ref()),
            assignment.map(|it| it.environment.as_str()).into(),
            Value::text_opt(assignment.and_then(|it| it.variant_id).as_ref()),
            number.release_lock.into(),
            settings(number),
            number.hold.map(|hold| hold.requested_at).into(),
            number.hold.map(|hold| hold.release_at).into(),
            now.into(),
        ],
    )?;
    if written == 0 {
        return Err(DbError::StaleVersion);
    }
    tx.route_changed(RouteChange::Number(number.id));
    Ok(Number { revision: number.revision + 1, updated_at: now, ..number.clone() })
}

/// How many numbers of all workspaces are in each state. Reads every row, so ask seldom.
pub fn number_count_all(read: &Read<'_>) -> Result<Vec<(NumberStatus, i64)>, DbError> {
    read.query(COUNT_ALL, &[], |row| Ok((row.parse(0)?, row.read(1)?)))
}
