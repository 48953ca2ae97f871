//! `switchboard backup`: one file that either engine can be restored from. Never a copy of database files: a copy of a database at
//! work is no backup.

use std::path::PathBuf;

use database::Database;
use database::backup::{Backup, RestoredKeys};

use super::client::Failure;
use super::text::{note, say};
use super::{ConfigArgs, refused};
use crate::app;
use crate::clock::{Clock as _, SystemClock};

/// Make, prove and restore backups
#[derive(Debug, clap::Args)]
pub struct BackupArgs {
    #[command(subcommand)]
    command: BackupCommand,
}

#[derive(Debug, clap::Subcommand)]
enum BackupCommand {
    /// Write everything to a new file, while the server goes on working
    #[command(
        after_help = "Secrets stay sealed in it: keep a copy of the key file elsewhere.\n\nExample:\n  switchboard backup create /var/backups/switchboard-2026-11-21.backup"
    )]
    Create {
        #[command(flatten)]
        config: ConfigArgs,
        /// The file; there must be none of this name yet
        file: PathBuf,
    },
    /// Prove that a backup can be restored: restore it beside the file, check all of it, and throw that away
    #[command(
        after_help = "Needs no settings and no server. Ends with exit code 1 if the file is no whole backup, and 4 if what it holds cannot be true.\n\nExample:\n  switchboard backup verify /var/backups/switchboard-2026-11-21.backup"
    )]
    Verify {
        /// The file
        file: PathBuf,
    },
    /// Restore a backup into an empty database
    #[command(
        after_help = "Stop every node first, and name an empty database in the settings: a new data_dir, or a new PostgreSQL database. Nothing can be \
                      bought there until `switchboard reconcile` has compared it with the carrier. All API keys are revoked, since the backup does not know \
                      which were revoked after it was made; make new ones with `switchboard keys create`.\n\n\
                      Example:\n  switchboard backup restore /var/backups/switchboard-2026-11-21.backup"
    )]
    Restore {
        #[command(flatten)]
        config: ConfigArgs,
        /// Let the API keys of the backup work again, also those that were revoked after it was made
        #[arg(long)]
        keep_keys: bool,
        /// The file
        file: PathBuf,
    },
}

impl BackupArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        match self.command {
            BackupCommand::Create { config, file } => {
                let config = config.load()?;
                // A backup of a database that was only just made by this command would be worth nothing.
                if config.database_url.is_none() && !config.database_file().exists() {
                    return Err(Failure::Usage(format!(
                        "there is no database at {}",
                        config.database_file().display()
                    )));
                }
                let database = super::open(&config).await?;
                let made = database.backup_create(&file, SystemClock::new().now()).await;
                database.close().await;
                let backup = made.map_err(refused)?;
                say(&format!("{}: {}", file.display(), summary(&backup)));
                if let Some(fingerprint) = &backup.manifest.key_fingerprint {
                    note(&format!(
                        "Its secrets are sealed with the key {fingerprint}, in {}. Keep a copy of that file elsewhere.",
                        config.key_file().display()
                    ));
                }
                Ok(())
            }
            BackupCommand::Verify { file } => {
                let verified = Database::backup_verify(&file).await.map_err(refused)?;
                say(&format!("{}: {}", file.display(), summary(&verified.backup)));
                say(&format!(
                    "It was restored and checked: {} audit entries, every chain whole.",
                    verified.audit_entries
                ));
                Ok(())
            }
            BackupCommand::Restore { config, keep_keys, file } => {
                let config = config.load()?;
                app::data_dir_create(&config.data_dir).map_err(|error| {
                    Failure::Usage(format!(
                        "failed to create the data folder {}: {error}",
                        config.data_dir.display()
                    ))
                })?;
                let settings = config.database_settings();
                let shown = settings.address.shown();
                let keys = if keep_keys { RestoredKeys::Keep } else { RestoredKeys::Revoke };
                let (database, backup) =
                    Database::backup_restore(settings, &file, keys).await.map_err(refused)?;
                let expected = database.key_fingerprint().await.map_err(refused)?;
                database.close().await;
                say(&format!("{shown}: restored, {}", summary(&backup)));
                if let Some(expected) = expected {
                    note(&format!("A start needs the key {expected} in {}.", config.key_file().display()));
                }
                note("Buying is locked until `switchboard reconcile` has compared it with the carrier.");
                note(match keys {
                    RestoredKeys::Revoke => {
                        "All API keys were revoked. Make one for each workspace: `switchboard keys create --workspace NAME --role owner`."
                    }
                    RestoredKeys::Keep => {
                        "API keys that were revoked since the backup was made work again: look through GET /v1/api-keys."
                    }
                });
                Ok(())
            }
        }
    }
}

fn summary(backup: &Backup) -> String {
    let rows = |table: &str| backup.rows.get(table).copied().unwrap_or_default();
    format!(
        "{} workspaces, {} numbers, {} agents, {} calls, made at {}, schema {}",
        rows("workspaces"),
        rows("numbers"),
        rows("agents"),
        rows("calls"),
        backup.manifest.created_at,
        backup.manifest.schema_version
    )
}
