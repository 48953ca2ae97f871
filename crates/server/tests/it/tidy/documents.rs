//! What documents promise: the files they name exist, and what is made from a table is what the table says.

use std::collections::BTreeSet;
use std::fs;

use super::source::root;

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
}

/// What `docs/guide/errors.md` must be: made from the error table, never written by hand.
fn error_pages() -> String {
    use std::fmt::Write as _;
    let mut page = String::from(
        "# Errors\n\nEvery refusal is an RFC 9457 problem document with one of these codes. `type` links to the code's own page, \
         `detail` names what was received, what is expected and how to mend it, and `errors` has an entry for each field that is wrong. \
         This page is made from the table in `crates/domain/src/error.rs`; to change it, change the table and run \
         `UPDATE_DOCS=1 cargo test -p server --test it tidy`.\n",
    );
    for code in domain::error::Code::ALL {
        let sip = code.sip_status().map(|status| format!(" · SIP {status}")).unwrap_or_default();
        let _ = write!(
            page,
            "\n## {code}\n\nHTTP {}{sip}. {}.\n\n{}\n",
            code.http_status(),
            code.title(),
            code.advice()
        );
    }
    page
}

#[test]
fn every_error_has_its_page() {
    let path = root().join("docs/guide/errors.md");
    let wanted = error_pages();
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
