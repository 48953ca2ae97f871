//! `switchboard callouts`: where what was changed in variants does not match what numbers do.

use serde_json::Value;

use super::agents::agent_id;
use super::client::{Failure, RemoteArgs};
use super::text::{field, say, say_json};

/// Show where variants and numbers do not match yet
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  switchboard callouts\n  switchboard callouts --agent Support")]
pub struct CalloutsArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    /// Only of this agent, by id or name
    #[arg(long)]
    agent: Option<String>,
}

impl CalloutsArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let remote = self.remote.connect()?;
        let query = match &self.agent {
            Some(agent) => vec![("agent_id", agent_id(&remote, agent).await?)],
            None => vec![],
        };
        let value = remote.read(&["callouts"], &query).await?;
        if self.remote.json {
            say_json(&value);
            return Ok(());
        }
        let data = value.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if data.is_empty() {
            say("None: what numbers do is what variants say.");
        }
        for callout in data {
            say(&format!("{}: {}", field(callout, "kind"), field(callout, "message")));
            for (list, name) in [("variants", "name"), ("numbers", "phone_number")] {
                let found: Vec<String> = callout
                    .get(list)
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .map(|entry| match field(entry, name).as_str() {
                        "–" => field(entry, "id"),
                        name => name.to_owned(),
                    })
                    .collect();
                if !found.is_empty() {
                    say(&format!("  {list}: {}", found.join(", ")));
                }
            }
        }
        Ok(())
    }
}
