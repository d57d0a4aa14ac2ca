//! Messages of `application/vnd.amazon.eventstream`, in which Amazon Bedrock streams a model's reply.
//!
//! A message is a prelude (its length, the length of its headers, a checksum of both), headers, a payload and a checksum, all numbers
//! big-endian. The format and the largest lengths are those of AWS's own SDKs; botocore's parser is what tests hold this one against.

/// Lengths and checksum at a message's start.
const PRELUDE_BYTES: usize = 12;
/// What a message has besides headers and payload.
const OVERHEAD_BYTES: usize = PRELUDE_BYTES + 4;
const MAX_HEADER_BYTES: usize = 128 << 10;
const MAX_PAYLOAD_BYTES: usize = 16 << 20;

/// The type of a header that is a text.
const STRING: u8 = 7;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The headers that are texts, in their order.
    pub headers: Vec<(String, String)>,
    /// The payload.
    pub payload: Vec<u8>,
}

impl Message {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// The message as bytes. Names longer than 255 bytes and values longer than 65,535 are cut there.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut headers = vec![];
        for (name, value) in &self.headers {
            let name = &name.as_bytes()[..name.len().min(usize::from(u8::MAX))];
            let value = &value.as_bytes()[..value.len().min(usize::from(u16::MAX))];
            headers.push(name.len() as u8);
            headers.extend_from_slice(name);
            headers.push(STRING);
            headers.extend_from_slice(&(value.len() as u16).to_be_bytes());
            headers.extend_from_slice(value);
        }
        let total = OVERHEAD_BYTES + headers.len() + self.payload.len();
        let mut bytes = [(total as u32).to_be_bytes(), (headers.len() as u32).to_be_bytes()].concat();
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes.extend_from_slice(&headers);
        bytes.extend_from_slice(&self.payload);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }
}

/// Why bytes are no such message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// One of the two checksums is another.
    #[error("a checksum is wrong")]
    Checksum,
    /// A length is impossible, or above what AWS allows.
    #[error("a length is impossible")]
    Length,
    /// The headers end too early, or one is of an unknown type.
    #[error("the headers can't be read")]
    Headers,
}

/// Takes bytes in any pieces and gives the messages in them. After an error it has no more to give.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// The start of `buffer` that was given already.
    taken: usize,
}

impl Decoder {
    /// The next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message, once all of it is there. A length is believed, and waited for, only after its checksum.
    pub fn message(&mut self) -> Result<Option<Message>, MessageError> {
        let rest = &self.buffer[self.taken..];
        let Some(prelude) = rest.get(..PRELUDE_BYTES) else { return Ok(None) };
        let (total, headers) = (number(prelude, 0), number(prelude, 4));
        if crc32fast::hash(&prelude[..8]) != number(prelude, 8) {
            return Err(MessageError::Checksum);
        }
        let (total, headers) = (total as usize, headers as usize);
        let payload = total.checked_sub(OVERHEAD_BYTES + headers.min(total)).ok_or(MessageError::Length)?;
        if headers > MAX_HEADER_BYTES || payload > MAX_PAYLOAD_BYTES {
            return Err(MessageError::Length);
        }
        let Some(message) = rest.get(..total) else { return Ok(None) };
        let (checked, checksum) = message.split_at(total - 4);
        if crc32fast::hash(checked) != number(checksum, 0) {
            return Err(MessageError::Checksum);
        }
        let (headers, payload) = checked[PRELUDE_BYTES..].split_at(headers);
        let message = Message { headers: texts(headers).ok_or(MessageError::Headers)?, payload: payload.to_vec() };
        self.taken += total;
        Ok(Some(message))
    }
}

/// The big-endian number at this place of bytes that have one there.
fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Takes so many bytes off the front.
fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(front)
}

/// The headers that are texts; the others are passed over.
fn texts(mut bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut headers = vec![];
    while !bytes.is_empty() {
        let length = take(&mut bytes, 1)?[0];
        let name = std::str::from_utf8(take(&mut bytes, usize::from(length))?).ok()?;
        let kind = take(&mut bytes, 1)?[0];
        let length = match kind {
            // True and false.
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            // A number, and a time.
            5 | 8 => 8,
            // Bytes, and a text.
            6 | STRING => take(&mut bytes, 2)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
            // A UUID.
            9 => 16,
            _ => return None,
        };
        let value = take(&mut bytes, length)?;
        if kind == STRING {
            headers.push((name.to_owned(), std::str::from_utf8(value).ok()?.to_owned()));
        }
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> Message {
        let headers = [(":message-type", "event"), (":event-type", "chunk")];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Message { headers, payload: b"{\"bytes\":\"e30=\"}".to_vec() }
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_whatever_the_pieces(sizes in proptest::collection::vec(1usize..90, 1..40)) {
            let bytes = [message().to_bytes(), Message { headers: vec![], payload: vec![] }.to_bytes(), message().to_bytes()].concat();
            let (mut decoder, mut rest, mut got) = (Decoder::default(), &bytes[..], vec![]);
            for size in sizes.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                decoder.push(piece);
                while let Some(message) = decoder.message().expect("a message") { got.push(message); }
                rest = after;
            }
            prop_assert_eq!(got, vec![message(), Message { headers: vec![], payload: vec![] }, message()]);
        }

        #[test]
        fn no_bytes_make_it_panic_and_no_flipped_bit_passes(bytes in proptest::collection::vec(any::<u8>(), 0..200), bit in 0usize..400) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            let _ = decoder.message();
            let mut flipped = message().to_bytes();
            let bit = bit % (flipped.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            let mut decoder = Decoder::default();
            decoder.push(&flipped);
            prop_assert_eq!(decoder.message(), Err(MessageError::Checksum));
        }
    }

    #[test]
    fn impossible_lengths_are_not_waited_for() {
        let prelude = |total: u32, headers: u32| {
            let lengths = [total.to_be_bytes(), headers.to_be_bytes()].concat();
            [&lengths[..], &crc32fast::hash(&lengths).to_be_bytes()].concat()
        };
        for (total, headers) in [(u32::MAX, 0), (17 << 20, 0), (1 << 20, 129 << 10), (15, 0), (16, 1), (0, u32::MAX)] {
            let mut decoder = Decoder::default();
            decoder.push(&prelude(total, headers));
            assert_eq!(decoder.message(), Err(MessageError::Length), "{total} {headers}");
        }
        let mut decoder = Decoder::default();
        decoder.push(&prelude(16 << 20, 0));
        assert_eq!(decoder.message(), Ok(None));
    }
}
