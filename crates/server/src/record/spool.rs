//! The spool: entries that wait on disk while the database is away, one JSON document a line, synced after each batch. It is
//! bounded; what does not fit is counted and dropped. Entries that are read back may have been written already: writing them again
//! changes nothing, so a crash in the middle of anything costs nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use tracing::{error, warn};

use super::Entry;

/// The largest spool, in bytes: about a hundred thousand calls.
pub const SPOOL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// The longest line that is read back.
const LINE_BYTES_MAX: u64 = 1024 * 1024;
/// The file's name.
const NAME: &str = "calls.spool";

/// Entries on disk.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: File,
    /// Where the next entry to be read back begins.
    read_at: u64,
    len: u64,
    max: u64,
}

impl Spool {
    /// Opens the spool in this folder; what an earlier process left in it is still there.
    pub fn open(folder: impl Into<PathBuf>) -> io::Result<Spool> {
        Spool::open_with(folder, SPOOL_BYTES_MAX)
    }

    fn open_with(folder: impl Into<PathBuf>, max: u64) -> io::Result<Spool> {
        let path = folder.into().join(NAME);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let len = file.seek(SeekFrom::End(0))?;
        let whole = whole_lines(&mut file, len)?;
        if whole < len {
            // A crash in the middle of a line. What comes next must not stand behind it in the same one.
            warn!("the last line of {} was not written to its end and is left out", path.display());
            file.set_len(whole)?;
        }
        Ok(Spool { path, file, read_at: 0, len: whole, max })
    }

    /// Whether nothing waits.
    pub const fn is_empty(&self) -> bool {
        self.read_at >= self.len
    }

    /// Appends entries and syncs them. Returns how many did not fit.
    pub fn append(&mut self, entries: &[Entry]) -> io::Result<usize> {
        let mut text = Vec::new();
        let mut left_out = 0;
        for entry in entries {
            let before = text.len();
            serde_json::to_writer(&mut text, entry).expect("an entry is plain data");
            text.push(b'\n');
            if self.len + text.len() as u64 > self.max || (text.len() - before) as u64 > LINE_BYTES_MAX {
                text.truncate(before);
                left_out += 1;
            }
        }
        self.file.seek(SeekFrom::Start(self.len))?;
        let written = self.file.write_all(&text).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line must not stand before the next one.
            let _ = self.file.set_len(self.len);
            return Err(error);
        }
        self.len += text.len() as u64;
        Ok(left_out)
    }

    /// The next entries to be written, oldest first, at most so many, and the place behind them for [`Spool::done`].
    pub fn peek(&mut self, most: usize) -> io::Result<(Vec<Entry>, u64)> {
        self.file.seek(SeekFrom::Start(self.read_at))?;
        let mut reader = BufReader::new(&mut self.file);
        let mut entries = Vec::new();
        let mut place = self.read_at;
        let mut line = Vec::new();
        while entries.len() < most && place < self.len {
            line.clear();
            let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if read == 0 {
                break;
            }
            place += read as u64;
            match serde_json::from_slice(&line) {
                Ok(entry) => entries.push(entry),
                // A crash in the middle of a line, or a damaged disk: the others are still good.
                Err(why) => error!("a line of {} cannot be read and is left out: {why}", self.path.display()),
            }
        }
        Ok((entries, place))
    }

    /// What was peeked at is in the database now.
    pub fn done(&mut self, place: u64) -> io::Result<()> {
        self.read_at = place;
        if self.is_empty() && self.len > 0 {
            self.file.set_len(0)?;
            self.file.sync_data()?;
            (self.read_at, self.len) = (0, 0);
            warn!("all calls that waited in {} are in the database now", self.path.display());
        }
        Ok(())
    }
}

/// Where the last line that is whole ends.
fn whole_lines(file: &mut File, len: u64) -> io::Result<u64> {
    let mut end = len;
    let mut block = vec![0; 64 * 1024];
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let read = &mut block[..usize::try_from(end - begin).expect("at most a block")];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(read)?;
        if let Some(place) = read.iter().rposition(|&byte| byte == b'\n') {
            return Ok(begin + place as u64 + 1);
        }
        end = begin;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::call::Ingress;
    use domain::id::CallId;
    use jiff::Timestamp;

    fn entry(n: u128) -> Entry {
        Entry {
            id: CallId::from_bits(n),
            ingress: Ingress::STORE,
            carrier_call_id: format!("CA{n}"),
            workspace: None,
            number_id: None,
            from: "+15145550100".to_owned(),
            to: "+14385550100".to_owned(),
            route: None,
            status: None,
            outcome: None,
            decision: None,
            answered_at: None,
            ended_at: None,
            duration_s: None,
            kind: "status".to_owned(),
            dedupe_key: "line\nbreak".to_owned(),
            detail: serde_json::json!({"a": 1}),
            happened_at: Timestamp::UNIX_EPOCH,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn entries_come_back_in_order_also_after_a_restart_and_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path()).unwrap();
        assert!(spool.is_empty());
        let entries: Vec<Entry> = (0..5).map(entry).collect();
        assert_eq!(spool.append(&entries[..3]).unwrap(), 0);
        assert_eq!(spool.append(&entries[3..]).unwrap(), 0);
        let (first, place) = spool.peek(2).unwrap();
        assert_eq!(first, entries[..2]);
        spool.done(place).unwrap();
        assert_eq!(spool.peek(9).unwrap().0, entries[2..]);
        drop(spool);
        let mut file = OpenOptions::new().append(true).open(folder.path().join(NAME)).unwrap();
        file.write_all(b"{\"half\": ").unwrap();
        let mut spool = Spool::open(folder.path()).unwrap();
        assert_eq!(spool.append(&[entry(5)]).unwrap(), 0);
        let (all, place) = spool.peek(100).unwrap();
        let expected: Vec<Entry> = (0..6).map(entry).collect();
        assert_eq!(
            all, expected,
            "what was not told as done comes again, and nothing stands behind half a line"
        );
        spool.done(place).unwrap();
        assert!(spool.is_empty());
        assert_eq!(std::fs::metadata(folder.path().join(NAME)).unwrap().len(), 0);
    }

    #[test]
    fn the_spool_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open_with(folder.path(), 1_500).unwrap();
        let entries: Vec<Entry> = (0..10).map(entry).collect();
        let left_out = spool.append(&entries).unwrap();
        assert!((1..10).contains(&left_out), "{left_out}");
        assert_eq!(spool.peek(100).unwrap().0, entries[..10 - left_out]);
    }
}
