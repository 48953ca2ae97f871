//! Header names: long and compact forms, recognised while the message is indexed.
//!
//! Names compare without regard to case. Recognition hashes the first eight bytes and the length into a table that is
//! built at compile time and has no collisions, then compares with the one candidate: a few nanoseconds a header.

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident $text:literal $(/ $compact:literal)?;)*) => {
        /// A header's name. Those we have no use for are [`Name::Other`]; their text stays in the message.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        pub enum Name {
            $($(#[$doc])* #[doc = $text] $variant,)*
            /// Any other name.
            Other,
            /// A line that is no header at all: no colon, or a byte in the name that no name may have.
            Malformed,
        }

        /// Every spelling and what it means; the table is searched by [`hash`].
        const SPELLINGS: &[(&str, Name)] = &[
            $(($text, Name::$variant),)*
            $($((compact_text($compact), Name::$variant),)?)*
        ];

        impl Name {
            /// The long form. [`Name::Other`] and [`Name::Malformed`] have none of their own.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Name::$variant => $text,)*
                    Name::Other | Name::Malformed => "",
                }
            }

            /// All names in the table.
            pub const KNOWN: &'static [Name] = &[$(Name::$variant,)*];

            /// The compact form (RFC 3261 §7.3.3), if there is one.
            pub fn compact(self) -> Option<char> {
                match self {
                    $($(Name::$variant => Some($compact as char),)?)*
                    _ => None,
                }
            }
        }
    };
}

names! {
    Accept "Accept";
    AcceptContact "Accept-Contact" / b'a';
    Allow "Allow";
    AllowEvents "Allow-Events" / b'u';
    AuthenticationInfo "Authentication-Info";
    Authorization "Authorization";
    CallId "Call-ID" / b'i';
    Contact "Contact" / b'm';
    ContentEncoding "Content-Encoding" / b'e';
    ContentLength "Content-Length" / b'l';
    ContentType "Content-Type" / b'c';
    CSeq "CSeq";
    Date "Date";
    Diversion "Diversion";
    Event "Event" / b'o';
    Expires "Expires";
    From "From" / b'f';
    HistoryInfo "History-Info";
    Identity "Identity" / b'y';
    IdentityInfo "Identity-Info" / b'n';
    MaxForwards "Max-Forwards";
    MinExpires "Min-Expires";
    PAssertedIdentity "P-Asserted-Identity";
    PPreferredIdentity "P-Preferred-Identity";
    Privacy "Privacy";
    ProxyAuthenticate "Proxy-Authenticate";
    ProxyAuthorization "Proxy-Authorization";
    ProxyRequire "Proxy-Require";
    RAck "RAck";
    Reason "Reason";
    RecordRoute "Record-Route";
    ReferredBy "Referred-By" / b'b';
    ReferTo "Refer-To" / b'r';
    RejectContact "Reject-Contact" / b'j';
    RemotePartyId "Remote-Party-ID";
    Replaces "Replaces";
    RequestDisposition "Request-Disposition" / b'd';
    Require "Require";
    RetryAfter "Retry-After";
    Route "Route";
    RSeq "RSeq";
    Server "Server";
    SessionExpires "Session-Expires" / b'x';
    Subject "Subject" / b's';
    SubscriptionState "Subscription-State";
    Supported "Supported" / b'k';
    To "To" / b't';
    Unsupported "Unsupported";
    UserAgent "User-Agent";
    Via "Via" / b'v';
    Warning "Warning";
    WwwAuthenticate "WWW-Authenticate";
}

const fn compact_text(letter: u8) -> &'static str {
    const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz";
    let at = (letter - b'a') as usize;
    LETTERS.split_at(at).1.split_at(1).0
}

const TABLE_BITS: u32 = 9;

/// A multiplier under which no two spellings share a place; found when this is compiled.
const MULTIPLIER: u64 = {
    let mut multiplier = 0x9e37_79b9_7f4a_7c15u64;
    while !is_perfect(multiplier) {
        multiplier = multiplier.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(2);
    }
    multiplier
};

const fn is_perfect(multiplier: u64) -> bool {
    let mut taken = [false; 1 << TABLE_BITS];
    let mut at = 0;
    while at < SPELLINGS.len() {
        let text = SPELLINGS[at].0.as_bytes();
        let place = hash(&words(text), text.len(), multiplier);
        if taken[place] {
            return false;
        }
        taken[place] = true;
        at += 1;
    }
    true
}

/// The place of a name of this length, from its first eight bytes in lower case.
#[inline]
const fn hash(words: &Words, length: usize, multiplier: u64) -> usize {
    let mut word = words[0] | CASE;
    if length < 8 {
        word &= !(u64::MAX << (8 * length));
    }
    ((word ^ ((length as u64) << 56)).wrapping_mul(multiplier) >> (64 - TABLE_BITS)) as usize
}

/// `| CASE` lower-cases eight letters at once.
const CASE: u64 = 0x2020_2020_2020_2020;

/// The first 24 bytes of a line: no known name is longer.
pub(crate) type Words = [u64; 3];

/// Reads them; zeros stand behind the end of a shorter text.
#[inline]
pub(crate) const fn words(text: &[u8]) -> Words {
    let Some((bytes, _)) = text.split_first_chunk::<24>() else { return words_of_short(text) };
    let (eights, _) = bytes.as_chunks::<8>();
    [u64::from_le_bytes(eights[0]), u64::from_le_bytes(eights[1]), u64::from_le_bytes(eights[2])]
}

#[cold]
const fn words_of_short(text: &[u8]) -> Words {
    let mut words = [0; 3];
    let mut at = 0;
    while at < text.len() && at < 24 {
        words[at / 8] |= (text[at] as u64) << (8 * (at % 8));
        at += 1;
    }
    words
}

#[derive(Clone, Copy)]
struct Entry {
    words: Words,
    /// The bits of `words` that must agree: all of each byte but a letter's case, nothing behind the name's end.
    mask: Words,
    length: usize,
    name: Name,
}

static TABLE: [Entry; 1 << TABLE_BITS] = {
    let empty = Entry { words: [0; 3], mask: [0; 3], length: 0, name: Name::Other };
    let mut table = [empty; 1 << TABLE_BITS];
    let mut spelling = 0;
    while spelling < SPELLINGS.len() {
        let (text, name) = SPELLINGS[spelling];
        let text = text.as_bytes();
        let mut mask = [0; 3];
        let mut at = 0;
        while at < text.len() {
            let bits: u64 = if text[at].is_ascii_alphabetic() { 0xdf } else { 0xff };
            mask[at / 8] |= bits << (8 * (at % 8));
            at += 1;
        }
        let words = words(text);
        table[hash(&words, text.len(), MULTIPLIER)] = Entry { words, mask, length: text.len(), name };
        spelling += 1;
    }
    table
};

impl Name {
    /// Recognises a name.
    pub(crate) fn of(text: &[u8]) -> Name {
        Name::find(&words(text), text.len()).unwrap_or(Name::Other)
    }

    /// The known name that the first `length` bytes of `words` spell.
    #[inline]
    pub(crate) fn find(words: &Words, length: usize) -> Option<Name> {
        let entry = &TABLE[hash(words, length, MULTIPLIER)];
        let differs = ((words[0] ^ entry.words[0]) & entry.mask[0])
            | ((words[1] ^ entry.words[1]) & entry.mask[1])
            | ((words[2] ^ entry.words[2]) & entry.mask[2]);
        (differs == 0 && entry.length == length && length > 0).then_some(entry.name)
    }
}

/// Whether a byte may stand in a token (RFC 3261 §25.1), which is what names, methods and tags are made of.
pub(crate) const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0u8;
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        if byte == 255 {
            break;
        }
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_recognised_in_every_case_and_in_its_compact_form() {
        for &name in Name::KNOWN {
            let text = name.as_str();
            assert_eq!(Name::of(text.as_bytes()), name);
            assert_eq!(Name::of(text.to_ascii_uppercase().as_bytes()), name);
            assert_eq!(Name::of(text.to_ascii_lowercase().as_bytes()), name);
            if let Some(letter) = name.compact() {
                assert_eq!(Name::of(letter.to_string().as_bytes()), name);
                assert_eq!(Name::of(letter.to_ascii_uppercase().to_string().as_bytes()), name);
            }
        }
    }

    #[test]
    fn what_only_begins_or_ends_like_a_name_is_another() {
        for text in
            ["Vi", "Viaa", "Vias", "Content-Lengthy", "Content-Length2", "Content-LengtX", "X-Via", "", "q"]
        {
            assert_eq!(Name::of(text.as_bytes()), Name::Other, "{text}");
        }
        assert_eq!(Name::of(b"Call\rID"), Name::Other, "0x0d | 0x20 is a hyphen");
        assert_eq!(Name::of(b"\x16ia"), Name::Other);
    }
}
