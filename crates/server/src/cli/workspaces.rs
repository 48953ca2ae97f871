//! `switchboard workspaces`: on the database directly, as whoever has a shell on its machine may.

use database::workspaces::{workspace_create, workspace_find_by_name, workspace_list};
use domain::event::EventKind;
use domain::id::WorkspaceId;
use domain::number::parse_text;
use domain::workspace::{NAME_CHARS_MAX, WorkspaceSettings};
use serde_json::json;

use super::ConfigArgs;
use super::client::Failure;
use super::text::say;
use crate::actions::Caller;
use crate::app::Shared;

/// How many workspaces one query reads.
const PAGE: u32 = 200;

/// List workspaces, or create one
#[derive(Debug, clap::Args)]
pub struct WorkspacesArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List all workspaces: id and name
    #[command(after_help = "Example:\n  switchboard workspaces list")]
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Create a workspace, and print its id
    #[command(after_help = "Example:\n  switchboard workspaces create acme")]
    Create {
        /// What people call it; unique
        name: String,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

impl WorkspacesArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::List { config } => list(&super::open_app(&config).await?).await,
            Command::Create { name, config } => create(&super::open_app(&config).await?, &name).await,
        }
    }
}

async fn list(app: &Shared) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page =
            app.database.read(move |read| workspace_list(read, after, PAGE)).await.map_err(super::refused)?;
        for workspace in &page {
            say(&format!("{}  {}", workspace.id, workspace.name));
        }
        match page.last() {
            Some(last) if page.len() == PAGE as usize => after = Some(last.id),
            _ => return Ok(()),
        }
    }
}

async fn create(app: &Shared, name: &str) -> Result<(), Failure> {
    let name = parse_text(name, NAME_CHARS_MAX)
        .map_err(|refusal| Failure::Usage(format!("the name {}", refusal.detail)))?;
    let now = app.clock.now();
    let id = WorkspaceId::new(now, app.random.bits());
    let created = app
        .database
        .write(move |tx| {
            if workspace_find_by_name(tx, &name)?.is_some() {
                return Ok(Err(name.clone()));
            }
            workspace_create(tx, id, &name, &WorkspaceSettings::default(), now)?;
            Caller::command_line(id)
                .change(now, "workspace.create", id, EventKind::WorkspaceUpdated)
                .after(json!({ "id": id, "name": name }))
                .record(tx)?;
            Ok(Ok(()))
        })
        .await
        .map_err(super::refused)?;
    created.map_err(|name| Failure::Refused(format!("there is a workspace {name} already")))?;
    app.database.close().await;
    say(&id.to_string());
    Ok(())
}
