//! `switchboard route explain`: what would happen to a call, and why, told step by step.

use serde_json::{Map, Value};

use super::client::{Failure, RemoteArgs};
use super::text::{field, say, say_json};
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

/// A decision as a story: what would be done, and then each rule that had a say.
pub(super) fn decision_text(decision: &Value, steps: &Value) -> String {
    let mut lines = vec![format!("Decision: {}", field(decision, "action"))];
    for (count, target) in decision.get("targets").and_then(Value::as_array).into_iter().flatten().enumerate()
    {
        lines.push(format!("  {}. {}", count + 1, field(target, "")));
    }
    for (name, path) in [("says", "message"), ("because", "cause")] {
        if decision.get(path).is_some_and(|value| !value.is_null()) {
            lines.push(format!("  {name} {}", field(decision, path)));
        }
    }
    for step in steps.as_array().into_iter().flatten() {
        lines.push(format!(
            "  {:20} {:12} {}",
            field(step, "rule"),
            field(step, "outcome"),
            field(step, "because")
        ));
    }
    lines.join("\n")
}
