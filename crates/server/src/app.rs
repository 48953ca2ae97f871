//! Everything a request or a background task may need, made once at the start and shared by all.
//!
//! What it is made of stands in files of its own; `serve` puts it together. A test makes one with a clock of its own.

pub mod failpoint;
mod gauges;
pub mod metrics;
mod nudges;
pub mod random;
mod tasks;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use database::{Database, DbError, Keyring};
use domain::id::WorkspaceId;
use domain::workspace::WorkspaceSettings;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

pub use self::gauges::Gauges;
pub use self::metrics::Metrics;
pub use self::nudges::Nudges;
pub use self::random::Random;
pub use self::tasks::Tasks;
use crate::actions::health::Health;
use crate::api::Cursors;
use crate::clock::Clock;
use crate::config::Config;
use crate::limits::{Limits, Listeners, Unproven};
use crate::record::Recorder;
use crate::routes::{Disk, Routes};
use crate::store::Store;
use crate::webhooks::guard::Egress;

/// The workspace that the first start creates.
pub const WORKSPACE_DEFAULT: &str = "default";

/// How long the database may take to answer at the start before the program starts without it.
const START_LIMIT: Duration = Duration::from_secs(1);

/// Everything a request or a background task may need.
pub struct App {
    /// The settings.
    pub config: Arc<Config>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where chance comes from, secrets and tokens apart: those come from the system's own generator.
    pub random: Random,
    /// Everything that is kept.
    pub database: Database,
    /// Seals secrets, and gives other keys to sign with.
    pub keyring: Arc<Keyring>,
    /// The shop; none where the settings name no supply.
    pub store: Option<Arc<Store>>,
    /// What runs beside the requests.
    pub tasks: Tasks,
    /// Wakes background tasks early.
    pub nudges: Nudges,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// How things stand.
    pub gauges: Gauges,
    /// How much each API key may still ask.
    pub limits: Limits,
    /// How much each address may still ask without proof.
    pub unproven: Unproven,
    /// Who listens to events.
    pub listeners: Arc<Listeners>,
    /// Seals the cursors of lists.
    pub cursors: Cursors,
    /// What calls are decided by.
    pub routes: Arc<Routes>,
    /// Where the routes are kept for a start without a database.
    pub routes_disk: Arc<Disk>,
    /// Keeps what happened in calls.
    pub recorder: Recorder,
    /// The way out to addresses that users name.
    pub egress: Arc<Egress>,
    /// Whether the database has confirmed that the key is its key; not yet where it was down at the start.
    pub key_is_checked: AtomicBool,
    /// Whether it could work when that was asked last.
    pub health: Health,
    /// Cancelled when the database says that the key is not its key: then the program ends.
    pub key_is_wrong: CancellationToken,
}

/// How the app is handed around.
pub type Shared = Arc<App>;

/// Creates the data folder where it is missing, closed to the machine's other users.
pub fn data_dir_create(folder: &Path) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o750).create(folder)
}

impl App {
    /// Opens the database, brings it up to date, checks that the key is its key, and creates the default workspace at the first start.
    pub async fn open(config: Config, clock: Arc<dyn Clock>, random: Random) -> anyhow::Result<Shared> {
        data_dir_create(&config.data_dir)
            .with_context(|| format!("failed to create the data folder {}", config.data_dir.display()))?;
        let mut settings = config.database_settings();
        // Calls must be answered also when the database is not: the key file and a route snapshot are enough for that.
        settings.may_start_down = true;
        let shown = settings.address.shown();
        let database = Database::open(settings)
            .await
            .with_context(|| format!("failed to open the database, {shown}"))?;
        let key_file = config.key_file();
        let in_use = || format!("failed to use the encryption key file {}", key_file.display());
        let (keyring, is_down) = match database.within(START_LIMIT).open_keyring(&key_file).await {
            Ok(keyring) => (keyring, false),
            Err(why @ DbError::Unavailable(_)) => {
                let keyring = Keyring::load(&key_file).with_context(in_use)?;
                let keyring = keyring.ok_or_else(|| {
                    anyhow::Error::from(why.clone()).context(format!(
                        "the database, {shown}, does not answer, and there is no key file {} to start without it",
                        key_file.display()
                    ))
                })?;
                error!(
                    "the database, {shown}, does not answer; calls are routed by the last snapshot meanwhile: {why}"
                );
                (keyring, true)
            }
            Err(why) => return Err(why).with_context(in_use),
        };
        info!(
            database = shown,
            key.fingerprint = keyring.fingerprint(),
            "the database is {shown}; the encryption key is {}",
            key_file.display()
        );
        let app = App::with(config, clock, random, database, Arc::new(keyring))?;
        if is_down {
            app.key_is_checked.store(false, Ordering::Release);
        } else {
            app.create_default_workspace().await?;
        }
        Ok(app)
    }

    /// Puts an app together on a database that is open.
    pub fn with(
        config: Config,
        clock: Arc<dyn Clock>,
        random: Random,
        database: Database,
        keyring: Arc<Keyring>,
    ) -> anyhow::Result<Shared> {
        let metrics = Arc::new(Metrics::new());
        Ok(Arc::new(App {
            store: Store::open(&config, &keyring)?.map(Arc::new),
            limits: Limits::new(&config.limits, clock.clone()),
            unproven: Unproven::new(&config.limits, config.trusted_proxies.clone(), clock.clone()),
            listeners: Listeners::new(&config.limits),
            cursors: Cursors::new(keyring.derive("cursors").as_slice()),
            routes: Arc::new(Routes::new(clock.clone())),
            routes_disk: Arc::new(Disk::new(config.data_dir.clone())),
            recorder: Recorder::new(&metrics),
            egress: Arc::new(Egress::new(&config.egress)?.selling(config.store.prices.keys().copied())),
            key_is_checked: AtomicBool::new(true),
            health: Health::default(),
            key_is_wrong: CancellationToken::new(),
            config: Arc::new(config),
            clock,
            random,
            database,
            keyring,
            tasks: Tasks::new(),
            nudges: Nudges::default(),
            gauges: Gauges::new(&metrics),
            metrics,
        }))
    }

    /// Asks the database whether the key is its key, where that is not known because it was away at the start. Another key must
    /// not seal anything here, and cannot open what calls need: then the program is told to end.
    pub async fn check_key(&self) -> anyhow::Result<()> {
        if self.key_is_checked.load(Ordering::Acquire) {
            return Ok(());
        }
        let checked = self.database.check_key(&self.keyring).await;
        if let Err(why @ DbError::WrongKey { .. }) = &checked {
            error!("this node ends, so that others take its calls: {why}");
            self.key_is_wrong.cancel();
        }
        checked?;
        self.create_default_workspace().await?;
        self.key_is_checked.store(true, Ordering::Release);
        Ok(())
    }

    async fn create_default_workspace(&self) -> anyhow::Result<()> {
        let (id, now) = (WorkspaceId::new(self.clock.now(), self.random.bits()), self.clock.now());
        let created = self
            .database
            .write(move |tx| {
                if !database::workspaces::workspace_list(tx, None, 1)?.is_empty() {
                    return Ok(false);
                }
                // Of two first nodes, one creates it and the other finds it.
                let create = |tx: &database::Tx<'_>| {
                    database::workspaces::workspace_create(
                        tx,
                        id,
                        WORKSPACE_DEFAULT,
                        &WorkspaceSettings::default(),
                        now,
                    )
                };
                match tx.attempt(create) {
                    Ok(()) => Ok(true),
                    Err(database::DbError::Conflict(_)) => Ok(false),
                    Err(error) => Err(error),
                }
            })
            .await
            .context("failed to create the first workspace")?;
        if created {
            info!(workspace.id = %id, "created the workspace {WORKSPACE_DEFAULT}, since there was none");
        }
        Ok(())
    }
}
