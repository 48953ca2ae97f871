//! What stands in a challenge and in credentials, read in one pass. What it means is the module above's business.

use crate::scan::Scan;

/// The parameters of a challenge or of credentials: `name=value, name="value"`.
#[derive(Clone, Copy)]
pub(super) struct AuthParams<'a> {
    scan: Scan<'a>,
}

impl<'a> AuthParams<'a> {
    /// Behind the scheme, if the scheme is Digest.
    pub(super) fn of(value: &'a [u8]) -> Option<AuthParams<'a>> {
        let mut scan = Scan::new(value);
        let scheme = scan.token()?;
        scan.space();
        scheme.eq_ignore_ascii_case(b"Digest").then_some(AuthParams { scan })
    }

    /// The values of these parameters without their quotes, read in one pass; `None` for one that is not there. None at
    /// all when one of them stands twice or anything breaks the grammar: credentials that can be read in two ways are
    /// none.
    fn read<const COUNT: usize>(self, names: [&str; COUNT]) -> Option<[Option<&'a [u8]>; COUNT]> {
        let mut scan = self.scan;
        let mut values = [None; COUNT];
        loop {
            let param = scan.token()?;
            if !scan.eat_spaced(b'=') {
                return None;
            }
            let value = if scan.peek() == Some(b'"') {
                scan.quoted()?
            } else {
                scan.take_while(|byte| byte > b' ' && byte != b',' && byte != b'"')
            };
            for (slot, name) in values.iter_mut().zip(names) {
                if param.eq_ignore_ascii_case(name.as_bytes()) && slot.replace(value).is_some() {
                    return None;
                }
            }
            scan.space();
            if scan.is_done() {
                return Some(values);
            }
            if !scan.eat_spaced(b',') {
                return None;
            }
        }
    }
}

/// What credentials say (RFC 7616 §3.4).
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) realm: Option<&'a [u8]>,
    pub(super) username: Option<&'a [u8]>,
    pub(super) nonce: Option<&'a [u8]>,
    pub(super) uri: Option<&'a [u8]>,
    pub(super) response: Option<&'a [u8]>,
    pub(super) algorithm: Option<&'a [u8]>,
    pub(super) qop: Option<&'a [u8]>,
    pub(super) nc: Option<&'a [u8]>,
    pub(super) cnonce: Option<&'a [u8]>,
}

impl<'a> Given<'a> {
    pub(super) fn read(params: AuthParams<'a>) -> Option<Given<'a>> {
        let names = ["realm", "username", "nonce", "uri", "response", "algorithm", "qop", "nc", "cnonce"];
        let [realm, username, nonce, uri, response, algorithm, qop, nc, cnonce] = params.read(names)?;
        Some(Given { realm, username, nonce, uri, response, algorithm, qop, nc, cnonce })
    }
}

/// What a challenge says (RFC 7616 §3.3).
#[derive(Clone, Copy)]
pub(super) struct Challenge<'a> {
    pub(super) realm: Option<&'a [u8]>,
    pub(super) nonce: Option<&'a [u8]>,
    pub(super) opaque: Option<&'a [u8]>,
    pub(super) algorithm: Option<&'a [u8]>,
    pub(super) qop: Option<&'a [u8]>,
    pub(super) stale: Option<&'a [u8]>,
}

impl<'a> Challenge<'a> {
    pub(super) fn read(params: AuthParams<'a>) -> Option<Challenge<'a>> {
        let [realm, nonce, opaque, algorithm, qop, stale] =
            params.read(["realm", "nonce", "opaque", "algorithm", "qop", "stale"])?;
        Some(Challenge { realm, nonce, opaque, algorithm, qop, stale })
    }
}
