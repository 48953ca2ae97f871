//! The command line: what there is, and which file does it. Each group of commands is a file; what they share is [`client`], for those
//! that talk to a server's REST API, and how text is written.
//!
//! Settings come from `--config`, the environment and the defaults (`config.rs`); a client's address and key from its own options.

pub mod agents;
pub mod audit;
pub mod backup;
pub mod callouts;
pub mod calls;
pub mod client;
mod commands;
pub mod demo;
pub mod doctor;
pub mod keys;
pub mod migrate;
pub mod numbers;
pub mod reconcile;
pub mod route;
pub mod secrets;
pub mod serve;
mod text;
pub mod workspaces;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;
use database::{Database, DbError};

pub use self::client::Failure;
use crate::app::{self, App, Random, Shared};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::simulator::{self, SimulatorArgs};

/// Connects phone numbers to AI voice agents
#[derive(Debug, clap::Parser)]
#[command(name = "switchboard", version, after_help = client::EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    // Serving.
    Serve(serve::ServeArgs),
    Demo(demo::DemoArgs),
    Simulator(SimulatorArgs),
    // Clients of the API.
    Numbers(numbers::NumbersArgs),
    Agents(agents::AgentsArgs),
    Callouts(callouts::CalloutsArgs),
    Route(route::RouteArgs),
    Calls(calls::CallsArgs),
    // On the server's own machine.
    Workspaces(workspaces::WorkspacesArgs),
    Keys(keys::KeysArgs),
    Reconcile(reconcile::ReconcileArgs),
    Doctor(doctor::DoctorArgs),
    Migrate(migrate::MigrateArgs),
    Secrets(secrets::SecretsArgs),
    Audit(audit::AuditArgs),
    Backup(backup::BackupArgs),
}

/// Reads the command line and does what it says. Whoever reads the output gets nothing else on it: faults go to standard error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            text::note(&format!("failed to start: {error}"));
            return ExitCode::from(3);
        }
    };
    match runtime.block_on(cli.run()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            text::note(&format!("switchboard: {failure}"));
            ExitCode::from(failure.exit_code())
        }
    }
}

impl Cli {
    async fn run(self) -> Result<(), Failure> {
        match self.command {
            Command::Serve(args) => args.run().await,
            Command::Demo(args) => args.run().await,
            Command::Numbers(args) => args.run().await,
            Command::Agents(args) => args.run().await,
            Command::Callouts(args) => args.run().await,
            Command::Route(args) => args.run().await,
            Command::Calls(args) => args.run().await,
            Command::Migrate(args) => args.run().await,
            Command::Reconcile(args) => args.run().await,
            Command::Doctor(args) => args.run().await,
            Command::Secrets(args) => args.run().await,
            Command::Audit(args) => args.run().await,
            Command::Backup(args) => args.run().await,
            Command::Workspaces(args) => args.run().await,
            Command::Keys(args) => args.run().await,
            Command::Simulator(args) => {
                simulator::run(args).await.map_err(|error| Failure::Refused(format!("{error:#}")))
            }
        }
    }
}

/// Where the settings come from, for the commands that work on the server's own machine.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The settings file [env: SWITCHBOARD_CONFIG] [default: switchboard.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl ConfigArgs {
    /// Reads the settings.
    pub fn load(&self) -> Result<Config, Failure> {
        Config::load(self.config.as_deref()).map_err(|error| Failure::Usage(error.to_string()))
    }

    /// Reads the settings, or says each thing that is wrong with them.
    fn load_each(&self) -> Result<Config, Vec<String>> {
        Config::load(self.config.as_deref())
            .map_err(|error| error.each().iter().map(ToString::to_string).collect())
    }
}

/// Opens the database of these settings, its folder made where it is missing.
async fn open(config: &Config) -> Result<Database, Failure> {
    app::data_dir_create(&config.data_dir).map_err(|error| {
        Failure::Usage(format!("failed to create the data folder {}: {error}", config.data_dir.display()))
    })?;
    Database::open(config.database_settings()).await.map_err(refused)
}

/// The whole app of these settings, for the commands that work on the database directly.
async fn open_app(config: &ConfigArgs) -> Result<Shared, Failure> {
    let app = App::open(config.load()?, Arc::new(SystemClock::new()), Random::from_system()).await;
    app.map_err(|error| Failure::Refused(format!("{error:#}")))
}

/// An error of the database as the command line tells it.
fn refused(error: DbError) -> Failure {
    match error {
        DbError::Unavailable(_) | DbError::ReadOnly(_) | DbError::Full(_) => {
            Failure::Unreachable(error.to_string())
        }
        DbError::Corrupt(_) => Failure::Found(error.to_string()),
        other => Failure::Refused(other.to_string()),
    }
}
