//! What documents promise: the files they name exist, and what is made from a table is what the table says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::source::{files, root};

/// Paths that a document names in back-quotes and that lead nowhere. A path counts as one when it has a folder or the end of a
/// file's name; it may be written from the root, from `crates/`, from the program's sources or from the document's folder.
fn dead_paths(document: &str, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut prose = true;
    let mut dead = BTreeSet::new();
    for line in document.lines() {
        if line.starts_with("```") {
            prose = !prose;
        }
        for quoted in line.split('`').skip(1).step_by(2).filter(|_| prose) {
            let name = quoted.trim_end_matches('/');
            let is_file =
                [".rs", ".md", ".toml", ".sh", ".sql", ".yml"].iter().any(|end| name.ends_with(end));
            let is_folder = quoted.ends_with('/') && !quoted.starts_with('/');
            let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c))
                && !name.starts_with('.');
            let starts = [
                "",
                "crates/",
                "crates/server/",
                "crates/server/src/",
                "crates/domain/src/",
                "crates/database/src/",
            ];
            if plain
                && (is_file || is_folder)
                && !starts.iter().any(|start| {
                    exists(&format!("{start}{name}")) || exists(&format!("{start}{}", in_src(name)))
                })
            {
                dead.insert(quoted.to_owned());
            }
        }
    }
    dead.into_iter().collect()
}

/// `domain/number.rs` is a short way to write `domain/src/number.rs`.
fn in_src(name: &str) -> String {
    name.split_once('/').map_or_else(|| name.to_owned(), |(krate, rest)| format!("{krate}/src/{rest}"))
}

#[test]
fn the_map_names_only_what_exists() {
    let exists =
        |path: &str| matches!(path, "crates/domain/src/number.rs" | "crates/server/src/api" | "README.md");
    let sample = "See `domain/number.rs`, `api/`, `README.md`, `/v1/numbers`, `numbers::buy` and `api/ghost.rs`.\n```\n`gone.rs`\n```\n";
    assert_eq!(dead_paths(sample, &exists), ["api/ghost.rs"]);
    let mut dead = Vec::new();
    for (path, text) in files().iter().filter(|(path, _)| is_document(path)) {
        let found = dead_paths(text, &|name| root().join(name).exists());
        dead.extend(found.into_iter().map(|name| format!("{path} names {name}")));
    }
    assert_eq!(dead, Vec::<String>::new());
}

/// What `docs/guide/errors.md` must be: made from the error table, never written by hand.
fn error_list() -> String {
    use std::fmt::Write as _;
    let mut page = String::from(
        "# Errors\n\n\
         Every refusal is an RFC 9457 problem document with one of these codes. `type` links to the code's page on your server\n\
         (`/docs/errors/<code>`), `detail` names what was received, what is expected and how to fix it, and `errors` has an entry\n\
         for each field that is wrong.\n\n\
         This list is made from the table in `crates/domain/src/error.rs`; to change it, change the table and run\n\
         `UPDATE_DOCS=1 cargo test -p server --test it tidy`.\n\n\
         | code | HTTP | SIP | what it means | what to do |\n|---|---|---|---|---|\n",
    );
    for code in domain::error::Code::ALL {
        let sip = code.sip_status().map(|status| status.to_string()).unwrap_or_default();
        let cell = |text: &str| text.replace('|', "\\|");
        let (title, advice) = (cell(code.title()), cell(code.advice()));
        let _ = writeln!(page, "| `{code}` | {} | {sip} | {title} | {advice} |", code.http_status());
    }
    page
}

#[test]
fn every_error_is_on_the_list() {
    let path = root().join("docs/guide/errors.md");
    let wanted = error_list();
    if update_docs() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "docs/guide/errors.md is not what the table says; run UPDATE_DOCS=1 cargo test -p server --test it tidy"
    );
}

#[expect(clippy::disallowed_methods, reason = "a switch of this test, not a setting of the program")]
fn update_docs() -> bool {
    std::env::var_os("UPDATE_DOCS").is_some()
}

/// Command lines of the program that stand in a document's code blocks, each as its words.
fn commands_in(document: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut fenced = false;
    let joined = document.replace("\\\n", " ");
    for line in joined.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let line = line.split(" #").next().unwrap_or_default();
        // `sb` is the function of the guide to installing, which runs the program as the service's user.
        let line =
            line.strip_prefix("sb ").map_or_else(|| line.to_owned(), |rest| format!("switchboard {rest}"));
        let Some(at) =
            line.find("switchboard ").filter(|at| fenced && (*at == 0 || line[..*at].ends_with([' ', '('])))
        else {
            continue;
        };
        // `> file`, `| program` and `)` end what the program is given.
        let line = line[at..].split(['>', '|', ')']).next().unwrap_or_default();
        let mut words = Vec::new();
        for (count, part) in line.split('"').enumerate() {
            if count % 2 == 1 {
                words.push(part.to_owned());
            } else {
                words.extend(part.split_whitespace().map(str::to_owned));
            }
        }
        found.push(words);
    }
    found
}

/// Documents about this program. Those beside a crate have readers of their own.
fn is_document(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|end| end == "md")
        && (!path.contains('/') || path.starts_with("docs/"))
}

fn wrong_commands(document: &str) -> Vec<String> {
    let command = server::cli::Cli::command();
    let is_no_error = |kind| matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    commands_in(document)
        .into_iter()
        .filter_map(|words| {
            let error = command
                .clone()
                .try_get_matches_from(&words)
                .err()
                .filter(|error| !is_no_error(error.kind()))?;
            Some(format!("{}: {}", words.join(" "), error.to_string().lines().next().unwrap_or_default()))
        })
        .collect()
}

#[test]
fn commands_in_documents_are_commands_of_the_program() {
    let sample = "`switchboard gone` in prose\n```\nswitchboard numbers list --json > x  # all\nsudo -u a switchboard numbers set +1 --label \"a b\"\nswitchboard numbers sell\nsb doctor --jsn\ngit clone x/switchboard && true\n```\n";
    assert_eq!(commands_in(sample).len(), 4);
    assert_eq!(commands_in(sample)[1][5], "a b");
    assert_eq!(wrong_commands(sample).len(), 2, "{:?}", wrong_commands(sample));
    for (path, text) in files().iter().filter(|(path, _)| is_document(path)) {
        assert_eq!(wrong_commands(text), Vec::<String>::new(), "in {path}");
    }
}

#[test]
fn settings_in_documents_are_settings_of_the_program() {
    let blocks = |text: &str| -> Vec<String> {
        text.split("```toml\n")
            .skip(1)
            .map(|rest| rest.split("```").next().unwrap_or_default().to_owned())
            .collect()
    };
    let wrong =
        |block: &String| toml::from_str::<server::config::Config>(block).err().map(|error| error.to_string());
    assert!(wrong(&blocks("```toml\nlistn = \"127.0.0.1:1\"\n```\n")[0]).is_some());
    for (path, text) in
        files().iter().filter(|(path, _)| Path::new(path).extension().is_some_and(|end| end == "md"))
    {
        for block in blocks(text) {
            assert_eq!(wrong(&block), None, "in {path}:\n{block}");
        }
    }
}
