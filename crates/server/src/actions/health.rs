//! Whether the program can work. Anybody may ask, so however many do, the database is asked once a second.

use std::time::Duration;

use database::DbError;
use tokio::sync::Mutex;

use super::Failure;
use crate::app::Shared;

/// How long an answer is good.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// What was found last, and when. Whoever asks meanwhile waits for that one answer.
#[derive(Debug, Default)]
pub struct Health(Mutex<Option<(Duration, Result<(), DbError>)>>);

/// Reads from the database and writes to it. Needs no permission: it tells nothing about anybody.
pub async fn health_check(app: &Shared) -> Result<(), Failure> {
    let mut last = app.health.0.lock().await;
    if let Some((at, found)) = &*last
        && app.clock.monotonic().saturating_sub(*at) < GOOD_FOR
    {
        return Ok(found.clone()?);
    }
    let found = app.database.check_ready(app.clock.now()).await;
    *last = Some((app.clock.monotonic(), found.clone()));
    Ok(found?)
}
