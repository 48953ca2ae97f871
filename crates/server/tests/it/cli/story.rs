//! The main job as an operator does it: only the program's own commands, against true servers and the simulated carrier.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use server::clock::{Clock as _, SystemClock};
use tempfile::TempDir;

/// How long anything that must happen may take; far more than it does, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(90);

/// Waits for a condition, with a deadline.
fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let watch = SystemClock::new();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(watch.monotonic() < PATIENCE, "{what} did not happen within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A program of ours that runs beside the test, with its output in a file. It ends with the test.
struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(mut command: Command, log: PathBuf) -> Program {
        let file = std::fs::File::create(&log).expect("the folder is ours");
        let output = file.try_clone().expect("an open file can be shared");
        let child =
            command.stdin(Stdio::null()).stdout(output).stderr(file).spawn().expect("the program was built");
        Program { child, log }
    }

    /// The word after `begin`, once it was said.
    fn said(&self, begin: &str) -> String {
        until(&format!("`{begin}…` in {}", self.log.display()), || {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let (_, rest) = text.split_once(begin)?;
            let word = rest.split_whitespace().next()?;
            Some(word.trim_end_matches(',').to_owned()).filter(|_| rest.contains(char::is_whitespace))
        })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- {}:\n{}",
                self.log.display(),
                std::fs::read_to_string(&self.log).unwrap_or_default()
            );
        }
    }
}

/// A simulated carrier.
struct Carrier {
    _program: Program,
    url: String,
    account_sid: String,
    auth_token: String,
}

impl Carrier {
    fn start(folder: &Path) -> Carrier {
        let mut command = Command::new(super::SWITCHBOARD);
        command.args(["simulator", "--listen", "127.0.0.1:0", "--time-scale", "100"]);
        let program = Program::start(command, folder.join("carrier.log"));
        Carrier {
            url: program.said("listens on "),
            account_sid: program.said("account SID "),
            auth_token: program.said("auth token "),
            _program: program,
        }
    }
}

/// An installation: its settings in the environment, as a service has them.
struct Installation {
    folder: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Installation {
    fn new(folder: PathBuf, carrier: &Carrier, database_url: Option<&str>) -> Installation {
        std::fs::create_dir_all(&folder).expect("the folder is ours");
        let mut settings = vec![
            ("SWITCHBOARD_DATA_DIR", folder.join("data").display().to_string()),
            ("SWITCHBOARD_LISTEN", "127.0.0.1:0".to_owned()),
            ("SWITCHBOARD_PUBLIC_URL", "http://127.0.0.1:9".to_owned()),
            ("SWITCHBOARD_STORE__SUPPLY", "demo".to_owned()),
            ("SWITCHBOARD_STORE__PRICES", "{ US = { local = { monthly = \"1.15\" } } }".to_owned()),
            ("SWITCHBOARD_CARRIERS__TWILIO__BASE_URL", carrier.url.clone()),
            ("SWITCHBOARD_CARRIERS__TWILIO__ACCOUNT_SID", carrier.account_sid.clone()),
            ("SWITCHBOARD_CARRIERS__TWILIO__AUTH_TOKEN", carrier.auth_token.clone()),
        ];
        settings.extend(database_url.map(|url| ("SWITCHBOARD_DATABASE_URL", url.to_owned())));
        Installation { folder, settings }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(super::SWITCHBOARD);
        command.args(arguments).env_clear().envs(self.settings.iter().map(|(name, value)| (name, value)));
        command
    }

    /// A command on the server's own machine.
    fn local(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        super::outcome(&mut self.command(arguments))
    }

    fn serve(&self) -> Server {
        let program = Program::start(self.command(&["serve"]), self.folder.join("serve.log"));
        let url = program.said("serving the API on ");
        Server { _program: program, url }
    }
}

struct Server {
    _program: Program,
    url: String,
}

impl Server {
    /// A command as a client of this server.
    fn run(&self, key: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(super::SWITCHBOARD);
        command.args(arguments).env_clear().env("SWITCHBOARD_URL", &self.url).env("SWITCHBOARD_KEY", key);
        super::outcome(&mut command)
    }

    /// The same, and it must go well.
    fn ok(&self, key: &str, arguments: &[&str]) -> String {
        let (exit, out, err) = self.run(key, arguments);
        assert_eq!(exit, Some(0), "{arguments:?}: {out}{err}");
        out
    }

    fn json(&self, key: &str, arguments: &[&str]) -> Value {
        let with_json: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let out = self.ok(key, &with_json);
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }
}

fn owner_key(installation: &Installation) -> String {
    let (exit, key, err) = installation.local(&["keys", "create", "--role", "owner"]);
    assert_eq!(exit, Some(0), "{err}");
    key.trim().to_owned()
}

/// Finds a number, buys it, and gives it in E.164 form.
fn buy(server: &Server, key: &str) -> String {
    let found = server.json(key, &["numbers", "search", "--country", "US", "--limit", "1"]);
    let number = found["data"][0]["phone_number"].as_str().expect("the store has numbers").to_owned();
    let bought = server.json(key, &["numbers", "buy", &number, "--label", "Reception"]);
    assert_eq!(bought["phone_number"], number, "that one and no other");
    assert_eq!(bought["status"], "active", "{bought}");
    bought["phone_number"].as_str().expect("a number").to_owned()
}

#[test]
fn a_number_is_bought_assigned_explained_and_kept_through_a_restore() {
    let folder = TempDir::new().expect("a temporary folder");
    let carrier = Carrier::start(folder.path());
    let installation = Installation::new(folder.path().join("old"), &carrier, None);
    let server = installation.serve();
    let key = owner_key(&installation);

    server.ok(&key, &["agents", "create", "Support"]);
    server.ok(&key, &["agents", "draft", "set", "Support", "--phone", "+14155550199"]);
    let refused =
        server.run(&key, &["agents", "promote", "Support", "--from", "sandbox", "--to", "pre_release"]);
    assert_eq!(refused.0, Some(1), "nothing was published yet: {}", refused.2);
    assert!(server.ok(&key, &["agents", "publish", "Support"]).contains("Version 1 runs in sandbox"));
    let number = buy(&server, &key);
    let assign = ["numbers", "assign", &number, "--agent", "Support", "--environment"];
    let (exit, _, err) = server.run(&key, &[&assign[..], &["live"]].concat());
    assert_eq!(exit, Some(1), "{err}");
    assert!(err.contains("not_published") && err.contains("→"), "the refusal says what to do: {err}");
    server.ok(&key, &[&assign[..], &["sandbox"]].concat());
    let listed = server.ok(&key, &["numbers", "list", "--environment", "sandbox"]);
    assert!(listed.contains(&number) && listed.contains("Reception"), "{listed}");
    assert!(listed.contains("Support") && !listed.contains("agt_"), "agents are named: {listed}");
    let told = until("the route", || {
        let told = server.ok(&key, &["route", "explain", &number, "--from", "+15145550100"]);
        told.contains("phone +14155550199").then_some(told)
    });
    assert!(told.contains("Because") && told.contains("Support"), "{told}");
    assert!(server.ok(&key, &["numbers", "readiness", &number]).contains("outbound  not ready"));
    server.ok(&key, &["callouts"]);
    server.ok(&key, &["calls", "list"]);

    let (exit, _, err) =
        server.run(&key, &["numbers", "release", &number, "--confirm", "+14155550000", "--force"]);
    assert_eq!(exit, Some(1), "{err}");
    assert!(err.contains("confirmation_mismatch"), "{err}");
    server.ok(&key, &["numbers", "release", &number, "--confirm", &number, "--force"]);
    server.ok(&key, &["numbers", "cancel-release", &number]);

    // The server is at work while the backup is made.
    let file = folder.path().join("today.backup");
    let file = file.to_str().expect("plain names");
    let (exit, out, err) = installation.local(&["backup", "create", file]);
    assert_eq!(exit, Some(0), "{out}{err}");
    drop(server);

    let restored = Installation::new(folder.path().join("new"), &carrier, None);
    let (exit, out, err) = restored.local(&["backup", "restore", file]);
    assert_eq!(exit, Some(0), "{out}{err}");
    let copied = std::fs::copy(installation.folder.join("data.key"), restored.folder.join("data.key"));
    assert!(copied.is_ok(), "{copied:?}");
    let (exit, out, err) = restored.local(&["doctor"]);
    assert_eq!(exit, Some(0), "{out}{err}");
    assert!(out.contains("warn  purchases") && out.contains("ok    store"), "{out}");
    let (exit, out, err) = restored.local(&["reconcile"]);
    assert_eq!(exit, Some(0), "{out}{err}");
    let (exit, out, _) = restored.local(&["doctor"]);
    assert_eq!((exit, out.contains("warn  purchases")), (Some(0), false), "{out}");
    let server = restored.serve();
    let (exit, _, err) = server.run(&key, &["numbers", "list"]);
    assert_eq!(exit, Some(1), "whoever found the old key has nothing: {err}");
    assert!(err.contains("key_revoked"), "{err}");
    let key = owner_key(&restored);
    assert!(server.ok(&key, &["numbers", "list"]).contains(&number), "the number is there again");
    assert_ne!(buy(&server, &key), number);
    let (exit, out, err) = restored.local(&["audit", "verify"]);
    assert_eq!(exit, Some(0), "{out}{err}");
    assert!(out.contains("whole"), "{out}");
}

#[expect(clippy::disallowed_methods, reason = "only the environment knows where the test server is")]
fn postgres_server() -> String {
    std::env::var("SWITCHBOARD_TEST_POSTGRES_URL").unwrap_or_else(|_| {
        panic!("SWITCHBOARD_TEST_POSTGRES_URL is not set. Run this first:\n    eval \"$(crates/database/tests/postgres.sh start)\"")
    })
}

/// A database of the test's own; dropped with it.
struct Postgres {
    name: String,
    url: String,
}

impl Postgres {
    fn create() -> Postgres {
        let name = format!("cli_{}", std::process::id());
        psql(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        psql(&format!("CREATE DATABASE {name}"));
        let server = postgres_server();
        let (server, _) = server.rsplit_once('/').expect("the address names a database");
        Postgres { url: format!("{server}/{name}"), name }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        psql(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

fn psql(sql: &str) {
    let output =
        Command::new("psql").args([&postgres_server(), "-qXc", sql]).output().expect("psql is installed");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn two_nodes_on_one_postgres_see_each_others_changes() {
    let folder = TempDir::new().expect("a temporary folder");
    let carrier = Carrier::start(folder.path());
    let postgres = Postgres::create();
    let one = Installation::new(folder.path().join("one"), &carrier, Some(&postgres.url));
    let mut two = Installation::new(folder.path().join("two"), &carrier, Some(&postgres.url));
    let first = one.serve();

    // A node with a key of its own is refused, and told both fingerprints.
    std::fs::write(two.folder.join("other.key"), format!("switchboard-key-1:{}=\n", "A".repeat(43)))
        .expect("the folder is ours");
    let chmod =
        Command::new("chmod").arg("600").arg(two.folder.join("other.key")).status().expect("chmod runs");
    assert!(chmod.success());
    two.settings
        .push(("SWITCHBOARD_ENCRYPTION_KEY_FILE", two.folder.join("other.key").display().to_string()));
    let (exit, _, err) = two.local(&["serve"]);
    assert_eq!(exit, Some(1), "{err}");
    assert!(err.contains("expects the encryption key"), "{err}");
    two.settings.pop();
    two.settings.push(("SWITCHBOARD_ENCRYPTION_KEY_FILE", one.folder.join("data.key").display().to_string()));
    let second = two.serve();

    let key = owner_key(&one);
    first.ok(&key, &["agents", "create", "Support"]);
    first.ok(&key, &["agents", "draft", "set", "Support", "--phone", "+14155550199"]);
    first.ok(&key, &["agents", "publish", "Support"]);
    let number = buy(&first, &key);
    first.ok(&key, &["numbers", "assign", &number, "--agent", "Support", "--environment", "sandbox"]);
    until("the second node's route", || {
        second.ok(&key, &["route", "explain", &number]).contains("phone +14155550199").then_some(())
    });
    assert!(second.ok(&key, &["numbers", "list"]).contains(&number));
    let other = buy(&second, &key);
    assert!(first.ok(&key, &["numbers", "show", &other]).contains("active"));
}
