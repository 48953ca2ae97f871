//! `switchboard demo`: the whole product in a minute, without an account. A simulated carrier, a small agent and Switchboard itself are
//! started in one process and a folder of its own; a visitor with an API key then does, over HTTP, what a team would do, and
//! each step is told as it happens.
//!
//! Switchboard runs here as it does in `serve`; only its settings differ, and they stand in `settings`. What is done is
//! `story`; how it looks on the terminal is `page`.

pub mod agent;
mod door;
mod folder;
mod page;
mod story;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use domain::number::{Country, NumberType, parse_label};
use domain::permission::BuiltInRole;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::door::Door;
use self::folder::Folder;
use self::page::{Ink, Page};
use self::story::{Story, Told};
use crate::actions::keys::{KeyRole, NewKey, key_create};
use crate::actions::{Answer, Caller, Once};
use crate::app::{App, Random, Shared, WORKSPACE_DEFAULT};
use crate::clock::{Clock, SystemClock};
use crate::config::{AllowedAddress, Config, Egress, Log, PriceSetting, Secret, Supply};
use crate::simulator::{self, RunningSimulator, SimulatorConfig};
use crate::{logs, serve};

/// Where everything is kept unless `--dir` says otherwise.
pub const FOLDER_DEFAULT: &str = "switchboard-demo";
/// A free port of this machine.
const ANY_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// How long the visitor's call lasts: the greeting, and a little echo.
const CALL_LENGTH: Duration = Duration::from_millis(1_500);
/// How long requests under way may still take at the end, in milliseconds: nobody but the visitor is served.
const DRAIN_MS: u64 = 2_000;
/// What numbers cost here: country, type, each month, once.
const PRICES: [(Country, NumberType, &str, &str); 8] = [
    (Country::US, NumberType::Local, "1.15", "0.00"),
    (Country::US, NumberType::TollFree, "2.15", "0.00"),
    (Country::CA, NumberType::Local, "1.15", "0.00"),
    (Country::CA, NumberType::TollFree, "2.15", "0.00"),
    (Country::GB, NumberType::Local, "1.15", "0.00"),
    (Country::GB, NumberType::Mobile, "1.50", "0.00"),
    (Country::FR, NumberType::Local, "1.15", "0.00"),
    (Country::FR, NumberType::Mobile, "1.50", "0.00"),
];
/// What the workspace may spend each month.
const MONTHLY_SPEND: &str = "25.00";

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything is kept.
    pub dir: PathBuf,
    /// Where the API is served; without it at the usual address, or on a free port where that is taken.
    pub listen: Option<SocketAddr>,
    /// End with the story.
    pub once: bool,
}

/// Runs the demonstration: tells the story, then serves until it is stopped. An error is a step that failed.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let page = Page::standard_output();
    // The story is on standard output; only what a person should look at goes beside it.
    logs::start(&Log { filter: "warn".to_owned(), ..Log::default() })?;
    let folder = Folder::prepare(&options.dir)?;
    let carrier = simulator::start(SimulatorConfig {
        ledger_path: Some(folder.carrier_ledger()),
        ..SimulatorConfig::default()
    })
    .await?;
    let agent = agent::start(ANY_PORT).await?;
    let listener = listen(options.listen).await?;
    let address = listener.local_addr().context("a listener has an address")?;
    let config = settings(&folder, address, &carrier, &agent.url)?;
    config.check()?;

    let app = App::open(config, Arc::clone(&clock), Random::from_system()).await?;
    let key = owner_key(&app).await?;
    let key_file = folder.keep_owner_key(key.expose_secret())?;
    let stop = CancellationToken::new();
    app.tasks.spawn("wait_for_signal", serve::wait_for_signal(stop.clone()));
    let mut serving = tokio::task::JoinSet::new();
    serving.spawn(serve::run(app, listener, stop.clone()));

    let url = format!("http://{address}");
    introduce(page, &url, &carrier, &agent.url, &folder);
    let api = Door::new(url, Some(key.clone()), Arc::clone(&clock))?;
    let control = Door::new(carrier.base_url(), None, Arc::clone(&clock))?;
    let story = Story { page, api: &api, carrier: &control, agent_url: &agent.url, clock: &*clock };
    let told = tokio::select! {
        told = story.tell() => Some(told),
        () = stop.cancelled() => None,
    };
    let outcome = match told {
        None => Ok(()),
        Some(Err(why)) => {
            page.say(&format!("\n{}", page.paint(Ink::Red, "✗ This step failed, and the story ends here.")));
            Err(why.context("the demonstration failed"))
        }
        Some(Ok(told)) => {
            let took = clock.monotonic();
            page.say(&page.paint(Ink::Bold, &format!("\nThat took {:.1} s in all.", took.as_secs_f64())));
            if !options.once {
                invite(page, &api, &control, &key, &key_file.display().to_string(), &told);
                stop.cancelled().await;
            }
            Ok(())
        }
    };
    stop.cancel();
    let served =
        serving.join_next().await.context("the server was started")?.context("the server panicked")?;
    carrier.shutdown().await;
    agent.shutdown().await;
    outcome.and(served)
}

/// The settings of a Switchboard whose store is supplied by the simulated carrier. The one agent that it may reach is the
/// demonstration's own.
fn settings(
    folder: &Folder,
    listen: SocketAddr,
    carrier: &RunningSimulator,
    agent_url: &str,
) -> anyhow::Result<Config> {
    let agent = Url::parse(agent_url).context("the agent's address")?;
    let agent = agent.socket_addrs(|| None).context("the agent's address")?;
    let mut prices: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (country, number_type, monthly, setup) in PRICES {
        let price = PriceSetting { monthly: monthly.to_owned(), setup: setup.to_owned() };
        prices.entry(country).or_default().insert(number_type, price);
    }
    let mut config = Config {
        data_dir: folder.data(),
        encryption_key_file: Some(folder.data_key()),
        listen,
        public_url: Some(Url::parse(&format!("http://{listen}")).context("our own address")?),
        drain_timeout_ms: DRAIN_MS,
        egress: Egress {
            allowed_addresses: agent.into_iter().map(AllowedAddress::exactly).collect(),
            danger_plain_to_loopback: true,
            ..Egress::default()
        },
        ..Config::default()
    };
    config.store.supply = Some(Supply::Demo);
    config.store.prices = prices;
    config.store.limits.monthly_spend = Some(MONTHLY_SPEND.to_owned());
    config.carriers.twilio.base_url = Url::parse(&carrier.base_url()).context("the carrier's address")?;
    config.carriers.twilio.account_sid = Some(carrier.account_sid().to_owned());
    config.carriers.twilio.auth_token = Some(Secret::new(carrier.auth_token()));
    Ok(config)
}

/// Listens where it was asked to; without a wish at the usual address, which clients look for first, or on a free port.
async fn listen(wanted: Option<SocketAddr>) -> anyhow::Result<TcpListener> {
    match wanted {
        Some(address) => serve::listen(address).await,
        None => match TcpListener::bind(Config::default().listen).await {
            Ok(listener) => Ok(listener),
            Err(_) => serve::listen(ANY_PORT).await,
        },
    }
}

/// Makes the key of an owner, as `switchboard keys create --role owner` does.
async fn owner_key(app: &Shared) -> anyhow::Result<SecretString> {
    let found = app
        .database
        .read(|read| database::workspaces::workspace_find_by_name(read, WORKSPACE_DEFAULT))
        .await
        .context("failed to read the workspace")?;
    let workspace = found.context("the first start has made a workspace")?;
    let new = NewKey {
        name: parse_label("demo").expect("a constant name"),
        role: KeyRole::BuiltIn(BuiltInRole::Owner),
        expires_at: None,
    };
    match key_create(app, &Caller::command_line(workspace.id), new, Once::without_key()).await {
        Ok(Answer::Fresh(made)) => Ok(SecretString::from(made.text.expose_secret().to_owned())),
        Ok(Answer::Replayed { .. }) => anyhow::bail!("a fresh database already had our key"),
        Err(_) => anyhow::bail!("failed to make an API key"),
    }
}

/// What runs, and what of it is real.
fn introduce(page: Page, url: &str, carrier: &RunningSimulator, agent_url: &str, folder: &Folder) {
    page.say(&page.paint(Ink::Bold, "Switchboard, demonstrated"));
    page.say(
        "Switchboard, its store, its database and its API are the real ones. The carrier is simulated: it speaks the wire format\n\
         of a real one, but its numbers are reserved for fiction, no money is spent, and no telephone rings.\n",
    );
    let rows = [
        ["Switchboard", url, "the product, as `switchboard serve` runs it"],
        ["carrier", &carrier.base_url(), "simulated; `switchboard simulator` is the same"],
        ["agent", agent_url, "a small WebSocket server: greets with three notes, then echoes"],
        ["folder", &folder.path().display().to_string(), "all of it; the next start begins afresh"],
    ];
    page.tell(&page::columns(&rows.map(|row| row.map(str::to_owned).to_vec())));
}

/// What a visitor can try now.
fn invite(page: Page, api: &Door, carrier: &Door, key: &SecretString, key_file: &str, told: &Told) {
    let (base, key) = (api.base(), key.expose_secret());
    let Told { phone_number, caller, call_length } = told;
    let json = "-H 'content-type: application/json'";
    let authorization = format!("-H 'authorization: Bearer {key}'");
    let hangup_after_ms = call_length.as_millis();
    page.say("\nEverything goes on serving. Three lines to paste into another terminal:\n");
    for (title, line) in [
        (
            "Where would a call go, and why?",
            format!(
                "curl -s {base}/v1/routes/explain {json} \\\n  {authorization} \\\n  -d '{{\"to\":\"{phone_number}\",\"from\":\"{caller}\"}}'"
            ),
        ),
        ("Which numbers are there?", format!("curl -s {base}/v1/numbers \\\n  {authorization}")),
        (
            "Call the number again, and see what the carrier saw",
            format!(
                "curl -s {}/_control/calls {json} \\\n  -d '{{\"to\":\"{phone_number}\",\"from\":\"{caller}\",\"hangup_after_ms\":{hangup_after_ms},\"wait\":true}}'",
                carrier.base()
            ),
        ),
    ] {
        page.tell(&page.paint(Ink::Dim, &format!("# {title}")));
        page.tell(&page.paint(Ink::Cyan, &line));
        page.say("");
    }
    let rows = [
        ["API", base],
        ["reference", &format!("{base}/docs")],
        ["key", key],
        ["command line", &format!("switchboard numbers list --url {base} --key-file {key_file}")],
    ];
    page.tell(&page::columns(&rows.map(|row| row.map(str::to_owned).to_vec())));
    page.say("\nCtrl-C stops it.");
}
