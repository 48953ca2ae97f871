//! What happens without being asked: each task finds its work by itself, so that if a process dies,
//! another finishes its work. A task takes no input, may run twice, and may run on two nodes at once.

pub mod anchor_audit;
pub mod build_routes;
pub mod driver;
pub mod order_numbers;
pub mod prune_rows;
pub mod reconcile_numbers;
pub mod record_calls;
pub mod release_numbers;

use domain::number::E164;
use tracing::warn;

use crate::app::Shared;

/// Loads the routes and what is known of phone numbers, so that the first call finds both, and starts the tasks. They end when the
/// app does.
pub async fn start(app: &Shared) {
    let warming = tokio::task::spawn_blocking(E164::warm_up);
    build_routes::load_first(app).await;
    if let Err(why) = warming.await {
        warn!("what is known of phone numbers was not loaded ahead: {why}");
    }
    app.tasks.spawn("build_routes", build_routes::run(app.clone()));
    app.tasks.spawn("record_calls", record_calls::run(app.clone()));
    let driver = driver::Driver::new(app);
    driver.spawn(order_numbers::OrderNumbers::new(app));
    driver.spawn(release_numbers::ReleaseNumbers::new(app));
    driver.spawn(reconcile_numbers::ReconcileNumbers::new(app));
    driver.spawn(prune_rows::PruneRows);
    driver.spawn(anchor_audit::AnchorAudit::new(app));
}

#[cfg(test)]
mod tests;
