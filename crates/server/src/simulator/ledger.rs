//! The ledger: every effect that the simulated carrier had, one JSON line each, written before the answer is sent.
//!
//! It is what the carrier *truly did*, against which inventories are compared, and what its state is rebuilt from when
//! it starts again. It does not decide anything and knows no nouns: rows are JSON.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The most rows that a ledger may hold; what would need another is refused, as a carrier in trouble would.
pub(crate) const LEDGER_ROWS_MAX: u64 = 500_000;
/// How many of the latest rows are kept in memory to be shown, where there is no file.
const ROWS_REMEMBERED: usize = 20_000;

/// One effect about to be written.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) effect: &'static str,
    pub(crate) sid: String,
    pub(crate) request_id: String,
    pub(crate) details: Value,
}

/// The open ledger.
#[derive(Debug)]
pub(crate) struct Ledger {
    file: Option<(PathBuf, File)>,
    remembered: VecDeque<Value>,
    rows: u64,
}

impl Ledger {
    /// Opens or begins a ledger and reads its rows, oldest first. A last line cut short by a crash had not been
    /// answered for, and is removed.
    pub(crate) fn open(path: Option<&Path>) -> anyhow::Result<(Self, Vec<Value>)> {
        let Some(path) = path else {
            return Ok((Self { file: None, remembered: VecDeque::new(), rows: 0 }, Vec::new()));
        };
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        // The account's token is in it: for the owner's eyes, although only simulated money hangs on it.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file =
            options.open(path).with_context(|| format!("cannot open the ledger {}", path.display()))?;
        let mut text = String::new();
        file.read_to_string(&mut text)
            .with_context(|| format!("cannot read the ledger {}", path.display()))?;
        let whole = text.rfind('\n').map_or(0, |at| at + 1);
        if whole < text.len() {
            file.set_len(whole as u64).context("cannot remove the ledger's unfinished last line")?;
            file.seek(SeekFrom::End(0))?;
        }
        let rows = parse_rows(&text[..whole], path)?;
        let count = rows.len() as u64;
        Ok((Self { file: Some((path.to_owned(), file)), remembered: VecDeque::new(), rows: count }, rows))
    }

    /// Writes one row. When this returns, a killed process no longer loses it.
    pub(crate) fn write(&mut self, now: Timestamp, entry: Entry) -> anyhow::Result<()> {
        anyhow::ensure!(self.rows < LEDGER_ROWS_MAX, "the ledger is full: {LEDGER_ROWS_MAX} rows");
        let mut row = Map::new();
        row.insert("seq".into(), json!(self.rows + 1));
        row.insert("time".into(), json!(now.to_string()));
        row.insert("effect".into(), json!(entry.effect));
        row.insert("sid".into(), json!(entry.sid));
        row.insert("request_id".into(), json!(entry.request_id));
        if let Value::Object(details) = entry.details {
            row.extend(details);
        }
        let row = Value::Object(row);
        if let Some((path, file)) = &mut self.file {
            let mut line = row.to_string();
            line.push('\n');
            file.write_all(line.as_bytes())
                .and_then(|()| file.flush())
                .with_context(|| format!("cannot write the ledger {}", path.display()))?;
        } else {
            if self.remembered.len() == ROWS_REMEMBERED {
                self.remembered.pop_front();
            }
            self.remembered.push_back(row);
        }
        self.rows += 1;
        Ok(())
    }

    /// All rows, oldest first; without a file, the latest that are remembered.
    pub(crate) fn rows(&self) -> anyhow::Result<Vec<Value>> {
        match &self.file {
            None => Ok(self.remembered.iter().cloned().collect()),
            Some((path, _)) => parse_rows(&std::fs::read_to_string(path)?, path),
        }
    }
}

fn parse_rows(text: &str, path: &Path) -> anyhow::Result<Vec<Value>> {
    text.lines()
        .enumerate()
        .map(|(at, line)| {
            serde_json::from_str(line)
                .with_context(|| format!("line {} of the ledger {} is damaged", at + 1, path.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sid: &str) -> Entry {
        Entry {
            effect: "number_purchased",
            sid: sid.into(),
            request_id: "RQ1".into(),
            details: json!({"phone_number": "+14155550100"}),
        }
    }

    #[test]
    fn rows_survive_and_an_unfinished_line_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        let now: Timestamp = "2026-11-21T22:00:00Z".parse().unwrap();
        let (mut ledger, rows) = Ledger::open(Some(&path)).unwrap();
        assert!(rows.is_empty());
        ledger.write(now, entry("PN1")).unwrap();
        ledger.write(now, entry("PN2")).unwrap();
        drop(ledger);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{whole}{{\"seq\":3,\"eff")).unwrap();

        let (mut ledger, rows) = Ledger::open(Some(&path)).unwrap();
        assert_eq!(rows.iter().map(|row| row["sid"].as_str().unwrap()).collect::<Vec<_>>(), ["PN1", "PN2"]);
        ledger.write(now, entry("PN3")).unwrap();
        let rows = ledger.rows().unwrap();
        assert_eq!(rows[2]["seq"], 3);
        assert_eq!(rows[2]["sid"], "PN3");
        assert_eq!(rows[2]["phone_number"], "+14155550100");
        assert_eq!(rows[2]["time"], "2026-11-21T22:00:00Z");
    }

    #[test]
    fn a_damaged_line_stops_the_start_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.jsonl");
        std::fs::write(&path, "{\"seq\":1}\nrubbish\n").unwrap();
        let error = Ledger::open(Some(&path)).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}
