//! The simulated carrier: an HTTP server that speaks the REST interface of 2010-04-01 from the carrier's side, sells
//! numbers reserved for fiction, calls back with signed requests, follows the TwiML that is answered, and misbehaves
//! on demand. For the demo, for tests, and for trying things without an account.
//!
//! It shares no type with `carriers` nor with `domain`, because what both believed wrongly would be true in every test.
//! Its facts come from the carrier's published interface and are checked with the carrier's own SDK.
//!
//! In the order of a call: [`signature`] and `callbacks` ask our server, `twiml` reads the answer, `call` follows it,
//! with `dial` and `stream` for the two verbs that take time. In the order of a purchase: `router` reads the request,
//! `faults` may spoil it, `supply` and `api_available` say what there is, `api_numbers` sells it, `ledger` remembers.
//! Everything else a person or a test does, `control` does.

mod api_accounts;
mod api_available;
mod api_calls;
mod api_numbers;
pub mod audio;
mod call;
mod callbacks;
mod calls;
mod control;
mod destinations;
mod dial;
mod errors;
mod faults;
mod form;
mod ledger;
mod number;
mod paging;
mod placing;
mod router;
mod scheduled;
pub mod signature;
mod state;
mod stream;
mod supply;
mod twiml;

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use signature::{SignedRequest, VoiceRequest, signed_voice_request};

use crate::clock::{Clock, SystemClock};
use crate::connections::{self, Rules};
use state::Shared;

/// How many connections are open at once; further ones wait.
const CONNECTIONS_MAX: usize = 1_024;
/// How long stopping waits for what is under way.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);
/// How long requests under way may still take then.
const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// How long a client may take to send a request's headers.
const HEADERS_LIMIT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of its answer.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// An API key, which may stand in for the account's token, though callbacks are never signed with it.
#[derive(Clone)]
pub struct ApiKey {
    /// `SK` and 32 hexadecimal digits.
    pub sid: String,
    /// Its secret.
    pub secret: String,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey").field("sid", &self.sid).finish_non_exhaustive()
    }
}

/// How a simulated carrier is set up.
#[derive(Debug, Clone)]
pub struct SimulatorConfig {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The account; where absent, that of the ledger, or a new one.
    pub account_sid: Option<String>,
    /// Its token; where absent, that of the ledger, or a new one.
    pub auth_token: Option<String>,
    /// Further credentials.
    pub api_keys: Vec<ApiKey>,
    /// Where effects are written; where absent, they are forgotten with the process.
    pub ledger_path: Option<PathBuf>,
    /// Decides the order in which numbers are offered and what each can do.
    pub supply_seed: u64,
    /// Decides which requests meet a fault that has a probability.
    pub fault_seed: u64,
    /// Divides every delay of the carrier and of the people on the telephone. It leaves alone the pace of media and the
    /// time limit for callbacks, because those are what the other side has to meet.
    pub time_scale: u32,
    /// How long the whole answer to a callback may take: 15 s at the real carrier.
    pub callback_limit: Duration,
    /// Where dates and durations come from.
    pub clock: Arc<dyn Clock>,
}

impl Default for SimulatorConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            account_sid: None,
            auth_token: None,
            api_keys: Vec::new(),
            ledger_path: None,
            supply_seed: 1,
            fault_seed: 1,
            time_scale: 1,
            callback_limit: callbacks::CALLBACK_LIMIT,
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// A simulated carrier that runs. It stops when this is dropped.
#[derive(Debug)]
pub struct RunningSimulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: CancellationToken,
}

impl RunningSimulator {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to use in place of `https://api.twilio.com`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The account's SID.
    pub fn account_sid(&self) -> &str {
        &self.shared.account_sid
    }

    /// The account's token, with which callbacks are signed.
    pub fn auth_token(&self) -> &str {
        &self.shared.auth_token
    }

    /// Stops taking requests, hangs up, and waits until what was under way has ended.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.shared.tracker.close();
        if tokio::time::timeout(SHUTDOWN_LIMIT, self.shared.tracker.wait()).await.is_err() {
            tracing::warn!("the simulated carrier stops although something was still under way");
        }
    }
}

impl Drop for RunningSimulator {
    fn drop(&mut self) {
        self.stop.cancel();
        self.shared.tracker.close();
    }
}

/// Starts a simulated carrier, with the state that its ledger holds.
pub async fn start(config: SimulatorConfig) -> anyhow::Result<RunningSimulator> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("the simulated carrier cannot listen on {}", config.listen))?;
    let address = listener.local_addr().context("a listener has an address")?;
    let (shared, unfinished) = Shared::open(config)?;
    for row in &unfinished.scheduled {
        scheduled::resume(&shared, row);
    }
    let rules = Rules {
        connections_max: CONNECTIONS_MAX,
        reserved: 0,
        per_address_max: CONNECTIONS_MAX,
        proxies: Vec::new(),
        headers_limit: HEADERS_LIMIT,
        write_limit: WRITE_LIMIT,
        drain_limit: DRAIN_LIMIT,
    };
    let serving = Arc::clone(&shared);
    let serve = move |peer: SocketAddr, _, request| router::serve(Arc::clone(&serving), peer.ip(), request);
    let (stop, tracker) = (shared.stop.clone(), shared.tracker.clone());
    shared.tracker.spawn(connections::accept(listener, rules, stop, tracker, serve));
    let stop = shared.stop.clone();
    Ok(RunningSimulator { shared, address, stop })
}

/// Run a simulated carrier: numbers reserved for fiction, signed callbacks, faults on demand, and no money
#[derive(Debug, clap::Args)]
#[command(
    after_help = "It prints its address and the account to use as carriers.twilio.*.\n\nExamples:\n  switchboard simulator\n  switchboard simulator --listen 127.0.0.1:4010 --ledger carrier.ledger"
)]
pub struct SimulatorArgs {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:4010")]
    pub listen: SocketAddr,
    /// Where effects are written and read again at the next start; without it they are forgotten.
    #[arg(long)]
    pub ledger: Option<PathBuf>,
    /// The account's SID (default: the ledger's, or a new one).
    #[arg(long)]
    pub account_sid: Option<String>,
    /// The account's token (default: the ledger's, or a new one).
    #[arg(long)]
    pub auth_token: Option<String>,
    /// Decides the order in which numbers are offered.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Decides which requests meet faults that have a probability.
    #[arg(long, default_value_t = 1)]
    pub fault_seed: u64,
    /// Divides the carrier's delays: 100 makes an effect that is 90 s late 0.9 s late.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub time_scale: u32,
}

/// Runs the simulated carrier until the process is told to stop.
pub async fn run(args: SimulatorArgs) -> anyhow::Result<()> {
    let running = start(SimulatorConfig {
        listen: args.listen,
        account_sid: args.account_sid,
        auth_token: args.auth_token,
        ledger_path: args.ledger,
        supply_seed: args.seed,
        fault_seed: args.fault_seed,
        time_scale: args.time_scale,
        ..SimulatorConfig::default()
    })
    .await?;
    let url = running.base_url();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "The simulated carrier listens on {url}\n  account SID  {}\n  auth token   {}\n\nTry:\n  curl -u {}:{} '{url}/2010-04-01/Accounts/{}/AvailablePhoneNumbers/US/Local.json?PageSize=3'\n  curl {url}/_control/ledger",
        running.account_sid(),
        running.auth_token(),
        running.account_sid(),
        running.auth_token(),
        running.account_sid(),
    )
    .and_then(|()| out.flush())
    .context("cannot write to standard output")?;
    stop_signal().await?;
    running.shutdown().await;
    Ok(())
}

/// Waits until the process is told to stop.
async fn stop_signal() -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for SIGINT"),
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.context("cannot listen for Ctrl-C")
}
