//! `switchboard demo`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::client::Failure;
use crate::demo::{self, FOLDER_DEFAULT, Options};

/// Show all of it in a minute: no account, no settings, a simulated carrier, a call from end to end
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The carrier is simulated and its numbers are reserved for fiction: nothing is spent, and no telephone rings. No setting, file \
                  or variable of yours is read. Each start begins afresh: what an earlier demonstration left in its folder is removed, \
                  and nothing else; a folder that holds other things is refused.\n\n\
                  Examples:\n  switchboard demo\n  switchboard demo --once --dir /tmp/switchboard-demo --listen 127.0.0.1:0"
)]
pub struct DemoArgs {
    /// The folder that everything is kept in
    #[arg(long, value_name = "FOLDER", default_value = FOLDER_DEFAULT)]
    dir: PathBuf,
    /// Where the API is served [default: 127.0.0.1:7600, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Tell the story and end, with exit code 1 if a step failed, instead of serving on
    #[arg(long)]
    once: bool,
}

impl DemoArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let options = Options { dir: self.dir, listen: self.listen, once: self.once };
        demo::run(options).await.map_err(|error| Failure::Refused(format!("{error:#}")))
    }
}
