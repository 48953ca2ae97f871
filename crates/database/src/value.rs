//! What goes into a query and what comes out of it, the same for both engines.
//!
//! | here | SQLite (`STRICT`) | PostgreSQL |
//! |---|---|---|
//! | text | `TEXT` | `TEXT COLLATE "C"` |
//! | i64 | `INTEGER` | `BIGINT` |
//! | bool | `INTEGER` 0 or 1 | `BOOLEAN` |
//! | bytes | `BLOB` | `BYTEA` |
//! | json | `TEXT` | `JSONB` |
//! | time | `INTEGER`, microseconds since 1970 | `TIMESTAMPTZ` |

use std::error::Error;
use std::str::FromStr;

use bytes::{BufMut as _, BytesMut};
use jiff::Timestamp;
use rusqlite::types::{ToSqlOutput, ValueRef};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use crate::error::DbError;

/// One parameter of a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// SQL's NULL.
    Null,
    /// Text.
    Text(&'a str),
    /// Text that nobody else holds.
    Owned(String),
    /// A whole number.
    Int(i64),
    /// True or false.
    Bool(bool),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Bytes that nobody else holds.
    OwnedBytes(Vec<u8>),
    /// JSON, written out.
    Json(String),
    /// A moment, kept to the microsecond.
    Time(Timestamp),
}

impl Value<'_> {
    /// Anything that serde can write, as JSON.
    pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> Value<'static> {
        Value::Json(serde_json::to_string(value).expect("our own types always serialise"))
    }

    /// Anything that prints itself, as text: ids, E.164 numbers, states.
    pub fn text(value: &impl std::fmt::Display) -> Value<'static> {
        Value::Owned(value.to_string())
    }

    /// As [`Value::text`], with NULL for none.
    pub fn text_opt(value: Option<&impl std::fmt::Display>) -> Value<'static> {
        value.map_or(Value::Null, |value| Value::Owned(value.to_string()))
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::Text(value)
    }
}
impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Value::Text(value)
    }
}
impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Value::Owned(value)
    }
}
impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Value::Int(value)
    }
}
impl From<i32> for Value<'_> {
    fn from(value: i32) -> Self {
        Value::Int(value.into())
    }
}
impl From<u32> for Value<'_> {
    fn from(value: u32) -> Self {
        Value::Int(value.into())
    }
}
impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}
impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Value::Bytes(value)
    }
}
impl<'a> From<&'a Vec<u8>> for Value<'a> {
    fn from(value: &'a Vec<u8>) -> Self {
        Value::Bytes(value)
    }
}
impl From<Timestamp> for Value<'_> {
    fn from(value: Timestamp) -> Self {
        Value::Time(value)
    }
}
impl<'a, T: Into<Value<'a>>> From<Option<T>> for Value<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl rusqlite::ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Value::Null => ValueRef::Null,
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Owned(text) | Value::Json(text) => ValueRef::Text(text.as_bytes()),
            Value::Int(int) => ValueRef::Integer(*int),
            Value::Bool(bool) => ValueRef::Integer((*bool).into()),
            Value::Bytes(bytes) => ValueRef::Blob(bytes),
            Value::OwnedBytes(bytes) => ValueRef::Blob(bytes),
            Value::Time(time) => ValueRef::Integer(time.as_microsecond()),
        }))
    }
}

/// PostgreSQL counts from 2000-01-01; this many microseconds later than 1970-01-01.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

impl ToSql for Value<'_> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match (self, ty) {
            (Value::Null, _) => return Ok(IsNull::Yes),
            (Value::Text(text), &Type::TEXT | &Type::VARCHAR | &Type::UNKNOWN | &Type::NAME) => {
                out.put_slice(text.as_bytes());
            }
            (
                Value::Owned(text) | Value::Json(text),
                &Type::TEXT | &Type::VARCHAR | &Type::UNKNOWN | &Type::NAME | &Type::JSON,
            ) => out.put_slice(text.as_bytes()),
            (Value::Json(text), &Type::JSONB) => {
                out.put_u8(1); // the version of jsonb's wire format
                out.put_slice(text.as_bytes());
            }
            (Value::Int(int), &Type::INT8) => out.put_i64(*int),
            (Value::Int(int), &Type::INT4) => out.put_i32(i32::try_from(*int)?),
            (Value::Int(int), &Type::INT2) => out.put_i16(i16::try_from(*int)?),
            (Value::Bool(bool), &Type::BOOL) => out.put_u8((*bool).into()),
            (Value::Bytes(bytes), &Type::BYTEA) => out.put_slice(bytes),
            (Value::OwnedBytes(bytes), &Type::BYTEA) => out.put_slice(bytes),
            (Value::Time(time), &Type::TIMESTAMPTZ) => {
                out.put_i64(time.as_microsecond() - POSTGRES_EPOCH_US);
            }
            _ => return Err(format!("{self:?} was given where PostgreSQL expects {ty}").into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true // `to_sql` checks value and type together
    }

    to_sql_checked!();
}

/// One value of a row, as an engine hands it over.
#[derive(Debug, Clone, Copy)]
pub enum Cell<'a> {
    /// SQL's NULL.
    Null,
    /// Text; JSON on SQLite.
    Text(&'a str),
    /// A whole number; a bool or a time on SQLite.
    Int(i64),
    /// True or false, on PostgreSQL.
    Bool(bool),
    /// Bytes.
    Bytes(&'a [u8]),
    /// JSON, on PostgreSQL.
    Json(&'a str),
    /// A moment, on PostgreSQL; microseconds since 1970.
    Time(i64),
}

/// A cell in its raw form from PostgreSQL's wire.
struct Raw<'a>(Cell<'a>);

impl<'a> tokio_postgres::types::FromSql<'a> for Raw<'a> {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(match *ty {
            Type::INT8 => Cell::Int(i64::from_be_bytes(raw.try_into()?)),
            Type::INT4 => Cell::Int(i32::from_be_bytes(raw.try_into()?).into()),
            Type::INT2 => Cell::Int(i16::from_be_bytes(raw.try_into()?).into()),
            Type::BOOL => Cell::Bool(raw == [1]),
            Type::BYTEA => Cell::Bytes(raw),
            Type::TIMESTAMPTZ => Cell::Time(i64::from_be_bytes(raw.try_into()?) + POSTGRES_EPOCH_US),
            Type::JSONB => Cell::Json(std::str::from_utf8(raw.get(1..).unwrap_or_default())?),
            Type::JSON => Cell::Json(std::str::from_utf8(raw)?),
            Type::TEXT | Type::VARCHAR | Type::NAME | Type::BPCHAR | Type::UNKNOWN => {
                Cell::Text(std::str::from_utf8(raw)?)
            }
            _ => return Err(format!("a column of type {ty} is not used here: cast it in the query").into()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(Cell::Null))
    }

    fn accepts(_: &Type) -> bool {
        true // `from_sql` names the type that it cannot take
    }
}

/// What can be read from one cell.
pub trait FromCell: Sized {
    /// The value, or none where the cell holds another type.
    fn from_cell(cell: Cell<'_>) -> Option<Self>;
}

impl FromCell for String {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Text(text) | Cell::Json(text) => Some(text.to_owned()),
            _ => None,
        }
    }
}
impl FromCell for i64 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Int(int) => Some(int),
            _ => None,
        }
    }
}
impl FromCell for u32 {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        i64::from_cell(cell).and_then(|int| int.try_into().ok())
    }
}
impl FromCell for bool {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Bool(bool) => Some(bool),
            Cell::Int(0) => Some(false),
            Cell::Int(1) => Some(true),
            _ => None,
        }
    }
}
impl FromCell for Vec<u8> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Bytes(bytes) => Some(bytes.to_owned()),
            _ => None,
        }
    }
}
impl FromCell for Timestamp {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Time(microseconds) | Cell::Int(microseconds) => {
                Timestamp::from_microsecond(microseconds).ok()
            }
            _ => None,
        }
    }
}
impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell<'_>) -> Option<Self> {
        match cell {
            Cell::Null => Some(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

/// One row of an answer. Columns are counted from 0, in the order of the query.
pub struct Row<'r> {
    pub(crate) inner: RowOf<'r>,
}

/// The engine's own row.
pub(crate) enum RowOf<'r> {
    /// SQLite's.
    Sqlite(&'r rusqlite::Row<'r>),
    /// PostgreSQL's.
    Postgres(&'r tokio_postgres::Row),
}

impl Row<'_> {
    /// The raw cell in a column.
    pub fn cell(&self, column: usize) -> Result<Cell<'_>, DbError> {
        let wrong = |error: &dyn std::fmt::Display| DbError::Corrupt(format!("column {column}: {error}"));
        match &self.inner {
            RowOf::Sqlite(row) => match row.get_ref(column).map_err(|error| wrong(&error))? {
                ValueRef::Null => Ok(Cell::Null),
                ValueRef::Integer(int) => Ok(Cell::Int(int)),
                ValueRef::Text(text) => {
                    std::str::from_utf8(text).map(Cell::Text).map_err(|error| wrong(&error))
                }
                ValueRef::Blob(bytes) => Ok(Cell::Bytes(bytes)),
                ValueRef::Real(_) => Err(wrong(&"a floating-point number is not used here")),
            },
            RowOf::Postgres(row) => {
                row.try_get::<_, Raw<'_>>(column).map(|raw| raw.0).map_err(|error| wrong(&error))
            }
        }
    }

    /// The value in a column.
    pub fn read<T: FromCell>(&self, column: usize) -> Result<T, DbError> {
        let cell = self.cell(column)?;
        T::from_cell(cell).ok_or_else(|| {
            DbError::Corrupt(format!("column {column} holds no {}", std::any::type_name::<T>()))
        })
    }

    /// The text in a column without copying it.
    pub fn text(&self, column: usize) -> Result<&str, DbError> {
        text_of(self.cell(column)?, column)
    }

    /// The text in a column, parsed: ids, E.164 numbers, states.
    pub fn parse<T>(&self, column: usize) -> Result<T, DbError>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        parsed(text_of(self.cell(column)?, column)?, column)
    }

    /// As [`Row::parse`], with none for NULL.
    pub fn parse_opt<T>(&self, column: usize) -> Result<Option<T>, DbError>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        match self.cell(column)? {
            Cell::Null => Ok(None),
            cell => parsed(text_of(cell, column)?, column).map(Some),
        }
    }

    /// The JSON in a column.
    pub fn json<T: serde::de::DeserializeOwned>(&self, column: usize) -> Result<T, DbError> {
        serde_json::from_str(self.text(column)?)
            .map_err(|error| DbError::Corrupt(format!("column {column} holds other JSON: {error}")))
    }

    /// As [`Row::json`], with none for NULL.
    pub fn json_opt<T: serde::de::DeserializeOwned>(&self, column: usize) -> Result<Option<T>, DbError> {
        match self.cell(column)? {
            Cell::Null => Ok(None),
            _ => self.json(column).map(Some),
        }
    }
}

fn text_of(cell: Cell<'_>, column: usize) -> Result<&str, DbError> {
    match cell {
        Cell::Text(text) | Cell::Json(text) => Ok(text),
        other => Err(DbError::Corrupt(format!("column {column} holds no text but {other:?}"))),
    }
}

fn parsed<T>(text: &str, column: usize) -> Result<T, DbError>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| {
        DbError::Corrupt(format!("column {column}: `{text}` is no {}: {error}", std::any::type_name::<T>()))
    })
}
