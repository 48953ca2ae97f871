//! The settings: one struct, one file (`switchboard.toml`), and the only place that reads the environment.
//!
//! Each key is also an environment variable: `SWITCHBOARD_` and the key in capitals, with two underscores between a table
//! and what is in it (`SWITCHBOARD_LISTEN`, `SWITCHBOARD_STORE__SUPPLY`). The environment is stronger than the file. Texts are
//! taken as they are; lists and tables are written as in TOML. A variable that is no setting is refused, like an unknown key.
//!
//! `config.example.toml` holds every key with its default; a test compares. Combinations that would be unsafe are refused when
//! the program starts ([`Config::check`]), with the reason and what to do instead.

mod address;
mod client;
mod load;
mod network;
mod secret;
mod unsafe_combinations;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use domain::money::Currency;
use domain::number::{Country, NumberType};
use domain::purchase::Schedule;
use domain::reconcile::Rules;
use jiff::SignedDuration;
use serde::Deserialize;
use url::Url;

pub use self::client::{ClientEnvironment, no_color};
pub use self::load::{CONFIG_FILE_DEFAULT, ConfigError};
pub use self::network::{AllowedAddress, Network};
pub use self::secret::Secret;
pub(crate) use self::unsafe_combinations::is_loopback;

/// All settings. Times are integers, their unit stands at the end of the name.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where everything is kept that must survive: the database (unless `database_url` is set), the route snapshot, the spool.
    pub data_dir: PathBuf,
    /// A `postgres://` address; absent: `SQLite` in `data_dir`.
    pub database_url: Option<Secret>,
    /// Connections to `PostgreSQL`, each with a thread of its own.
    pub database_connections: usize,
    /// Hear of other nodes' changes at once (`PostgreSQL`); without it they are seen at the next look, within seconds.
    pub database_notifications: bool,
    /// Keep `SQLite` on a network or shared file system, where its locks may not work.
    pub danger_allow_any_file_system: bool,
    /// The file with the key that secrets are sealed with; absent: `data_dir` with `.key` behind its name, beside the folder.
    pub encryption_key_file: Option<PathBuf>,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// The address that carriers reach us at; their signatures are verified over it.
    #[serde(deserialize_with = "address::url_option")]
    pub public_url: Option<Url>,
    /// Reverse proxies in front of us, which end TLS: only from them `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<Network>,
    /// Listen beyond loopback without a TLS-ending proxy in front: API keys cross the network in clear.
    pub danger_listen_without_tls: bool,
    /// On another host, set at the carrier for each number: asked for calls when all of our nodes are down.
    #[serde(deserialize_with = "address::url_option")]
    pub voice_fallback_url: Option<Url>,
    /// How long requests under way may still take after SIGTERM.
    pub drain_timeout_ms: u64,
    /// The shop.
    pub store: Store,
    /// How purchases go on after an unclear answer.
    pub purchases: Purchases,
    /// How the carrier's list of numbers is held against ours.
    pub reconcile: Reconcile,
    /// How the carriers are reached.
    pub carriers: Carriers,
    /// What may be reached when a user names an address.
    pub egress: Egress,
    /// How long things are kept.
    pub retention: Retention,
    /// How the audit log is anchored.
    pub audit: Audit,
    /// How much may be asked.
    pub limits: Limits,
    /// What is logged, and how.
    pub log: Log,
    /// Abort the process when it comes by this place, such as `order_numbers.before_post`. For crash tests.
    pub danger_failpoint: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            data_dir: PathBuf::from("switchboard-data"),
            database_url: None,
            database_connections: 8,
            database_notifications: true,
            danger_allow_any_file_system: false,
            encryption_key_file: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7600)),
            public_url: None,
            trusted_proxies: Vec::new(),
            danger_listen_without_tls: false,
            voice_fallback_url: None,
            drain_timeout_ms: 30_000,
            store: Store::default(),
            purchases: Purchases::default(),
            reconcile: Reconcile::default(),
            carriers: Carriers::default(),
            egress: Egress::default(),
            retention: Retention::default(),
            audit: Audit::default(),
            limits: Limits::default(),
            log: Log::default(),
            danger_failpoint: None,
        }
    }
}

/// The shop.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Where its numbers come from; absent: there is no store.
    pub supply: Option<Supply>,
    /// The currency of all prices.
    pub currency: Currency,
    /// What a number costs, by country and type. What has no price is not listed.
    pub prices: BTreeMap<Country, BTreeMap<NumberType, PriceSetting>>,
    /// How long a quote is good.
    pub quote_ttl_s: u64,
    /// How long a number that is to be given back still waits, cancellable.
    pub release_hold_s: u64,
    /// What one workspace may spend.
    pub limits: StoreLimits,
}

impl Default for Store {
    fn default() -> Self {
        Store {
            supply: None,
            currency: Currency::USD,
            prices: BTreeMap::new(),
            quote_ttl_s: 600,
            release_hold_s: 7 * 24 * 60 * 60,
            limits: StoreLimits::default(),
        }
    }
}

/// Where the store's numbers come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supply {
    /// The operator's Twilio account.
    Twilio,
    /// The built-in simulator: numbers that regulators reserve for fiction, and no money.
    Demo,
}

impl<'de> Deserialize<'de> for Supply {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            "twilio" => Ok(Supply::Twilio),
            "demo" => Ok(Supply::Demo),
            "telnyx" | "blocks" => Err(serde::de::Error::custom(format!(
                "the supply `{text}` is not built yet; use \"twilio\", or \"demo\" to try the store without an account"
            ))),
            _ => Err(serde::de::Error::custom(format!(
                "there is no supply {}; it is \"twilio\" or \"demo\"",
                domain::error::shown(&text)
            ))),
        }
    }
}

/// What a number of one country and type costs, in [`Store::currency`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceSetting {
    /// Each month, as decimal text.
    pub monthly: String,
    /// Once, as decimal text.
    #[serde(default = "nothing")]
    pub setup: String,
}

fn nothing() -> String {
    "0.00".to_owned()
}

/// What one workspace may spend.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreLimits {
    /// Purchases a UTC day.
    pub buys_per_day: u32,
    /// The monthly price of all its bought numbers together, as decimal text in [`Store::currency`]; absent: no limit.
    pub monthly_spend: Option<String>,
}

impl Default for StoreLimits {
    fn default() -> Self {
        StoreLimits { buys_per_day: 10, monthly_spend: None }
    }
}

/// How purchases go on after an unclear answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Purchases {
    /// How long after the unclear answer each look at the carrier's list is made.
    pub look_ups_ms: Vec<u64>,
    /// How long after it the late looks are made, once a person was asked.
    pub late_looks_ms: Vec<u64>,
    /// How often the same exact number may be asked for.
    pub posts_max: u32,
    /// How long to wait before a step that failed for an outside reason is tried again.
    pub retry_ms: u64,
    /// How often configuring is tried before a person is asked.
    pub configures_max: u32,
    /// How often the carrier may say "later" to one purchase before it is given up.
    pub deferrals_max: u32,
    /// How long a node may keep a purchase to itself before another may take it up.
    pub lease_ms: u64,
    /// How many purchases one node works on at once.
    pub concurrency: usize,
    /// How often a node looks for purchases that are due, besides being told of new ones.
    pub poll_ms: u64,
}

impl Default for Purchases {
    fn default() -> Self {
        let schedule = Schedule::default();
        let ms = |duration: &Duration| u64::try_from(duration.as_millis()).expect("a default is short");
        Purchases {
            look_ups_ms: schedule.look_ups.iter().map(ms).collect(),
            late_looks_ms: schedule.late_looks.iter().map(ms).collect(),
            posts_max: schedule.posts_max,
            retry_ms: ms(&schedule.retry),
            configures_max: schedule.configures_max,
            deferrals_max: schedule.deferrals_max,
            lease_ms: 30_000,
            concurrency: 8,
            poll_ms: 1_000,
        }
    }
}

impl Purchases {
    /// The same as the purchase state machine takes it.
    pub fn schedule(&self) -> Schedule {
        let durations = |list: &[u64]| list.iter().copied().map(Duration::from_millis).collect();
        Schedule {
            look_ups: durations(&self.look_ups_ms),
            late_looks: durations(&self.late_looks_ms),
            posts_max: self.posts_max,
            retry: Duration::from_millis(self.retry_ms),
            configures_max: self.configures_max,
            deferrals_max: self.deferrals_max,
        }
    }
}

/// How the carrier's list of numbers is held against ours.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reconcile {
    /// How often.
    pub period_ms: u64,
    /// In how many listings a difference has to be seen before it is believed: listings lag, and pages shift.
    pub listings: u32,
    /// How far apart these listings have to be.
    pub listing_gap_ms: u64,
}

impl Default for Reconcile {
    fn default() -> Self {
        Reconcile { period_ms: 300_000, listings: 3, listing_gap_ms: 600_000 }
    }
}

impl Reconcile {
    /// When a finding is believed.
    pub fn rules(&self) -> Rules {
        let gap = i64::try_from(self.listing_gap_ms).unwrap_or(i64::MAX);
        Rules { listings: self.listings.max(1), gap: SignedDuration::from_millis(gap) }
    }
}

/// How the carriers are reached.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Carriers {
    /// Twilio.
    pub twilio: Twilio,
}

/// The operator's account at Twilio: the store's supply.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Twilio {
    /// Where its API is.
    #[serde(deserialize_with = "address::url")]
    pub base_url: Url,
    /// `AC…`.
    pub account_sid: Option<String>,
    /// Signs the callbacks, and is the password unless an API key is set.
    pub auth_token: Option<Secret>,
    /// The token before this one, while callbacks signed with it may still come.
    pub auth_token_previous: Option<Secret>,
    /// `SK…`: an API key to use instead of the auth token for requests.
    pub api_key_sid: Option<String>,
    /// Its secret.
    pub api_key_secret: Option<Secret>,
    /// How long one request may take.
    pub timeout_ms: u64,
    /// How long connecting may take.
    pub connect_timeout_ms: u64,
    /// How often a read is tried, in all. What changes something is only ever sent once.
    pub read_tries: u32,
}

impl Default for Twilio {
    fn default() -> Self {
        Twilio {
            base_url: Url::parse("https://api.twilio.com/").expect("a constant URL"),
            account_sid: None,
            auth_token: None,
            auth_token_previous: None,
            api_key_sid: None,
            api_key_secret: None,
            timeout_ms: 10_000,
            connect_timeout_ms: 5_000,
            read_tries: 4,
        }
    }
}

/// What may be reached when a user names an address. Private, loopback and link-local addresses are refused by default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// Networks (`10.1.0.0/16`) or single addresses with a port (`127.0.0.1:9000`) that may be reached although they are not public.
    pub allowed_addresses: Vec<AllowedAddress>,
    /// Ports below 1024 that may be reached besides 80 and 443.
    pub allowed_ports: Vec<u16>,
    /// The countries that calls may be sent on to over the telephone network; absent: those in which the store sells, and the
    /// workspace's own.
    pub allowed_phone_countries: Option<BTreeSet<Country>>,
    /// Accept unencrypted `ws:` and `http:` URLs to loopback addresses. For the demo.
    pub danger_plain_to_loopback: bool,
}

impl Egress {
    /// Whether unencrypted URLs are accepted, as endpoints ask it.
    pub const fn plain(&self) -> domain::endpoint::Plain {
        if self.danger_plain_to_loopback {
            domain::endpoint::Plain::ToLoopback
        } else {
            domain::endpoint::Plain::Refuse
        }
    }
}

/// How long things are kept. Numbers and the audit log are kept for good.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How long a program that was away can still catch up with the events that it missed.
    pub events_days: u32,
    /// How long calls are kept; absent: for good.
    pub calls_days: Option<u32>,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { events_days: 30, calls_days: None }
    }
}

/// How the audit log is anchored: what each chain ends with is written down outside the database.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// How often, while all chains are whole and something was added.
    pub anchor_period_ms: u64,
    /// Where; absent: `audit-anchor.json` in `data_dir`.
    pub anchor_file: Option<PathBuf>,
}

impl Default for Audit {
    fn default() -> Self {
        Audit { anchor_period_ms: 300_000, anchor_file: None }
    }
}

/// How much may be asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests a second that an API key may make on and on.
    pub requests_per_second: u32,
    /// Requests that it may make at once.
    pub requests_burst: u32,
    /// Requests a second that prove nothing – no key or a wrong one, a callback with a wrong signature – and that one address may
    /// make on and on.
    pub unproven_per_second: u32,
    /// Such requests that it may make at once.
    pub unproven_burst: u32,
    /// How long one API request may take.
    pub request_timeout_ms: u64,
    /// How many connections are open at once; further ones wait.
    pub connections: usize,
    /// How many of them one address may have, unless it is this machine or one of `trusted_proxies`.
    pub connections_per_address: usize,
    /// How many of `connections` are kept for carriers' callbacks: once all others are taken, a new one is asked nothing else.
    pub connections_reserved: usize,
    /// How long a client may take to send the headers of a request, and may leave a connection idle.
    pub headers_timeout_ms: u64,
    /// How long a client may take nothing of its answer, an event stream's too, before it is let go.
    pub write_timeout_ms: u64,
    /// How many may listen to events at this node at once.
    pub listeners: usize,
    /// How many of them may be of one workspace.
    pub listeners_per_workspace: usize,
    /// How many of them may listen with one API key.
    pub listeners_per_key: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            requests_per_second: 20,
            requests_burst: 200,
            unproven_per_second: 1,
            unproven_burst: 60,
            request_timeout_ms: 15_000,
            connections: 512,
            connections_per_address: 64,
            connections_reserved: 64,
            headers_timeout_ms: 30_000,
            write_timeout_ms: 30_000,
            listeners: 200,
            listeners_per_workspace: 40,
            listeners_per_key: 10,
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// A level, or levels by part of the program, such as `info,server::api=debug`.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Log { filter: "info".to_owned(), format: LogFormat::Text }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: one JSON object a line.
    Json,
}

impl Config {
    /// Where the key file is: the setting, or beside the data folder, so that a copy of that folder is not a copy of the key.
    pub fn key_file(&self) -> PathBuf {
        self.encryption_key_file.clone().unwrap_or_else(|| {
            let mut name = self.data_dir.clone().into_os_string();
            name.push(".key");
            PathBuf::from(name)
        })
    }

    /// Where the audit log is anchored.
    pub fn audit_anchor_file(&self) -> PathBuf {
        self.audit.anchor_file.clone().unwrap_or_else(|| self.data_dir.join("audit-anchor.json"))
    }

    /// Where the embedded database is, unless `database_url` names another.
    pub fn database_file(&self) -> PathBuf {
        self.data_dir.join("switchboard.sqlite")
    }

    /// How the database is opened by these settings.
    pub fn database_settings(&self) -> database::Settings {
        let address = match &self.database_url {
            Some(url) => database::Address::Postgres(url.expose().to_owned()),
            None => database::Address::Sqlite(self.database_file()),
        };
        database::Settings {
            postgres_connections: self.database_connections,
            notifications: self.database_notifications,
            danger_allow_any_file_system: self.danger_allow_any_file_system,
            ..database::Settings::new(address)
        }
    }

    /// What is behind `public_url`, without a slash at the end: `{base}/callbacks/…` is built on it.
    pub fn public_base(&self) -> Option<String> {
        self.public_url.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned())
    }
}
