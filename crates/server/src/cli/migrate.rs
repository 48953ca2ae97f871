//! `switchboard migrate`: brings the database's schema up to date, as a start does too. For those who want to see it happen first.

use super::ConfigArgs;
use super::client::Failure;
use super::text::say;

/// Bring the database's schema up to date
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A start does the same. A database that a newer Switchboard has migrated is refused, and left as it is.\n\nExample:\n  switchboard migrate"
)]
pub struct MigrateArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

impl MigrateArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let shown = config.database_settings().address.shown();
        let database = super::open(&config).await?;
        database.close().await;
        say(&format!("{shown} has schema {}.", database::SCHEMA_VERSION));
        Ok(())
    }
}
