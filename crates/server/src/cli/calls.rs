//! `switchboard calls`: what happened to calls, and why.

use serde_json::Value;

use super::agents::{agent_id, name_agents};
use super::client::{Failure, RemoteArgs, note_more};
use super::route::decision_text;
use super::text::{field, say, say_json, sheet_from, table, table_of};

/// What is read first of a call; the rest follows.
const SHOWN_FIRST: &[&str] =
    &["from", "to", "status", "outcome", "agent", "variant", "started_at", "answered_at", "ended_at", "id"];

/// List and show calls
#[derive(Debug, clap::Args)]
pub struct CallsArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: CallsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum CallsCommand {
    /// List calls, the newest first
    #[command(
        after_help = "Examples:\n  switchboard calls list\n  switchboard calls list --number +14155550101 --outcome fell_back\n  switchboard calls list --after 2026-01-01T00:00:00Z --json"
    )]
    List {
        /// Only of this number
        #[arg(long)]
        number: Option<String>,
        /// Only of this agent, by id or name
        #[arg(long)]
        agent: Option<String>,
        /// Only of this environment: sandbox, pre_release or live
        #[arg(long)]
        environment: Option<String>,
        /// Only with this outcome, such as answered or fell_back
        #[arg(long)]
        outcome: Option<String>,
        /// Only calls that began at this time or later
        #[arg(long, value_name = "TIME")]
        after: Option<String>,
        /// Only calls that began before this time
        #[arg(long, value_name = "TIME")]
        before: Option<String>,
        /// The most that are listed
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show one call: its decision with every reason, and its timeline
    #[command(after_help = "Example:\n  switchboard calls show cal_01k0000000000000000000000")]
    Show {
        /// The call's id
        id: String,
    },
}

impl CallsArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let remote = self.remote.connect()?;
        match self.command {
            CallsCommand::List { number, agent, environment, outcome, after, before, limit } => {
                let agent = match &agent {
                    Some(agent) => Some(agent_id(&remote, agent).await?),
                    None => None,
                };
                let query: Vec<(&str, String)> = [
                    ("number", number),
                    ("agent_id", agent),
                    ("environment", environment),
                    ("outcome", outcome),
                    ("after", after),
                    ("before", before),
                ]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
                let mut listed = remote.list(&["calls"], &query, limit).await?;
                note_more(&listed);
                if self.remote.json {
                    say_json(&listed.json());
                } else {
                    name_agents(&remote, &mut listed.data, "").await;
                    say(&table_of(
                        &listed.data,
                        &[
                            ("Started", "started_at"),
                            ("From", "from"),
                            ("To", "to"),
                            ("Status", "status"),
                            ("Outcome", "outcome"),
                            ("Environment", "environment"),
                            ("Agent", "agent"),
                            ("Id", "id"),
                        ],
                    ));
                }
            }
            CallsCommand::Show { id } => {
                let mut value = remote.read(&["calls", &id], &[]).await?;
                if self.remote.json {
                    say_json(&value);
                    return Ok(());
                }
                // The decision is told as a story, and the rest field by field.
                let decision = value.as_object_mut().and_then(|call| call.remove("decision"));
                let steps = value.as_object_mut().and_then(|call| call.remove("steps"));
                let asked = value.as_object_mut().and_then(|call| call.remove("asked"));
                let timeline = value.as_object_mut().and_then(|call| call.remove("timeline"));
                let mut rows = [value];
                name_agents(&remote, &mut rows, "").await;
                say(&sheet_from(&rows[0], SHOWN_FIRST));
                say("");
                say(&timeline_text(&timeline.unwrap_or(Value::Null)));
                if let Some(decision) = decision {
                    say("");
                    say(&decision_text(&decision, steps.as_ref().unwrap_or(&Value::Null)));
                }
                if let Some(asked) = asked.filter(|asked| !asked.is_null()) {
                    say("");
                    say(&asked_text(&asked));
                }
            }
        }
        Ok(())
    }
}

/// What happened, a line each.
fn timeline_text(timeline: &Value) -> String {
    const WORDS: &[&str] =
        &["told", "type", "address", "origin", "result", "CallStatus", "DialCallStatus", "fault"];
    let rows: Vec<Vec<String>> = timeline
        .as_array()
        .into_iter()
        .flatten()
        .map(|event| {
            let detail = &event["detail"];
            let known = WORDS.iter().filter(|name| detail.get(**name).is_some_and(Value::is_string));
            let told: Vec<String> = known.map(|name| field(detail, name)).collect();
            vec![field(event, "at"), field(event, "kind"), told.join(" ")]
        })
        .collect();
    if rows.is_empty() {
        "Nothing is known to have happened.".to_owned()
    } else {
        table(&["At", "What", ""], &rows)
    }
}

/// What the team's server said, in one line.
fn asked_text(asked: &Value) -> String {
    let (url, took) = (field(asked, "webhook_url"), field(asked, "took_ms"));
    match asked.get("fault").filter(|fault| !fault.is_null()) {
        Some(_) => {
            format!("{url} was asked and gave no usable answer ({took} ms): {}", field(asked, "fault"))
        }
        None => format!("{url} was asked and answered ({took} ms): {}", field(asked, "answer")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{asked_text, timeline_text};

    #[test]
    fn a_timeline_is_a_line_for_each_event() {
        let timeline = json!([
            {"at": "2026-11-22T02:28:32.000Z", "kind": "decided", "detail": {"told": "connect", "type": "phone", "address": "+1"}},
            {"at": "2026-11-22T02:28:33.000Z", "kind": "status", "detail": {"CallStatus": "completed", "SequenceNumber": "0"}},
        ]);
        let text = timeline_text(&timeline);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(text.contains("decided  connect phone +1") && text.ends_with("status   completed"), "{text}");
    }

    #[test]
    fn a_server_that_failed_is_told_with_its_fault() {
        let asked = json!({"webhook_url": "https://team.example/r", "fault": "it broke", "answer": null, "took_ms": 7});
        assert_eq!(
            asked_text(&asked),
            "https://team.example/r was asked and gave no usable answer (7 ms): it broke"
        );
    }
}
