//! Bodies of messages in envelopes, as gRPC and Connect send them: a byte of flags, a length of four bytes, the message.
//!
//! A client may wait for the answer to one message before it sends the next, so what it has sent can't be held back for what it will
//! send: a message goes once all of it is there and judged, together with the end of those before it.

use crate::dlp::{Finding, Mode, Search, Stream};
use crate::websocket::Talk;

/// Flags and length.
const HEAD: usize = 5;
/// A longer message, or what is no envelope, is judged as any other body from there on. gRPC's libraries take no longer
/// ones unless they are told to.
const LONGEST: usize = 4 << 20;
/// RFC-less, but agreed on: compressed (gRPC, Connect), the end of a stream (Connect), trailers (gRPC-Web).
const FLAGS: u8 = 0b1000_0011;

/// Envelopes on their way.
#[derive(Debug, Default)]
pub struct Envelopes {
    talk: Talk,
    /// The envelope that has begun.
    buffer: Vec<u8>,
    /// Where in the body it begins.
    offset: u64,
    /// What is no envelope, and how much of what it gives has gone already.
    other: Option<(Box<Stream>, usize)>,
    /// The first finding that was let pass, because the policy warns only.
    pub warned: Option<Finding>,
}

impl Envelopes {
    /// Takes the next bytes and gives those that may go.
    pub fn push(&mut self, search: Search<'_>, mut bytes: &[u8], mode: Mode) -> Result<Vec<u8>, Finding> {
        let mut out = vec![];
        while !bytes.is_empty() {
            if self.other.is_some() {
                out.append(&mut self.go_on(search, bytes, mode)?);
                break;
            }
            let (now, later) = bytes.split_at(self.missing().min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            match self.buffer.first_chunk() {
                None => {}
                Some(head) if length(*head).is_none() => {
                    let before = self.talk.before();
                    let stream = Box::new(Stream::default());
                    self.other = Some((stream, before.len()));
                    let begun = [before, &self.buffer].concat();
                    out.append(&mut self.go_on(search, &begun, mode)?);
                }
                Some(_) if self.missing() == 0 => out.append(&mut self.judge(search, mode)?),
                Some(_) => {}
            }
        }
        Ok(out)
    }

    /// No more bytes come: gives the rest.
    pub fn finish(&mut self, search: Search<'_>, mode: Mode) -> Result<Vec<u8>, Finding> {
        match &mut self.other {
            Some((stream, gone)) => {
                let mut rest = stream.finish(search, mode)?;
                rest.drain(..(*gone).min(rest.len()));
                self.warned = self.warned.take().or(stream.warned.take());
                Ok(rest)
            }
            None if self.buffer.is_empty() => Ok(vec![]),
            // Cut off: no message, but bytes.
            None => self.judge(search, mode),
        }
    }

    /// How many bytes make the envelope whole, or its head.
    fn missing(&self) -> usize {
        let whole = self.buffer.first_chunk().map_or(HEAD, |head| HEAD + length(*head).unwrap_or_default());
        whole - self.buffer.len()
    }

    /// Judges what is there as one message.
    fn judge(&mut self, search: Search<'_>, mode: Mode) -> Result<Vec<u8>, Finding> {
        let mut message = std::mem::take(&mut self.buffer);
        let offset = self.offset;
        let placed = |finding: Finding| Finding { offset: offset + finding.offset, ..finding };
        if mode == Mode::Redact {
            let mut stream = Stream::default();
            let mut redacted = stream.push(search, &message, mode).map_err(placed)?;
            redacted.append(&mut stream.finish(search, mode).map_err(placed)?);
            message = redacted;
            self.warned = self.warned.take().or(stream.warned.map(placed));
        }
        // What came before counts, so the place is that of the message.
        let here = |finding: Finding| Finding { offset, ..finding };
        let warned = self.talk.judge(search, &message, mode).map_err(here)?;
        self.warned = self.warned.take().or(warned.map(here));
        self.offset += message.len() as u64;
        Ok(message)
    }

    fn go_on(&mut self, search: Search<'_>, bytes: &[u8], mode: Mode) -> Result<Vec<u8>, Finding> {
        let Some((stream, gone)) = &mut self.other else { return Ok(vec![]) };
        let mut out = stream.push(search, bytes, mode)?;
        let old = (*gone).min(out.len());
        out.drain(..old);
        *gone -= old;
        self.warned = self.warned.take().or(stream.warned.take());
        Ok(out)
    }
}

/// The length of the message behind a head; none: it is no head, or the message is too long to be held.
fn length([flags, length @ ..]: [u8; HEAD]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    (flags & !FLAGS == 0 && length <= LONGEST).then_some(length)
}

#[cfg(test)]
mod tests {
    use bottle_types::secret::{Secret, SecretName};
    use proptest::prelude::*;

    use super::*;
    use crate::known::KnownSecrets;

    const KEY: &[u8] = b"q7Zr9xKp2LmW4vTbY8nA";

    fn envelope(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        [&[0], &length[..], message].concat()
    }

    /// What has gone after each piece, or how many pieces went before a finding.
    fn gone(bytes: &[u8], piece: usize) -> Result<Vec<usize>, usize> {
        let name = SecretName::parse("KEY").expect("a name");
        let known = KnownSecrets::new(&[(name, Secret::new(KEY.to_vec()))]).expect("known");
        let search = Search { known: &known, rules: None };
        let (mut envelopes, mut out, mut gone) = (Envelopes::default(), vec![], vec![]);
        for piece in bytes.chunks(piece) {
            out.extend(envelopes.push(search, piece, Mode::Block).map_err(|_| gone.len())?);
            gone.push(out.len());
        }
        out.extend(envelopes.finish(search, Mode::Block).map_err(|_| gone.len())?);
        assert_eq!(out, bytes);
        gone.push(out.len());
        Ok(gone)
    }

    #[test]
    fn a_message_goes_once_it_is_whole() {
        let two = [envelope(b"ping"), envelope(b"")].concat();
        assert_eq!(gone(&two, 1), Ok([vec![0; 8], vec![9; 5], vec![14; 2]].concat()));
    }

    #[test]
    fn a_secret_in_messages_does_not_go_whole() {
        for bytes in [
            [envelope(b"an honest one"), envelope(KEY)].concat(),
            // A head is a part of the body.
            KEY.to_vec(),
            [envelope(b"x"), KEY.to_vec()].concat(),
            // Cut where an envelope seems to end.
            [&[0, 0, 0, 0, 8][..], KEY].concat(),
            [envelope(&[b'x'; 300]), vec![0, 0xff, 0, 0, 0], vec![b'x'; 70_000], KEY.to_vec()].concat(),
        ] {
            for piece in [1, 7, bytes.len()] {
                assert!(gone(&bytes, piece).is_err(), "{piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_out_as_they_went_in(bytes: Vec<u8>, piece in 1usize..64) {
            prop_assert!(gone(&bytes, piece).is_ok());
        }
    }
}
