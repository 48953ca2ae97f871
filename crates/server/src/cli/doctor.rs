//! `switchboard doctor`: looks at everything that a start needs, changes nothing that matters, and says how to fix what is wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use carriers::CarrierError;
use database::{Database, DbError, Keyring};
use jiff::SignedDuration;
use tokio::net::{TcpListener, lookup_host};

use super::ConfigArgs;
use super::client::Failure;
use super::text::{say, say_json, visible};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Config;
use crate::store::Store;

/// How far our clock and the database's may be apart.
const SKEW_MAX: SignedDuration = SignedDuration::from_secs(30);
/// Below this much room on the data folder's disk we warn, and below a tenth of it we fail.
const FREE_BYTES_LOW: u64 = 1 << 30;
/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Check everything that a start needs, and say how to fix what is wrong
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Brings the database's schema up to date, as a start would. Ends with exit code 4 if anything failed.\n\n\
    Examples:\n  switchboard doctor\n  switchboard doctor --config /etc/switchboard/switchboard.toml --json"
)]
pub struct DoctorArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

/// What one check found, and how to fix it.
#[derive(Debug)]
struct Finding {
    level: Level,
    what: &'static str,
    said: String,
    mend: Option<String>,
}

impl Finding {
    fn ok(what: &'static str, said: impl Into<String>) -> Finding {
        Finding { level: Level::Ok, what, said: said.into(), mend: None }
    }

    fn warn(what: &'static str, said: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { level: Level::Warn, what, said: said.into(), mend: Some(mend.into()) }
    }

    fn fail(what: &'static str, said: impl Into<String>, mend: impl Into<String>) -> Finding {
        Finding { level: Level::Fail, what, said: said.into(), mend: Some(mend.into()) }
    }
}

impl DoctorArgs {
    /// Does it.
    pub async fn run(self) -> Result<(), Failure> {
        let config = match self.config.load_each() {
            Ok(config) => config,
            Err(errors) => return cannot_begin(&errors, self.json),
        };
        let mut findings = vec![Finding::ok("settings", "they can be read, and are safe together")];
        findings.push(data_folder(&config.data_dir));
        findings.push(free_space(&config.data_dir));
        let (found, database) = database(&config).await;
        findings.extend(found);
        findings.push(key_file(&config.key_file(), database.as_ref()).await);
        findings.push(port(&config).await);
        findings.push(public_url(&config).await);
        findings.push(supply(&config).await);
        if let Some(database) = database {
            database.close().await;
        }
        report(&findings, self.json)
    }
}

/// Without settings nothing else can be looked at; all that is wrong with them is told.
fn cannot_begin(errors: &[String], json: bool) -> Result<(), Failure> {
    let findings: Vec<Finding> = errors
        .iter()
        .map(|error| Finding::fail("settings", error.trim_end(), "correct it, and look again"))
        .collect();
    show(&findings, json);
    let those = if errors.len() == 1 { "a setting".to_owned() } else { format!("{} settings", errors.len()) };
    Err(Failure::Usage(format!("{those} cannot be used, so nothing else was checked")))
}

fn report(findings: &[Finding], json: bool) -> Result<(), Failure> {
    show(findings, json);
    let failed = findings.iter().filter(|found| found.level == Level::Fail).count();
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::Found(format!("{failed} of {} checks failed", findings.len())))
    }
}

fn show(findings: &[Finding], json: bool) {
    if json {
        let list: Vec<serde_json::Value> = findings
            .iter()
            .map(|found| serde_json::json!({ "check": found.what, "level": found.level.as_str(), "detail": found.said, "mend": found.mend }))
            .collect();
        say_json(&serde_json::json!({ "data": list }));
    } else {
        for found in findings {
            let mut said = found.said.lines();
            let first = visible(said.next().unwrap_or_default());
            say(&format!("{:4}  {:13} {first}", found.level.as_str(), found.what));
            // The place in a file is shown over several lines.
            for line in said {
                say(&format!("      {:13} {}", "", visible(line)));
            }
            if let Some(mend) = &found.mend {
                say(&format!("      {:13} → {}", "", visible(mend)));
            }
        }
    }
}

fn data_folder(folder: &Path) -> Finding {
    const WHAT: &str = "data folder";
    let shown = folder.display();
    if !folder.exists() {
        return match not_makable(folder) {
            None => Finding::ok(WHAT, format!("{shown} is not there yet; the first start makes it")),
            Some(why) => Finding::fail(
                WHAT,
                format!("{shown} is not there, and the first start cannot make it: {why}"),
                "let the user that runs Switchboard own the folder above it, or set data_dir",
            ),
        };
    }
    let probe = folder.join(format!(".doctor-{}", std::process::id()));
    let tried = fs::write(&probe, b"a probe of `switchboard doctor`").and_then(|()| fs::remove_file(&probe));
    if let Err(error) = tried {
        return Finding::fail(
            WHAT,
            format!("{shown} cannot be written: {error}"),
            "let the user that runs Switchboard own the folder, or set data_dir",
        );
    }
    match fs::metadata(folder).map(|found| found.permissions().mode() & 0o777) {
        Ok(mode) if mode & 0o007 != 0 => Finding::warn(
            WHAT,
            format!("{shown} is open to every user of this machine (mode {mode:03o})"),
            format!("chmod 750 {shown}"),
        ),
        _ => Finding::ok(WHAT, format!("{shown} can be written")),
    }
}

/// Why a folder or file cannot be made, as far as a trial beside it tells: in the nearest folder above it that is there.
fn not_makable(path: &Path) -> Option<String> {
    let above = path
        .ancestors()
        .skip(1)
        .map(|part| if part.as_os_str().is_empty() { Path::new(".") } else { part })
        .find(|part| part.exists())?;
    let probe = above.join(format!(".doctor-{}", std::process::id()));
    let tried = fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe));
    tried.err().map(|error| format!("{}: {error}", above.display()))
}

fn free_space(folder: &Path) -> Finding {
    const WHAT: &str = "disk";
    let Some(present) = folder
        .ancestors()
        .map(|part| if part.as_os_str().is_empty() { Path::new(".") } else { part })
        .find(|part| part.exists())
    else {
        return Finding::warn(WHAT, format!("there is no folder above {}", folder.display()), "set data_dir");
    };
    match rustix::fs::statvfs(present) {
        Ok(found) => {
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            let said = format!("{} MiB are free for {}", free >> 20, folder.display());
            match free {
                free if free < FREE_BYTES_LOW / 10 => Finding::fail(
                    WHAT,
                    said,
                    "free some space: without it nothing can be bought or changed (calls go on)",
                ),
                free if free < FREE_BYTES_LOW => {
                    Finding::warn(WHAT, said, "free some space before it runs out")
                }
                _ => Finding::ok(WHAT, said),
            }
        }
        Err(error) => Finding::warn(
            WHAT,
            format!("the free space of {} cannot be told: {error}", present.display()),
            "see `df`",
        ),
    }
}

async fn database(config: &Config) -> (Vec<Finding>, Option<Database>) {
    const WHAT: &str = "database";
    let settings = config.database_settings();
    let shown = settings.address.shown();
    if config.database_url.is_none() && !config.database_file().exists() {
        return (
            vec![Finding::ok(WHAT, format!("{shown} is not there yet; the first start makes it"))],
            None,
        );
    }
    let database = match Database::open(settings).await {
        Ok(database) => database,
        Err(error) => return (vec![Finding::fail(WHAT, format!("{shown}: {error}"), mend(&error))], None),
    };
    let clock = SystemClock::new();
    let mut findings = Vec::new();
    match database.check_ready(clock.now()).await {
        Ok(()) => findings.push(Finding::ok(
            WHAT,
            format!("{shown} reads and writes, schema {}", database::SCHEMA_VERSION),
        )),
        Err(error) => findings.push(Finding::fail(WHAT, format!("{shown}: {error}"), mend(&error))),
    }
    match database
        .read(|read| Ok((database::meta::clock(read)?, database::meta::purchases_locked(read)?)))
        .await
    {
        Ok((theirs, locked)) => {
            let skew = clock.now().duration_since(theirs).abs();
            findings.push(if skew > SKEW_MAX {
                Finding::fail(
                    "clock",
                    format!("this machine's clock and the database's are {} s apart", skew.as_secs()),
                    "run a time service (chrony, systemd-timesyncd) on both",
                )
            } else {
                Finding::ok("clock", "it agrees with the database's")
            });
            if let Some(why) = locked {
                findings.push(Finding::warn(
                    "purchases",
                    format!("they are locked: {why}"),
                    "run `switchboard reconcile` and read its report",
                ));
            }
        }
        Err(error) => findings.push(Finding::fail(
            "clock",
            format!("the database's clock cannot be read: {error}"),
            mend(&error),
        )),
    }
    (findings, Some(database))
}

/// What to do about an error of the database.
fn mend(error: &DbError) -> &'static str {
    match error {
        DbError::Unavailable(_) => "check database_url, and that the server is up and lets this machine in",
        DbError::ReadOnly(_) => "connect to the primary, not to a standby",
        DbError::Full(_) => "free space on the database's disk",
        DbError::SchemaNewer { .. } => "run the newer Switchboard that migrated it",
        DbError::Corrupt(_) => "stop, keep a copy, and restore a backup: docs/guide/backup.md",
        _ => "see what it says",
    }
}

async fn key_file(path: &Path, database: Option<&Database>) -> Finding {
    const WHAT: &str = "key file";
    let shown = path.display();
    let recorded = match database {
        Some(database) => match database.key_fingerprint().await {
            Ok(recorded) => recorded,
            Err(error) => {
                return Finding::fail(
                    WHAT,
                    format!("the database cannot tell which key it expects: {error}"),
                    mend(&error),
                );
            }
        },
        None => None,
    };
    match (Keyring::load(path), recorded) {
        (Err(error), _) => {
            let is_open = fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
            let mend = if is_open {
                format!("chmod 600 {shown}")
            } else {
                "fix the file, or restore it from where you keep its copy".to_owned()
            };
            Finding::fail(WHAT, error.to_string(), mend)
        }
        (Ok(None), None) => match not_makable(path) {
            None => Finding::ok(WHAT, format!("{shown} is not there yet; the first start makes it")),
            Some(why) => Finding::fail(
                WHAT,
                format!("{shown} is not there, and the first start cannot make it: {why}"),
                "set encryption_key_file to a place that the user of Switchboard can write",
            ),
        },
        (Ok(None), Some(expected)) => Finding::fail(
            WHAT,
            format!("{shown} is missing, and the database's secrets are sealed with the key {expected}"),
            "restore the file from where you keep its copy; it is in no backup of the data",
        ),
        (Ok(Some(keyring)), Some(expected)) if keyring.fingerprint() != expected => Finding::fail(
            WHAT,
            format!("{shown} holds the key {}, and the database expects {expected}", keyring.fingerprint()),
            "set encryption_key_file to the file with the expected key",
        ),
        (Ok(Some(keyring)), _) => {
            Finding::ok(WHAT, format!("{shown} holds the key {}, for its owner only", keyring.fingerprint()))
        }
    }
}

async fn port(config: &Config) -> Finding {
    const WHAT: &str = "port";
    let listen = config.listen;
    match TcpListener::bind(listen).await {
        Ok(_) => Finding::ok(WHAT, format!("{listen} is free")),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Finding::warn(
            WHAT,
            format!("{listen} is taken, maybe by a Switchboard that runs already"),
            "nothing, if it does; else set listen to another port",
        ),
        Err(error) => Finding::fail(
            WHAT,
            format!("{listen} cannot be used: {error}"),
            "set listen to an address of this machine, and a port from 1024 up",
        ),
    }
}

async fn public_url(config: &Config) -> Finding {
    const WHAT: &str = "public_url";
    let Some(url) = &config.public_url else {
        return Finding::warn(
            WHAT,
            "it is not set, so no carrier can send calls here",
            "set public_url to the https address of this server",
        );
    };
    let Some(host) = url.host_str() else {
        return Finding::fail(WHAT, format!("{url} has no host"), "write it like https://calls.example");
    };
    let port = url.port_or_known_default().unwrap_or(443);
    let resolved =
        tokio::time::timeout(RESOLVE_TIMEOUT, lookup_host((host.trim_matches(['[', ']']), port))).await;
    match resolved {
        Ok(Ok(mut addresses)) => match addresses.next() {
            Some(address) => Finding::ok(WHAT, format!("{url} leads to {}", address.ip())),
            None => Finding::fail(WHAT, format!("{host} has no address"), "add the name to DNS"),
        },
        Ok(Err(error)) => Finding::fail(
            WHAT,
            format!("{host} cannot be resolved: {error}"),
            "add the name to DNS, or correct public_url",
        ),
        Err(_) => Finding::warn(
            WHAT,
            format!("{host} was not resolved within {} s", RESOLVE_TIMEOUT.as_secs()),
            "check this machine's DNS",
        ),
    }
}

async fn supply(config: &Config) -> Finding {
    const WHAT: &str = "store";
    // Nothing is quoted here, so the key that quotes are sealed with does not matter.
    let store = match Store::open(config, &Keyring::from_bytes(&[0; 32])) {
        Ok(Some(store)) => store,
        Ok(None) => {
            return Finding::warn(
                WHAT,
                "there is no supply, so nothing can be bought",
                "set store.supply to \"twilio\", or to \"demo\" to try it out",
            );
        }
        Err(error) => return Finding::fail(WHAT, error.to_string(), "fix the setting that it names"),
    };
    match store.carrier().account_check().await {
        Ok(account) if !account.active => Finding::fail(
            WHAT,
            format!("the carrier account {} is not active", account.name),
            "see the carrier's console: an account is suspended for unpaid bills or abuse",
        ),
        Ok(account) if account.trial => Finding::warn(
            WHAT,
            format!(
                "the carrier account {} is a trial: it buys few numbers and speaks a notice to callers",
                account.name
            ),
            "upgrade it in the carrier's console",
        ),
        Ok(_) if config.store.prices.is_empty() => Finding::warn(
            WHAT,
            "the carrier account works, and no number has a price, so none is listed",
            "set store.prices.<country>.<type>.monthly",
        ),
        Ok(account) => Finding::ok(WHAT, format!("the carrier account {} works", account.name)),
        Err(error @ CarrierError::Auth { .. }) => Finding::fail(
            WHAT,
            error.to_string(),
            format!("correct {}", store.carrier().setting_names().credentials),
        ),
        Err(error) => {
            let address = store.carrier().setting_names().address;
            Finding::fail(WHAT, error.to_string(), format!("check that this machine reaches {address}"))
        }
    }
}
