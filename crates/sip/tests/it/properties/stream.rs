//! Any bytes, split anywhere, give the same frames as unsplit.

use sip::stream::{Frame, Framer};

pub(crate) fn check(bytes: &[u8]) {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    let whole = frames(std::iter::once(bytes));
    let split = frames(bytes.chunks(usize::from(size % 37) + 1));
    assert_eq!(whole, split);
}

/// What a stream brings in these pieces: a ping is an empty frame, `None` the end of the connection.
pub(crate) fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Vec<Option<Vec<u8>>> {
    let mut framer = Framer::default();
    let mut frames = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next_frame() {
                Ok(None) => break,
                Ok(Some(Frame::Ping)) => frames.push(Some(Vec::new())),
                Ok(Some(Frame::Message(message))) => frames.push(Some(message.to_vec())),
                Err(_) => {
                    frames.push(None);
                    return frames;
                }
            }
        }
    }
    frames
}
