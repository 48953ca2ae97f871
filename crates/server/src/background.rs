//! What happens without being asked: each task finds its work in the database, so that whoever was killed is carried on by
//! whoever lives. A task takes no input, may run twice, and may run on two nodes at once.

pub mod driver;
pub mod order_numbers;
pub mod reconcile_numbers;
pub mod release_numbers;

use crate::app::Shared;

/// Starts the tasks of the store. They end when the app does.
pub fn start(app: &Shared) {
    let driver = driver::Driver::new(app);
    driver.spawn(order_numbers::OrderNumbers::new(app));
    driver.spawn(release_numbers::ReleaseNumbers::new(app));
    driver.spawn(reconcile_numbers::ReconcileNumbers::new(app));
}

#[cfg(test)]
mod tests;
