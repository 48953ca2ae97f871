//! `switchboard agents`: drafts, variants and versions, through the REST API. Agents and variants may be named by their name
//! as well as by their id.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::{Failure, Remote, RemoteArgs, note_more};
use super::text::{field, note, say, say_json, sheet, table_of, visible};

/// How many agents are looked through for a name.
const NAMED_AGENTS_MAX: usize = 2_000;
/// The largest JSON file that is sent, in bytes: the API takes no more.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Create, edit, publish and promote agents
#[derive(Debug, clap::Args)]
pub struct AgentsArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: AgentsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum AgentsCommand {
    /// List the agents of the workspace
    #[command(after_help = "Example:\n  switchboard agents list")]
    List {
        /// The most that are listed
        #[arg(long, default_value_t = 200)]
        limit: usize,
    },
    /// Show one agent
    #[command(after_help = "Example:\n  switchboard agents show Support")]
    Show(OneAgent),
    /// Create an agent
    #[command(after_help = "Example:\n  switchboard agents create Support")]
    Create {
        /// What people call it
        name: String,
    },
    /// Show or edit an agent's draft; calls do not see it until it is published
    #[command(subcommand)]
    Draft(DraftCommand),
    /// The agent's sites: attributes and, if wanted, an endpoint of their own
    #[command(subcommand)]
    Variants(VariantsCommand),
    /// Freeze draft and variants into the next version, and run it in sandbox
    #[command(after_help = "Example:\n  switchboard agents publish Support")]
    Publish(OneAgent),
    /// Run in one environment what another runs: sandbox to pre_release, pre_release to live
    #[command(
        after_help = "Examples:\n  switchboard agents promote Support --from sandbox --to pre_release\n  switchboard agents promote Support --from pre_release --to live"
    )]
    Promote {
        #[command(flatten)]
        agent: OneAgent,
        /// The environment that runs it now
        #[arg(long)]
        from: String,
        /// The environment that shall run it
        #[arg(long)]
        to: String,
    },
    /// Run an earlier version again
    #[command(after_help = "Example:\n  switchboard agents rollback Support --environment live --version 3")]
    Rollback {
        #[command(flatten)]
        agent: OneAgent,
        /// Where
        #[arg(long)]
        environment: String,
        /// Which version
        #[arg(long)]
        version: u32,
    },
    /// List an agent's versions, the newest first
    #[command(after_help = "Example:\n  switchboard agents versions Support")]
    Versions(OneAgent),
    /// Show which numbers' calls would go elsewhere, before publishing or promoting
    #[command(
        after_help = "Examples:\n  switchboard agents preview Support\n  switchboard agents preview Support --to live"
    )]
    Preview {
        #[command(flatten)]
        agent: OneAgent,
        /// The environment that would change
        #[arg(long, default_value = "sandbox")]
        to: String,
    },
}

#[derive(Debug, clap::Args)]
struct OneAgent {
    /// The agent, by id or name
    agent: String,
}

#[derive(Debug, clap::Subcommand)]
enum DraftCommand {
    /// Show the draft
    #[command(after_help = "Example:\n  switchboard agents draft show Support")]
    Show(OneAgent),
    /// Change the draft; what is not named stays
    #[command(
        after_help = "Examples:\n  switchboard agents draft set Support --stream wss://agent.example/media\n  \
                      switchboard agents draft set Support --sip sip:support@pbx.example --language en-US\n  \
                      switchboard agents draft set Support --call-parameter tenant=acme --call-parameter tier=gold\n  \
                      switchboard agents draft set Support --from draft.json"
    )]
    Set {
        #[command(flatten)]
        agent: OneAgent,
        #[command(flatten)]
        endpoint: EndpointArgs,
        /// What is spoken in, such as en-US
        #[arg(long)]
        language: Option<String>,
        /// Sent along with each call; replaces all, and may stand several times
        #[arg(long = "call-parameter", value_name = "NAME=VALUE")]
        call_parameters: Vec<String>,
        /// A JSON file with fields of the draft (`-`: standard input); the options above are put over it
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
}

#[derive(Debug, clap::Subcommand)]
enum VariantsCommand {
    /// List an agent's variants, the default first
    #[command(after_help = "Example:\n  switchboard agents variants list Support")]
    List(OneAgent),
    /// Add a variant to the draft
    #[command(
        after_help = "Examples:\n  switchboard agents variants create Support Paris --attribute city=Paris\n  switchboard agents variants create Support Lyon --stream wss://lyon.example/media"
    )]
    Create {
        #[command(flatten)]
        agent: OneAgent,
        /// What people call it
        name: String,
        #[command(flatten)]
        endpoint: EndpointArgs,
        /// Sent along with each call; may stand several times
        #[arg(long = "attribute", value_name = "NAME=VALUE")]
        attributes: Vec<String>,
    },
    /// Change a variant in the draft; what is not named stays
    #[command(after_help = "Example:\n  switchboard agents variants set Support Paris --name \"Paris Nord\"")]
    Set {
        #[command(flatten)]
        agent: OneAgent,
        /// The variant, by id or name
        variant: String,
        /// A new name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        endpoint: EndpointArgs,
        /// Replaces all attributes; may stand several times
        #[arg(long = "attribute", value_name = "NAME=VALUE")]
        attributes: Vec<String>,
    },
    /// Remove a variant from the draft
    #[command(after_help = "Example:\n  switchboard agents variants delete Support Paris")]
    Delete {
        #[command(flatten)]
        agent: OneAgent,
        /// The variant, by id or name
        variant: String,
    },
}

/// How calls reach the agent: one of four kinds.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct EndpointArgs {
    /// A WebSocket server that speaks the Twilio Media Streams protocol
    #[arg(long, value_name = "WSS_URL")]
    stream: Option<String>,
    /// A SIP URI
    #[arg(long, value_name = "URI")]
    sip: Option<String>,
    /// A telephone, in E.164 form
    #[arg(long, value_name = "NUMBER")]
    phone: Option<String>,
    /// Your server, asked for each call
    #[arg(long, value_name = "HTTPS_URL")]
    webhook: Option<String>,
}

impl EndpointArgs {
    fn json(self) -> Option<Value> {
        let kinds = [
            ("stream", "url", self.stream),
            ("sip", "uri", self.sip),
            ("phone", "phone_number", self.phone),
            ("webhook", "webhook_url", self.webhook),
        ];
        kinds.into_iter().find_map(|(kind, name, value)| Some(json!({ "type": kind, name: value? })))
    }
}

impl AgentsArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let remote = self.remote.connect()?;
        let json = self.remote.json;
        match self.command {
            AgentsCommand::List { limit } => {
                let listed = remote.list(&["agents"], &[], limit).await?;
                note_more(&listed);
                if json {
                    say_json(&listed.json());
                } else {
                    say(&table_of(
                        &listed.data,
                        &[
                            ("Name", "name"),
                            ("Sandbox", "running.sandbox"),
                            ("Pre-release", "running.pre_release"),
                            ("Live", "running.live"),
                            ("Unpublished", "unpublished_changes"),
                            ("Id", "id"),
                        ],
                    ));
                }
                Ok(())
            }
            AgentsCommand::Show(OneAgent { agent }) => {
                let id = agent_id(&remote, &agent).await?;
                say_value(&remote.read(&["agents", &id], &[]).await?, json);
                Ok(())
            }
            AgentsCommand::Create { name } => {
                let made = remote.change(Method::POST, &["agents"], &json!({ "name": name })).await?;
                tell(
                    &made,
                    json,
                    &format!(
                        "Created {} ({}). Next: switchboard agents draft set {0} --stream wss://…",
                        field(&made, "name"),
                        field(&made, "id")
                    ),
                );
                Ok(())
            }
            AgentsCommand::Draft(command) => draft(&remote, command, json).await,
            AgentsCommand::Variants(command) => variants(&remote, command, json).await,
            AgentsCommand::Publish(OneAgent { agent }) => {
                let id = agent_id(&remote, &agent).await?;
                let value = remote.send(Method::POST, &["agents", &id, "publish"], &[], None, None).await?;
                say_deployed(&value, json);
                Ok(())
            }
            AgentsCommand::Promote { agent, from, to } => {
                let id = agent_id(&remote, &agent.agent).await?;
                let value = remote
                    .change(Method::POST, &["agents", &id, "promote"], &json!({ "from": from, "to": to }))
                    .await?;
                say_deployed(&value, json);
                Ok(())
            }
            AgentsCommand::Rollback { agent, environment, version } => {
                let id = agent_id(&remote, &agent.agent).await?;
                let body = json!({ "environment": environment, "version": version });
                let value = remote.change(Method::POST, &["agents", &id, "rollback"], &body).await?;
                say_deployed(&value, json);
                Ok(())
            }
            AgentsCommand::Versions(OneAgent { agent }) => {
                let id = agent_id(&remote, &agent).await?;
                let listed = remote.list(&["agents", &id, "versions"], &[], 200).await?;
                note_more(&listed);
                if json {
                    say_json(&listed.json());
                } else {
                    say(&table_of(
                        &listed.data,
                        &[
                            ("Version", "version"),
                            ("Runs in", "environments"),
                            ("Published", "created_at"),
                            ("Id", "id"),
                        ],
                    ));
                }
                Ok(())
            }
            AgentsCommand::Preview { agent, to } => {
                let id = agent_id(&remote, &agent.agent).await?;
                let value = remote.read(&["agents", &id, "publish-preview"], &[("to", to)]).await?;
                if json {
                    say_json(&value);
                } else {
                    say(&preview_text(&value));
                }
                Ok(())
            }
        }
    }
}

fn say_value(value: &Value, json: bool) {
    if json { say_json(value) } else { say(&sheet(value)) }
}

fn tell(value: &Value, json: bool, sentence: &str) {
    if json { say_json(value) } else { say(sentence) }
}

/// Says what runs where now.
fn say_deployed(value: &Value, json: bool) {
    if json {
        say_json(value);
        return;
    }
    let (version, environment) = (field(value, "version"), field(value, "environment"));
    match value.get("changed").and_then(Value::as_bool) {
        Some(false) => say(&format!("Version {version} ran in {environment} already; nothing has changed.")),
        _ => say(&format!("Version {version} runs in {environment}.")),
    }
}

/// What would change, and for which numbers.
fn preview_text(value: &Value) -> String {
    let list = |path: &str| value.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    let (from, to) = (field(value, "from_version"), field(value, "to_version"));
    let named = |version: String, none: &str| match version.parse::<u32>() {
        Ok(version) => format!("version {version}"),
        Err(_) => none.to_owned(),
    };
    // What has no number yet is the draft, which gets one when it is published.
    let (from, to) = (named(from, "nothing"), named(to, "the draft"));
    let mut lines = vec![format!("{}: {from} → {to}", field(value, "to"))];
    for change in list("/changes/differences") {
        lines.push(format!(
            "  {}: {} → {}",
            field(&change, "field"),
            field(&change, "before"),
            field(&change, "after")
        ));
    }
    for warning in list("/warnings") {
        lines.push(format!("  warning: {}: {}", field(&warning, "field"), field(&warning, "detail")));
    }
    let numbers = list("/numbers");
    if numbers.is_empty() {
        lines.push(format!(
            "No number's calls would go elsewhere ({} looked at).",
            field(value, "numbers_checked")
        ));
    }
    for number in &numbers {
        lines.push(field(number, "phone_number"));
        lines.push(format!("  now    {}", field(number, "before.summary")));
        lines.push(format!("  then   {}", field(number, "after.summary")));
    }
    if value.get("is_partial").and_then(Value::as_bool) == Some(true) {
        lines.push(format!(
            "Only {} numbers were looked at; there are more.",
            field(value, "numbers_checked")
        ));
    }
    lines.join("\n")
}

async fn draft(remote: &Remote, command: DraftCommand, json: bool) -> Result<(), Failure> {
    let value = match command {
        DraftCommand::Show(OneAgent { agent }) => {
            let id = agent_id(remote, &agent).await?;
            remote.read(&["agents", &id, "draft"], &[]).await?
        }
        DraftCommand::Set { agent, endpoint, language, call_parameters, from } => {
            let mut body = match from {
                Some(path) => read_object(&path)?,
                None => Map::new(),
            };
            body.extend(endpoint.json().map(|endpoint| ("endpoint".to_owned(), endpoint)));
            body.extend(language.map(|language| ("language".to_owned(), Value::String(language))));
            if !call_parameters.is_empty() {
                body.insert("call_parameters".to_owned(), pairs(&call_parameters)?);
            }
            if body.is_empty() {
                return Err(Failure::Usage(
                    "nothing to set: give an endpoint, --language, --call-parameter or --from".to_owned(),
                ));
            }
            let id = agent_id(remote, &agent.agent).await?;
            let value = remote.change(Method::PATCH, &["agents", &id, "draft"], &Value::Object(body)).await?;
            note(&format!(
                "Saved as a draft. Calls follow it after: switchboard agents publish {}",
                visible(&agent.agent)
            ));
            value
        }
    };
    say_value(&value, json);
    Ok(())
}

async fn variants(remote: &Remote, command: VariantsCommand, json: bool) -> Result<(), Failure> {
    match command {
        VariantsCommand::List(OneAgent { agent }) => {
            let id = agent_id(remote, &agent).await?;
            let listed = remote.list(&["agents", &id, "variants"], &[], 500).await?;
            note_more(&listed);
            if json {
                say_json(&listed.json());
            } else {
                say(&table_of(
                    &listed.data,
                    &[
                        ("Name", "name"),
                        ("Default", "is_default"),
                        ("Attributes", "attributes"),
                        ("Endpoint", "endpoint"),
                        ("Id", "id"),
                    ],
                ));
            }
        }
        VariantsCommand::Create { agent, name, endpoint, attributes } => {
            let mut body = Map::new();
            body.insert("name".to_owned(), Value::String(name));
            body.extend(endpoint.json().map(|endpoint| ("endpoint".to_owned(), endpoint)));
            if !attributes.is_empty() {
                body.insert("attributes".to_owned(), pairs(&attributes)?);
            }
            let id = agent_id(remote, &agent.agent).await?;
            say_value(
                &remote.change(Method::POST, &["agents", &id, "variants"], &Value::Object(body)).await?,
                json,
            );
        }
        VariantsCommand::Set { agent, variant, name, endpoint, attributes } => {
            let mut body = Map::new();
            body.extend(name.map(|name| ("name".to_owned(), Value::String(name))));
            body.extend(endpoint.json().map(|endpoint| ("endpoint".to_owned(), endpoint)));
            if !attributes.is_empty() {
                body.insert("attributes".to_owned(), pairs(&attributes)?);
            }
            if body.is_empty() {
                return Err(Failure::Usage(
                    "nothing to set: give --name, an endpoint or --attribute".to_owned(),
                ));
            }
            let id = agent_id(remote, &agent.agent).await?;
            let variant = variant_id(remote, &id, &variant).await?;
            say_value(
                &remote
                    .change(Method::PATCH, &["agents", &id, "variants", &variant], &Value::Object(body))
                    .await?,
                json,
            );
        }
        VariantsCommand::Delete { agent, variant } => {
            let id = agent_id(remote, &agent.agent).await?;
            let known = variant_id(remote, &id, &variant).await?;
            let value =
                remote.send(Method::DELETE, &["agents", &id, "variants", &known], &[], None, None).await?;
            tell(
                &value,
                json,
                &format!(
                    "{} is gone from the draft; what runs keeps it until you publish.",
                    visible(&variant)
                ),
            );
        }
    }
    Ok(())
}

fn read_object(path: &PathBuf) -> Result<Map<String, Value>, Failure> {
    let usage = |why: String| Failure::Usage(format!("failed to read {}: {why}", path.display()));
    let mut text = String::new();
    let read = if path.as_os_str() == "-" {
        std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_string(&mut text))
    };
    read.map_err(|error| usage(error.to_string()))?;
    match serde_json::from_str(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(usage("it holds no JSON object".to_owned())),
        Err(error) => Err(usage(error.to_string())),
    }
}

/// `NAME=VALUE` as an object.
fn pairs(texts: &[String]) -> Result<Value, Failure> {
    let mut found = BTreeMap::new();
    for text in texts {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("{} is not NAME=VALUE", visible(text))))?;
        if found.insert(name, value).is_some() {
            return Err(Failure::Usage(format!("{} is given twice", visible(name))));
        }
    }
    Ok(json!(found))
}

/// An agent's id, from its id or from its name.
pub(super) async fn agent_id(remote: &Remote, text: &str) -> Result<String, Failure> {
    if text.starts_with("agt_") {
        return Ok(text.to_owned());
    }
    let listed = remote.list(&["agents"], &[], NAMED_AGENTS_MAX).await?;
    named(&listed.data, text, "agent", "switchboard agents list")
}

/// Puts the names that people know beside the ids of agents and variants in a list: `agent` and `variant`. `place` is the field that
/// holds the ids, or empty where they stand in the row itself. Where names cannot be read, the ids stay.
pub(super) async fn name_agents(remote: &Remote, data: &mut [Value], place: &str) {
    fn ids<'a>(row: &'a Value, place: &str) -> &'a Value {
        if place.is_empty() { row } else { &row[place] }
    }
    if data.iter().all(|row| ids(row, place)["agent_id"].is_null()) {
        return;
    }
    let Ok(agents) = remote.list(&["agents"], &[], NAMED_AGENTS_MAX).await else { return };
    let named = |list: &Value, id: &Value| {
        list.as_array()?.iter().find(|one| one["id"] == *id).map(|one| one["name"].clone())
    };
    let agents = Value::Array(agents.data);
    for row in data {
        let (agent, variant) = (ids(row, place)["agent_id"].clone(), ids(row, place)["variant_id"].clone());
        let known = agents.as_array().and_then(|all| all.iter().find(|one| one["id"] == agent));
        let variants = known.map_or(&Value::Null, |agent| &agent["variants"]);
        let (agent, variant) =
            (named(&agents, &agent).unwrap_or(agent), named(variants, &variant).unwrap_or(variant));
        if let Some(row) = row.as_object_mut() {
            row.insert("agent".to_owned(), agent);
            row.insert("variant".to_owned(), variant);
        }
    }
}

/// A variant's id, from its id or from its name.
pub(super) async fn variant_id(remote: &Remote, agent_id: &str, text: &str) -> Result<String, Failure> {
    if text.starts_with("var_") {
        return Ok(text.to_owned());
    }
    let listed = remote.list(&["agents", agent_id, "variants"], &[], domain::agent::VARIANTS_MAX).await?;
    named(&listed.data, text, "variant", "switchboard agents variants list AGENT")
}

fn named(data: &[Value], text: &str, noun: &str, list: &str) -> Result<String, Failure> {
    let mut found = data
        .iter()
        .filter(|value| value.get("name").and_then(Value::as_str) == Some(text))
        .map(|value| field(value, "id"));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(Failure::Refused(format!(
            "more than one {noun} is called {}; use its id, from `{list}`",
            visible(text)
        ))),
        (None, _) => Err(Failure::Refused(format!("no {noun} is called {}; see `{list}`", visible(text)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_finds_one_id_or_says_why_not() {
        let data = [
            json!({"name": "a", "id": "agt_1"}),
            json!({"name": "b", "id": "agt_2"}),
            json!({"name": "b", "id": "agt_3"}),
        ];
        assert_eq!(named(&data, "a", "agent", "list").unwrap(), "agt_1");
        assert!(named(&data, "b", "agent", "list").unwrap_err().to_string().contains("more than one"));
        assert_eq!(named(&data, "c", "agent", "list").unwrap_err().exit_code(), 1);
    }

    #[test]
    fn pairs_are_names_and_values() {
        assert_eq!(pairs(&["a=1=2".to_owned(), "b=".to_owned()]).unwrap(), json!({"a": "1=2", "b": ""}));
        assert!(pairs(&["a".to_owned()]).is_err());
        assert!(pairs(&["a=1".to_owned(), "a=2".to_owned()]).is_err());
    }
}
