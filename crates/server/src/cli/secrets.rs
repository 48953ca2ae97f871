//! `switchboard secrets`: which key seals this installation's secrets, and how many. Never a secret itself.

use super::client::Failure;
use super::text::{say, say_json};
use super::{ConfigArgs, refused};

/// Look at how secrets are sealed
#[derive(Debug, clap::Args)]
pub struct SecretsArgs {
    #[command(subcommand)]
    command: SecretsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum SecretsCommand {
    /// Tell which key seals the secrets, and how many are sealed with each
    #[command(
        after_help = "Ends with exit code 4 if the key file does not hold the database's key.\n\nExample:\n  switchboard secrets status"
    )]
    Status {
        #[command(flatten)]
        config: ConfigArgs,
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

impl SecretsArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let SecretsCommand::Status { config, json } = self.command;
        let config = config.load()?;
        let database = super::open(&config).await?;
        let expected = database.key_fingerprint().await.map_err(refused)?;
        let counts = database.read(database::secrets::secret_count_by_key).await.map_err(refused)?;
        let path = config.key_file();
        let keyring = database::Keyring::load(&path).map_err(refused)?;
        let found = keyring.as_ref().map(|keyring| keyring.fingerprint().to_owned());
        database.close().await;
        if json {
            let by_key: Vec<serde_json::Value> = counts
                .iter()
                .map(|(key, count)| serde_json::json!({ "key": key, "secrets": count }))
                .collect();
            say_json(
                &serde_json::json!({ "key_file": path, "key_found": found, "key_expected": expected, "sealed": by_key }),
            );
        } else {
            let or_none = |key: &Option<String>| key.clone().unwrap_or_else(|| "none yet".to_owned());
            say(&format!("key file      {}", path.display()));
            say(&format!("key in it     {}", or_none(&found)));
            say(&format!("key expected  {}", or_none(&expected)));
            for (key, count) in &counts {
                say(&format!("sealed with   {key}…: {count}"));
            }
            if counts.is_empty() {
                say("sealed        nothing yet");
            }
        }
        match (found, expected) {
            (found, Some(expected)) if found.as_ref() != Some(&expected) => Err(Failure::Found(format!(
                "{} does not hold the database's key {expected}; a start would be refused",
                path.display()
            ))),
            _ => Ok(()),
        }
    }
}
