//! The workspace: the tenant, and its settings that calls depend on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::environment::{Environment, SandboxFollows};
use crate::fallback::Fallback;
use crate::hours::Zone;
use crate::number::Country;

/// The longest workspace name, in characters.
pub const NAME_CHARS_MAX: usize = 100;

/// The settings of one workspace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkspaceSettings {
    /// Understood where a phone number is written without country code, for suggestions only.
    pub default_country: Option<Country>,
    /// Numbers without a time zone of their own live in this one.
    pub time_zone: Zone,
    /// The last fallback before the spoken message.
    pub fallback: Option<Fallback>,
    /// What sandbox runs.
    pub sandbox_follows: SandboxFollows,
    /// The environments whose calls go straight to the fallback chain.
    pub outage: OutageMode,
}

impl Default for WorkspaceSettings {
    fn default() -> Self {
        WorkspaceSettings {
            default_country: None,
            time_zone: Zone::utc(),
            fallback: None,
            sandbox_follows: SandboxFollows::Published,
            outage: OutageMode::default(),
        }
    }
}

/// The outage switch of each environment: since when it is on, or `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageMode {
    /// Sandbox.
    pub sandbox: Option<Timestamp>,
    /// Pre-release.
    pub pre_release: Option<Timestamp>,
    /// Live.
    pub live: Option<Timestamp>,
}

impl OutageMode {
    /// Since when this environment is switched to its fallbacks.
    pub const fn since(&self, environment: Environment) -> Option<Timestamp> {
        match environment {
            Environment::Sandbox => self.sandbox,
            Environment::PreRelease => self.pre_release,
            Environment::Live => self.live,
        }
    }

    /// Switches one environment on (since `now`) or off. Switching on twice keeps the first time.
    #[must_use]
    pub fn switched(mut self, environment: Environment, on: bool, now: Timestamp) -> OutageMode {
        let place = match environment {
            Environment::Sandbox => &mut self.sandbox,
            Environment::PreRelease => &mut self.pre_release,
            Environment::Live => &mut self.live,
        };
        *place = if on { Some(place.unwrap_or(now)) } else { None };
        self
    }
}
