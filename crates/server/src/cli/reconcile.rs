//! `switchboard reconcile`: holds the carrier's list of numbers against ours, now, and tells how they differ. It changes nothing at the
//! carrier and no number of ours; it unlocks purchases that a restore had locked.

use std::time::Duration;

use domain::reconcile::Finding;
use serde_json::json;

use super::ConfigArgs;
use super::client::Failure;
use super::text::{note, say, say_json, table, visible};
use crate::background::reconcile_numbers::{Report, reconcile};

/// How long another node that is at it is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is asked again meanwhile.
const PAUSE: Duration = Duration::from_secs(1);

/// Compare the carrier's list of numbers with ours
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Nothing is bought, adopted or given back. A difference is believed after several listings some time apart, because\nlistings lag; until then it shows how often it was seen. Ends with exit code 4 if a difference is believed.\n\nExample:\n  switchboard reconcile"
)]
pub struct ReconcileArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

impl ReconcileArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let app = super::open_app(&self.config).await?;
        let Some(store) = app.store.clone() else {
            return Err(Failure::Refused(
                "there is no store to compare with: set store.supply in the settings".to_owned(),
            ));
        };
        let node = format!("{:032x}", app.random.bits());
        let compared = async {
            loop {
                match reconcile(&app, &store, &node).await {
                    Ok(Some(report)) => return Ok(report),
                    Ok(None) => {
                        note("another node is comparing; waiting for it");
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(error) => return Err(Failure::Unreachable(format!("{error:#}"))),
                }
            }
        };
        let report = tokio::time::timeout(PATIENCE, compared).await.unwrap_or_else(|_| {
            Err(Failure::Unreachable("another node is still comparing; try again later".to_owned()))
        })?;
        app.database.close().await;
        if self.json {
            show_json(&report);
        } else {
            show(&report);
        }
        let believed = report.findings.iter().filter(|finding| finding.is_believed(report.rules)).count();
        if believed == 0 {
            Ok(())
        } else {
            Err(Failure::Found(format!("{believed} differences need a person to look at them")))
        }
    }
}

fn show(report: &Report) {
    say(&format!("{} numbers at the carrier, {} of ours", report.listed, report.ours));
    if report.unlocked.is_some() {
        say("purchases are unlocked");
    }
    if report.findings.is_empty() {
        say("No differences.");
        return;
    }
    let rows: Vec<Vec<String>> = report
        .findings
        .iter()
        .map(|finding| {
            let seen = &finding.observation;
            vec![
                seen.phone_number.to_string(),
                seen.kind.to_string(),
                visible(&seen.detail),
                believed(finding, report),
            ]
        })
        .collect();
    say(&table(&["Number", "Difference", "What", "Seen"], &rows));
}

fn believed(finding: &Finding, report: &Report) -> String {
    let verdict = if finding.is_believed(report.rules) { "believed" } else { "not believed yet" };
    format!("{} times since {:.0}: {verdict}", finding.seen, finding.first_seen_at)
}

fn show_json(report: &Report) {
    let findings: Vec<serde_json::Value> = report
        .findings
        .iter()
        .map(|finding| {
            let seen = &finding.observation;
            json!({
                "phone_number": seen.phone_number,
                "finding": seen.kind,
                "detail": seen.detail,
                "number_id": seen.owner.map(|owner| owner.number_id),
                "workspace_id": seen.owner.map(|owner| owner.workspace_id),
                "carrier_number_id": seen.carrier_number_id,
                "seen": finding.seen,
                "first_seen_at": finding.first_seen_at,
                "last_seen_at": finding.last_seen_at,
                "believed": finding.is_believed(report.rules),
            })
        })
        .collect();
    say_json(&json!({
        "listed": report.listed, "ours": report.ours, "unlocked": report.unlocked.is_some(), "findings": findings,
    }));
}
