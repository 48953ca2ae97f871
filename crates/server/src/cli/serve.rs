//! `switchboard serve`.

use super::ConfigArgs;
use super::client::Failure;
use crate::serve::serve;

/// Serve the API and the carriers' callbacks until SIGTERM
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The first start creates data_dir, the database, the encryption key beside data_dir, and the workspace `default`.\n\nExample:\n  switchboard serve"
)]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

impl ServeArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        serve(config).await.map_err(|error| Failure::Refused(format!("{error:#}")))
    }
}
