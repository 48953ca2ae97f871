//! Keeps this node's routes up to date: at a hint of the database, at a nudge, and every second whatever happens. What changed is
//! applied; after a gap everything is loaded again. Now and then the table is written to disk.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use database::routes::{RouteUpdate, route_rows_since, route_table, route_version};
use domain::route::RouteTable;
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::app::{App, Shared};

/// How often the database is asked when nothing else wakes the task.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the database may take to answer at the start.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// How long a question for changes may take.
const REFRESH_LIMIT: Duration = Duration::from_secs(5);
/// The shortest time between two snapshots.
const SAVE_PAUSE: Duration = Duration::from_secs(5);
/// A snapshot that took long waits longer for its turn, so that at most a twentieth of the time goes into writing.
const SAVE_PAUSE_FACTOR: u32 = 20;

/// Loads the routes when the program starts: from the database, or, where it does not answer, from disk.
pub async fn load_first(app: &App) {
    // A short question first: loading may take its time, a database that does not answer must not.
    let answers = app.database.within(ANSWER_LIMIT).read(route_version).await.map(drop);
    let loaded = match answers {
        Ok(()) => load_all(app).await,
        Err(why) => Err(why.into()),
    };
    let Err(why) = loaded else { return };
    warn!("the routes cannot be loaded from the database: {why:#}");
    if let Some(kept) = app.routes.load_from(&app.routes_disk) {
        warn!(
            route.version = kept.version,
            route.numbers = kept.numbers,
            snapshot.age_s = kept.age.as_secs(),
            "calls are routed by a snapshot that is {} s old until the database is back",
            kept.age.as_secs()
        );
    } else {
        error!("there is no usable route snapshot either: calls cannot be routed until the database is back");
    }
}

/// Runs until the app stops.
pub async fn run(app: Shared) {
    let stopping = app.tasks.stopping();
    let mut changes = app.database.changes();
    let mut was_failing = false;
    let mut save_after = Duration::ZERO;
    // Beside the loop: however slow the disk is, changes are followed meanwhile.
    let mut saving: JoinSet<Duration> = JoinSet::new();
    loop {
        match refresh(&app).await {
            Ok(()) if std::mem::take(&mut was_failing) => info!("the routes are up to date again"),
            Ok(()) => {}
            Err(why) if was_failing => debug!("the routes cannot be brought up to date: {why:#}"),
            Err(why) => {
                was_failing = true;
                warn!("the routes cannot be brought up to date, calls go on by those of before: {why:#}");
            }
        }
        if saving.is_empty() && app.clock.monotonic() >= save_after && is_to_be_saved(&app) {
            let app = app.clone();
            saving.spawn(async move {
                let begun = app.clock.monotonic();
                save(&app).await;
                app.clock.monotonic().saturating_sub(begun)
            });
        }
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            changed = changes.changed() => if changed.is_err() { tokio::time::sleep(PERIOD).await },
            () = app.nudges.build_routes.notified() => {}
            Some(saved) = saving.join_next() => {
                let took = saved.unwrap_or_default();
                save_after = app.clock.monotonic() + SAVE_PAUSE.max(took * SAVE_PAUSE_FACTOR);
            }
            () = stopping.cancelled() => break,
        }
    }
    while saving.join_next().await.is_some() {}
    if is_to_be_saved(&app) {
        save(&app).await;
    }
}

/// Brings the table up to date with the database.
pub async fn refresh(app: &App) -> anyhow::Result<()> {
    // A table from disk may be of another time of this database, or of another database: nothing is built on it.
    if app.routes.unconfirmed_for().is_none() {
        return load_all(app).await;
    }
    let known = app.routes.current();
    let version = i64::try_from(known.version()).context("a version beyond what the database counts")?;
    let database = app.database.within(REFRESH_LIMIT);
    match database.read(move |read| route_rows_since(read, version)).await? {
        RouteUpdate::Unchanged => app.routes.confirm(),
        RouteUpdate::LoadAll => load_all(app).await?,
        RouteUpdate::Rows(version, rows) => {
            let version = u64::try_from(version).context("a negative route version")?;
            let table = tokio::task::spawn_blocking(move || known.applied(rows, version)).await?;
            if let Some(table) = table {
                app.routes.publish(table);
            }
            app.routes.confirm();
        }
    }
    Ok(())
}

/// Loads everything.
async fn load_all(app: &App) -> anyhow::Result<()> {
    // Where the program was started while the database was away, only now it is known whether this is its key.
    app.check_key().await?;
    let begun = app.clock.monotonic();
    let table: RouteTable = route_table(&app.database.in_bulk()).await?;
    let (version, numbers) = (table.version(), table.numbers());
    app.routes.replace(table);
    app.routes.confirm();
    let took = app.clock.monotonic().saturating_sub(begun);
    info!(
        route.version = version,
        route.numbers = numbers,
        "loaded the routes of {numbers} numbers in {} ms",
        took.as_millis()
    );
    Ok(())
}

/// Whether the table is another than the one on disk.
fn is_to_be_saved(app: &App) -> bool {
    let confirmed = app.routes.unconfirmed_for().is_some();
    confirmed && app.routes.current().version() != app.routes_disk.version()
}

/// Writes the table to disk.
async fn save(app: &App) {
    let table = app.routes.current();
    let disk = Arc::clone(&app.routes_disk);
    let saved = tokio::task::spawn_blocking(move || disk.save(&table)).await;
    if let Err(why) = saved.map_err(anyhow::Error::from).and_then(|saved| Ok(saved?)) {
        error!(
            "the route snapshot cannot be written, so a start without the database would use an old one: {why:#}"
        );
    }
}
