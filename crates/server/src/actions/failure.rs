//! Why an action did not happen, a variant for each thing that a caller may do about it.

use database::DbError;
use domain::error::{Code, Refusal};
use tracing::{error, warn};

/// Why an action did not happen. Whatever it had written was rolled back.
#[derive(Clone, Debug)]
pub enum Failure {
    /// It is refused, by a rule of the table.
    Refused(Refusal),
    /// Fields of the request are refused.
    Invalid(Vec<FieldRefusal>),
    /// The database could not be asked, or did not write.
    Database(DbError),
}

/// A refusal of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRefusal {
    /// The field, as a path into the body.
    pub field: String,
    /// What is wrong with it.
    pub refusal: Refusal,
}

/// What a caller is told of a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// One sentence, with its code.
    Refused(Refusal),
    /// What is wrong with each field.
    Invalid(Vec<FieldRefusal>),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl From<DbError> for Failure {
    fn from(error: DbError) -> Self {
        Failure::Database(error)
    }
}

/// How soon a database that is away is worth another try, in seconds.
pub const DATABASE_RETRY_AFTER_S: u64 = 5;

impl Failure {
    /// What the caller is told. Faults of ours are logged here, once; what they name – rules, rows, files – stays in the log.
    pub fn told(self) -> Told {
        let error = match self {
            Failure::Refused(refusal) => return Told::Refused(refusal),
            Failure::Invalid(fields) => return Told::Invalid(fields),
            Failure::Database(error) => error,
        };
        Told::Refused(match error {
            DbError::StaleVersion => Refusal::new(
                Code::StaleVersion,
                "somebody else changed it at the same time; read it again and repeat your change",
            ),
            DbError::Unavailable(_) | DbError::ReadOnly(_) => {
                warn!(%error, "a request was refused: {error}");
                Refusal::new(
                    Code::DatabaseUnavailable,
                    "the database does not answer, or takes no writes; calls go on meanwhile. Repeat the request with the same Idempotency-Key",
                )
            }
            DbError::Full(_) => {
                error!(%error, "a request was refused: {error}");
                Refusal::new(Code::DiskFull, "the database has no room left; calls go on meanwhile")
            }
            DbError::Conflict(_)
            | DbError::Corrupt(_)
            | DbError::SchemaNewer { .. }
            | DbError::WrongKey { .. }
            | DbError::Refused(_)
            | DbError::Internal(_) => {
                error!(%error, "a request failed: {error}");
                Refusal::new(
                    Code::Internal,
                    "something went wrong on our side; quote the request_id when you report it",
                )
            }
        })
    }

    /// The same, as a refusal of one field, where it is a refusal that names none.
    #[must_use]
    pub fn in_field(self, field: &str) -> Failure {
        match self {
            Failure::Refused(refusal) => Failure::field(field, refusal),
            other => other,
        }
    }

    /// A refusal of one field.
    pub fn field(field: impl Into<String>, refusal: Refusal) -> Failure {
        Failure::Invalid(vec![FieldRefusal { field: field.into(), refusal }])
    }
}
