//! What is said over a WebSocket: frames put together into messages, and messages judged before they go on.
//!
//! No extension is ever agreed on (the doors take the offer out of the handshake), so a frame with a reserved bit, as a
//! compressed one has, ends the connection. A message is held until it is whole: of a secret cut over frames nothing goes.

use crate::dlp::{self, Finding, Mode, Search, Stream};

/// A message may be so long.
pub const LONGEST: usize = 1 << 20;
/// So much of what was said before is looked at again with each message: a secret cut over messages is found with its
/// last piece.
const BEFORE: usize = 4 << 10;

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A bit that only an extension sets.
    #[error("a frame uses an extension, and none was agreed on")]
    Extension,
    /// RFC 6455, 5.1: a client masks.
    #[error("a frame is not masked")]
    Unmasked,
    /// And a server does not.
    #[error("a frame of the server's is masked")]
    Masked,
    /// An opcode that means nothing.
    #[error("a frame has an unknown opcode")]
    Opcode,
    /// RFC 6455, 5.5: a ping, pong or close of more than 125 bytes, or in pieces.
    #[error("a control frame is too long or in pieces")]
    Control,
    /// A continuation of nothing, or a message within a message.
    #[error("a frame continues what was not begun, or begins what was not ended")]
    Order,
    /// More than [`LONGEST`].
    #[error("a message is longer than {LONGEST} bytes")]
    TooLong,
}

/// A whole message, or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Its frames, as they came.
    pub raw: Vec<u8>,
    /// What it says.
    pub payload: Vec<u8>,
}

/// Frames on their way.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Whether a server sends them.
    of_server: bool,
    /// A message whose last frame has not come.
    open: Option<Message>,
}

impl Frames {
    /// Those that a server sends; `default` are a client's.
    pub fn of_server() -> Self {
        Self { of_server: true, ..Self::default() }
    }

    /// Takes the next bytes of a connection, and gives the messages that are whole with them.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Message>, FrameError> {
        self.buffer.extend_from_slice(bytes);
        let (mut done, mut messages) = (0, vec![]);
        while let Some(frame) = Frame::read(&self.buffer[done..], self.of_server)? {
            let raw = &self.buffer[done..done + frame.length];
            let payload = frame.payload(raw);
            done += frame.length;
            if frame.opcode >= 8 {
                messages.push(Message { raw: raw.to_vec(), payload });
                continue;
            }
            match (&mut self.open, frame.opcode) {
                (Some(open), 0) => {
                    open.raw.extend_from_slice(raw);
                    open.payload.extend(payload);
                    if open.payload.len() > LONGEST || open.raw.len() > 2 * LONGEST {
                        return Err(FrameError::TooLong);
                    }
                }
                (None, 1 | 2) => self.open = Some(Message { raw: raw.to_vec(), payload }),
                _ => return Err(FrameError::Order),
            }
            if frame.last {
                messages.extend(self.open.take());
            }
        }
        self.buffer.drain(..done);
        Ok(messages)
    }
}

/// A frame's head.
struct Frame {
    last: bool,
    opcode: u8,
    /// Zeros where nothing is masked.
    mask: [u8; 4],
    head: usize,
    /// With its head.
    length: usize,
}

impl Frame {
    /// Reads the frame at the beginning of these bytes, if it is all there.
    fn read(bytes: &[u8], of_server: bool) -> Result<Option<Self>, FrameError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let (last, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(FrameError::Extension);
        }
        if !matches!(opcode, 0..=2 | 8..=10) {
            return Err(FrameError::Opcode);
        }
        match (second & 0x80 == 0, of_server) {
            (true, false) => return Err(FrameError::Unmasked),
            (false, true) => return Err(FrameError::Masked),
            _ => {}
        }
        let short = usize::from(second & 0x7f);
        if opcode >= 8 && (short > 125 || !last) {
            return Err(FrameError::Control);
        }
        let (wide, length) = match short {
            126 => match rest.first_chunk::<2>() {
                Some(length) => (2, u64::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(length) => (8, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            short => (0, short as u64),
        };
        let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST).ok_or(FrameError::TooLong)?;
        let (mask, masked) = match rest[wide..].first_chunk::<4>() {
            _ if of_server => ([0; 4], 0),
            Some(mask) => (*mask, 4),
            None => return Ok(None),
        };
        let head = 2 + wide + masked;
        Ok((bytes.len() >= head + length).then_some(Self { last, opcode, mask, head, length: head + length }))
    }

    fn payload(&self, raw: &[u8]) -> Vec<u8> {
        raw[self.head..].iter().zip(self.mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()
    }
}

/// Messages judged one after the other, each together with the end of what was said before it.
#[derive(Debug, Default)]
pub struct Talk {
    before: Vec<u8>,
    /// Where in it messages begin that something could be made of together with the next one.
    starts: Vec<usize>,
}

impl Talk {
    /// The end of what was said.
    pub(crate) fn before(&self) -> &[u8] {
        &self.before
    }

    /// Whether a message may go: an error if not, and what is only warned of.
    pub fn judge(&mut self, search: Search<'_>, payload: &[u8], mode: Mode) -> Result<Option<Finding>, Finding> {
        // What has gone can't be overwritten.
        let mode = if mode == Mode::Redact { Mode::Block } else { mode };
        // By itself too: behind a word of the message before, a token would be the middle of one.
        let alone = if self.before.is_empty() { None } else { judge(search, payload, mode)? };
        let fresh = self.before.len();
        self.before.extend_from_slice(payload);
        let together = judge(search, &self.before, mode)?;
        self.starts.retain(|start| fresh - start < dlp::LONGEST);
        let begun = self.starts.iter().find_map(|start| {
            let (rules, scope) = search.rules?;
            let text = &self.before[*start..];
            rules.find(&text[..text.len().min(dlp::LONGEST)], scope)
        });
        if let Some(finding) = begun.clone().filter(|_| mode == Mode::Block) {
            return Err(finding);
        }
        let old = self.before.len().saturating_sub(BEFORE);
        self.before.drain(..old);
        if !payload.is_empty() {
            self.starts.push(fresh);
        }
        self.starts = self.starts.iter().filter_map(|start| start.checked_sub(old)).collect();
        Ok(alone.or(together).or(begun))
    }
}

fn judge(search: Search<'_>, bytes: &[u8], mode: Mode) -> Result<Option<Finding>, Finding> {
    let mut stream = Stream::default();
    stream.push(search, bytes, mode)?;
    stream.finish(search, mode)?;
    Ok(stream.warned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dlp::{Rules, Scope};
    use crate::known::KnownSecrets;
    use bottle_types::secret::{Secret, SecretName};

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x5a, 0x0f, 0xc3, 0x81];
        let mut out = vec![first];
        match payload.len() {
            short @ ..126 => out.push(0x80 | u8::try_from(short).expect("short")),
            medium @ ..65536 => {
                out.push(0x80 | 126);
                out.extend(u16::try_from(medium).expect("medium").to_be_bytes());
            }
            long => {
                out.push(0x80 | 127);
                out.extend((long as u64).to_be_bytes());
            }
        }
        out.extend(mask);
        out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    fn said(bytes: &[u8], piece: usize) -> Result<Vec<Message>, FrameError> {
        in_pieces(Frames::default(), bytes, piece)
    }

    fn in_pieces(mut frames: Frames, bytes: &[u8], piece: usize) -> Result<Vec<Message>, FrameError> {
        let mut all = vec![];
        for chunk in bytes.chunks(piece) {
            all.extend(frames.push(chunk)?);
        }
        Ok(all)
    }

    #[test]
    fn frames_become_messages() {
        let long = vec![b'x'; 70_000];
        let parts = [
            frame(0x01, b"one "),
            frame(0x89, b"ping"),
            frame(0x00, b"two "),
            frame(0x80, b"three"),
            frame(0x82, &long),
            frame(0x88, b""),
        ];
        let bytes = parts.concat();
        for piece in [1, 7, 4096, bytes.len()] {
            let all = said(&bytes, piece).expect("messages");
            let texts: Vec<&[u8]> = all.iter().map(|message| message.payload.as_slice()).collect();
            assert_eq!(texts, [&b"ping"[..], b"one two three", &long, b""], "{piece}");
            assert_eq!(all[1].raw, [&parts[0][..], &parts[2], &parts[3]].concat());
        }
    }

    #[test]
    fn what_is_no_plain_frame_ends_it() {
        for (bytes, error) in [
            (frame(0xc1, b"deflated"), FrameError::Extension),
            (vec![0x81, 0x01, b'a'], FrameError::Unmasked),
            (frame(0x83, b""), FrameError::Opcode),
            (frame(0x80, b"a"), FrameError::Order),
            ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), FrameError::Order),
            (frame(0x09, b"a"), FrameError::Control),
            (frame(0x89, &[0; 126]), FrameError::Control),
            (vec![0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 1], FrameError::TooLong),
        ] {
            assert_eq!(said(&bytes, 3), Err(error), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_server_s_frames_are_not_masked() {
        let long = [&[0x82, 126, 0x01, 0x00][..], &[b'x'; 256]].concat();
        let parts: [&[u8]; 4] = [b"\x01\x04one ", b"\x8a\x00", b"\x80\x03two", &long];
        let bytes = parts.concat();
        for piece in [1, 3, bytes.len()] {
            let all = in_pieces(Frames::of_server(), &bytes, piece).expect("messages");
            let texts: Vec<&[u8]> = all.iter().map(|message| message.payload.as_slice()).collect();
            assert_eq!(texts, [&b""[..], b"one two", &[b'x'; 256]], "{piece}");
            let raw: Vec<u8> = all.into_iter().flat_map(|message| message.raw).collect();
            assert_eq!(raw, [parts[1], parts[0], parts[2], parts[3]].concat());
        }
        for (bytes, error) in [
            (frame(0x81, b"masked"), FrameError::Masked),
            (b"\xc1\x01a".to_vec(), FrameError::Extension),
            (vec![0x82, 127, 0, 0, 0, 0, 0, 0x10, 0, 1], FrameError::TooLong),
        ] {
            assert_eq!(in_pieces(Frames::of_server(), &bytes, 2), Err(error), "{bytes:02x?}");
        }
    }

    #[test]
    fn a_secret_cut_over_frames_or_messages_is_found() {
        let rules = Rules::builtin().expect("rules");
        let secret = Secret::new(b"q7Zr9xKp2LmW4vTbY8nA".to_vec());
        let known = KnownSecrets::new(&[(SecretName::parse("KEY").expect("a name"), secret)]).expect("known");
        let search = Search { known: &known, rules: Some((&rules, Scope::All)) };
        let bytes = [frame(0x01, b"{\"key\": \"q7Zr9x"), frame(0x00, b"Kp2LmW4v"), frame(0x80, b"TbY8nA\"}")].concat();
        let whole = said(&bytes, bytes.len()).expect("messages").remove(0);
        assert!(Talk::default().judge(search, &whole.payload, Mode::Warn).is_err());
        let mut talk = Talk::default();
        let pieces = [&b"q7Zr"[..], b"9xKp2L", b"mW4vTb", b"Y8nA"];
        let stopped = pieces.iter().position(|piece| talk.judge(search, piece, Mode::Block).is_err());
        assert!(stopped.is_some(), "a secret went in messages");
        assert_eq!(Talk::default().judge(search, b"an honest message", Mode::Block), Ok(None));
        // A token is one also where the message before ends like a word.
        let token = format!("ghp_{}", "a1B2c3D4e5F6".repeat(3));
        let mut talk = Talk::default();
        assert_eq!(talk.judge(search, b"hello", Mode::Block), Ok(None));
        assert!(talk.judge(search, token.as_bytes(), Mode::Block).is_err());
        let mut talk = Talk::default();
        let pieces: Vec<&str> = ["word"]
            .into_iter()
            .chain(token.as_bytes().chunks(3).map(|piece| std::str::from_utf8(piece).expect("text")))
            .collect();
        let stopped = pieces.iter().position(|piece| talk.judge(search, piece.as_bytes(), Mode::Block).is_err());
        assert!(stopped.is_some_and(|stopped| stopped > 1), "{stopped:?}");
        let mut talk = Talk::default();
        let warned: Vec<_> = pieces
            .iter()
            .filter_map(|piece| talk.judge(search, piece.as_bytes(), Mode::Warn).expect("it goes on"))
            .collect();
        assert_eq!(warned.first().map(|finding| finding.rule.id()), Some(Some("github-pat")));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_say_the_same(bytes: Vec<u8>, piece in 1usize..64) {
            prop_assert_eq!(said(&bytes, piece).ok(), said(&bytes, bytes.len().max(1)).ok());
        }
    }
}
