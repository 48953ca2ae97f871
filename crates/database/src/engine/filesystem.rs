//! Refuses to keep SQLite where file locks and shared memory do not work as on a local disk.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::DbError;

/// Kinds of file systems that reach another machine, or this one by a detour.
const REFUSED: &[&str] = &[
    "9p",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "davfs",
    "drvfs",
    "gfs2",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "orangefs",
    "prl_fs",
    "smb2",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
];

/// Refuses a data folder on a file system that would lose data, unless forced.
pub(super) fn check(database: &Path, forced: bool) -> Result<(), DbError> {
    let folder = database.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let folder = folder
        .canonicalize()
        .map_err(|error| DbError::Refused(format!("the folder {}: {error}", folder.display())))?;
    // Other systems have no such list; there it is left to the operator.
    let Ok(mounts) = fs::read_to_string("/proc/mounts") else { return Ok(()) };
    match kind(&mounts, &folder) {
        Some(kind) if is_refused(kind) && !forced => Err(DbError::Refused(format!(
            "{} is on a {kind} file system, where SQLite's locks and write-ahead log (PRAGMA journal_mode = \
             WAL) can lose data. Put `data_dir` on a local disk or a block-device volume, or set \
             `database_url` to a PostgreSQL server. To take the risk, set `danger_allow_any_file_system`.",
            folder.display()
        ))),
        _ => Ok(()),
    }
}

fn is_refused(kind: &str) -> bool {
    REFUSED.contains(&kind) || kind == "fuse" || kind == "fuseblk" || kind.starts_with("fuse.")
}

/// The kind of the file system that a folder is on: the last of the deepest mounts above it.
fn kind<'m>(mounts: &'m str, folder: &Path) -> Option<&'m str> {
    let mut best: Option<(usize, &str)> = None;
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let (Some(point), Some(kind)) = (words.nth(1), words.next()) else { continue };
        let point = PathBuf::from(unescaped(point));
        let depth = point.components().count();
        if folder.starts_with(&point) && best.is_none_or(|(deepest, _)| depth >= deepest) {
            best = Some((depth, kind));
        }
    }
    best.map(|(_, kind)| kind)
}

/// `/proc/mounts` writes blanks in paths as `\040`.
fn unescaped(path: &str) -> String {
    path.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::{is_refused, kind};
    use std::path::Path;

    const MOUNTS: &str = "\
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/sdb /home/local xfs rw 0 0
host /mnt/my\\040share virtiofs rw 0 0
sshfs /mnt/remote fuse.sshfs rw 0 0
a /twice ext4 rw 0 0
b /twice cifs rw 0 0
";

    #[test]
    fn the_deepest_mount_decides() {
        for (folder, expected, refused) in [
            ("/var/lib/switchboard", "ext4", false),
            ("/home/ada", "nfs4", true),
            ("/home/local/data", "xfs", false),
            ("/homes", "ext4", false),
            ("/mnt/my share/x", "virtiofs", true),
            ("/mnt/remote", "fuse.sshfs", true),
            ("/twice/x", "cifs", true),
        ] {
            let found = kind(MOUNTS, Path::new(folder));
            assert_eq!(found, Some(expected), "{folder}");
            assert_eq!(is_refused(expected), refused, "{folder}");
        }
    }
}
