//! Looks for single bytes many at a time: line ends and bare CRs, what may end a parameter, what no URI has.
//!
//! A general search is called once a line and costs some eight nanoseconds each time; SIP lines are short, so that
//! was the greater part of an index. One mask for 64 bytes brings it to about two nanoseconds a line.

use wide::u8x16;

/// The places of all LFs, one after another.
pub(crate) struct Newlines<'a> {
    bytes: &'a [u8],
    /// Where the block begins that `mask` is of, and where the next one does.
    base: usize,
    next: usize,
    mask: u64,
}

impl<'a> Newlines<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Newlines<'a> {
        Newlines { bytes, base: 0, next: 0, mask: 0 }
    }
}

impl Iterator for Newlines<'_> {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.mask == 0 {
            let rest = self.bytes.get(self.next..).filter(|rest| !rest.is_empty())?;
            self.mask = match rest.first_chunk::<64>() {
                Some(block) => newlines(block),
                None => newlines_of_short(rest),
            };
            self.base = self.next;
            self.next += 64;
        }
        let at = self.base + self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        Some(at)
    }
}

#[cold]
fn newlines_of_short(rest: &[u8]) -> u64 {
    let mut block = [0; 64];
    block[..rest.len()].copy_from_slice(rest);
    newlines(&block)
}

/// A bit for each byte that is LF.
#[inline]
fn newlines(block: &[u8; 64]) -> u64 {
    places_of(b'\n', block)
}

#[inline]
fn places_of(byte: u8, block: &[u8; 64]) -> u64 {
    let (quarters, _) = block.as_chunks::<16>();
    quarters.iter().rev().fold(0, |mask, quarter| {
        let equal = u8x16::new(*quarter).simd_eq(u8x16::splat(byte));
        mask << 16 | u64::from(equal.to_bitmask())
    })
}

/// Whether a CR is there that no LF follows.
pub(crate) fn has_bare_cr_in(bytes: &[u8]) -> bool {
    let (blocks, rest) = bytes.as_chunks::<64>();
    // Nothing follows the last byte, and zeros are neither of the two.
    let mut last = [0; 64];
    last[..rest.len()].copy_from_slice(rest);
    let mut waits = false;
    for block in blocks.iter().chain([&last]) {
        let (returns, feeds) = (places_of(b'\r', block), places_of(b'\n', block));
        let wanted = returns << 1 | u64::from(waits);
        if wanted & !feeds != 0 {
            return true;
        }
        waits = returns >> 63 != 0;
    }
    false
}

/// Whether a byte is there that no URI has: a control character, white space, or a bracket of those that stand around
/// URIs.
#[inline]
pub(crate) fn has_bad_uri_byte(uri: &[u8]) -> bool {
    let is_bad = |&byte: &u8| byte <= b' ' || matches!(byte, b'<' | b'>' | 0x7f);
    let (blocks, rest) = uri.as_chunks::<16>();
    // The last block may look at some bytes again.
    let Some(last) = uri.last_chunk::<16>() else { return rest.iter().any(is_bad) };
    let bad = blocks.iter().chain([last]).fold(u8x16::ZERO, |bad, block| {
        let bytes = u8x16::new(*block);
        let is = |byte| bytes.simd_eq(u8x16::splat(byte));
        bad | bytes.min(u8x16::splat(b' ')).simd_eq(bytes) | is(b'<') | is(b'>') | is(0x7f)
    });
    bad.to_bitmask() != 0
}

/// A bit for each byte that may end a parameter's name or value: white space, quotes and `,;<=>`; a few others too,
/// none of which is usual there.
#[inline]
pub(crate) fn param_end_suspects(block: &[u8; 16]) -> u32 {
    let bytes = u8x16::new(*block);
    let at_most = |bytes: u8x16, most| bytes.min(u8x16::splat(most)).simd_eq(bytes);
    let low = at_most(bytes, b'"') | bytes.simd_eq(u8x16::splat(b','));
    (low | at_most(bytes - u8x16::splat(b';'), b'>' - b';')).to_bitmask()
}

const ONES: u64 = 0x0101_0101_0101_0101;
const COLONS: u64 = ONES * b':' as u64;

/// The high bit of each byte that is zero; bytes above a zero one may be marked too.
#[inline]
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & (ONES << 7)
}

/// The place of the first colon among eight bytes.
#[inline]
pub(crate) fn colon_in(word: u64) -> Option<usize> {
    let hits = zero_bytes(word ^ COLONS);
    (hits != 0).then_some(hits.trailing_zeros() as usize / 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_byte_is_found_wherever_it_stands() {
        for length in [0, 1, 15, 16, 17, 31, 32, 45, 64] {
            let mut uri = vec![b'a'; length];
            assert!(!has_bad_uri_byte(&uri));
            for at in 0..length {
                for byte in 0..=255 {
                    uri[at] = byte;
                    let is_bad = byte <= b' ' || b"<>\x7f".contains(&byte);
                    assert_eq!(has_bad_uri_byte(&uri), is_bad, "{byte} at {at} of {length}");
                }
                uri[at] = b'a';
            }
        }
    }

    #[test]
    fn a_bare_cr_is_found_wherever_it_stands() {
        for length in [0, 1, 2, 63, 64, 65, 127, 128, 129, 200] {
            let mut text = vec![b'a'; length];
            assert!(!has_bare_cr_in(&text));
            for at in 0..length {
                text[at] = b'\r';
                assert!(has_bare_cr_in(&text), "{at} of {length}");
                if at + 1 < length {
                    text[at + 1] = b'\n';
                    assert!(!has_bare_cr_in(&text), "{at} of {length}");
                    text[at + 1] = b'\r';
                    assert!(has_bare_cr_in(&text), "{at} of {length}");
                    text[at + 1] = b'a';
                }
                text[at] = b'a';
            }
        }
    }

    #[test]
    fn finds_what_a_plain_search_finds() {
        let mut bytes = vec![0u8; 300];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = if at % 7 == 0 || at % 61 < 2 { b'\n' } else { 0x0b };
        }
        for from in [0, 1, 63, 64, 65, 299, 300] {
            let bytes = &bytes[from..];
            let plain: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at] == b'\n').collect();
            assert_eq!(Newlines::of(bytes).collect::<Vec<_>>(), plain);
        }
    }
}
