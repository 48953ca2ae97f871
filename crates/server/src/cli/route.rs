//! `switchboard route explain`: what would happen to a call, and why, told step by step.

use serde_json::{Map, Value};

use super::client::{Failure, RemoteArgs};
use super::text::{field, say, say_json, table};
use reqwest::Method;

/// Ask what a call would meet
#[derive(Debug, clap::Args)]
pub struct RouteArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: RouteCommand,
}

#[derive(Debug, clap::Subcommand)]
enum RouteCommand {
    /// Tell where a call would go now, or at another time, and every reason
    #[command(after_help = "Examples:\n  switchboard route explain +14385950345 --from +15145550100\n  \
                      switchboard route explain +14385950345 --at 2026-12-25T10:00:00Z\n  \
                      switchboard route explain +14385950345 --draft")]
    Explain {
        /// The number that is called
        to: String,
        /// Who calls
        #[arg(long, value_name = "NUMBER")]
        from: Option<String>,
        /// When, as RFC 3339; now unless given
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
        /// As if the agent's draft were published
        #[arg(long)]
        draft: bool,
    },
}

impl RouteArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let remote = self.remote.connect()?;
        let RouteCommand::Explain { to, from, at, draft } = self.command;
        let mut body = Map::new();
        body.insert("to".to_owned(), Value::String(to));
        body.extend(from.map(|from| ("from".to_owned(), Value::String(from))));
        body.extend(at.map(|at| ("at".to_owned(), Value::String(at))));
        if draft {
            body.insert("draft".to_owned(), Value::Bool(true));
        }
        let value = remote.change(Method::POST, &["routes", "explain"], &Value::Object(body)).await?;
        if self.remote.json {
            say_json(&value);
        } else {
            say(&decision_text(
                value.get("decision").unwrap_or(&Value::Null),
                value.get("steps").unwrap_or(&Value::Null),
            ));
        }
        Ok(())
    }
}

/// A decision as a story: what is done, what is tried in order, and then each rule that had a say.
pub(super) fn decision_text(decision: &Value, steps: &Value) -> String {
    let mut lines = vec![field(decision, "summary")];
    let webhook = decision.get("webhook_url").filter(|url| !url.is_null());
    if webhook.is_some() {
        lines.push(format!("  first  ask {}", field(decision, "webhook_url")));
    }
    let targets = decision.get("targets").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for (count, target) in targets.iter().enumerate() {
        let rings = match target.get("ring_timeout_s").and_then(Value::as_u64) {
            Some(seconds) => format!(", rings {seconds} s"),
            None => String::new(),
        };
        let (kind, address, origin) =
            (field(target, "type"), field(target, "address"), field(target, "origin"));
        lines.push(format!("  {:5}  {kind} {address}{rings} (from {origin})", format!("{}.", count + 1)));
    }
    if decision.get("message").is_some_and(|message| !message.is_null()) {
        lines.push(format!(
            "  {}  say “{}”",
            if targets.is_empty() { "     " } else { "last " },
            field(decision, "message")
        ));
    }
    let rows: Vec<Vec<String>> = steps
        .as_array()
        .into_iter()
        .flatten()
        .map(|step| ["rule", "outcome", "because"].map(|name| field(step, name)).to_vec())
        .collect();
    if !rows.is_empty() {
        lines.push(String::new());
        lines.push(table(&["Rule", "Outcome", "Because"], &rows));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn a_decision_is_told_as_a_story() {
        let decision = json!({
            "action": "connect", "summary": "the call is connected to the agent `Support`", "webhook_url": null,
            "targets": [
                {"type": "stream", "address": "wss://agent.example/media", "ring_timeout_s": null, "origin": "endpoint"},
                {"type": "phone", "address": "+14155550102", "ring_timeout_s": 20, "origin": "workspace"},
            ],
            "message": "Please call again later.",
        });
        let steps = json!([{"rule": "assignment", "outcome": "runs", "because": "version 3 runs in Live"}]);
        expect![[r"
            the call is connected to the agent `Support`
              1.     stream wss://agent.example/media (from endpoint)
              2.     phone +14155550102, rings 20 s (from workspace)
              last   say “Please call again later.”

            Rule        Outcome  Because
            assignment  runs     version 3 runs in Live"]]
        .assert_eq(&decision_text(&decision, &steps));
    }
}
