//! `switchboard audit`: proves that nobody changed what was written down. Each workspace's entries are a chain of hashes; an anchor
//! kept elsewhere also finds a chain that was written anew, or cut off at its end.

use std::path::PathBuf;

use database::audit::{AuditBreak, AuditHead, audit_heads, audit_verify};
use database::workspaces::workspace_list;

use super::client::Failure;
use super::text::{say, say_json, table, visible};
use super::{ConfigArgs, refused};
use crate::anchor;

/// How many workspaces are read at once.
const PAGE: u32 = 200;

/// Check the audit log
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AuditCommand {
    /// Check every workspace's chain from its first entry to its end
    #[command(
        after_help = "Keep the anchor on another machine: whoever can write the database could write a whole new chain, but not one that the anchor saw. \
                      Ends with exit code 4 if a chain is broken.\n\n\
                      Examples:\n  switchboard audit verify\n  switchboard audit verify --save-anchor audit-anchor.json\n  \
                      switchboard audit verify --anchor audit-anchor.json"
    )]
    Verify {
        #[command(flatten)]
        config: ConfigArgs,
        /// Also compare with the ends that were seen when this file was saved
        #[arg(long, value_name = "FILE")]
        anchor: Option<PathBuf>,
        /// Save where each chain ends now
        #[arg(long, value_name = "FILE")]
        save_anchor: Option<PathBuf>,
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

impl AuditArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let AuditCommand::Verify { config, anchor, save_anchor, json } = self.command;
        let anchors = match &anchor {
            Some(path) => anchor::read(path)
                .and_then(|found| found.ok_or_else(|| format!("there is no audit anchor {}", path.display())))
                .map_err(Failure::Usage)?,
            None => Vec::new(),
        };
        let database = super::open(&config.load()?).await?;
        let mut names = Vec::new();
        loop {
            let after = names.last().map(|&(id, _)| id);
            let page = database.read(move |read| workspace_list(read, after, PAGE)).await.map_err(refused)?;
            let full = page.len() == PAGE as usize;
            names.extend(page.into_iter().map(|workspace| (workspace.id, workspace.name)));
            if !full {
                break;
            }
        }
        let (mut rows, mut broken) = (Vec::new(), 0);
        for (id, name) in names {
            let anchor = anchors.iter().find(|head| head.workspace == id).cloned();
            let outcome = database
                .in_bulk()
                .read(move |read| audit_verify(read, id, anchor.as_ref()))
                .await
                .map_err(refused)?;
            broken += usize::from(outcome.is_err());
            rows.push((id, name, outcome));
        }
        let gone = anchors.iter().filter(|head| !rows.iter().any(|(id, ..)| *id == head.workspace));
        let gone: Vec<AuditHead> = gone.cloned().collect();
        for head in gone {
            broken += 1;
            let cut_off = AuditBreak::CutOff { found: 0, expected: head.seq };
            rows.push((head.workspace, "(gone)".to_owned(), Err(cut_off)));
        }
        // What is broken must not take the place of the evidence that it is.
        if let Some(path) = save_anchor.as_ref().filter(|_| broken == 0) {
            let heads = database.read(audit_heads).await.map_err(refused)?;
            anchor::write(path, &heads).map_err(Failure::Usage)?;
        }
        database.close().await;
        if json {
            let list: Vec<serde_json::Value> = rows
                .iter()
                .map(|(id, name, outcome)| {
                    serde_json::json!({
                        "workspace_id": id.to_string(), "workspace": name,
                        "entries": outcome.as_ref().ok(), "broken": outcome.as_ref().err().map(ToString::to_string),
                    })
                })
                .collect();
            say_json(&serde_json::json!({ "data": list }));
        } else {
            let cells: Vec<Vec<String>> = rows
                .iter()
                .map(|(id, name, outcome)| {
                    let (count, verdict) = match outcome {
                        Ok(count) => (count.to_string(), "whole".to_owned()),
                        Err(why) => (String::new(), why.to_string()),
                    };
                    vec![visible(name), id.to_string(), count, verdict]
                })
                .collect();
            say(&table(&["Workspace", "Id", "Entries", "Chain"], &cells));
        }
        if broken == 0 {
            Ok(())
        } else {
            let unsaved = if save_anchor.is_some() { "; no anchor was saved" } else { "" };
            Err(Failure::Found(format!("the chains of {broken} workspaces are broken{unsaved}")))
        }
    }
}
