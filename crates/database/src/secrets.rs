//! Secrets at rest: sealed with a key that is never in the database, bound to the row that holds them.
//!
//! The key lives in a file of its own, outside the data folder, readable by its owner only. Each
//! ciphertext names its format and its key, so that keys can be changed one row at a time. A ciphertext
//! moved to another row, table or workspace does not open.
//!
//! Secrets and nonces come from the system's generator only, never from an injected one.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use domain::id::{SecretId, WorkspaceId};
use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::hkdf::{HKDF_SHA256, Prk, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use crate::engine::{Both, Database, Read, Tx};
use crate::error::DbError;
use crate::routes::RouteChange;
use crate::value::Value;

/// What a ciphertext begins with: XChaCha20-Poly1305, bound as [`Place`] says.
const FORMAT: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

/// How a line of the key file begins.
const KEY_LINE: &str = "switchboard-key-1:";

/// The most keys in one file: the present one and those that old rows still need.
const KEYS_MAX: usize = 16;

/// The longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 4096;

/// Where a ciphertext stands. It opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// The table.
    pub table: &'a str,
    /// The column.
    pub column: &'a str,
    /// The row's id.
    pub row: &'a str,
}

impl Place<'_> {
    /// The bytes that the ciphertext is bound to: each part with its length, so that no two places look alike.
    fn bytes(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        for part in [&self.workspace.to_string(), self.table, self.column, self.row] {
            out.extend(u32::try_from(part.len()).expect("names are short").to_be_bytes());
            out.extend(part.as_bytes());
        }
        out
    }
}

struct Key {
    id: [u8; KEY_ID_BYTES],
    fingerprint: String,
    cipher: XChaCha20Poly1305,
    root: Prk,
}

/// The keys of this node; the first seals, all open. It has no `Debug`, and its parts are wiped when dropped.
pub struct Keyring {
    keys: Vec<Key>,
}

/// A key's 32 bytes for one purpose.
struct Bytes32;
impl ring::hkdf::KeyType for Bytes32 {
    fn len(&self) -> usize {
        KEY_BYTES
    }
}

fn expand(root: &Prk, label: &str) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    root.expand(&[b"switchboard/", label.as_bytes()], Bytes32)
        .and_then(|okm| okm.fill(&mut *out))
        .expect("32 bytes are within what HKDF gives");
    out
}

fn random(bytes: &mut [u8]) -> Result<(), DbError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| DbError::Internal("the system's random generator does not answer".into()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |out, byte| format!("{out}{byte:02x}"))
}

impl Key {
    fn new(secret: &[u8; KEY_BYTES]) -> Key {
        let root = Salt::new(HKDF_SHA256, b"switchboard").extract(secret);
        let mark = digest(&SHA256, &*expand(&root, "fingerprint"));
        let mark = mark.as_ref();
        Key {
            id: mark[..KEY_ID_BYTES].try_into().expect("a digest is longer"),
            fingerprint: hex(&mark[..16]),
            cipher: XChaCha20Poly1305::new((&*expand(&root, "secrets")).into()),
            root,
        }
    }
}

impl Keyring {
    /// One key, for tests and for the demo's own folder.
    pub fn from_bytes(secret: &[u8; KEY_BYTES]) -> Keyring {
        Keyring { keys: vec![Key::new(secret)] }
    }

    /// Reads the key file. `None` where there is none.
    pub fn load(path: &Path) -> Result<Option<Keyring>, DbError> {
        let refuse = |why: String| DbError::Refused(format!("encryption_key_file {}: {why}", path.display()));
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(refuse(error.to_string())),
        };
        let mode = fs::metadata(path).map_err(|error| refuse(error.to_string()))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(refuse(format!(
                "others may read it (mode {:03o}); run `chmod 600 {}`",
                mode & 0o777,
                path.display()
            )));
        }
        let mut keys = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let bytes =
                line.strip_prefix(KEY_LINE).and_then(|coded| BASE64.decode(coded).ok()).map(Zeroizing::new);
            let bytes: Option<Zeroizing<[u8; KEY_BYTES]>> = bytes
                .and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok())
                .map(Zeroizing::new);
            let Some(bytes) = bytes else {
                return Err(refuse(format!("a line is not `{KEY_LINE}` and 32 bytes in base64")));
            };
            keys.push(Key::new(&bytes));
        }
        match keys.len() {
            0 => Err(refuse("it holds no key".into())),
            1..=KEYS_MAX => Ok(Some(Keyring { keys })),
            many => Err(refuse(format!("it holds {many} keys; at most {KEYS_MAX} are read"))),
        }
    }

    /// Creates the key file, for its owner's eyes only. Never replaces one.
    pub fn create(path: &Path) -> Result<Keyring, DbError> {
        let refuse = |error: std::io::Error| {
            DbError::Refused(format!("encryption_key_file {}: {error}", path.display()))
        };
        let mut secret = Zeroizing::new([0; KEY_BYTES]);
        random(&mut *secret)?;
        let line = Zeroizing::new(format!("{KEY_LINE}{}\n", BASE64.encode(*secret)));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(folder).map_err(refuse)?;
        // Written under another name and linked into place: nobody ever reads half a key, nobody's key is lost.
        let mut suffix = [0; 8];
        random(&mut suffix)?;
        let draft = folder.join(format!(".key-{}", hex(&suffix)));
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(line.as_bytes())?;
            file.sync_all()?;
            fs::hard_link(&draft, path)?;
            File::open(folder)?.sync_all()
        })();
        drop(fs::remove_file(&draft));
        written.map_err(refuse)?;
        Ok(Keyring::from_bytes(&secret))
    }

    /// Names the key that seals, without telling anything about it.
    pub fn fingerprint(&self) -> &str {
        &self.keys[0].fingerprint
    }

    /// A key of its own for another purpose, such as signing quotes.
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        expand(&self.keys[0].root, &format!("derived/{label}"))
    }

    /// Seals a secret for one place.
    pub fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<Vec<u8>, DbError> {
        let key = &self.keys[0];
        let mut nonce = [0; NONCE_BYTES];
        random(&mut nonce)?;
        let payload = Payload { msg: secret, aad: &place.bytes() };
        let sealed = key
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| DbError::Internal("a secret could not be sealed".into()))?;
        Ok([&[FORMAT][..], &key.id, &nonce, &sealed].concat())
    }

    /// Opens what was sealed for this very place. Anything else is [`DbError::Corrupt`].
    pub fn open(&self, place: Place<'_>, ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, DbError> {
        let wrong = |why: &str| {
            DbError::Corrupt(format!(
                "the secret in {}.{} of {}: {why}",
                place.table, place.column, place.row
            ))
        };
        let (&format, rest) = ciphertext.split_first().ok_or_else(|| wrong("it is empty"))?;
        if format != FORMAT {
            return Err(wrong("its format is not known to this program"));
        }
        let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or_else(|| wrong("it is cut short"))?;
        let (nonce, sealed) =
            rest.split_first_chunk::<NONCE_BYTES>().ok_or_else(|| wrong("it is cut short"))?;
        let key = self.keys.iter().find(|key| key.id == *id).ok_or_else(|| DbError::WrongKey {
            expected: format!("{}…", hex(id)),
            found: self.fingerprint().to_owned(),
        })?;
        let payload = Payload { msg: sealed, aad: &place.bytes() };
        key.cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| wrong("it was changed, or belongs to another row"))
    }
}

const RECORD: &str =
    "INSERT INTO meta (name, value) VALUES ('key_fingerprint', $1) ON CONFLICT (name) DO NOTHING";
const RECORDED: &str = "SELECT value FROM meta WHERE name = 'key_fingerprint'";

impl Database {
    /// The fingerprint of the key that this database's secrets are sealed with, once one is known.
    pub async fn key_fingerprint(&self) -> Result<Option<String>, DbError> {
        self.read(|read| read.query_opt(RECORDED, &[], |row| row.read(0))).await
    }

    /// Reads the key file, or creates it where the database knows of no key yet, and checks that it is
    /// the key of this database. Refuses another key, and a missing one while secrets may exist.
    pub async fn open_keyring(&self, path: &Path) -> Result<Keyring, DbError> {
        let keyring = match Keyring::load(path)? {
            Some(keyring) => keyring,
            None => match self.key_fingerprint().await? {
                Some(expected) => {
                    let found = format!("no key (there is no file {})", path.display());
                    return Err(DbError::WrongKey { expected, found });
                }
                None => Keyring::create(path)?,
            },
        };
        self.check_key(&keyring).await?;
        Ok(keyring)
    }

    /// Records the first key that a database sees, and refuses every other from then on.
    pub async fn check_key(&self, keyring: &Keyring) -> Result<(), DbError> {
        let found = keyring.fingerprint().to_owned();
        self.write(move |tx| {
            // The unique name is the lock: of two first nodes, one records and the other compares.
            tx.execute(RECORD, &[(&found).into()])?;
            let expected: String = tx.query_one(RECORDED, &[], |row| row.read(0))?;
            if expected == found { Ok(()) } else { Err(DbError::WrongKey { expected, found: found.clone() }) }
        })
        .await
    }
}

/// A stored secret as people may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSecret {
    /// The row.
    pub id: SecretId,
    /// Which column refers to it.
    pub purpose: String,
    /// The last characters of it.
    pub last4: String,
    /// When it was set.
    pub set_at: Timestamp,
}

const CREATE: &str = "INSERT INTO secrets (id, workspace_id, purpose, ciphertext, last4, set_at) \
    VALUES ($1, $2, $3, $4, $5, $6)";
const OPEN: &str = "SELECT purpose, ciphertext FROM secrets WHERE id = $1 AND workspace_id = $2";
const LIST: &str =
    "SELECT id, purpose, last4, set_at FROM secrets WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3";
const COUNT: &str = "SELECT count(*) FROM secrets WHERE workspace_id = $1";
const DELETE: &str = "DELETE FROM secrets WHERE id = $1 AND workspace_id = $2";
const COUNT_BY_KEY: Both = Both {
    // The key's id stands in bytes 2 to 5; the engines cut and write bytes differently.
    sqlite: "SELECT lower(hex(substr(ciphertext, 2, 4))), count(*) FROM secrets GROUP BY 1 ORDER BY 1",
    postgres: "SELECT encode(substr(ciphertext, 2, 4), 'hex'), count(*) FROM secrets GROUP BY 1 ORDER BY 1",
};

/// Every query of this file.
pub(crate) const QUERIES: &[(&str, Both)] = &[
    ("secrets::RECORD", Both::same(RECORD)),
    ("secrets::RECORDED", Both::same(RECORDED)),
    ("secrets::CREATE", Both::same(CREATE)),
    ("secrets::OPEN", Both::same(OPEN)),
    ("secrets::LIST", Both::same(LIST)),
    ("secrets::COUNT", Both::same(COUNT)),
    ("secrets::DELETE", Both::same(DELETE)),
    ("secrets::COUNT_BY_KEY", COUNT_BY_KEY),
];

/// Seals and stores a secret. `purpose` names the column that will refer to it, such as `sip_password`.
pub fn secret_create(
    tx: &Tx<'_>,
    keyring: &Keyring,
    workspace: WorkspaceId,
    id: SecretId,
    purpose: &str,
    secret: &str,
    now: Timestamp,
) -> Result<StoredSecret, DbError> {
    let row = id.to_string();
    let ciphertext =
        keyring.seal(Place { workspace, table: "secrets", column: purpose, row: &row }, secret.as_bytes())?;
    // Of a short secret, not even four characters are shown.
    let shown = (secret.chars().count() / 4).min(4);
    let skipped = secret.chars().count() - shown;
    let last4: String = secret.chars().skip(skipped).collect();
    tx.execute(
        CREATE,
        &[
            (&row).into(),
            Value::text(&workspace),
            purpose.into(),
            (&ciphertext).into(),
            (&last4).into(),
            now.into(),
        ],
    )?;
    tx.route_changed(RouteChange::Secret(id));
    Ok(StoredSecret { id, purpose: purpose.to_owned(), last4, set_at: now })
}

/// The secret itself, for whoever must use it at this moment.
pub fn secret_open(
    read: &Read<'_>,
    keyring: &Keyring,
    workspace: WorkspaceId,
    id: SecretId,
) -> Result<Option<Zeroizing<Vec<u8>>>, DbError> {
    let row = id.to_string();
    let found = read.query_opt(OPEN, &[(&row).into(), Value::text(&workspace)], |found| {
        Ok((found.read::<String>(0)?, found.read::<Vec<u8>>(1)?))
    })?;
    let Some((purpose, ciphertext)) = found else { return Ok(None) };
    keyring.open(Place { workspace, table: "secrets", column: &purpose, row: &row }, &ciphertext).map(Some)
}

/// A workspace's secrets, without what is in them; `after` is the last id of the page before.
pub fn secret_list(
    read: &Read<'_>,
    workspace: WorkspaceId,
    after: Option<SecretId>,
    limit: u32,
) -> Result<Vec<StoredSecret>, DbError> {
    let after = after.map_or_else(String::new, |id| id.to_string());
    read.query(LIST, &[Value::text(&workspace), after.into(), limit.into()], |row| {
        Ok(StoredSecret {
            id: row.parse(0)?,
            purpose: row.read(1)?,
            last4: row.read(2)?,
            set_at: row.read(3)?,
        })
    })
}

/// How many secrets a workspace has.
pub fn secret_count(read: &Read<'_>, workspace: WorkspaceId) -> Result<i64, DbError> {
    read.query_one(COUNT, &[Value::text(&workspace)], |row| row.read(0))
}

/// Forgets a secret that nothing refers to any more.
pub fn secret_delete(tx: &Tx<'_>, workspace: WorkspaceId, id: SecretId) -> Result<bool, DbError> {
    tx.route_changed(RouteChange::Secret(id));
    Ok(tx.execute(DELETE, &[Value::text(&id), Value::text(&workspace)])? > 0)
}

/// How many secrets each key sealed: (the first eight letters of its fingerprint, how many).
pub fn secret_count_by_key(read: &Read<'_>) -> Result<Vec<(String, i64)>, DbError> {
    read.query(read.pick(COUNT_BY_KEY), &[], |row| Ok((row.read(0)?, row.read(1)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place<'a>(table: &'a str, column: &'a str, row: &'a str) -> Place<'a> {
        Place { workspace: WorkspaceId::from_bits(7), table, column, row }
    }

    #[test]
    fn opens_only_where_it_was_sealed() {
        let ring = Keyring::from_bytes(&[7; 32]);
        let here = place("secrets", "sip_password", "sec_1");
        let sealed = ring.seal(here, b"hunter2 hunter2").unwrap();
        assert_eq!(ring.open(here, &sealed).unwrap().as_slice(), b"hunter2 hunter2");
        assert_ne!(sealed, ring.seal(here, b"hunter2 hunter2").unwrap(), "each has its own nonce");
        for there in [
            place("secret", "ssip_password", "sec_1"),
            place("secrets", "sip_password", "sec_2"),
            place("secrets", "other", "sec_1"),
            Place { workspace: WorkspaceId::from_bits(8), ..here },
        ] {
            assert!(matches!(ring.open(there, &sealed), Err(DbError::Corrupt(_))));
        }
        let other = Keyring::from_bytes(&[8; 32]);
        let Err(DbError::WrongKey { expected, found }) = other.open(here, &sealed) else { panic!() };
        assert_eq!(expected, format!("{}…", &ring.fingerprint()[..8]));
        assert_eq!(found, other.fingerprint());
    }

    #[test]
    fn purposes_have_keys_of_their_own() {
        let ring = Keyring::from_bytes(&[7; 32]);
        assert_ne!(*ring.derive("quotes"), *ring.derive("call-ids"));
        assert_eq!(*ring.derive("quotes"), *Keyring::from_bytes(&[7; 32]).derive("quotes"));
    }

    #[test]
    fn key_files_are_private_and_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/switchboard.key");
        assert!(Keyring::load(&path).unwrap().is_none());
        let made = Keyring::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Keyring::load(&path).unwrap().unwrap().fingerprint(), made.fingerprint());
        assert!(Keyring::create(&path).is_err(), "the key that is there stays");
        assert_eq!(Keyring::load(&path).unwrap().unwrap().fingerprint(), made.fingerprint());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no drafts are left");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keyring::load(&path), Err(DbError::Refused(why)) if why.contains("chmod 600")));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "switchboard-key-1:AAAA\n").unwrap();
        let Err(DbError::Refused(why)) = Keyring::load(&path) else { panic!() };
        assert!(!why.contains("AAAA"), "errors do not show keys: {why}");
    }

    proptest! {
        #[test]
        fn one_flipped_bit_is_noticed(secret in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let ring = Keyring::from_bytes(&[7; 32]);
            let here = place("secrets", "c", "r");
            let mut sealed = ring.seal(here, &secret).unwrap();
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(ring.open(here, &sealed).is_err());
        }
    }
}
