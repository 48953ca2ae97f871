//! Environments: where a version of an agent runs, and the ways a version gets there.

crate::words! {
    /// Each environment runs one version of each agent, or none.
    Environment, "environment" {
        /// Tests the latest version.
        Sandbox = "sandbox",
        /// Validates what is to go live.
        PreRelease = "pre_release",
        /// Serves production.
        Live = "live",
    }
}

impl Environment {
    /// How people write it.
    pub const fn title(self) -> &'static str {
        match self {
            Environment::Sandbox => "Sandbox",
            Environment::PreRelease => "Pre-release",
            Environment::Live => "Live",
        }
    }

    /// The one environment that a version is promoted from to come here; drafts are published to sandbox.
    pub const fn promoted_from(self) -> Option<Environment> {
        match self {
            Environment::Sandbox => None,
            Environment::PreRelease => Some(Environment::Sandbox),
            Environment::Live => Some(Environment::PreRelease),
        }
    }
}

crate::words! {
    /// What sandbox runs: saving a draft and publishing it are one step with `saved`.
    SandboxFollows, "sandbox_follows setting" {
        /// The latest saved draft: each save is published to sandbox.
        Saved = "saved",
        /// The latest published version.
        Published = "published",
    }
}
