//! Everything a request or a background task may need, made once at the start and shared by all.
//!
//! What it is made of stands in files of its own; `serve` puts it together. A test makes one with a clock of its own.

mod metrics;
mod nudges;
pub mod random;
mod tasks;

use std::sync::Arc;

pub use self::metrics::Metrics;
pub use self::nudges::Nudges;
pub use self::random::Random;
pub use self::tasks::Tasks;
use crate::clock::Clock;
use crate::config::Config;

/// Everything a request or a background task may need.
pub struct App {
    /// The settings.
    pub config: Arc<Config>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where chance comes from, secrets and tokens apart: those come from the system's own generator.
    pub random: Random,
    /// What runs beside the requests.
    pub tasks: Tasks,
    /// Wakes background tasks early.
    pub nudges: Nudges,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// How the app is handed around.
pub type Shared = Arc<App>;
