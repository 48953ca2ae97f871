//! Whether the program can work.

use super::Failure;
use crate::app::Shared;

/// Reads from the database and writes to it. Needs no permission: it tells nothing about anybody.
pub async fn health_check(app: &Shared) -> Result<(), Failure> {
    Ok(app.database.check_ready(app.clock.now()).await?)
}
