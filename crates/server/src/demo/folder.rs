//! The demonstration's folder: everything that it keeps. Each start begins afresh, so what an earlier one left is removed – and
//! nothing else: a folder that no demonstration made is refused.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Says whose folder it is, and is locked while a demonstration runs there.
const MARK: &str = ".switchboard-demo";
/// What the mark says.
const MARK_TEXT: &str = "`switchboard demo` keeps its things here, and removes them at its next start. Delete the folder whenever you like.\n";
/// What a demonstration leaves behind, and the next one removes.
const DATA: &str = "data";
const DATA_KEY: &str = "data.key";
const CARRIER_LEDGER: &str = "carrier.jsonl";
const OWNER_KEY: &str = "owner.key";

/// A folder of one demonstration's own, while this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// Makes the folder, or empties that of an earlier demonstration.
    pub(super) fn prepare(path: &Path) -> anyhow::Result<Folder> {
        let shown = path.display();
        let mark = path.join(MARK);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("failed to make the folder {shown}"))?;
        let mut entries =
            std::fs::read_dir(path).with_context(|| format!("failed to look into the folder {shown}"))?;
        if !mark.is_file() && entries.next().is_some() {
            bail!(
                "the folder {shown} holds something that is not the demonstration's; name another with --dir"
            );
        }
        let mut lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&mark)
            .with_context(|| format!("failed to write in the folder {shown}"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!(
                    "another demonstration is running in {shown}; stop it, or name another folder with --dir"
                )
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("failed to lock {}", mark.display()));
            }
        }
        lock.write_all(MARK_TEXT.as_bytes())
            .with_context(|| format!("failed to write {}", mark.display()))?;
        let folder = Folder { path: path.to_owned(), _lock: lock };
        folder.empty()?;
        Ok(folder)
    }

    fn empty(&self) -> anyhow::Result<()> {
        for name in [DATA, DATA_KEY, CARRIER_LEDGER, OWNER_KEY] {
            let path = self.path.join(name);
            let removed =
                if name == DATA { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| {
                        format!("failed to remove {} of the last demonstration", path.display())
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The folder itself.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where Switchboard keeps its data. Its key is made beside it.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }

    /// Where the key that secrets are sealed with is kept.
    pub(super) fn data_key(&self) -> PathBuf {
        self.path.join(DATA_KEY)
    }

    /// Where the simulated carrier writes down what it does.
    pub(super) fn carrier_ledger(&self) -> PathBuf {
        self.path.join(CARRIER_LEDGER)
    }

    /// Keeps the owner's API key for `--key-file`, readable by this user alone, and says where.
    pub(super) fn keep_owner_key(&self, key: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.join(OWNER_KEY);
        OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{key}"))
            .with_context(|| format!("failed to write {}", path.display()))?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_demonstration_begins_afresh_and_removes_nothing_of_others() {
        let outside = tempfile::tempdir().unwrap();
        let path = outside.path().join("demo");
        let folder = Folder::prepare(&path).unwrap();
        folder.keep_owner_key("sbk_x").unwrap();
        std::fs::create_dir(folder.data()).unwrap();
        std::fs::write(folder.data().join("switchboard.sqlite"), "rows").unwrap();
        std::fs::write(path.join("notes.txt"), "mine").unwrap();
        let busy = Folder::prepare(&path).unwrap_err().to_string();
        assert!(busy.contains("another demonstration"), "{busy}");
        assert!(folder.data().exists(), "a running demonstration keeps its data");
        drop(folder);

        let folder = Folder::prepare(&path).unwrap();
        assert!(!folder.data().exists() && !path.join(OWNER_KEY).exists());
        assert_eq!(std::fs::read_to_string(path.join("notes.txt")).unwrap(), "mine");

        let refused = Folder::prepare(outside.path()).unwrap_err().to_string();
        assert!(refused.contains("--dir"), "{refused}");
    }
}
