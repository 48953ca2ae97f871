//! An audit anchor: a file with the end of every chain, as `switchboard audit verify` and the background task write and read it. Whoever
//! rewrites the log cannot rewrite a copy of it that is kept elsewhere.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use database::audit::AuditHead;

/// The largest file that is read, in bytes.
const BYTES_MAX: u64 = 16 << 20;

/// Reads an anchor; none where there is no file.
pub fn read(path: &Path) -> Result<Option<Vec<AuditHead>>, String> {
    let failed = |why: String| format!("failed to read the audit anchor {}: {why}", path.display());
    let length = match fs::metadata(path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error.to_string())),
    };
    if length > BYTES_MAX {
        return Err(failed(format!("it is larger than {BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&text).map(Some).map_err(|error| failed(error.to_string()))
}

/// Writes an anchor in place of the one that is there, whole or not at all.
pub fn write(path: &Path, heads: &[AuditHead]) -> Result<(), String> {
    let text = serde_json::to_string_pretty(heads).expect("heads are plain values") + "\n";
    written(path, &text)
        .map_err(|error| format!("failed to write the audit anchor {}: {error}", path.display()))
}

fn written(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = OsString::from(path);
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
