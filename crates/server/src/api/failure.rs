//! What became of an action, as a problem.

use domain::error::Code;

use super::error::{FieldError, Problem};
use crate::actions::{DATABASE_RETRY_AFTER_S, Failure, Told};

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure.told() {
            Told::Refused(refusal) if refusal.code == Code::DatabaseUnavailable => {
                Problem::from(refusal).retry_after(DATABASE_RETRY_AFTER_S)
            }
            Told::Refused(refusal) => refusal.into(),
            Told::Invalid(fields) => {
                let errors = fields.into_iter().map(|field| FieldError::new(field.field, field.refusal));
                Problem::invalid(errors.collect())
            }
        }
    }
}
