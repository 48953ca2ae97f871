//! Carriers call us. A callback is verified before anything else happens, then decided from memory: nothing here waits for a
//! database. Whatever goes wrong on our side, a call gets an answer that the carrier can follow.

mod form;
mod recent;
pub mod twilio;

use axum::Router;

use crate::app::Shared;

/// The addresses that carriers call.
pub fn router(app: &Shared) -> Router {
    twilio::router(app)
}
