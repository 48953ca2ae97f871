//! Addresses in headers: `"Display" <sip:…>;tag=…` and the bare form (RFC 3261 §20.10, §25.1 name-addr, addr-spec).

use crate::scan::{Params, Scan, any, is_space, number, trim};
use crate::uri::{Uri, UriError};

/// One From, To, Contact, Route, Record-Route, Refer-To … value.
#[derive(Clone, Copy, Debug)]
pub struct Address<'a> {
    /// The name shown to people, as written but without its quotes; escapes are not undone.
    pub display: &'a [u8],
    /// The URI as written, without brackets.
    pub uri_text: &'a [u8],
    /// Whether the URI stood in `<…>`. If it did not, what follows a `;` belongs to the header, not to the URI.
    pub bracketed: bool,
    /// `tag`, `expires`, `q` and others.
    pub params: Params<'a>,
    tag: Option<&'a [u8]>,
}

impl<'a> Address<'a> {
    /// Reads one value.
    ///
    /// We are liberal in two things that RFC 4475 leaves open (§3.1.2.14, §3.1.2.15): white space inside the
    /// brackets is passed over, and an unquoted display name may hold any byte but `<` and `"`, since real callers
    /// send names like `Bell, Alexander`.
    pub fn parse(value: &'a [u8]) -> Option<Address<'a>> {
        let value = trim(value);
        let mut scan = Scan::new(value);
        let mut display: &[u8] = &[];
        if scan.peek() == Some(b'"') {
            display = scan.quoted()?;
            scan.space();
            if scan.peek() != Some(b'<') {
                return None;
            }
        } else if let Some(open) = memchr::memchr(b'<', value) {
            // A bracket behind a semicolon is in a parameter of a bare URI, which no grammar allows.
            display = trim(&value[..open]);
            scan.advance(open);
            if any(display, |byte| matches!(byte, b'"' | b';')) {
                return None;
            }
        }
        let bracketed = scan.eat(b'<');
        let uri_text = if bracketed {
            let length = memchr::memchr(b'>', scan.rest())?;
            let inside = &scan.rest()[..length];
            scan.advance(length + 1);
            trim(inside)
        } else {
            scan.take_while(|byte| !is_space(byte) && byte != b';')
        };
        if uri_text.is_empty() || any(uri_text, |byte| is_space(byte) || byte == b'"') {
            return None;
        }
        // RFC 3261 §20.10: a URI with a comma or a question mark must stand in brackets.
        if !bracketed && any(uri_text, |byte| matches!(byte, b',' | b'?')) {
            return None;
        }
        scan.space();
        let params = Params::of(scan.rest());
        let [tag] = params.read(["tag"])?;
        Some(Address { display, uri_text, bracketed, params, tag })
    }

    /// The URI, understood.
    pub fn uri(&self) -> Result<Uri<'a>, UriError> {
        Uri::parse(self.uri_text)
    }

    /// The tag of a From or To.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.tag.filter(|tag| !tag.is_empty())
    }

    /// A Contact's `expires`, in seconds.
    pub fn expires(&self) -> Option<u32> {
        u32::try_from(number(self.params.find("expires")?, u64::from(u32::MAX))?).ok()
    }

    /// Whether this is the `*` of `Contact: *`.
    pub fn is_star(&self) -> bool {
        self.uri_text == b"*"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms() {
        let check = |text: &str, display: &str, uri: &str, tag: Option<&str>| {
            let address = Address::parse(text.as_bytes()).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(address.display, display.as_bytes(), "{text}");
            assert_eq!(address.uri_text, uri.as_bytes(), "{text}");
            assert_eq!(address.tag(), tag.map(str::as_bytes), "{text}");
        };
        check("sip:a@b", "", "sip:a@b", None);
        check("sip:a@b ;   tag    = 1918181833n", "", "sip:a@b", Some("1918181833n"));
        check("<sip:a@b;lr>;tag=x", "", "sip:a@b;lr", Some("x"));
        check(r#""J \"R\" \\"   <sip:a@b>;tag=9"#, r#"J \"R\" \\"#, "sip:a@b", Some("9"));
        check("Bell, Alexander <sip:a@b>", "Bell, Alexander", "sip:a@b", None);
        check("token1~` token2'+_ <sip:a@b>", "token1~` token2'+_", "sip:a@b", None);
        check("\"\" < sip:a@b >", "", "sip:a@b", None);
        check("*", "", "*", None);
        check("tel:+1438;ext=5;tag=1", "", "tel:+1438", Some("1"));
    }

    #[test]
    fn what_is_no_address() {
        for bad in [
            "",
            "<>",
            "<sip:a@b",
            "\"Mr. J. <sip:a@b>",
            "sip:a@b?x=y",
            "\"a\" sip:a@b",
            "<sip:a@b>x",
            "<sip:a@b>;;tag=x",
            "<sip:a b@c>",
            "sip:a@b;tag=<x>",
            "<sip:a@b>;tag=\"x",
            "<sip:a@b>;tag=",
            // RFC 3261 §7.3.1: no parameter twice.
            "<sip:a@b>;tag=x;TAG=y",
            "sip:a@b;tag=x;tag=x",
        ] {
            assert!(Address::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
