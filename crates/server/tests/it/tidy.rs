//! The invariants of ARCHITECTURE.md that neither Cargo nor Clippy can keep, checked over the source text.
//!
//! Each rule is a row of [`RULES`]: where it applies, what it looks for, a sample that it must find and one that it must
//! not. Two tests run the table: over its own samples, so that no rule can be blind, and over the tree. What needs more than one
//! file stands below as a check of its own, with its bad sample beside it.

use std::fmt::Write as _;
use std::path::Path;

use source::{Source, files, has_word, split};

mod documents;
mod source;

/// One rule over one file.
struct Rule {
    /// What must hold, as the failure prints it.
    law: &'static str,
    /// Which files, by their path from the root of the project.
    applies: fn(&str) -> bool,
    /// Lines that break it.
    finds: fn(&Source) -> Vec<usize>,
    /// Samples that it must find.
    bad: &'static [&'static str],
    /// Samples that it must leave alone.
    good: &'static [&'static str],
}

const RULES: &[Rule] = &[
    Rule {
        law: "every file begins with `//!`: what it is for, and what it leaves to whom",
        applies: is_rust,
        finds: |source| if source.text.starts_with("//! ") { vec![] } else { vec![1] },
        bad: &["use std::fs;\n", "// a remark\n//! late\n", "//!\nfn main() {}\n"],
        good: &["//! Numbers.\n"],
    },
    Rule {
        law: "no `todo!`, `unimplemented!`, `#[ignore]` or `#[allow]`: finish it, or say `#[expect(…, reason = …)]`",
        applies: is_rust,
        finds: |source| source.code_with(&["todo!", "unimplemented!", "#[ignore", "#[allow(", "#![allow("]),
        bad: &[
            "fn a() { todo!() }",
            "#[ignore]\nfn t() {}",
            "#[ignore = \"slow\"]",
            "#[allow(dead_code)]",
            "#![allow(unused)]",
        ],
        good: &[
            "// todo! is not allowed",
            "let s = \"#[ignore]\";",
            "#[expect(dead_code, reason = \"why\")]",
        ],
    },
    Rule {
        law: "every `#[expect]` gives its reason",
        applies: is_rust,
        finds: |source| {
            source
                .code_lines()
                .filter(|(_, line)| line.contains("[expect("))
                .map(|(n, _)| n)
                .filter(|&n| !source.after(n).contains("reason"))
                .collect()
        },
        bad: &["#[expect(dead_code)]\nfn a() {}"],
        good: &["#[expect(\n    dead_code,\n    reason = \"why\"\n)]"],
    },
    Rule {
        law: "only clock.rs asks what time it is; elsewhere `now` is an argument (benches and examples stand outside; the database's job.rs ends waits)",
        applies: |path| {
            is_rust(path)
                && path != "crates/server/src/clock.rs"
                && path != "crates/database/src/engine/job.rs"
                && !path.contains("/benches/")
                && !path.contains("/examples/")
        },
        finds: |source| {
            source.code_with(&[
                "Timestamp::now",
                "Instant::now",
                "SystemTime::now",
                "Zoned::now",
                "Utc::now",
                "Local::now",
            ])
        },
        bad: &["let now = Timestamp::now();", "std::time::Instant::now()"],
        good: &["let now = clock.now();", "/// Not Instant::now()."],
    },
    Rule {
        law: "only config.rs reads the environment; elsewhere settings are arguments",
        applies: |path| {
            is_source(path)
                && path != "crates/server/src/config.rs"
                && !path.starts_with("crates/server/src/config/")
        },
        finds: |source| source.code_with(&["env::var", "env::vars", "env::remove_var", "env::set_var"]),
        bad: &["std::env::var(\"HOME\")", "env::var_os(name)"],
        good: &[
            "let folder = env!(\"CARGO_MANIFEST_DIR\");",
            "std::env::args()",
            "std::env::var(\"SWITCHBOARD_TEST_SEEDS\")",
        ],
    },
    Rule {
        law: "SQL exists only in crates/database",
        applies: |path| is_source(path) && !path.starts_with("crates/database/"),
        finds: |source| source.string_lines().filter(|(_, line)| is_sql(line)).map(|(n, _)| n).collect(),
        bad: &[
            "query(\"SELECT id FROM numbers\")",
            "\"INSERT INTO numbers (id) VALUES ($1)\"",
            "r#\"DELETE FROM calls\"#",
            "\"UPDATE numbers SET label = $1\"",
            "\"PRAGMA wal\"",
        ],
        good: &["\"Select one from the list\"", "// SELECT id FROM numbers", "\"UPDATE the number\""],
    },
    Rule {
        law: "`api` and `callbacks` call actions or memory; they never see the database",
        applies: |path| {
            path.starts_with("crates/server/src/api") || path.starts_with("crates/server/src/callbacks")
        },
        finds: |source| {
            source
                .code_lines()
                .filter(|(_, line)| has_word(line, "database::") || line.contains(".database"))
                .map(|(n, _)| n)
                .collect()
        },
        bad: &[
            "use database::Database;",
            "app.database.read(|read| …)",
            "let x = database::numbers::find(read, id);",
        ],
        good: &["// database::numbers does it", "return Err(Code::DatabaseUnavailable.into());"],
    },
    Rule {
        law: "`actions` never knows how it is asked or answered: neither `api` nor `callbacks`",
        applies: |path| path.starts_with("crates/server/src/actions"),
        finds: |source| {
            source
                .code_lines()
                .filter(|(_, line)| {
                    ["api", "callbacks"].iter().any(|module| has_word(line, &format!("{module}::")))
                })
                .map(|(n, _)| n)
                .collect()
        },
        bad: &[
            "use crate::api::agents::AgentOut;",
            "crate::callbacks::router(app)",
            "use crate::{api::Problem};",
        ],
        good: &["// api::agents shows it", "let rapi::x = 1;"],
    },
    Rule {
        law: "permission is checked in `actions` and nowhere else",
        applies: |path| {
            path.starts_with("crates/server/src/") && !path.starts_with("crates/server/src/actions")
        },
        finds: |source| source.code_with(&[".may(", ".may_grant("]),
        bad: &["caller.may(Permission::NumbersBuy)?;"],
        good: &["/// `actions` call caller.may().", "let may_start_down = true;"],
    },
    Rule {
        law: "every queue has a limit",
        applies: is_rust,
        finds: |source| {
            source
                .code_with(&[
                    "unbounded_channel",
                    "unbounded()",
                    "unbounded::<",
                    "mpsc::channel()",
                    "mpsc::channel::<",
                ])
                .into_iter()
                .filter(|&n| !source.after(n).contains("mpsc::channel::<") || source.line(n).contains(">()"))
                .collect()
        },
        bad: &[
            "let (tx, rx) = tokio::sync::mpsc::unbounded_channel();",
            "std::sync::mpsc::channel()",
            "mpsc::channel::<u8>()",
            "flume::unbounded()",
        ],
        good: &["mpsc::channel(QUEUE_LIMIT)", "mpsc::channel::<Record>(QUEUE_LIMIT)", "sync_channel(4)"],
    },
    Rule {
        law: "tests do not sleep: advance a clock, or wait on a condition with a deadline, in a function called `until`",
        applies: |path| is_rust(path) && is_test(path),
        finds: |source| {
            let waits = |line: usize| {
                (line.saturating_sub(14).max(1)..line).any(|n| source.line(n).contains("fn until"))
            };
            source.code_with(&["sleep("]).into_iter().filter(|&line| !waits(line)).collect()
        },
        bad: &["tokio::time::sleep(Duration::from_secs(1)).await;", "std::thread::sleep(pause);"],
        good: &[
            "harness.until(\"the number is active\", || …).await;",
            "fn until() {\n    std::thread::sleep(A_MOMENT);\n}",
        ],
    },
    Rule {
        law: "`domain` and `sip` have no async, sockets, files, clock, threads or randomness",
        applies: |path| is_pure(path) && is_source(path),
        finds: |source| {
            source.code_with(&[
                "async fn",
                ".await",
                "tokio",
                "std::fs",
                "std::net::Tcp",
                "std::net::Udp",
                "UdpSocket",
                "TcpStream",
                "std::thread",
                "thread::spawn",
                "rand::",
                "std::env",
                "std::process",
                "SystemTime",
            ])
        },
        bad: &["pub async fn a() {}", "std::fs::read(path)", "use std::net::UdpSocket;"],
        good: &["use std::net::IpAddr;", "use std::time::Duration;", "//! sans I/O: no tokio"],
    },
    Rule {
        law: "nothing of one machine or one person's folders belongs here",
        applies: |_| true,
        finds: |source| {
            let words = [
                concat!("/wo", "rk/"),
                concat!("/wo", "rk`"),
                concat!("..", "/shared"),
                concat!("/roo", "t/"),
            ];
            source
                .text
                .lines()
                .enumerate()
                .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
                .map(|(n, _)| n + 1)
                .collect()
        },
        bad: &[concat!("# see /wo", "rk/notes.md"), concat!("path = \"..", "/shared/design\"")],
        good: &["a workspace/team", "/etc/switchboard/switchboard.toml"],
    },
];

/// File names that say only that things are shared: a thing without a name is not understood yet.
const NAMELESS: &[&str] = &[
    "utils", "util", "common", "helpers", "helper", "manager", "service", "services", "misc", "core",
    "shared", "stuff", "types",
];

/// What a pure crate must not list as a dependency.
const IMPURE: &[&str] = &[
    "tokio",
    "reqwest",
    "rand",
    "hyper",
    "axum",
    "async-trait",
    "futures-util",
    "socket2",
    "mio",
    "rusqlite",
    "postgres",
    "tempfile",
];

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// Shipped code: neither tests nor benches nor examples.
fn is_source(path: &str) -> bool {
    is_rust(path) && path.contains("/src/") && !path.ends_with("/tests.rs")
}

fn is_test(path: &str) -> bool {
    path.contains("/tests/")
}

fn is_pure(path: &str) -> bool {
    path.starts_with("crates/domain/") || path.starts_with("crates/sip/")
}

/// Whether a text is a statement of SQL: upper-case words in an order that prose does not have.
fn is_sql(text: &str) -> bool {
    let words: Vec<&str> = text
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .collect();
    let follows = |first: &str, then: &str| {
        words.iter().position(|&word| word == first).is_some_and(|at| words[at..].contains(&then))
    };
    words.first() == Some(&"PRAGMA")
        || [
            ("SELECT", "FROM"),
            ("INSERT", "INTO"),
            ("UPDATE", "SET"),
            ("DELETE", "FROM"),
            ("CREATE", "TABLE"),
            ("ALTER", "TABLE"),
            ("ON", "CONFLICT"),
        ]
        .iter()
        .any(|(first, then)| follows(first, then))
}

fn breaches(rule: &Rule, path: &str, text: &str) -> Vec<String> {
    (rule.finds)(&Source::new(text))
        .into_iter()
        .map(|line| format!("{path}:{line}: {}", text.lines().nth(line - 1).unwrap_or("").trim()))
        .collect()
}

#[test]
fn no_rule_is_blind() {
    for rule in RULES {
        assert!(!rule.bad.is_empty() && !rule.good.is_empty(), "{}", rule.law);
        for bad in rule.bad {
            assert!(!breaches(rule, "sample.rs", bad).is_empty(), "not found: {bad}\n{}", rule.law);
        }
        for good in rule.good {
            let good = if rule.law.contains("`//!`") {
                (*good).to_owned()
            } else {
                format!("//! A sample.\n{good}")
            };
            assert_eq!(breaches(rule, "sample.rs", &good), Vec::<String>::new(), "{}", rule.law);
        }
    }
}

#[test]
fn every_rule_holds_everywhere() {
    let files = files();
    let mut broken = String::new();
    for rule in RULES {
        let mut looked_at = 0;
        for (path, text) in files.iter().filter(|(path, _)| (rule.applies)(path)) {
            looked_at += 1;
            for breach in breaches(rule, path, text) {
                let _ = write!(broken, "{breach}\n    {}\n", rule.law);
            }
        }
        assert!(looked_at > 0, "no file is held to this rule, so it looks in the wrong place: {}", rule.law);
    }
    assert!(broken.is_empty(), "\n{broken}");
}

fn nameless(path: &str) -> bool {
    Path::new(path)
        .with_extension("")
        .iter()
        .any(|part| NAMELESS.contains(&part.to_str().unwrap_or_default()))
}

#[test]
fn files_are_named_for_what_they_hold() {
    assert!(
        nameless("crates/server/src/utils.rs")
            && nameless("crates/domain/src/common/mod.rs")
            && !nameless("crates/domain/src/number.rs")
    );
    let found: Vec<String> =
        files().into_iter().map(|(path, _)| path).filter(|path| is_rust(path) && nameless(path)).collect();
    assert_eq!(found, Vec::<String>::new());
}

/// Files that no `mod` line names: they are not compiled, so nothing in them is checked.
fn orphans(files: &[(String, String)]) -> Vec<String> {
    let is_root = |path: &str| {
        path.ends_with("/lib.rs")
            || path.ends_with("/main.rs")
            || path.contains("/examples/")
            || path.contains("/benches/")
            || path.contains("/fuzz_targets/")
    };
    let mut orphans = Vec::new();
    for (path, _) in files.iter().filter(|(path, _)| {
        is_rust(path) && (path.contains("/src/") || path.contains("/tests/")) && !is_root(path)
    }) {
        let file = Path::new(path);
        let file =
            if path.ends_with("/mod.rs") { file.parent().expect("mod.rs lies in its module") } else { file };
        let folder = file.parent().expect("a source file lies in a folder");
        let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("a source file has a plain name");
        if folder.ends_with("tests") {
            continue; // each is a test binary of its own
        }
        let parents = [
            folder.with_extension("rs"),
            folder.join("lib.rs"),
            folder.join("main.rs"),
            folder.join("mod.rs"),
        ];
        let declared = files
            .iter()
            .filter(|(other, _)| parents.iter().any(|parent| parent == Path::new(other)))
            .any(|(_, text)| {
                split(text).0.lines().any(|line| {
                    has_word(line, &format!("mod {stem};")) || has_word(line, &format!("mod {stem} "))
                })
            });
        if !declared {
            orphans.push(path.clone());
        }
    }
    orphans
}

#[test]
fn every_file_is_compiled() {
    let sample = |files: &[(&str, &str)]| {
        files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(
        orphans(&sample(&[
            ("crates/a/src/lib.rs", "//! A.\npub mod b;"),
            ("crates/a/src/b.rs", "// mod c;"),
            ("crates/a/src/b/c.rs", "")
        ])),
        ["crates/a/src/b/c.rs"]
    );
    assert_eq!(
        orphans(&sample(&[
            ("crates/a/src/lib.rs", "pub mod b;"),
            ("crates/a/src/b.rs", "mod c;"),
            ("crates/a/src/b/c.rs", "")
        ])),
        Vec::<String>::new()
    );
    assert_eq!(orphans(&files()), Vec::<String>::new());
}

/// Dependencies of a pure crate that would let it do more than decide.
fn impure(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("Cargo reads it too");
    let dependencies =
        manifest.get("dependencies").and_then(toml::Value::as_table).cloned().unwrap_or_default();
    dependencies.keys().filter(|name| IMPURE.contains(&name.as_str())).cloned().collect()
}

#[test]
fn pure_crates_cannot_do_anything() {
    assert_eq!(
        impure("[dependencies]\ntokio.workspace = true\nserde = \"1\"\n[dev-dependencies]\ntempfile = \"3\""),
        ["tokio"]
    );
    for (path, text) in files().iter().filter(|(path, _)| is_pure(path) && path.ends_with("/Cargo.toml")) {
        assert_eq!(impure(text), Vec::<String>::new(), "{path}");
    }
}

/// Codes of the error table that nothing answers with. To list, to compare or to match a code is not to send it.
fn unsent(files: &[(String, String)]) -> Vec<String> {
    let sources: Vec<String> = files
        .iter()
        .filter(|(path, _)| is_source(path) && path != "crates/domain/src/error.rs")
        .map(|(_, text)| split(text.split("#[cfg(test)]").next().unwrap_or_default()).0)
        .collect();
    let is_sent = |name: &str| {
        sources.iter().any(|code| code.match_indices(name).any(|(at, _)| sends(code, at, at + name.len())))
    };
    let (_, table) = files
        .iter()
        .find(|(path, _)| path == "crates/domain/src/error.rs")
        .expect("the error table is there");
    let (_, table) = table.split_once("error_table! {\n").expect("the table is written by its macro");
    let rows = table.lines().take_while(|line| *line != "}").filter_map(|line| line.split_once(", \""));
    rows.map(|(variant, _)| format!("Code::{}", variant.trim())).filter(|name| !is_sent(name)).collect()
}

/// Whether the code named from `start` to `end` stands where one is answered with.
fn sends(code: &str, start: usize, end: usize) -> bool {
    let (before, after) = (&code[..start], code[end..].trim_start());
    let is_whole = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_') || code[end..] != *after;
    let is_matched =
        after.starts_with("=>") || after.starts_with("| Code::") || before.trim_end().ends_with('|');
    let is_compared = before.trim_end().ends_with("==") || before.trim_end().ends_with("!=");
    // What it stands in directly: the last bracket that is still open.
    let mut depth = 0;
    let open = before.char_indices().rev().find(|(_, c)| {
        depth += match c {
            ')' | ']' | '}' => 1,
            '(' | '[' | '{' => -1,
            _ => 0,
        };
        depth < 0
    });
    let is_listed = open.is_some_and(|(_, c)| c == '[');
    let is_asked = open.is_some_and(|(at, _)| before[..at].ends_with("matches!"));
    is_whole && !is_matched && !is_compared && !is_listed && !is_asked
}

#[test]
fn every_error_has_a_sender() {
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let table = file(
        "crates/domain/src/error.rs",
        "error_table! {\n    // Of all kinds.\n    Lost, \"lost\", 404;\n    LostKey, \"lost_key\", 404;\n}\n",
    );
    for (text, expected) in [
        ("fn a() { Refusal::new(Code::Lost, x); Err(Code::LostKey.into()) }", vec![]),
        ("fn a() { Refusal::new(Code::LostKey, x) }", vec!["Code::Lost"]),
        ("fn a() { b(&[Code::Lost, Code::LostKey]) }", vec!["Code::Lost", "Code::LostKey"]),
        ("fn a() { matches!(code, Code::Lost | Code::LostKey) }", vec!["Code::Lost", "Code::LostKey"]),
        (
            "fn a() { if code == Code::Lost {} match code { Code::LostKey => 1 } }",
            vec!["Code::Lost", "Code::LostKey"],
        ),
        (
            "#[cfg(test)] mod tests { fn a() { new(Code::Lost, Code::LostKey) } }",
            vec!["Code::Lost", "Code::LostKey"],
        ),
    ] {
        assert_eq!(unsent(&[table.clone(), file("crates/server/src/a.rs", text)]), expected, "{text}");
    }
    assert_eq!(unsent(&files()), Vec::<String>::new());
}

/// Query lists that the test which prepares every query does not see.
fn unregistered(files: &[(String, String)]) -> Vec<String> {
    let registry = files
        .iter()
        .find(|(path, _)| path == "crates/database/src/lib.rs")
        .map_or("", |(_, text)| text.as_str());
    files
        .iter()
        .filter(|(path, text)| {
            path.starts_with("crates/database/src/") && split(text).0.contains("const QUERIES")
        })
        .filter_map(|(path, _)| {
            let noun = path.strip_prefix("crates/database/src/")?.strip_suffix(".rs")?.replace('/', "::");
            (!has_word(registry, &format!("{noun}::QUERIES"))).then(|| path.clone())
        })
        .collect()
}

#[test]
fn every_query_is_prepared_on_both_engines_by_a_test() {
    let lib = |registry: &str| ("crates/database/src/lib.rs".to_owned(), registry.to_owned());
    let noun =
        ("crates/database/src/numbers.rs".to_owned(), "pub(crate) const QUERIES: &[u8] = &[];".to_owned());
    assert_eq!(unregistered(&[lib("[audit::QUERIES]"), noun.clone()]), ["crates/database/src/numbers.rs"]);
    assert_eq!(unregistered(&[lib("[numbers::QUERIES]"), noun]), Vec::<String>::new());
    assert_eq!(unregistered(&files()), Vec::<String>::new());
}
