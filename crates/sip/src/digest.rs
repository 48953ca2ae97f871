//! Digest authentication (RFC 7616 as RFC 8760 brings it to SIP): SHA-256 and MD5, `qop=auth`.
//!
//! As a server: [`Authenticator`] challenges and verifies. Its nonces are made from a key, bound to a realm label,
//! live for a minute and are counted, so that no answer is taken twice; a flood of challenges stores nothing, because
//! only a nonce that was answered rightly is remembered.
//!
//! As a client: [`answer`] answers a challenge for the configured realm and no other. How often is the caller's
//! business: once per request, and once more if the server says `stale`.

mod nonce;
mod params;

use std::borrow::Cow;
use std::fmt::Write as _;

use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::header::name::Name;
use crate::keyed::{Keys, is_same_secret};
use crate::message::Message;
use crate::time::Instant;
use crate::uri::Uri;
use crate::work;
use nonce::{Nonces, Use};
use params::{AuthParams, Challenge, Given};

/// A password. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Secret {
        Secret(bytes.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a client answers challenges with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The user name.
    pub username: String,
    /// The password.
    pub password: Secret,
    /// The realm they are for; a challenge of another realm is not answered. `None`: whatever realm this peer names.
    pub realm: Option<String>,
}

/// Hash functions, the best first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// MD5, for those who know nothing else.
    Md5,
}

impl Algorithm {
    /// As in a header.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Md5 => "MD5",
        }
    }

    fn read(text: &[u8]) -> Option<Algorithm> {
        [Algorithm::Sha256, Algorithm::Md5]
            .into_iter()
            .find(|a| text.eq_ignore_ascii_case(a.as_str().as_bytes()))
    }

    /// `H(part:part:…)` in hexadecimal.
    fn hash(self, parts: &[&[u8]]) -> String {
        let text = parts.join(&b':');
        work::visited(text.len());
        match self {
            Algorithm::Sha256 => hex(&Sha256::digest(&text)),
            Algorithm::Md5 => hex(&Md5::digest(&text)),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What goes into a response (RFC 7616 §3.4.1).
struct Inputs<'a> {
    username: &'a [u8],
    realm: &'a [u8],
    password: &'a [u8],
    nonce: &'a [u8],
    method: &'a [u8],
    uri: &'a [u8],
    /// `nc` and `cnonce`, with `qop=auth`.
    counted: Option<(&'a [u8], &'a [u8])>,
}

fn digest(algorithm: Algorithm, inputs: &Inputs<'_>) -> String {
    let a1 = algorithm.hash(&[inputs.username, inputs.realm, inputs.password]);
    let a2 = algorithm.hash(&[inputs.method, inputs.uri]);
    match inputs.counted {
        Some((nc, cnonce)) => {
            algorithm.hash(&[a1.as_bytes(), inputs.nonce, nc, cnonce, b"auth", a2.as_bytes()])
        }
        None => algorithm.hash(&[a1.as_bytes(), inputs.nonce, a2.as_bytes()]),
    }
}

/// Whether the asker is a user agent or a proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asker {
    /// 401, WWW-Authenticate, Authorization.
    UserAgent,
    /// 407, Proxy-Authenticate, Proxy-Authorization.
    Proxy,
}

impl Asker {
    /// The status of a challenge.
    pub fn status(self) -> crate::Status {
        crate::Status::known(if self == Asker::Proxy { 407 } else { 401 })
    }

    fn challenge_header(self) -> Name {
        if self == Asker::Proxy { Name::ProxyAuthenticate } else { Name::WwwAuthenticate }
    }

    fn answer_header(self) -> Name {
        if self == Asker::Proxy { Name::ProxyAuthorization } else { Name::Authorization }
    }
}

/// What came of looking at a request's credentials.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// They are right, and were never used before.
    Accepted {
        /// Whose they are.
        username: String,
    },
    /// There are none for this realm that can be read, and in one way only: challenge.
    Missing,
    /// They are right but the nonce is too old or forgotten: challenge with `stale`.
    Stale,
    /// They are wrong, used already, or for something else.
    Refused(Refused),
}

/// Why credentials are refused. For logs; the peer only sees another challenge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    /// They cannot be read, or a needed parameter is missing.
    Malformed,
    /// An algorithm that we do not offer.
    Algorithm,
    /// No `qop=auth`: without a count nobody could tell a replay.
    Qop,
    /// Not our nonce, or made for another realm.
    Nonce,
    /// The digest's URI is not the request's.
    Uri,
    /// The user is not known or the password is wrong.
    Password,
    /// The count was used already.
    Replay,
}

/// Challenges and verifies, as a server.
///
/// ```
/// use sip::digest::{answer, Asker, Authenticator, Credentials, Secret, Verdict};
/// use sip::{Instant, Keys, Message, ResponseBuilder, Name};
/// # let mut request = Message::parse(b"REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
/// #     To: <sip:a@b>\r\nFrom: <sip:c@d>;tag=1\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n\r\n")?;
/// let now = Instant::ZERO;
/// let mut server = Authenticator::new(&Keys { shared: [1; 32], unique: [2; 32] });
/// assert_eq!(server.verify(now, &request, Asker::UserAgent, "trunk-1", |_| None), Verdict::Missing);
///
/// let mut challenge = ResponseBuilder::new(&request, Asker::UserAgent.status());
/// for (name, value) in server.challenge(now, Asker::UserAgent, "trunk-1", false) {
///     challenge = challenge.header(name.as_str(), value);
/// }
/// let me = Credentials { username: "alice".into(), password: Secret::new("secret"), realm: Some("trunk-1".into()) };
/// let never_used = 0x5eed;
/// let answer = answer(&challenge.build()?, &me, b"REGISTER", b"sip:example.com", 1, never_used);
/// let (name, value) = answer.expect("our realm");
/// request.set(name, value.as_bytes())?;
///
/// let password = |user: &str| (user == "alice").then(|| Secret::new("secret"));
/// let verdict = server.verify(now, &request, Asker::UserAgent, "trunk-1", password);
/// assert_eq!(verdict, Verdict::Accepted { username: "alice".into() });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Authenticator {
    nonces: Nonces,
}

impl Authenticator {
    /// One that has not seen anything yet.
    pub fn new(keys: &Keys) -> Authenticator {
        Authenticator { nonces: Nonces::new(keys) }
    }

    /// The headers of a challenge, SHA-256 first (RFC 8760 §2.4).
    pub fn challenge(
        &mut self,
        now: Instant,
        asker: Asker,
        realm: &str,
        is_stale: bool,
    ) -> Vec<(Name, String)> {
        let nonce = self.nonces.make(now, realm);
        let opaque = self.nonces.opaque(realm);
        let stale = if is_stale { ", stale=true" } else { "" };
        let realm = realm.replace(['"', '\\', '\r', '\n', '\0'], "");
        [Algorithm::Sha256, Algorithm::Md5]
            .map(|algorithm| {
                let name = algorithm.as_str();
                let value = format!(
                    "Digest realm=\"{realm}\", nonce=\"{nonce}\", opaque=\"{opaque}\", algorithm={name}, \
                     qop=\"auth\"{stale}"
                );
                (asker.challenge_header(), value)
            })
            .into()
    }

    /// Looks at a request's credentials for this realm. `password` is asked for the user's; an unknown user costs as
    /// much time as a wrong password.
    pub fn verify(
        &mut self,
        now: Instant,
        request: &Message,
        asker: Asker,
        realm: &str,
        password: impl FnOnce(&str) -> Option<Secret>,
    ) -> Verdict {
        let all = request.lines(asker.answer_header()).filter_map(AuthParams::of);
        let mut all = all.filter_map(Given::read);
        let Some(given) = all.find(|given| given.realm == Some(realm.as_bytes())) else {
            return Verdict::Missing;
        };
        match self.check(now, request, given, realm, password) {
            Ok(Ok(username)) => Verdict::Accepted { username },
            Ok(Err(Stale)) => Verdict::Stale,
            Err(refused) => Verdict::Refused(refused),
        }
    }

    fn check(
        &mut self,
        now: Instant,
        request: &Message,
        given: Given<'_>,
        realm: &str,
        password: impl FnOnce(&str) -> Option<Secret>,
    ) -> Result<Result<String, Stale>, Refused> {
        let needed = |value: Option<_>| value.ok_or(Refused::Malformed);
        let username = unquote(needed(given.username)?);
        let username = std::str::from_utf8(&username).map_err(|_| Refused::Malformed)?;
        let (nonce, uri, response) = (needed(given.nonce)?, needed(given.uri)?, needed(given.response)?);
        let algorithm = match given.algorithm {
            Some(text) => Algorithm::read(text).ok_or(Refused::Algorithm)?,
            None => Algorithm::Md5,
        };
        if !given.qop.is_some_and(|qop| qop.eq_ignore_ascii_case(b"auth")) {
            return Err(Refused::Qop);
        }
        let (nc, cnonce) = (needed(given.nc)?, needed(given.cnonce)?);
        let count = read_count(nc).ok_or(Refused::Malformed)?;
        let issued = self.nonces.read(nonce, realm).ok_or(Refused::Nonce)?;
        let secret = password(username);
        let expected = digest(
            algorithm,
            &Inputs {
                username: username.as_bytes(),
                realm: realm.as_bytes(),
                password: secret.as_ref().map_or(b"no such user", |secret| &secret.0),
                nonce,
                method: request.method_text(),
                uri,
                counted: Some((nc, cnonce)),
            },
        );
        let is_right = is_same_secret(expected.as_bytes(), response.to_ascii_lowercase().as_slice());
        if !is_right || secret.is_none() {
            return Err(Refused::Password);
        }
        // The digest is over the URI as given. Whether it means the request's is asked by those alone who know the
        // password: to compare them costs more than to read them.
        if !is_same_uri(uri, request.uri_text()) {
            return Err(Refused::Uri);
        }
        // Only now, so that nobody without the password can use up a count or learn what is remembered.
        match self.nonces.use_once(now, issued, count) {
            Use::Fresh => Ok(Ok(username.to_owned())),
            Use::Stale => Ok(Err(Stale)),
            Use::Replay => Err(Refused::Replay),
        }
    }

    /// How many nonces are remembered.
    pub fn remembered(&self) -> usize {
        self.nonces.len()
    }
}

/// The nonce is too old; all else was right.
struct Stale;

/// `nc`: eight hexadecimal digits, above zero.
fn read_count(text: &[u8]) -> Option<u32> {
    let is_count = text.len() == 8 && text.iter().all(u8::is_ascii_hexdigit);
    let count = u32::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()?;
    (is_count && count > 0).then_some(count)
}

/// A quoted string's inside with its escapes undone (RFC 3261 §25.1 quoted-pair): the digest is over what is meant
/// (RFC 7616 §3.4.2, `unq`).
fn unquote(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut meant = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        meant.push(if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte });
    }
    Cow::Owned(meant)
}

fn is_same_uri(a: &[u8], b: &[u8]) -> bool {
    a == b || matches!((Uri::parse(a), Uri::parse(b)), (Ok(a), Ok(b)) if a.is_equivalent(&b))
}

/// Whether a challenge says that only the nonce was too old.
pub fn is_stale(challenge: &Message) -> bool {
    [Name::WwwAuthenticate, Name::ProxyAuthenticate].into_iter().any(|name| {
        challenge
            .lines(name)
            .filter_map(AuthParams::of)
            .filter_map(Challenge::read)
            .any(|challenge| challenge.stale.is_some_and(|stale| stale.eq_ignore_ascii_case(b"true")))
    })
}

/// The header that answers a 401 or 407, or `None` if no challenge in it is one we answer: another realm, an unknown
/// algorithm, a protection we do not offer.
///
/// `count` is how often this nonce has been answered, counting this time. `cnonce` is a number that nobody could guess
/// before and that was not used before: with it whoever challenges cannot look the password up in a table that it made
/// beforehand for a nonce of its own (RFC 7616 §5.10). It must tell nothing of the password, since it is sent as it is.
pub fn answer(
    challenge: &Message,
    credentials: &Credentials,
    method: &[u8],
    uri: &[u8],
    count: u32,
    cnonce: u64,
) -> Option<(Name, String)> {
    let asker = match challenge.status()?.code() {
        401 => Asker::UserAgent,
        407 => Asker::Proxy,
        _ => return None,
    };
    [Algorithm::Sha256, Algorithm::Md5].into_iter().find_map(|algorithm| {
        let all = challenge.lines(asker.challenge_header()).filter_map(AuthParams::of);
        all.filter_map(Challenge::read).find_map(|challenge| {
            let offered = challenge.algorithm.map_or(Some(Algorithm::Md5), Algorithm::read)?;
            let value = (offered == algorithm)
                .then(|| answer_one(challenge, algorithm, credentials, method, uri, count, cnonce))??;
            Some((asker.answer_header(), value))
        })
    })
}

fn answer_one(
    challenge: Challenge<'_>,
    algorithm: Algorithm,
    credentials: &Credentials,
    method: &[u8],
    uri: &[u8],
    count: u32,
    cnonce: u64,
) -> Option<String> {
    let (realm, nonce) = (challenge.realm?, challenge.nonce?);
    if credentials.realm.as_ref().is_some_and(|wanted| wanted.as_bytes() != realm) {
        return None;
    }
    let offers = |qop: &[u8]| {
        qop.split(|&byte| byte == b',').any(|one| one.trim_ascii().eq_ignore_ascii_case(b"auth"))
    };
    if challenge.qop.is_some_and(|qop| !offers(qop)) {
        return None;
    }
    let has_qop = challenge.qop.is_some();
    let (nc, cnonce) = (format!("{count:08x}"), format!("{cnonce:016x}"));
    let response = digest(
        algorithm,
        &Inputs {
            username: credentials.username.as_bytes(),
            realm,
            password: &credentials.password.0,
            nonce,
            method,
            uri,
            counted: has_qop.then_some((nc.as_bytes(), cnonce.as_bytes())),
        },
    );
    // What is neither UTF-8 nor on one line is nothing that a server of this protocol could have asked for.
    let text = |bytes: &[u8]| {
        let is_line = !bytes.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t');
        String::from_utf8(bytes.to_vec()).ok().filter(|_| is_line)
    };
    let mut value = format!(
        "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{response}\", algorithm={}",
        credentials.username.replace('\\', "\\\\").replace('"', "\\\""),
        text(realm)?,
        text(nonce)?,
        text(uri)?,
        algorithm.as_str(),
    );
    // Writing to a String cannot fail.
    if has_qop {
        let _ = write!(value, ", qop=auth, nc={nc}, cnonce=\"{cnonce}\"");
    }
    if let Some(opaque) = challenge.opaque {
        let _ = write!(value, ", opaque=\"{}\"", text(opaque)?);
    }
    Some(value)
}

#[cfg(test)]
mod tests;
