//! `switchboard keys`: on the database directly, as whoever has a shell on its machine may. This is how the first key is made.

use database::workspaces::workspace_find_by_name;
use domain::error::shown;
use domain::number::parse_label;
use secrecy::ExposeSecret as _;

use super::ConfigArgs;
use super::client::Failure;
use super::text::say;
use crate::actions::keys::{KeyMade, NewKey, key_create, parse_role};
use crate::actions::{self, Answer, Caller, Once};
use crate::app::{Shared, WORKSPACE_DEFAULT};

/// Create API keys
#[derive(Debug, clap::Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Create an API key, and print it – and nothing else – on stdout. It is not shown again
    #[command(
        after_help = "Examples:\n  switchboard keys create --role admin\n  export SWITCHBOARD_KEY=$(switchboard keys create --role admin)"
    )]
    Create {
        /// The workspace, by name
        #[arg(long, default_value = WORKSPACE_DEFAULT)]
        workspace: String,
        /// owner, admin, builder, viewer, or the id of a role of the workspace's own
        #[arg(long)]
        role: String,
        /// What people call it
        #[arg(long, default_value = "command line")]
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

impl KeysArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let Command::Create { workspace, role, name, config } = self.command;
        let role =
            parse_role(&role).map_err(|refusal| Failure::Usage(format!("--role: {}", refusal.detail)))?;
        let name =
            parse_label(&name).map_err(|refusal| Failure::Usage(format!("--name {}", refusal.detail)))?;
        let app = super::open_app(&config).await?;
        let caller = caller_in(&app, &workspace).await?;
        let new = NewKey { name, role, expires_at: None };
        let made = key_create(&app, &caller, new, Once::without_key()).await.map_err(failed)?;
        app.database.close().await;
        print(made)
    }
}

fn print(made: Answer<KeyMade>) -> Result<(), Failure> {
    match made {
        Answer::Fresh(made) => {
            say(made.text.expose_secret());
            Ok(())
        }
        Answer::Replayed { .. } => Err(Failure::Refused("the key was made before".to_owned())),
    }
}

/// The operator, in a workspace given by its name.
async fn caller_in(app: &Shared, name: &str) -> Result<Caller, Failure> {
    let wanted = name.to_owned();
    let found =
        app.database.read(move |read| workspace_find_by_name(read, &wanted)).await.map_err(super::refused)?;
    found.map(|workspace| Caller::command_line(workspace.id)).ok_or_else(|| {
        Failure::Usage(format!(
            "there is no workspace {}; `switchboard workspaces list` shows them",
            shown(name)
        ))
    })
}

/// What became of an action, for people.
fn failed(failure: actions::Failure) -> Failure {
    match failure {
        actions::Failure::Refused(refusal) => Failure::Refused(refusal.detail),
        actions::Failure::Invalid(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{}: {}", field.field, field.refusal.detail)).collect();
            Failure::Refused(fields.join("; "))
        }
        actions::Failure::Database(error) => super::refused(error),
    }
}
