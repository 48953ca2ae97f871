//! Backups: everything in one file that either engine can be restored from. Never a copy of database files.
//!
//! The file is text, one JSON value a line: a head that says what it is, a line for each row, and an end
//! with the counts and the SHA-256 of all before it. It is taken from one consistent state while the
//! database goes on working. Secrets stay sealed in it: without the key file they are lost.
//!
//! A restored database buys nothing and gives nothing back until what the carrier has was compared with it ([`crate::meta`]).
//! Purchases that were under way are marked, since they may have gone on after the backup was made; releases that were scheduled
//! are taken back, since a person may have done so after it was made, and nobody would be asked again. API keys are revoked unless
//! the restorer says otherwise: the backup does not know which of them were revoked after it was made.

mod tables;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use domain::event::EventKind;
use domain::number::NumberStatus;
use jiff::Timestamp;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use self::tables::{Kind, TABLES, Table};
use crate::audit::{self, AuditBreak, Change};
use crate::engine::{Address, Both, Database, Read, Settings, Tx};
use crate::error::DbError;
use crate::keys::{key_list, key_revoke};
use crate::meta;
use crate::migrations::SCHEMA_VERSION;
use crate::numbers::{Number, number_to_release, number_update};
use crate::value::{Cell, FromCell as _, Row, Value};
use crate::workspaces;

/// How the format of the file is called.
const FORMAT: u32 = 1;

/// The longest line of a backup, in bytes: more than the longest row.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// How far the version of routes jumps in a restored database, so that no node takes a table that it kept
/// for the present one.
const ROUTE_VERSION_JUMP: i64 = 1_000_000_000;

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the file.
    pub switchboard_backup: u32,
    /// The schema of the rows.
    pub schema_version: i32,
    /// When it was made.
    pub created_at: Timestamp,
    /// The key that its secrets are sealed with, if there are any.
    pub key_fingerprint: Option<String>,
}

/// What becomes of the API keys of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoredKeys {
    /// They are revoked: one that was revoked after the backup was made must not live again.
    Revoke,
    /// They work as they did when it was made.
    Keep,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct End {
    rows: BTreeMap<String, u64>,
    sha256: String,
}

/// What a backup holds, as it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// What it says of itself.
    pub manifest: Manifest,
    /// How many rows of each table.
    pub rows: BTreeMap<String, u64>,
}

/// What a backup was proven to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it holds.
    pub backup: Backup,
    /// How many audit entries its chains have, all of them whole.
    pub audit_entries: i64,
}

const IS_EMPTY: &str = "SELECT count(*) FROM workspaces";
const FORGET_ROUTES: &str = "DELETE FROM route_state";
const FORGET_META: &str = "DELETE FROM meta";
const FORGET_CHANGES: &str = "DELETE FROM route_changes";
const JUMP: &str = "UPDATE route_state SET version = version + $1";
const MARK: &str = "UPDATE purchases SET restored = $1, lease_holder = NULL, lease_until = NULL \
    WHERE wake_at IS NOT NULL";

/// Asked of SQLite only, since that is what a backup is verified with.
const INTEGRITY: &str = "PRAGMA integrity_check";
const FOREIGN_KEYS: &str = "PRAGMA foreign_key_check";

/// Every query of this file that is the same each time.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("backup::IS_EMPTY", Both::same(IS_EMPTY)),
    ("backup::FORGET_ROUTES", Both::same(FORGET_ROUTES)),
    ("backup::FORGET_META", Both::same(FORGET_META)),
    ("backup::FORGET_CHANGES", Both::same(FORGET_CHANGES)),
    ("backup::JUMP", Both::same(JUMP)),
    ("backup::MARK", Both::same(MARK)),
];

/// Every table and column that a backup holds, for the test that compares them with the schema.
pub fn backup_columns() -> impl Iterator<Item = String> {
    TABLES.iter().flat_map(|table| {
        table.columns.iter().map(|(column, kind)| format!("{}.{column} {kind:?}", table.name))
    })
}

fn wrong(path: &Path, why: impl std::fmt::Display) -> DbError {
    DbError::Refused(format!("backup {}: {why}", path.display()))
}

impl Table {
    fn names(&self) -> String {
        self.columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.names(), self.name)
    }

    fn insert(&self) -> String {
        let params: Vec<String> = (1..=self.columns.len()).map(|n| format!("${n}")).collect();
        format!("INSERT INTO {} ({}) VALUES ({})", self.name, self.names(), params.join(", "))
    }

    /// A row as it is written: the table's name, then the columns in their order.
    fn line(&self, row: &Row<'_>) -> Result<String, DbError> {
        let mut values: Vec<serde_json::Value> = vec![self.name.into()];
        for (column, (name, kind)) in self.columns.iter().enumerate() {
            let cell = row.cell(column)?;
            let text = |value: Option<String>| value.map(serde_json::Value::from);
            let value = match (kind, cell) {
                (_, Cell::Null) => Some(serde_json::Value::Null),
                (Kind::Text | Kind::Json, cell) => text(String::from_cell(cell)),
                (Kind::Int, cell) => i64::from_cell(cell).map(Into::into),
                (Kind::Bool, cell) => bool::from_cell(cell).map(Into::into),
                (Kind::Bytes, cell) => text(Vec::<u8>::from_cell(cell).map(|bytes| BASE64.encode(bytes))),
                (Kind::Time, cell) => Timestamp::from_cell(cell).map(|time| time.as_microsecond().into()),
            };
            values
                .push(value.ok_or_else(|| DbError::Corrupt(format!("{}.{name} holds {cell:?}", self.name)))?);
        }
        Ok(serde_json::Value::from(values).to_string())
    }

    /// The parameters that a written row stands for.
    fn params(&self, values: Vec<serde_json::Value>) -> Option<Vec<Value<'static>>> {
        if values.len() != self.columns.len() {
            return None;
        }
        let columns = self.columns.iter().zip(values);
        columns
            .map(|((_, kind), value)| {
                Some(match (kind, value) {
                    (_, serde_json::Value::Null) => Value::Null,
                    (Kind::Text, serde_json::Value::String(text)) => Value::Owned(text),
                    (Kind::Json, serde_json::Value::String(text)) => Value::Json(text),
                    (Kind::Bytes, serde_json::Value::String(text)) => {
                        Value::OwnedBytes(BASE64.decode(text).ok()?)
                    }
                    (Kind::Int, value) => Value::Int(value.as_i64()?),
                    (Kind::Bool, value) => Value::Bool(value.as_bool()?),
                    (Kind::Time, value) => Value::Time(Timestamp::from_microsecond(value.as_i64()?).ok()?),
                    _ => return None,
                })
            })
            .collect()
    }
}

/// A file that is hashed while it is written.
struct Hashed<W> {
    inner: W,
    hash: Context,
}

impl<W: std::io::Write> Hashed<W> {
    fn line(&mut self, line: &str) -> std::io::Result<()> {
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        writeln!(self.inner, "{line}")
    }

    fn sha256(&self) -> String {
        self.hash.clone().finish().as_ref().iter().fold(String::new(), |out, byte| format!("{out}{byte:02x}"))
    }
}

/// Writes everything that a state of the database holds.
fn write_all(read: &Read<'_>, path: &Path, manifest: &Manifest) -> Result<Backup, DbError> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            DbError::Full(format!("backup {}: {error}", path.display()))
        }
        _ => wrong(path, error),
    };
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    let mut out = Hashed { inner: BufWriter::new(file), hash: Context::new(&SHA256) };
    out.line(&serde_json::to_string(manifest).expect("a manifest is JSON")).map_err(failed)?;
    let mut rows = BTreeMap::new();
    for table in TABLES {
        let mut count = 0_u64;
        read.query_each(&table.select(), &[], |row| {
            count += 1;
            out.line(&table.line(row)?).map_err(failed)
        })?;
        rows.insert(table.name.to_owned(), count);
    }
    let end = End { rows: rows.clone(), sha256: out.sha256() };
    let end = serde_json::to_string(&end).expect("an end is JSON");
    writeln!(out.inner, "{end}").map_err(failed)?;
    let file = out.inner.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(failed)?;
    Ok(Backup { manifest: manifest.clone(), rows })
}

/// Goes through a backup line by line, and checks that it is whole.
fn read_all(
    path: &Path,
    mut each: impl FnMut(&'static Table, Vec<Value<'static>>) -> Result<(), DbError>,
) -> Result<Backup, DbError> {
    let mut lines = Lines::open(path)?;
    let head = lines.next()?.ok_or_else(|| wrong(path, "it is empty"))?;
    let manifest: Manifest =
        serde_json::from_str(&head).map_err(|error| wrong(path, format!("it is no backup: {error}")))?;
    if manifest.switchboard_backup != FORMAT {
        return Err(wrong(path, "its format is not known to this program"));
    }
    if manifest.schema_version > SCHEMA_VERSION {
        return Err(DbError::SchemaNewer { found: manifest.schema_version, known: SCHEMA_VERSION });
    }
    let mut rows: BTreeMap<String, u64> = TABLES.iter().map(|table| (table.name.to_owned(), 0)).collect();
    let mut sha256 = lines.sha256();
    while let Some(line) = lines.next()? {
        if line.starts_with('{') {
            let end: End = serde_json::from_str(&line).map_err(|error| wrong(path, error))?;
            if end.sha256 != sha256 {
                return Err(wrong(path, "it was changed since it was made: its SHA-256 differs"));
            }
            if end.rows != rows || lines.next()?.is_some() {
                return Err(wrong(path, "it does not hold the rows that it says"));
            }
            return Ok(Backup { manifest, rows });
        }
        let mut values: Vec<serde_json::Value> =
            serde_json::from_str(&line).map_err(|error| wrong(path, error))?;
        let name = if values.is_empty() { serde_json::Value::Null } else { values.remove(0) };
        let table = TABLES.iter().find(|table| name == table.name);
        let table = table.ok_or_else(|| wrong(path, format!("there is no table {name}")))?;
        let params = table.params(values);
        let params = params.ok_or_else(|| wrong(path, format!("a row of {name} is not whole")))?;
        *rows.entry(table.name.to_owned()).or_default() += 1;
        each(table, params)?;
        sha256 = lines.sha256();
    }
    Err(wrong(path, "it is cut off: its end is missing"))
}

/// The lines of a backup, hashed while they are read.
struct Lines<'p> {
    path: &'p Path,
    file: BufReader<File>,
    hash: Context,
}

impl<'p> Lines<'p> {
    fn open(path: &'p Path) -> Result<Lines<'p>, DbError> {
        let file = File::open(path).map_err(|error| wrong(path, error))?;
        Ok(Lines { path, file: BufReader::new(file), hash: Context::new(&SHA256) })
    }

    fn next(&mut self) -> Result<Option<String>, DbError> {
        let mut line = String::new();
        let read = (&mut self.file)
            .take(LINE_BYTES_MAX)
            .read_line(&mut line)
            .map_err(|error| wrong(self.path, error))?;
        if read == 0 {
            return Ok(None);
        }
        if !line.ends_with('\n') {
            return Err(wrong(self.path, "it is cut off in the middle of a line"));
        }
        self.hash.update(line.as_bytes());
        line.pop();
        Ok(Some(line))
    }

    fn sha256(&self) -> String {
        self.hash.clone().finish().as_ref().iter().fold(String::new(), |out, byte| format!("{out}{byte:02x}"))
    }
}

/// Rows sent to the database at once.
const ROWS_AT_ONCE: usize = 1024;

/// Numbers whose release is taken back at once.
const NUMBERS_AT_ONCE: u32 = 500;

/// Keys that are revoked at once.
const KEYS_AT_ONCE: u32 = 500;

/// Writes all rows of a backup into an empty database.
fn insert_all(tx: &Tx<'_>, path: &Path, keys: RestoredKeys) -> Result<Backup, DbError> {
    let kept: i64 = tx.query_one(IS_EMPTY, &[], |row| row.read(0))?;
    if kept > 0 {
        return Err(DbError::Refused(
            "the database is not empty; restore into a new one, and keep the old until all is well".into(),
        ));
    }
    tx.execute(FORGET_ROUTES, &[])?;
    tx.execute(FORGET_META, &[])?;
    let mut waiting: Vec<Vec<Value<'static>>> = Vec::new();
    let mut of: Option<&'static Table> = None;
    let send = |table: Option<&Table>, rows: &mut Vec<Vec<Value<'static>>>| match table {
        Some(table) => tx.execute_many(&table.insert(), rows.drain(..)).map(drop),
        None => Ok(()),
    };
    let backup = read_all(path, |table, params| {
        if of.is_none_or(|before| before.name != table.name) || waiting.len() >= ROWS_AT_ONCE {
            send(of, &mut waiting)?;
            of = Some(table);
        }
        waiting.push(params);
        Ok(())
    })?;
    send(of, &mut waiting)?;
    tx.execute(FORGET_CHANGES, &[])?;
    tx.execute(JUMP, &[ROUTE_VERSION_JUMP.into()])?;
    tx.execute(MARK, &[true.into()])?;
    let why = format!(
        "restored from a backup of {}; `switchboard reconcile` compares it with the carrier and allows buying again",
        backup.manifest.created_at
    );
    meta::purchases_lock(tx, &why)?;
    releases_take_back(tx, backup.manifest.created_at)?;
    if keys == RestoredKeys::Revoke {
        keys_revoke(tx, backup.manifest.created_at)?;
    }
    Ok(backup)
}

/// Who restores, as the audit log names it.
const RESTORER: &str = "system:backup_restore";

/// Ends every key of every workspace: which of them were ended since, the backup does not know.
fn keys_revoke(tx: &Tx<'_>, made_at: Timestamp) -> Result<(), DbError> {
    let now = meta::clock(tx)?;
    let mut workspace = None;
    while let Some(next) = workspaces::workspace_list(tx, workspace, 1)?.pop() {
        workspace = Some(next.id);
        let mut key = None;
        loop {
            let page = key_list(tx, next.id, key, KEYS_AT_ONCE)?;
            let Some(last) = page.last() else { break };
            key = Some(last.id);
            for found in page.iter().filter(|found| found.revoked_at.is_none()) {
                key_revoke(tx, next.id, found.id, now)?;
                tx.record(&Change {
                    workspace: next.id,
                    at: now,
                    actor: RESTORER,
                    action: "key.revoke",
                    target: found.id.to_string(),
                    before: Some(serde_json::json!({"name": found.name, "revoked_at": null})),
                    after: Some(serde_json::json!({
                        "name": found.name, "revoked_at": now.to_string(), "backup_of": made_at.to_string(),
                    })),
                    request_id: None,
                    event: Some(EventKind::KeyRevoked),
                })?;
            }
        }
    }
    Ok(())
}

/// Keeps every number that was to be given back: whether that was taken back since, the backup does not know.
fn releases_take_back(tx: &Tx<'_>, made_at: Timestamp) -> Result<(), DbError> {
    let now = meta::clock(tx)?;
    loop {
        let scheduled = number_to_release(tx, Timestamp::MAX, NUMBERS_AT_ONCE)?;
        if scheduled.is_empty() {
            return Ok(());
        }
        for before in scheduled {
            let after = Number { status: NumberStatus::Active, hold: None, ..before.clone() };
            number_update(tx, &after, now)?;
            tx.record(&Change {
                workspace: before.workspace,
                at: now,
                actor: RESTORER,
                action: "number.release_cancel",
                target: before.id.to_string(),
                before: Some(serde_json::json!({"status": before.status.as_str()})),
                after: Some(
                    serde_json::json!({"status": after.status.as_str(), "backup_of": made_at.to_string()}),
                ),
                request_id: None,
                event: Some(EventKind::NumberReleaseCancelled),
            })?;
        }
    }
}

impl Database {
    /// Writes a backup to a new file, for its owner's eyes only, while the database goes on working. The file
    /// has its name only once it is whole.
    pub async fn backup_create(&self, path: &Path, now: Timestamp) -> Result<Backup, DbError> {
        if path.exists() {
            return Err(wrong(path, "there is a file of this name already"));
        }
        let partial = beside(path, "partial");
        let (key_fingerprint, target) = (self.key_fingerprint().await?, partial.clone());
        let manifest = Manifest {
            switchboard_backup: FORMAT,
            schema_version: SCHEMA_VERSION,
            created_at: now,
            key_fingerprint,
        };
        drop(fs::remove_file(&partial));
        let written = self.in_bulk().read(move |read| write_all(read, &target, &manifest)).await;
        // `hard_link` rather than `rename`: a file that came in between is not replaced.
        let named = written.and_then(|backup| {
            fs::hard_link(&partial, path).map_err(|error| wrong(path, error))?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
            folder.map_err(|error| wrong(path, error))?;
            Ok(backup)
        });
        drop(fs::remove_file(&partial));
        named
    }

    /// What a backup holds, after checking that the file is whole. [`Database::backup_verify`] proves more.
    pub fn backup_read(path: &Path) -> Result<Backup, DbError> {
        read_all(path, |_, _| Ok(()))
    }

    /// Proves that a backup can be restored: restores it into an embedded database beside the file, checks
    /// that one and every audit chain in it, and throws it away.
    pub async fn backup_verify(path: &Path) -> Result<Verified, DbError> {
        let folder = beside(path, "verifying");
        drop(fs::remove_dir_all(&folder));
        fs::create_dir(&folder).map_err(|error| wrong(path, error))?;
        let verified = verify_in(&folder, path).await;
        drop(fs::remove_dir_all(&folder));
        verified
    }

    /// Restores a backup into a database without workspaces, all or nothing, and opens it. It buys nothing
    /// until it was compared with the carrier.
    pub async fn backup_restore(
        settings: Settings,
        path: &Path,
        keys: RestoredKeys,
    ) -> Result<(Database, Backup), DbError> {
        Database::backup_read(path)?;
        let database = Database::open(settings).await?;
        let file = path.to_path_buf();
        let restored = database.in_bulk().write(move |tx| insert_all(tx, &file, keys)).await;
        match restored {
            Ok(backup) => Ok((database, backup)),
            Err(error) => {
                database.close().await;
                Err(error)
            }
        }
    }
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    path.with_file_name(name)
}

async fn verify_in(folder: &Path, path: &Path) -> Result<Verified, DbError> {
    let mut settings = Settings::new(Address::Sqlite(folder.join("switchboard.db")));
    // It is thrown away at once: where it stands does not matter.
    settings.danger_allow_any_file_system = true;
    // Nobody asks it anything: revoking would only add to what is counted.
    let (database, backup) = Database::backup_restore(settings, path, RestoredKeys::Keep).await?;
    let bulk = database.in_bulk();
    let checked = bulk.read(|read| {
        let problems = read.query(INTEGRITY, &[], |row| row.read::<String>(0))?;
        if problems != ["ok"] {
            return Err(DbError::Corrupt(problems.join("; ")));
        }
        if read.query_opt(FOREIGN_KEYS, &[], |_| Ok(()))?.is_some() {
            return Err(DbError::Corrupt("a row refers to one that is not there".into()));
        }
        let mut entries = 0;
        let mut after = None;
        loop {
            let page = workspaces::workspace_list(read, after, 100)?;
            let Some(last) = page.last() else { return Ok(entries) };
            after = Some(last.id);
            for workspace in &page {
                entries += match audit::audit_verify(read, workspace.id, None)? {
                    Ok(entries) => entries,
                    // A clock that was set once does not make a backup useless.
                    Err(AuditBreak::ClockBack(_)) => {
                        let heads = audit::audit_heads(read)?;
                        heads.iter().find(|head| head.workspace == workspace.id).map_or(0, |head| head.seq)
                    }
                    Err(broken) => {
                        return Err(DbError::Corrupt(format!("audit of {}: {broken}", workspace.name)));
                    }
                };
            }
        }
    });
    let checked = checked.await;
    database.close().await;
    Ok(Verified { backup, audit_entries: checked? })
}
