//! The text of an API key: `sbk_<8-character id>_<secret><checksum>`. The id finds it, the secret proves it, the checksum lets
//! anyone – a secret scanner, a person who lost a letter – see without a database whether it is whole.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::SecretString;

/// What every key begins with.
pub const PREFIX: &str = "sbk_";
/// The characters of the public id.
const ID_CHARS: usize = 8;
/// The characters of the secret: 43 of 62 kinds are 256 bits.
const SECRET_CHARS: usize = 43;
/// The characters of the checksum.
const CHECKSUM_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new key: what is kept of it, and its text, which is shown once.
pub struct NewKeyText {
    /// Finds it.
    pub public_id: String,
    /// The SHA-256 of its secret.
    pub secret_hash: [u8; 32],
    /// The last characters of the text.
    pub last4: String,
    /// The whole.
    pub text: SecretString,
}

/// A key as somebody sent it: whole, but not proven.
pub struct SentKey<'a> {
    /// Finds it.
    pub public_id: &'a str,
    /// The SHA-256 of its secret.
    pub secret_hash: [u8; 32],
}

impl NewKeyText {
    /// Makes a key from the system's own generator.
    pub fn generate() -> NewKeyText {
        let (public_id, secret) = (random_text(ID_CHARS), random_text(SECRET_CHARS));
        let checksum = checksum(&public_id, &secret);
        let text = format!("{PREFIX}{public_id}_{secret}{checksum}");
        let last4 = text[text.len() - 4..].to_owned();
        NewKeyText { secret_hash: hash(&secret), public_id, last4, text: SecretString::from(text) }
    }
}

/// Reads a key's text, unless it is no key or not whole.
pub fn parse(text: &str) -> Option<SentKey<'_>> {
    let rest = text.strip_prefix(PREFIX)?;
    let (public_id, rest) = rest.split_once('_')?;
    let whole = public_id.len() == ID_CHARS
        && rest.len() == SECRET_CHARS + CHECKSUM_CHARS
        && rest.bytes().chain(public_id.bytes()).all(|b| b.is_ascii_alphanumeric());
    if !whole {
        return None;
    }
    let (secret, sent) = rest.split_at(SECRET_CHARS);
    (checksum(public_id, secret) == sent).then(|| SentKey { public_id, secret_hash: hash(secret) })
}

fn hash(secret: &str) -> [u8; 32] {
    digest(&SHA256, secret.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn random_text(chars: usize) -> String {
    let system = SystemRandom::new();
    let mut text = String::with_capacity(chars);
    while text.len() < chars {
        let mut bytes = [0; 64];
        system.fill(&mut bytes).expect("the system's random generator works");
        // 248 is the largest multiple of 62 in a byte: what is above would make some letters likelier than others.
        let letters = bytes
            .iter()
            .filter(|&&byte| byte < 248)
            .map(|&byte| char::from(ALPHABET[usize::from(byte % 62)]));
        text.extend(letters.take(chars - text.len()));
    }
    text
}

/// CRC-32 (ISO 3309) over id and secret, in six letters.
fn checksum(public_id: &str, secret: &str) -> String {
    let mut crc = u32::MAX;
    for byte in public_id.bytes().chain(secret.bytes()) {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
        }
    }
    let mut rest = !crc;
    let mut letters = [b'0'; CHECKSUM_CHARS];
    for place in letters.iter_mut().rev() {
        *place = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    letters.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;

    #[test]
    fn a_key_is_known_again_and_a_damaged_one_is_not() {
        let key = NewKeyText::generate();
        let text = key.text.expose_secret();
        let sent = parse(text).expect("it is whole");
        assert_eq!((sent.public_id, sent.secret_hash), (key.public_id.as_str(), key.secret_hash));
        assert!(text.ends_with(&key.last4));
        for place in 0..text.len() {
            let mut damaged = text.to_owned();
            let other = if &text[place..=place] == "x" { "y" } else { "x" };
            damaged.replace_range(place..=place, other);
            assert!(parse(&damaged).is_none(), "a letter changed at {place}");
        }
        for damaged in
            ["", "sbk_", &text[1..], &text[..text.len() - 1], &format!("{text} "), "sbk_abcdefgh_ä"]
        {
            assert!(parse(damaged).is_none(), "{damaged}");
        }
        assert_ne!(NewKeyText::generate().text.expose_secret(), text);
    }
}
