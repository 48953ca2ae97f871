//! Secrets that come in with a request: each gets its id at once, so that what refers to it can be put together, and is sealed
//! and stored in the transaction of the change. Nobody reads it back but whoever must use it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use database::secrets::{secret_count, secret_create, secret_delete};
use database::versions::version_holds_secret;
use database::{DbError, Keyring, Tx};
use domain::endpoint::SecretRef;
use domain::error::{Code, Refusal};
use domain::id::{AgentId, SecretId, WorkspaceId};
use jiff::Timestamp;

use super::Failure;
use crate::app::App;
use crate::config::Secret;

/// What the passwords of SIP targets are sealed for.
pub const SIP_PASSWORD: &str = "sip_password";
/// What the signing secrets of webhook endpoints are sealed for.
pub const WEBHOOK_SECRET: &str = "webhook_secret";

/// The most secrets of one workspace. Every node holds them all, since any call may need one.
pub const SECRETS_MAX: i64 = 20_000;
/// The longest secret, in bytes.
pub const SECRET_BYTES_MAX: usize = 1024;

/// The secrets of one request.
#[derive(Clone, Default)]
pub struct NewSecrets(Arc<Vec<NewSecret>>);

struct NewSecret {
    id: SecretId,
    purpose: &'static str,
    text: Secret,
}

impl NewSecrets {
    /// Takes a secret in; `purpose` names what refers to it, such as [`SIP_PASSWORD`].
    pub fn take(&mut self, id: SecretId, purpose: &'static str, text: &str) -> SecretRef {
        let secrets = Arc::get_mut(&mut self.0).expect("secrets are taken in before they are shared");
        secrets.push(NewSecret { id, purpose, text: Secret::new(text) });
        SecretRef { id, last4: last4(text) }
    }

    /// Seals and stores them.
    pub fn store(
        &self,
        tx: &Tx<'_>,
        sealer: &Sealer,
        workspace: WorkspaceId,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if !self.0.is_empty() && !sealer.key_is_checked {
            return Err(key_is_not_checked().into());
        }
        for secret in self.0.iter() {
            secret_create(
                tx,
                &sealer.keyring,
                workspace,
                secret.id,
                secret.purpose,
                secret.text.expose(),
                now,
            )?;
        }
        if !self.0.is_empty() && secret_count(tx, workspace)? > SECRETS_MAX {
            return Err(Failure::Refused(Refusal::new(
                Code::LimitReached,
                format!(
                    "a workspace keeps at most {SECRETS_MAX} passwords and signing secrets, those of published versions included"
                ),
            )));
        }
        Ok(())
    }
}

/// Forgets the secrets of what is replaced, where nothing refers to them any more: for what has no versions.
pub fn forget_replaced(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    before: &[SecretId],
    after: &[SecretId],
) -> Result<(), DbError> {
    for id in before.iter().filter(|id| !after.contains(id)) {
        secret_delete(tx, workspace, *id)?;
    }
    Ok(())
}

/// Forgets the secrets that left an agent's draft, unless a version still has them: it may run, and may be rolled back to.
pub fn forget_dropped(
    tx: &Tx<'_>,
    workspace: WorkspaceId,
    agent: AgentId,
    before: &[SecretId],
    after: &[SecretId],
) -> Result<(), DbError> {
    for id in before.iter().filter(|id| !after.contains(id)) {
        if !version_holds_secret(tx, agent, *id)? {
            secret_delete(tx, workspace, *id)?;
        }
    }
    Ok(())
}

/// What seals secrets: nothing, before the database has confirmed the key.
#[derive(Clone)]
pub struct Sealer {
    keyring: Arc<Keyring>,
    key_is_checked: bool,
}

impl Sealer {
    /// The app's, as it is now.
    pub fn of(app: &App) -> Sealer {
        Sealer { keyring: app.keyring.clone(), key_is_checked: app.key_is_checked.load(Ordering::Acquire) }
    }
}

/// Why nothing is sealed or bought yet.
pub fn key_is_not_checked() -> DbError {
    DbError::Unavailable("it has not confirmed the encryption key yet".to_owned())
}

/// Refuses what cannot be meant as a secret. Never repeats it.
pub fn check_secret(text: &str) -> Result<(), Refusal> {
    let masks = |c: char| matches!(c, '*' | '•' | '●' | 'x' | 'X' | '.' | '…');
    if text.is_empty() {
        return Err(Refusal::new(Code::Blank, "is empty; send the secret, or leave the field out"));
    }
    if text.len() > SECRET_BYTES_MAX {
        return Err(Refusal::new(
            Code::TooLong,
            format!("has {} bytes; a secret has at most {SECRET_BYTES_MAX}", text.len()),
        ));
    }
    if text.starts_with(char::is_whitespace) || text.ends_with(char::is_whitespace) {
        return Err(Refusal::new(
            Code::SecretWhitespace,
            "begins or ends with white space, which is seldom meant; copy it again without",
        ));
    }
    // `••••abcd` is what a page shows of a stored secret.
    let masked = text.chars().count() >= 4 && text.chars().take(4).all(masks);
    if masked {
        return Err(Refusal::new(
            Code::SecretMasked,
            "is a mask as pages show it, not a secret; send the whole secret",
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Refusal::new(Code::ControlCharacter, "holds a control character; copy it again"));
    }
    Ok(())
}

/// What people may see of a secret: its last four characters, and less of a short one.
fn last4(text: &str) -> String {
    let count = text.chars().count();
    text.chars().skip(count - (count / 4).min(4)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_as_they_are_or_refused() {
        for (text, code) in [
            ("", Code::Blank),
            (" s3cret", Code::SecretWhitespace),
            ("s3cret\n", Code::SecretWhitespace),
            ("••••cret", Code::SecretMasked),
            ("XXXXXXXX", Code::SecretMasked),
            ("s3\u{7}cret", Code::ControlCharacter),
            (&"x".repeat(2000), Code::TooLong),
        ] {
            assert_eq!(check_secret(text).unwrap_err().code, code, "{text:?}");
        }
        assert!(check_secret("correct horse battery").is_ok());
        assert_eq!((last4("0123456789abcdef"), last4("abc")), ("cdef".to_owned(), String::new()));
    }
}
