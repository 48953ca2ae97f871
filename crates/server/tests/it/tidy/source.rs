//! The project's files, and Rust text split into code and strings, for the rules in `tidy.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// A file, and the same text with everything but its code, or everything but its strings, blanked out line by line.
pub(crate) struct Source {
    pub(crate) text: String,
    code: String,
    strings: String,
}

impl Source {
    pub(crate) fn new(text: &str) -> Source {
        let (code, strings) = split(text);
        Source { text: text.to_owned(), code, strings }
    }

    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(n, line)| (n + 1, line))
    }

    pub(crate) fn string_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.strings.lines().enumerate().map(|(n, line)| (n + 1, line))
    }

    /// Lines whose code holds one of `words`. A switch of the test suite may be read anywhere: it is no setting.
    pub(crate) fn code_with(&self, words: &[&str]) -> Vec<usize> {
        self.code_lines()
            .filter(|(_, line)| words.iter().any(|word| line.contains(word)))
            .filter(|(n, _)| {
                !self.text.lines().nth(n - 1).is_some_and(|line| line.contains("\"SWITCHBOARD_TEST_"))
            })
            .map(|(n, _)| n)
            .collect()
    }

    pub(crate) fn line(&self, number: usize) -> &str {
        self.code.lines().nth(number - 1).unwrap_or("")
    }

    /// The code from a line up to the next closing bracket of an attribute or statement.
    pub(crate) fn after(&self, number: usize) -> String {
        let rest: String = self.code.lines().skip(number - 1).take(6).collect::<Vec<_>>().join("\n");
        rest.split_once(")]").map_or(rest.clone(), |(head, _)| head.to_owned())
    }
}

/// Splits Rust text into (code, strings): comments stand in neither, and lines keep their numbers.
pub(crate) fn split(text: &str) -> (String, String) {
    let chars: Vec<char> = text.chars().collect();
    let (mut code, mut strings) = (String::new(), String::new());
    let put = |c: char, into: &mut String, other: &mut String| {
        into.push(c);
        other.push(if c == '\n' { '\n' } else { ' ' });
    };
    let mut at = 0;
    while at < chars.len() {
        let (c, next) = (chars[at], chars.get(at + 1).copied());
        let begins_word = at == 0 || !(chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
        if c == '/' && next == Some('/') {
            while at < chars.len() && chars[at] != '\n' {
                at += 1;
            }
        } else if c == '/' && next == Some('*') {
            let mut depth = 0;
            while at < chars.len() {
                match (chars[at], chars.get(at + 1)) {
                    ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
                    ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
                    ('\n', _) => {
                        put('\n', &mut code, &mut strings);
                        at += 1;
                    }
                    _ => at += 1,
                }
                if depth == 0 {
                    break;
                }
            }
        } else if let Some(hashes) = raw_string(&chars[at..]).filter(|_| begins_word) {
            at += chars[at..].iter().position(|&c| c == '"').expect("a raw string has a quote") + 1;
            while at < chars.len()
                && !(chars[at] == '"'
                    && chars[at + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes)
            {
                put(chars[at], &mut strings, &mut code);
                at += 1;
            }
            at += 1 + hashes;
        } else if c == '"' {
            at += 1;
            while at < chars.len() && chars[at] != '"' {
                let escaped = usize::from(chars[at] == '\\');
                for &c in chars[at..].iter().take(1 + escaped) {
                    put(c, &mut strings, &mut code);
                }
                at += 1 + escaped;
            }
            at += 1;
        } else if c == '\'' && (next == Some('\\') || chars.get(at + 2) == Some(&'\'')) {
            // A character; a lifetime has no closing quote.
            at += if next == Some('\\') { 3 } else { 2 };
            while at < chars.len() && chars[at] != '\'' {
                at += 1;
            }
            at += 1;
        } else {
            put(c, &mut code, &mut strings);
            at += 1;
        }
    }
    (code, strings)
}

/// How many `#` a raw string that begins here has.
fn raw_string(chars: &[char]) -> Option<usize> {
    let rest = chars.strip_prefix(&['b']).unwrap_or(chars).strip_prefix(&['r'])?;
    let hashes = rest.iter().take_while(|&&c| c == '#').count();
    (rest.get(hashes) == Some(&'"')).then_some(hashes)
}

/// Whether `word` stands in `line` with nothing of an identifier before it.
pub(crate) fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/server lies two below the root")
        .to_owned()
}

/// Every text file of the project, by its path from the root: what is built, fetched or generated left out.
pub(crate) fn files() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the project can be read") {
            let path = entry.expect("the project can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_hidden = name.starts_with('.') && name != ".ci";
            if is_hidden || matches!(name, "target" | "corpus" | "artifacts" | "assets" | "testdata" | "data")
            {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(root()).expect("found below the root");
                let path = path.to_str().expect("plain names only").to_owned();
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "the project was not found: {} files", found.len());
    found
}

#[test]
fn text_is_split_into_code_and_strings() {
    let (code, strings) = split(
        "let a = \"x // y\"; // z\n/* \"no\" /* nested */ */ b('\"', '\\'', 'c', &'d e) r#\"raw \" x\"#;",
    );
    assert_eq!(code.split_whitespace().collect::<Vec<_>>().join(" "), "let a = ; b(, , , &'d e) ;");
    assert_eq!(strings.split_whitespace().collect::<Vec<_>>().join(" "), "x // y raw \" x");
    assert_eq!(code.lines().count(), 2);
}
