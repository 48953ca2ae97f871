//! Route snapshots on disk: two of them, each written aside and then put in place, so that a crash at any moment leaves a whole
//! one. A damaged one is told of loudly, and the one before it is used.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::route::{RouteTable, snapshot};
use jiff::Timestamp;
use tracing::{error, info};

/// The newest snapshot.
const CURRENT: &str = "routes.snapshot";
/// The one before it.
const PREVIOUS: &str = "routes.snapshot.previous";
/// One that is being written.
const DRAFT: &str = "routes.snapshot.draft";

/// The folder of the snapshots.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    /// The version of the newest snapshot; 0 before there is one.
    version: AtomicU64,
}

/// A snapshot that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its route version.
    pub version: u64,
    /// How many numbers it routes.
    pub numbers: usize,
    /// How old it is.
    pub age: Duration,
}

impl Disk {
    /// Snapshots in this folder, which exists.
    pub fn new(folder: impl Into<PathBuf>) -> Disk {
        Disk { folder: folder.into(), version: AtomicU64::new(0) }
    }

    /// The version of the snapshot that was last written or read here.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Writes a snapshot. Blocks; call it where that is no harm.
    pub fn save(&self, table: &RouteTable) -> io::Result<()> {
        let draft = self.folder.join(DRAFT);
        let file = private(&draft)?;
        let mut writer = BufWriter::with_capacity(1 << 20, file);
        let mut result = Ok(());
        snapshot::encode(table, &mut |piece| {
            if result.is_ok() {
                result = writer.write_all(piece);
            }
        });
        result?;
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let current = self.folder.join(CURRENT);
        match fs::rename(&current, self.folder.join(PREVIOUS)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&draft, &current)?;
        File::open(&self.folder)?.sync_all()?;
        self.version.store(table.version(), Ordering::Release);
        Ok(())
    }

    /// The newest snapshot that can be used.
    pub(super) fn load(&self, now: Timestamp) -> Option<(RouteTable, Kept)> {
        let mut newest = true;
        for name in [CURRENT, PREVIOUS] {
            let path = self.folder.join(name);
            match read(&path, now) {
                Ok(None) => newest = false,
                Ok(Some((table, age))) => {
                    let kept = Kept { version: table.version(), numbers: table.numbers(), age };
                    // The version is that of the newest file, so that a damaged one is soon replaced.
                    self.version.store(if newest { kept.version } else { 0 }, Ordering::Release);
                    info!(
                        route.version = kept.version,
                        route.numbers = kept.numbers,
                        snapshot.age_s = age.as_secs(),
                        "read routes of {} numbers from {}, written {} s ago",
                        kept.numbers,
                        path.display(),
                        age.as_secs()
                    );
                    return Some((table, kept));
                }
                Err(why) => {
                    newest = false;
                    error!(
                        "the route snapshot {} cannot be used: {why}; trying the one before it",
                        path.display()
                    );
                }
            }
        }
        None
    }
}

/// A new file that only we can read: it holds callback tokens.
fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn read(path: &Path, now: Timestamp) -> Result<Option<(RouteTable, Duration)>, String> {
    let (bytes, changed) = match fs::read(path).and_then(|bytes| Ok((bytes, fs::metadata(path)?.modified()?)))
    {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let table = snapshot::decode(&bytes).map_err(|unusable| unusable.to_string())?;
    let age = Timestamp::try_from(changed)
        .ok()
        .and_then(|changed| Duration::try_from(now.duration_since(changed)).ok())
        .unwrap_or_default();
    Ok(Some((table, age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_snapshot_before_stands_in_for_a_damaged_one() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new(folder.path());
        let load = || disk.load(Timestamp::UNIX_EPOCH).map(|(table, _)| table.version());
        assert_eq!(load(), None);
        for version in 1..=3 {
            disk.save(&RouteTable::build([], version)).unwrap();
            assert_eq!((load(), disk.version()), (Some(version), version));
        }
        let current = folder.path().join(CURRENT);
        let whole = fs::read(&current).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", &[whole.as_slice(), b"x"].concat()] {
            fs::write(&current, damaged).unwrap();
            assert_eq!((load(), disk.version()), (Some(2), 0));
        }
        fs::remove_file(&current).unwrap();
        assert_eq!(load(), Some(2), "a crash between the two renames");
        disk.save(&RouteTable::build([], 4)).unwrap();
        assert_eq!(load(), Some(4));
        // A draft that a crash left behind is nobody's concern.
        fs::write(folder.path().join(DRAFT), b"half").unwrap();
        assert_eq!(load(), Some(4));
    }
}
