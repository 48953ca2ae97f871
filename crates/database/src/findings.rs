//! Findings: where the carrier's list of numbers and ours differ, kept between listings.
//!
//! When one is believed is decided by `domain::reconcile`.

use domain::call::Ingress;
use domain::id::NumberId;
use domain::number::E164;
use domain::reconcile::{Finding, FindingKind, Observation, Owner};

use crate::engine::{Both, Read, Tx};
use crate::error::DbError;
use crate::numbers;
use crate::value::{Row, Value};

/// The most findings that are kept; an account full of strange numbers needs no longer list.
pub const FINDINGS_MAX: u32 = 10_000;

macro_rules! columns {
    () => {
        "ingress, phone_number, kind, number_id, workspace_id, carrier_number_id, detail, first_seen_at, \
         last_seen_at, counted_at, seen, reported_at"
    };
}

const LIST: &str =
    concat!("SELECT ", columns!(), " FROM findings WHERE ingress = $1 ORDER BY phone_number, kind LIMIT $2");
const LIST_OF_NUMBER: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM findings WHERE ingress = $1 AND phone_number = $2 AND number_id = $3 ORDER BY kind LIMIT $4"
);
const PUT: &str = concat!(
    "INSERT INTO findings (",
    columns!(),
    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
     ON CONFLICT (ingress, phone_number, kind) DO UPDATE SET number_id = excluded.number_id, \
     workspace_id = excluded.workspace_id, carrier_number_id = excluded.carrier_number_id, \
     detail = excluded.detail, last_seen_at = excluded.last_seen_at, counted_at = excluded.counted_at, \
     seen = excluded.seen, reported_at = excluded.reported_at"
);
const REMOVE: &str = "DELETE FROM findings WHERE ingress = $1 AND phone_number = $2 AND kind = $3";

const OF_NUMBER: &str = "SELECT kind, detail FROM findings WHERE number_id = $1 AND reported_at IS NOT NULL ORDER BY kind LIMIT 10";
const COUNT: &str = "SELECT kind, count(*) FROM findings WHERE reported_at IS NOT NULL GROUP BY kind";

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("findings::LIST", Both::same(LIST)),
    ("findings::LIST_OF_NUMBER", Both::same(LIST_OF_NUMBER)),
    ("findings::PUT", Both::same(PUT)),
    ("findings::REMOVE", Both::same(REMOVE)),
    ("findings::OF_NUMBER", Both::same(OF_NUMBER)),
    ("findings::COUNT", Both::same(COUNT)),
];

fn finding(row: &Row<'_>) -> Result<Finding, DbError> {
    let number_id = row.parse_opt(3)?;
    let workspace_id = row.parse_opt(4)?;
    let seen: i64 = row.read(10)?;
    Ok(Finding {
        ingress: numbers::ingress(row, 0)?,
        observation: Observation {
            phone_number: numbers::e164(row, 1)?,
            kind: row.parse(2)?,
            owner: number_id
                .zip(workspace_id)
                .map(|(number_id, workspace_id)| Owner { number_id, workspace_id }),
            carrier_number_id: row.read(5)?,
            detail: row.read(6)?,
        },
        first_seen_at: row.read(7)?,
        last_seen_at: row.read(8)?,
        counted_at: row.read(9)?,
        seen: u32::try_from(seen).map_err(|_| DbError::Corrupt(format!("seen {seen} times")))?,
        reported_at: row.read(11)?,
    })
}

/// What is known to differ on an ingress, by number; at most [`FINDINGS_MAX`].
pub fn finding_list(read: &Read<'_>, ingress: Ingress) -> Result<Vec<Finding>, DbError> {
    read.query(LIST, &[ingress.get().into(), FINDINGS_MAX.into()], finding)
}

/// What is believed to differ in one number, in words.
pub fn finding_words_of_number(
    read: &Read<'_>,
    number: NumberId,
) -> Result<Vec<(FindingKind, String)>, DbError> {
    read.query(OF_NUMBER, &[Value::text(&number)], |row| Ok((row.parse(0)?, row.read(1)?)))
}

/// How many differences of each kind are believed.
pub fn finding_count(read: &Read<'_>) -> Result<Vec<(FindingKind, i64)>, DbError> {
    read.query(COUNT, &[], |row| Ok((row.parse(0)?, row.read(1)?)))
}

/// What is known to differ in one number of ours.
pub fn finding_list_of_number(
    read: &Read<'_>,
    ingress: Ingress,
    phone_number: E164,
    id: NumberId,
) -> Result<Vec<Finding>, DbError> {
    let place = [ingress.get().into(), Value::text(&phone_number), Value::text(&id), FINDINGS_MAX.into()];
    read.query(LIST_OF_NUMBER, &place, finding)
}

/// Keeps a finding, new or seen again.
pub fn finding_put(tx: &Tx<'_>, finding: &Finding) -> Result<(), DbError> {
    let observation = &finding.observation;
    tx.execute(
        PUT,
        &[
            finding.ingress.get().into(),
            Value::text(&observation.phone_number),
            observation.kind.as_str().into(),
            Value::text_opt(observation.owner.map(|owner| owner.number_id).as_ref()),
            Value::text_opt(observation.owner.map(|owner| owner.workspace_id).as_ref()),
            observation.carrier_number_id.as_ref().into(),
            (&observation.detail).into(),
            finding.first_seen_at.into(),
            finding.last_seen_at.into(),
            finding.counted_at.into(),
            finding.seen.into(),
            finding.reported_at.into(),
        ],
    )
    .map(drop)
}

/// Forgets a finding: a listing did not show it.
pub fn finding_remove(tx: &Tx<'_>, finding: &Finding) -> Result<(), DbError> {
    let observation = &finding.observation;
    tx.execute(
        REMOVE,
        &[
            finding.ingress.get().into(),
            Value::text(&observation.phone_number),
            observation.kind.as_str().into(),
        ],
    )
    .map(drop)
}
