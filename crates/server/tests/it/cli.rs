//! The command line as people use it: the true program, its help, its output and its exit codes.

mod story;

use std::fmt::Write as _;
use std::process::Command as Process;

use clap::{Command, CommandFactory as _};
use expect_test::expect_file;

/// The program that these tests were built with.
const SWITCHBOARD: &str = env!("CARGO_BIN_EXE_switchboard");

/// Every command with its full name, the groups among them.
fn commands(command: &Command, name: &str, each: &mut dyn FnMut(&str, &Command)) {
    each(name, command);
    for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
        commands(inner, &format!("{name} {}", inner.get_name()), each);
    }
}

#[test]
fn every_command_is_explained_with_an_example() {
    let mut bare = Vec::new();
    commands(&server::cli::Cli::command(), "switchboard", &mut |name, command| {
        let explained = command.get_about().is_some_and(|about| about.to_string().len() > 10);
        let shown =
            command.get_after_help().is_some_and(|help| help.to_string().contains(&format!("  {name}")));
        if !explained || (!command.has_subcommands() && !shown) {
            bare.push(name.to_owned());
        }
        for option in command.get_arguments() {
            if option.get_help().is_none() {
                bare.push(format!("{name} {}", option.get_id()));
            }
        }
    });
    assert_eq!(
        bare,
        Vec::<String>::new(),
        "these lack an explanation, or an example that begins with their full name"
    );
}

#[test]
fn help_reads_as_it_was_last_reviewed() {
    let mut text = String::new();
    let mut root = server::cli::Cli::command().term_width(100);
    root.build();
    commands(&root, "switchboard", &mut |name, command| {
        let help = command.clone().render_help().to_string();
        let _ = writeln!(text, "$ {name} --help");
        for line in help.lines() {
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text.push('\n');
    });
    expect_file!["./cli_help.txt"].assert_eq(&text);
}

/// The exit code of a command, and what it wrote.
fn outcome(command: &mut Process) -> (Option<i32>, String, String) {
    let output = command.output().expect("the program was built for this test");
    let text = |bytes| String::from_utf8(bytes).expect("the program writes UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs the program without any setting of ours, and gives its exit code and what it wrote.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    outcome(Process::new(SWITCHBOARD).args(arguments).env_clear())
}

#[test]
fn faults_of_the_command_line_are_told_on_standard_error_with_their_exit_codes() {
    for (arguments, code, said) in [
        (&["numbers", "lst"][..], 2, "list"),
        (&["numbers", "list"], 2, "switchboard keys create"),
        (&["numbers", "list", "--url", "localhost"], 2, "no address of an API"),
        (&["numbers", "list", "--key-file", "/nowhere"], 2, "/nowhere"),
    ] {
        let (exit, out, err) = run(arguments);
        assert_eq!(exit, Some(code), "{arguments:?}: {err}");
        assert_eq!(out, "", "{arguments:?}");
        assert!(err.contains(said), "{arguments:?}: {err}");
    }
}

#[test]
fn a_server_that_is_not_there_is_exit_code_3() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "sbk_00000000_0\n").unwrap();
    // A port that was free a moment ago and that nobody else is given while we hold it bound, but not listening.
    let held = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", held.local_addr().unwrap());
    let (exit, _, err) = run(&["numbers", "list", "--url", &url, "--key-file", key.to_str().unwrap()]);
    assert_eq!(exit, Some(3), "{err}");
    assert!(err.contains("failed to reach") && err.contains("refused"), "{err}");
}

/// Runs the program with a data folder of its own.
fn run_in(folder: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Process::new(SWITCHBOARD);
    command.args(arguments).env_clear();
    outcome(command.env("SWITCHBOARD_DATA_DIR", folder.join("data")).env("SWITCHBOARD_LISTEN", "127.0.0.1:0"))
}

#[test]
fn the_doctor_finds_what_is_wrong_and_says_how_to_mend_it() {
    let folder = tempfile::tempdir().unwrap();
    let (exit, out, err) = run_in(folder.path(), &["doctor"]);
    assert_eq!(exit, Some(0), "{out}{err}");
    assert!(out.contains("the first start makes it"), "{out}");
    assert!(!folder.path().join("data").exists(), "looking changes nothing");

    let (exit, out, err) = run_in(folder.path(), &["migrate"]);
    assert_eq!(exit, Some(0), "{err}");
    assert!(out.contains("schema"), "{out}");
    let (exit, out, err) = run_in(folder.path(), &["doctor", "--json"]);
    assert_eq!(exit, Some(0), "{out}{err}");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let levels: Vec<(&str, &str)> = found["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| (found["check"].as_str().unwrap(), found["level"].as_str().unwrap()))
        .collect();
    for check in ["settings", "data folder", "database", "clock", "key file", "port"] {
        assert!(levels.contains(&(check, "ok")), "{check}: {out}");
    }
    assert!(levels.contains(&("public_url", "warn")) && levels.contains(&("store", "warn")), "{out}");

    // A database that is none, and a key that others may read.
    std::fs::write(
        folder.path().join("data/switchboard.sqlite"),
        "this was a database once, and now it is not",
    )
    .unwrap();
    std::fs::write(folder.path().join("data.key"), "not a key").unwrap();
    let (exit, out, err) = run_in(folder.path(), &["doctor"]);
    assert_eq!(exit, Some(4), "{out}{err}");
    assert!(
        out.contains("fail  database") && out.contains("fail  key file") && out.contains("chmod 600"),
        "{out}"
    );
}

#[test]
fn settings_that_cannot_be_used_are_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("switchboard.toml");
    std::fs::write(&file, "listen = \"0.0.0.0:7600\"\n").unwrap();
    let (exit, out, err) = run(&["doctor", "--config", file.to_str().unwrap()]);
    assert_eq!(exit, Some(2), "{err}");
    assert!(out.contains("fail  settings") && out.contains("trusted_proxies"), "{out}");
    assert!(err.contains("a setting cannot be used"), "{err}");
}

/// Whoever sets a server up is not told one fault at each start.
#[test]
fn all_that_is_wrong_with_settings_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("switchboard.toml");
    let path = file.to_str().unwrap();
    std::fs::write(&file, "lisen = 1\ndatabase_connections = \"many\"\n\n[stor]\nsupply = \"x\"\n\n[limits]\nconnections = -1\n").unwrap();
    let (exit, out, err) = run(&["doctor", "--config", path, "--json"]);
    assert_eq!(exit, Some(2), "{out}{err}");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let told: Vec<&str> =
        found["data"].as_array().unwrap().iter().map(|found| found["detail"].as_str().unwrap()).collect();
    assert_eq!(told.len(), 4, "{out}");
    for part in ["lisen", "many", "stor", "-1"] {
        assert!(told.iter().any(|told| told.contains(part)), "{part}: {told:?}");
    }
    assert!(found["data"][0]["level"] == "fail" && err.contains("4 settings cannot be used"), "{err}");
    // A start tells them all, too.
    let (exit, _, err) = run(&["serve", "--config", path]);
    assert_eq!(exit, Some(2), "{err}");
    assert!(["lisen", "many", "stor", "-1"].iter().all(|part| err.contains(part)), "{err}");

    // And what does not go together, once each is what it should be.
    std::fs::write(
        &file,
        "listen = \"0.0.0.0:80\"\nretention.events_days = 0\nretention.calls_days = 0\npurchases.posts_max = 0\nstore.supply = \"twilio\"\n",
    )
    .unwrap();
    let (exit, out, err) = run(&["doctor", "--config", path]);
    assert_eq!(exit, Some(2), "{out}{err}");
    for part in
        ["trusted_proxies", "events_days", "calls_days", "posts_max", "account_sid", "needs public_url"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
}

#[test]
fn the_version_is_a_version() {
    let (exit, out, _) = run(&["--version"]);
    let version = out.trim().strip_prefix("switchboard ").unwrap().to_owned();
    assert_eq!(exit, Some(0));
    assert!(version != "0.0.0" && version.split('.').count() == 3, "{version}");
    let changes = include_str!("../../../../CHANGELOG.md");
    assert!(changes.contains(&format!("**{version}**")), "CHANGELOG.md speaks of another version");
}

#[test]
fn an_empty_installation_has_whole_chains_and_no_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let (exit, out, err) = run_in(folder.path(), &["audit", "verify"]);
    assert_eq!((exit, out.lines().next()), (Some(0), Some("Workspace  Id  Entries  Chain")), "{err}");
    let (exit, out, err) = run_in(folder.path(), &["secrets", "status"]);
    assert_eq!(exit, Some(0), "{err}");
    assert!(out.contains("key expected  none yet"), "{out}");
}

/// The anchor is the only evidence: what contradicts it must not take its place.
#[test]
fn an_anchor_is_never_replaced_by_what_it_contradicts() {
    let folder = tempfile::tempdir().unwrap();
    let anchor = folder.path().join("anchor.json");
    let path = anchor.to_str().unwrap();
    let (exit, _, err) = run_in(folder.path(), &["keys", "create", "--role", "owner"]);
    assert_eq!(exit, Some(0), "{err}");
    let (exit, out, err) = run_in(folder.path(), &["audit", "verify", "--anchor", path]);
    assert_eq!(exit, Some(2), "there is none yet: {out}{err}");
    let both = ["audit", "verify", "--anchor", path, "--save-anchor", path];
    let (exit, out, err) = run_in(folder.path(), &["audit", "verify", "--save-anchor", path]);
    assert_eq!(exit, Some(0), "{out}{err}");
    let (exit, out, err) = run_in(folder.path(), &both);
    assert_eq!(exit, Some(0), "{out}{err}");

    let saved = std::fs::read_to_string(&anchor).unwrap();
    let mut heads: serde_json::Value = serde_json::from_str(&saved).unwrap();
    let mut gone = heads[0].clone();
    gone["workspace"] = "wsp_00000000000000000000000001".into();
    heads[0]["hash"] = "0".repeat(64).into();
    for (seen, told) in
        [(heads.clone(), "written anew"), (serde_json::json!([gone]), "0, and 1 entries were written")]
    {
        let seen = seen.to_string();
        std::fs::write(&anchor, &seen).unwrap();
        let (exit, out, err) = run_in(folder.path(), &both);
        assert_eq!(exit, Some(4), "{out}{err}");
        assert!(out.contains(told) && err.contains("no anchor was saved"), "{out}{err}");
        assert_eq!(std::fs::read_to_string(&anchor).unwrap(), seen, "the evidence stays");
    }
}

#[test]
fn a_backup_is_made_proven_and_restored() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = old.path().join("today.backup");
    let file = file.to_str().unwrap();
    let (exit, _, err) = run_in(old.path(), &["backup", "create", file]);
    assert_eq!(exit, Some(2), "there is nothing to back up yet: {err}");

    let (exit, key, err) = run_in(old.path(), &["keys", "create", "--role", "owner"]);
    assert_eq!((exit, key.starts_with("sbk_")), (Some(0), true), "{err}");
    let (exit, out, err) = run_in(old.path(), &["backup", "create", file]);
    assert_eq!(exit, Some(0), "{err}");
    assert!(out.contains("1 workspaces, 0 numbers"), "{out}");
    assert!(err.contains("data.key"), "it says that the key is not in it: {err}");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.contains(key.trim()), "the key itself is nowhere");

    let (exit, out, err) = run(&["backup", "verify", file]);
    assert_eq!(exit, Some(0), "{err}");
    assert!(out.contains("every chain whole"), "{out}");
    let (exit, _, err) = run_in(old.path(), &["backup", "create", file]);
    assert_eq!(exit, Some(1), "a backup is never replaced: {err}");
    let (exit, _, err) = run_in(old.path(), &["backup", "restore", file]);
    assert_eq!(exit, Some(1), "only an empty database is restored into: {err}");

    let (exit, out, err) = run_in(new.path(), &["backup", "restore", file]);
    assert_eq!(exit, Some(0), "{err}");
    assert!(out.contains("restored, 1 workspaces"), "{out}");
    assert!(err.contains("All API keys were revoked") && err.contains("switchboard keys create"), "{err}");
    let (exit, out, _) = run_in(new.path(), &["doctor"]);
    assert_eq!(exit, Some(4), "the key file is not there yet: {out}");
    assert!(out.contains("warn  purchases") && out.contains("switchboard reconcile"), "{out}");
    std::fs::copy(old.path().join("data.key"), new.path().join("data.key")).unwrap();
    let (exit, out, err) = run_in(new.path(), &["doctor"]);
    assert_eq!(exit, Some(0), "{out}{err}");
    let (exit, out, err) = run_in(new.path(), &["audit", "verify"]);
    assert_eq!(exit, Some(0), "{out}{err}");

    let cut = old.path().join("cut.backup");
    std::fs::write(&cut, &text[..text.len() - 10]).unwrap();
    let (exit, _, err) = run(&["backup", "verify", cut.to_str().unwrap()]);
    assert_eq!(exit, Some(1), "{err}");
}

#[test]
fn an_anchor_finds_a_chain_that_was_cut_or_written_anew() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let anchor = folder.path().join("anchor.json");
    let anchor = anchor.to_str().unwrap();
    for role in ["owner", "viewer"] {
        assert_eq!(run_in(folder.path(), &["keys", "create", "--role", role]).0, Some(0));
    }
    let (exit, out, err) = run_in(folder.path(), &["audit", "verify", "--save-anchor", anchor]);
    assert_eq!(exit, Some(0), "{out}{err}");
    assert_eq!(run_in(folder.path(), &["audit", "verify", "--anchor", anchor]).0, Some(0));

    // The same workspace with fewer entries than the anchor saw, as somebody would leave it who cut the end off.
    let mut heads: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(anchor).unwrap()).unwrap();
    heads[0]["seq"] = (heads[0]["seq"].as_i64().unwrap() + 1).into();
    let later = other.path().join("later.json");
    std::fs::write(&later, heads.to_string()).unwrap();
    let (exit, out, _) = run_in(folder.path(), &["audit", "verify", "--anchor", later.to_str().unwrap()]);
    assert_eq!(exit, Some(4), "{out}");
    assert!(out.contains("the chain ends at"), "{out}");
}
