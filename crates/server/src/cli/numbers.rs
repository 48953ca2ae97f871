//! `switchboard numbers`: find, buy, assign and release, through the REST API.
//!
//! Every rule about numbers is the server's; here stand only words, columns, and the waiting for a purchase.

use std::io::IsTerminal as _;
use std::time::Duration;

use domain::error::Refusal;
use domain::number::{E164, NumberType};
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Map, Value, json};

use super::agents::{agent_id, name_agents, variant_id};
use super::client::{Failure, Remote, RemoteArgs, note_more};
use super::text::{field, note, say, say_json, sheet, sheet_from, table_of, visible};

/// How many numbers are listed unless told otherwise.
const LIST_LIMIT: usize = 200;
/// How often a purchase is looked at while we wait for it.
const WAIT_PERIOD: Duration = Duration::from_millis(500);
/// How long a purchase is waited for. The last look-up after an unclear answer is at 10 minutes.
const WAIT_LIMIT: Duration = Duration::from_secs(12 * 60);

const LIST_COLUMNS: &[(&str, &str)] = &[
    ("Number", "phone_number"),
    ("Source", "source"),
    ("Status", "status"),
    ("Environment", "assignment.environment"),
    ("Agent", "agent"),
    ("Variant", "variant"),
    ("Label", "label"),
    ("Id", "id"),
];

/// What is read first of a number; the rest follows.
const SHOWN_FIRST: &[&str] =
    &["phone_number", "status", "status_reason", "agent", "variant", "assignment", "label", "tags", "id"];

/// Find, buy, assign and release numbers
#[derive(Debug, clap::Args)]
pub struct NumbersArgs {
    #[command(flatten)]
    remote: RemoteArgs,
    #[command(subcommand)]
    command: NumbersCommand,
}

#[derive(Debug, clap::Subcommand)]
enum NumbersCommand {
    /// List the numbers of the workspace
    #[command(
        after_help = "Examples:\n  switchboard numbers list\n  switchboard numbers list --environment live --search 0345\n  switchboard numbers list --unassigned --json"
    )]
    List(ListArgs),
    /// Search the store for numbers on sale
    #[command(
        after_help = "Examples:\n  switchboard numbers search --country US --area-code 415\n  switchboard numbers search --country GB --type local --digits 777"
    )]
    Search(SearchArgs),
    /// Show one number
    #[command(after_help = "Example:\n  switchboard numbers show +14155550101")]
    Show(OneNumber),
    /// Buy one number: one of the search, or one that is chosen by country
    #[command(
        after_help = "The purchase happens at most once, whatever fails: the Idempotency-Key that is printed belongs to it. When in doubt, run the \
                      same command again with that --idempotency-key (and with the printed quote instead of the number) and see the same purchase.\n\n\
                      Examples:\n  switchboard numbers buy +14155550186 --label Reception\n  \
                      switchboard numbers buy --country US --area-code 415 --max-monthly-price 2.00\n  \
                      switchboard numbers buy --country FR --max-monthly-price 2.00 --agent Support --environment live"
    )]
    Buy(BuyArgs),
    /// Send a number's calls to an agent
    #[command(
        after_help = "Examples:\n  switchboard numbers assign +14155550101 --agent Support --environment live\n  switchboard numbers assign +14155550101 --agent Support --environment sandbox --variant Paris"
    )]
    Assign(AssignArgs),
    /// Take a number from its agent; its calls then go to its fallback
    #[command(after_help = "Example:\n  switchboard numbers unassign +14155550101")]
    Unassign(OneNumber),
    /// Set a number's label, tags or release lock
    #[command(
        after_help = "Examples:\n  switchboard numbers set +14155550101 --label Reception --tag paris --tag front\n  switchboard numbers set +14155550101 --release-lock true"
    )]
    Set(SetArgs),
    /// Give a number back to the carrier, after a hold in which it can be cancelled
    #[command(after_help = "Example:\n  switchboard numbers release +14155550101 --confirm +14155550101")]
    Release(ReleaseArgs),
    /// Keep a number whose release is on hold
    #[command(
        name = "cancel-release",
        after_help = "Example:\n  switchboard numbers cancel-release +14155550101"
    )]
    CancelRelease(OneNumber),
    /// Tell whether a number is ready for calls, and what is missing
    #[command(after_help = "Example:\n  switchboard numbers readiness +14155550101")]
    Readiness(OneNumber),
    /// Tell how the carrier's side of a number differs from what was set there
    #[command(
        after_help = "Ends with exit code 4 if a difference is believed. Nothing is fixed by itself.\n\nExample:\n  switchboard numbers drift +14155550101"
    )]
    Drift(OneNumber),
}

#[derive(Debug, clap::Args)]
struct OneNumber {
    /// The number in E.164 form, or its id
    number: String,
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Only of this environment: sandbox, pre_release or live
    #[arg(long)]
    environment: Option<String>,
    /// Only of this agent, by id or name
    #[arg(long)]
    agent: Option<String>,
    /// Only from this source, such as store
    #[arg(long)]
    source: Option<String>,
    /// Only in this state, such as active
    #[arg(long)]
    status: Option<String>,
    /// Digits anywhere in the number, or a part of the label
    #[arg(long)]
    search: Option<String>,
    /// Only of this country, by its two letters
    #[arg(long)]
    country: Option<String>,
    /// Only with this capability: voice, sms or mms
    #[arg(long)]
    capability: Option<String>,
    /// Only without an agent
    #[arg(long)]
    unassigned: bool,
    /// The most that are listed
    #[arg(long, default_value_t = LIST_LIMIT)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
struct SearchArgs {
    /// The country, by its two letters
    #[arg(long)]
    country: String,
    /// The area code, without a leading 0
    #[arg(long)]
    area_code: Option<String>,
    /// Digits anywhere in the number
    #[arg(long)]
    digits: Option<String>,
    /// local, mobile, national or toll_free
    #[arg(long = "type")]
    number_type: Option<String>,
    /// What it must be able to do, with commas between: voice,sms
    #[arg(long)]
    capabilities: Option<String>,
    /// The most that are shown
    #[arg(long, default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, clap::Args)]
struct BuyArgs {
    /// The number itself, as the search shows it, or a quote_id of it; without one, give --country
    #[arg(value_name = "NUMBER", required_unless_present = "country", conflicts_with = "country")]
    quote: Option<String>,
    /// Choose any number of this country
    #[arg(long)]
    country: Option<String>,
    /// Of this type: local, mobile, national or toll_free
    #[arg(long = "type", requires = "country")]
    number_type: Option<String>,
    /// With this area code
    #[arg(long, requires = "country")]
    area_code: Option<String>,
    /// At most this much a month, such as 2.00
    #[arg(long, requires = "country", value_name = "AMOUNT")]
    max_monthly_price: Option<String>,
    /// The currency of the maximum
    #[arg(long, default_value = "USD")]
    currency: String,
    /// What people call it
    #[arg(long)]
    label: Option<String>,
    /// Assign it to this agent, by id or name
    #[arg(long, requires = "environment")]
    agent: Option<String>,
    /// In this environment: sandbox, pre_release or live
    #[arg(long, requires = "agent")]
    environment: Option<String>,
    /// As this variant, by id or name
    #[arg(long, requires = "agent")]
    variant: Option<String>,
    /// Repeat an earlier purchase to see its answer
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Do not wait until the number is active
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, clap::Args)]
struct AssignArgs {
    #[command(flatten)]
    number: OneNumber,
    /// The agent, by id or name
    #[arg(long)]
    agent: String,
    /// The environment: sandbox, pre_release or live
    #[arg(long)]
    environment: String,
    /// The variant, by id or name; without one the default variant answers
    #[arg(long)]
    variant: Option<String>,
}

#[derive(Debug, clap::Args)]
struct SetArgs {
    #[command(flatten)]
    number: OneNumber,
    /// What people call it; empty to clear
    #[arg(long)]
    label: Option<String>,
    /// Replaces all tags; may stand several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Whether releasing is refused
    #[arg(long, value_name = "BOOL")]
    release_lock: Option<bool>,
}

#[derive(Debug, clap::Args)]
struct ReleaseArgs {
    #[command(flatten)]
    number: OneNumber,
    /// The number itself once more: releasing cannot be undone after the hold
    #[arg(long)]
    confirm: String,
    /// Also when it is assigned to an agent
    #[arg(long)]
    force: bool,
}

impl NumbersArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let remote = self.remote.connect()?;
        let json = self.remote.json;
        match self.command {
            NumbersCommand::List(args) => list(&remote, args, json).await,
            NumbersCommand::Search(args) => search(&remote, args, json).await,
            NumbersCommand::Show(OneNumber { number }) => {
                let value = remote.read(&["numbers", &number], &[]).await?;
                if json {
                    say_json(&value);
                    return Ok(());
                }
                let mut rows = [value];
                name_agents(&remote, &mut rows, "assignment").await;
                say(&sheet_from(&rows[0], SHOWN_FIRST));
                Ok(())
            }
            NumbersCommand::Buy(args) => buy(&remote, args, json).await,
            NumbersCommand::Assign(args) => assign(&remote, args, json).await,
            NumbersCommand::Unassign(OneNumber { number }) => {
                let value =
                    remote.send(Method::DELETE, &["numbers", &number, "assignment"], &[], None, None).await?;
                tell(&value, json, &format!("{} has no agent now.", visible(&number)));
                Ok(())
            }
            NumbersCommand::Set(args) => set(&remote, args, json).await,
            NumbersCommand::Release(args) => release(&remote, args, json).await,
            NumbersCommand::CancelRelease(OneNumber { number }) => {
                let value = remote
                    .send(Method::POST, &["numbers", &number, "release", "cancel"], &[], None, None)
                    .await?;
                tell(&value, json, &format!("{} is kept.", visible(&number)));
                Ok(())
            }
            NumbersCommand::Readiness(OneNumber { number }) => readiness(&remote, &number, json).await,
            NumbersCommand::Drift(OneNumber { number }) => drift(&remote, &number, json).await,
        }
    }
}

/// Prints an answer whole.
fn say_value(value: &Value, json: bool) {
    if json { say_json(value) } else { say(&sheet(value)) }
}

/// Prints an answer as JSON, or says in one sentence what it means.
fn tell(value: &Value, json: bool, sentence: &str) {
    if json { say_json(value) } else { say(sentence) }
}

async fn list(remote: &Remote, args: ListArgs, json: bool) -> Result<(), Failure> {
    let agent = match &args.agent {
        Some(agent) => Some(agent_id(remote, agent).await?),
        None => None,
    };
    let mut query: Vec<(&str, String)> = [
        ("environment", args.environment),
        ("agent_id", agent),
        ("source", args.source),
        ("status", args.status),
        ("search", args.search),
        ("country", args.country),
        ("capability", args.capability),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    if args.unassigned {
        query.push(("unassigned", "true".to_owned()));
    }
    let mut listed = remote.list(&["numbers"], &query, args.limit).await?;
    note_more(&listed);
    if json {
        say_json(&listed.json());
    } else {
        name_agents(remote, &mut listed.data, "assignment").await;
        say(&table_of(&listed.data, LIST_COLUMNS));
    }
    Ok(())
}

async fn search(remote: &Remote, args: SearchArgs, json: bool) -> Result<(), Failure> {
    let query: Vec<(&str, String)> = [
        ("country", Some(args.country)),
        ("area_code", args.area_code),
        ("digits", args.digits),
        ("type", args.number_type),
        ("capabilities", args.capabilities),
        ("limit", Some(args.limit.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let found = remote.read(&["store", "numbers"], &query).await?;
    if json {
        say_json(&found);
        return Ok(());
    }
    let data = found.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if data.is_empty() {
        say("None on sale. Loosen the area code, the digits or the type.");
        return Ok(());
    }
    say(&table_of(
        data,
        &[
            ("Number", "phone_number"),
            ("Type", "type"),
            ("Where", "locality"),
            ("Region", "region"),
            ("Can", "capabilities"),
            ("A month", "monthly_price"),
            ("Once", "setup_price"),
        ],
    ));
    let until = data.first().map(|first| field(first, "quote_expires_at")).unwrap_or_default();
    let first = data.first().map(|first| field(first, "phone_number")).unwrap_or_default();
    note(&format!(
        "Buy one with: switchboard numbers buy {first} (these prices are good until {until}; --json shows the quotes)"
    ));
    Ok(())
}

async fn buy(remote: &Remote, args: BuyArgs, json: bool) -> Result<(), Failure> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), Value::String(value));
        }
    };
    let quote = match args.quote {
        Some(number) if number.starts_with('+') && args.idempotency_key.is_some() => {
            return Err(Failure::Usage(
                "an earlier purchase is seen again with the quote that was printed with its key, not with the number"
                    .to_owned(),
            ));
        }
        Some(number) if number.starts_with('+') => {
            let quote = quote_of(remote, &number).await?;
            // A later search would give another quote, and the key belongs to this one.
            note(&format!("Quote: {quote}"));
            Some(quote)
        }
        quote => quote,
    };
    put("quote_id", quote);
    put("country", args.country);
    put("type", args.number_type);
    put("area_code", args.area_code);
    put("label", args.label);
    if let Some(amount) = args.max_monthly_price {
        body.insert("max_monthly_price".to_owned(), json!({ "amount": amount, "currency": args.currency }));
    }
    if let (Some(agent), Some(environment)) = (&args.agent, &args.environment) {
        body.insert(
            "assignment".to_owned(),
            assignment(remote, agent, environment, args.variant.as_deref()).await?,
        );
    }
    let key = match args.idempotency_key {
        Some(key) => key,
        None => idempotency_key()?,
    };
    note(&format!("Idempotency-Key: {}", visible(&key)));
    let bought =
        remote.send(Method::POST, &["numbers", "buy"], &[], Some(&Value::Object(body)), Some(&key)).await?;
    let number = if args.no_wait { bought } else { wait(remote, bought).await? };
    let phone_number = field(&number, "phone_number");
    match field(&number, "status").as_str() {
        "failed" => {
            let why = field(&number, "status_reason");
            Err(Failure::Refused(format!("{phone_number} was not bought, and nothing was charged: {why}")))
        }
        "needs_review" => {
            let why = field(&number, "status_reason");
            Err(Failure::Found(format!(
                "whether {phone_number} was bought is not known: {why}. The server goes on looking; see `switchboard numbers show {phone_number}`"
            )))
        }
        status => {
            let id = field(&number, "id");
            let sentence = match status {
                "active" => format!("{phone_number} is yours, and active ({id})."),
                "ordering" => format!(
                    "{phone_number} is being ordered ({id}); see `switchboard numbers show {phone_number}`."
                ),
                other => format!("{phone_number} is {other} ({id})."),
            };
            tell(&number, json, &sentence);
            Ok(())
        }
    }
}

/// The quote of one exact number, from a search for its digits.
async fn quote_of(remote: &Remote, number: &str) -> Result<String, Failure> {
    let parsed: E164 = number.parse().map_err(|refusal: Refusal| Failure::Usage(refusal.detail))?;
    let country = parsed.country().ok_or_else(|| {
        Failure::Usage(format!("{parsed} belongs to no one country; buy it by the quote_id of a search"))
    })?;
    // Searches take up to 12 digits, anywhere in the number.
    let digits = parsed.digits().to_string();
    let last: String = digits.chars().skip(digits.len().saturating_sub(7)).collect();
    for number_type in NumberType::ALL {
        let query = [
            ("country", country.to_string()),
            ("type", number_type.as_str().to_owned()),
            ("digits", last.clone()),
            ("limit", "50".to_owned()),
        ];
        // What is not sold there at all is not where the number is.
        let Ok(found) = remote.read(&["store", "numbers"], &query).await else { continue };
        let offers = found.get("data").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        if let Some(offer) = offers.iter().find(|offer| field(offer, "phone_number") == parsed.to_string()) {
            return Ok(offer["quote_id"].as_str().unwrap_or_default().to_owned());
        }
    }
    Err(Failure::Refused(format!(
        "{parsed} is not on sale now; see `switchboard numbers search --country {country}`"
    )))
}

/// Waits until a purchase is decided, or our patience ends; then the number is as it was last seen.
async fn wait(remote: &Remote, mut number: Value) -> Result<Value, Failure> {
    let id = field(&number, "id");
    let is_open = |number: &Value| field(number, "status") == "ordering";
    if !is_open(&number) {
        return Ok(number);
    }
    let bar = if std::io::stderr().is_terminal() {
        let style = ProgressStyle::with_template("{spinner} ordering {msg} ({elapsed})")
            .expect("a constant template");
        let bar = ProgressBar::new_spinner().with_style(style).with_message(field(&number, "phone_number"));
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    } else {
        ProgressBar::hidden()
    };
    let waited = tokio::time::timeout(WAIT_LIMIT, async {
        while is_open(&number) {
            tokio::time::sleep(WAIT_PERIOD).await;
            number = remote.read(&["numbers", &id], &[]).await?;
        }
        Ok::<(), Failure>(())
    })
    .await;
    bar.finish_and_clear();
    match waited {
        // The purchase goes on at the server whether we look or not.
        Ok(Err(failure)) => Err(match failure {
            Failure::Unreachable(why) => Failure::Unreachable(format!(
                "{why}\n  The purchase of {id} goes on; see `switchboard numbers show {id}`."
            )),
            other => other,
        }),
        Ok(Ok(())) | Err(_) => Ok(number),
    }
}

/// A new key for one purchase: 128 random bits of the system.
fn idempotency_key() -> Result<String, Failure> {
    let mut bits = [0u8; 16];
    SystemRandom::new()
        .fill(&mut bits)
        .map_err(|_| Failure::Unreachable("the system's random generator does not answer".to_owned()))?;
    Ok(format!("cli-{:032x}", u128::from_be_bytes(bits)))
}

async fn assignment(
    remote: &Remote,
    agent: &str,
    environment: &str,
    variant: Option<&str>,
) -> Result<Value, Failure> {
    let agent_id = agent_id(remote, agent).await?;
    let mut body = json!({ "agent_id": agent_id, "environment": environment });
    if let Some(variant) = variant {
        body["variant_id"] = Value::String(variant_id(remote, &agent_id, variant).await?);
    }
    Ok(body)
}

async fn assign(remote: &Remote, args: AssignArgs, json: bool) -> Result<(), Failure> {
    let number = &args.number.number;
    let body = assignment(remote, &args.agent, &args.environment, args.variant.as_deref()).await?;
    let value = remote.change(Method::PUT, &["numbers", number, "assignment"], &body).await?;
    let (agent, environment) = (visible(&args.agent), visible(&args.environment));
    tell(&value, json, &format!("Calls to {} now go to {agent} in {environment}.", visible(number)));
    Ok(())
}

async fn set(remote: &Remote, args: SetArgs, json: bool) -> Result<(), Failure> {
    let mut body = Map::new();
    if let Some(label) = args.label {
        body.insert("label".to_owned(), if label.is_empty() { Value::Null } else { Value::String(label) });
    }
    if !args.tags.is_empty() {
        body.insert("tags".to_owned(), json!(args.tags));
    }
    if let Some(lock) = args.release_lock {
        body.insert("release_lock".to_owned(), Value::Bool(lock));
    }
    if body.is_empty() {
        return Err(Failure::Usage("nothing to set: give --label, --tag or --release-lock".to_owned()));
    }
    let value = remote.change(Method::PATCH, &["numbers", &args.number.number], &Value::Object(body)).await?;
    say_value(&value, json);
    Ok(())
}

async fn release(remote: &Remote, args: ReleaseArgs, json: bool) -> Result<(), Failure> {
    let query: &[(&str, String)] = if args.force { &[("force", "true".to_owned())] } else { &[] };
    let body = json!({ "confirm": args.confirm });
    let number = &args.number.number;
    let value = remote.send(Method::POST, &["numbers", number, "release"], query, Some(&body), None).await?;
    let when = field(&value, "release_at");
    let shown = visible(number);
    tell(
        &value,
        json,
        &format!(
            "{shown} will be given back at {when}. Until then: switchboard numbers cancel-release {shown}"
        ),
    );
    Ok(())
}

async fn readiness(remote: &Remote, number: &str, json: bool) -> Result<(), Failure> {
    let value = remote.read(&["numbers", number, "readiness"], &[]).await?;
    if json {
        say_json(&value);
        return Ok(());
    }
    for kind in ["inbound", "outbound", "sms"] {
        let Some(found) = value.get(kind) else { continue };
        let ready = found.get("ready").and_then(Value::as_bool) == Some(true);
        say(&format!("{kind:9} {}", if ready { "ready" } else { "not ready" }));
        for reason in found.get("reasons").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
            let detail = field(reason, "detail");
            say(&format!("          {}: {detail}", field(reason, "code")));
        }
    }
    Ok(())
}

async fn drift(remote: &Remote, number: &str, json: bool) -> Result<(), Failure> {
    let value = remote.read(&["numbers", number, "drift"], &[]).await?;
    let is_ok = value.get("ok").and_then(Value::as_bool) == Some(true);
    if json {
        say_json(&value);
    } else {
        match value.get("checked_at").and_then(Value::as_str) {
            Some(at) => say(&format!("compared with the carrier's list at {}", visible(at))),
            None => say("never compared with the carrier's list yet"),
        }
        for finding in value.get("findings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
        {
            let verdict =
                if finding.get("believed") == Some(&json!(true)) { "believed" } else { "not believed yet" };
            let (kind, detail) = (field(finding, "finding"), field(finding, "detail"));
            say(&format!("{kind}: {detail} (seen {} times, {verdict})", field(finding, "seen")));
        }
    }
    if is_ok { Ok(()) } else { Err(Failure::Found(format!("{number} differs at the carrier"))) }
}
