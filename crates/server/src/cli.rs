//! The command line: what there is, and which file does it. Each group of commands is a file; what they share is [`client`], for those
//! that talk to a server's REST API, and how text is written.
//!
//! Settings come from `--config`, the environment and the defaults (`config.rs`); a client's address and key from its own options.

pub mod agents;
pub mod callouts;
pub mod calls;
pub mod client;
pub mod numbers;
pub mod route;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;

pub use self::client::Failure;
use crate::config::Config;

/// Connects phone numbers to AI voice agents
#[derive(Debug, clap::Parser)]
#[command(name = "switchboard", version, after_help = client::EXIT_CODES, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Numbers(numbers::NumbersArgs),
    Agents(agents::AgentsArgs),
    Callouts(callouts::CalloutsArgs),
    Route(route::RouteArgs),
    Calls(calls::CallsArgs),
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
            Command::Numbers(args) => args.run().await,
            Command::Agents(args) => args.run().await,
            Command::Callouts(args) => args.run().await,
            Command::Route(args) => args.run().await,
            Command::Calls(args) => args.run().await,
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
}
