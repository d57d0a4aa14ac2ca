//! What else some bytes say: what is packed inside them (gzip, zlib, zip, xz, lzip, bzip2, zstd, at any offset, nested), what remains without
//! NUL bytes (UTF-16 and UTF-32 of plain text), and what base64, hex and percent codes stand for, over line breaks too.
//!
//! A scanner that looks only at the bytes themselves, or trusts a name or the first bytes to say what a file is, misses
//! all of these. Formats that this module does not unpack are named by [`archive_names`], for the scanner's own unpackers.

use std::collections::BTreeSet;
use std::io::Read;

use base64::Engine as _;
use flate2::{Decompress, FlushDecompress, Status};

/// Packed inside packed inside packed: deeper than this is refused, as nobody does it honestly.
const DEEPEST: usize = 8;
/// No secret is a shorter run of printable characters.
const SHORTEST: usize = 8;
/// What comes out of a damaged stream, or of what only looked like one, has to have a longer run, and one of this many
/// different characters: random bytes look like a stream every few kilobytes, and most of what comes out is noise.
const SHORTEST_DAMAGED: usize = 16;
/// Up to this size all NUL bytes are dropped, wherever they are; in larger files only those between wide characters.
const SMALL: usize = 1 << 20;
/// A line of base64 or hex that may go on in the next one.
const SHORTEST_LINE: usize = 32;
/// Fewer percent codes than this hide nothing.
const MANY_PERCENTS: usize = 6;

/// Bytes that other bytes contain in another form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// How they came about: `gzip at byte 0`, `without NUL bytes`.
    pub how: String,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Something that can't be looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextsError {
    /// A bomb, or as good as one.
    #[error("what is packed in it unpacks to more than the gate looks through")]
    TooLarge,
    /// Nested without end.
    #[error("it has archives nested more than {DEEPEST} deep")]
    TooDeep,
}

/// Looks for what else bytes say, within a budget for all that one push unpacks to.
#[derive(Debug)]
pub struct Unpacker {
    left: u64,
    inflater: Decompress,
}

impl Unpacker {
    /// An unpacker that stops with an error when `budget` bytes have come out.
    pub fn new(budget: u64) -> Self {
        Self { left: budget, inflater: Decompress::new(false) }
    }

    /// All that the bytes say in other forms; not the bytes themselves.
    pub fn unpack(&mut self, bytes: &[u8]) -> Result<Vec<Derived>, TextsError> {
        let mut found = vec![];
        self.look(bytes, "", 0, &mut found)?;
        Ok(found)
    }

    fn look(&mut self, bytes: &[u8], before: &str, depth: usize, found: &mut Vec<Derived>) -> Result<(), TextsError> {
        let narrow = if bytes.len() <= SMALL { without_nuls(bytes) } else { wide_runs(bytes) };
        if !narrow.is_empty() {
            self.spend(narrow.len())?;
            let how = format!("{before}without NUL bytes");
            // UTF-16 text is read on: it may be base64. In other binaries the same runs were seen already.
            if narrow.len() * 4 <= bytes.len() * 3 {
                self.inner(narrow, how, depth, found)?;
            } else {
                found.push(Derived { how, bytes: narrow });
            }
        }
        self.streams(bytes, before, depth, found)?;
        self.encoded(bytes, before, depth, found)
    }

    fn inner(&mut self, bytes: Vec<u8>, how: String, depth: usize, found: &mut Vec<Derived>) -> Result<(), TextsError> {
        if depth >= DEEPEST {
            return Err(TextsError::TooDeep);
        }
        self.look(&bytes, &format!("{how}, "), depth + 1, found)?;
        found.push(Derived { how, bytes });
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), TextsError> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(TextsError::TooLarge)?;
        Ok(())
    }

    /// Deflate streams behind a gzip, zip or zlib header, wherever it stands.
    fn streams(
        &mut self,
        bytes: &[u8],
        before: &str,
        depth: usize,
        found: &mut Vec<Derived>,
    ) -> Result<(), TextsError> {
        let mut at = 0;
        while at + 2 < bytes.len() {
            let rest = &bytes[at..];
            let (kind, start, (out, read)) = if let Some((kind, start)) = header(rest) {
                (kind, start, self.inflate(rest.get(start..).unwrap_or_default())?)
            } else if let Some(kind) = packer(rest) {
                (kind, 0, self.decompress(kind, rest)?)
            } else {
                at += 1;
                continue;
            };
            let counts = match read {
                Some(_) => out.len() >= SHORTEST,
                None => has_text(&out),
            };
            if !counts {
                at += 1;
                continue;
            }
            self.inner(out, format!("{before}{kind} at byte {at}"), depth, found)?;
            // A stream that came out whole has no other inside it; after a broken one, what it swallowed is tried again.
            at += read.map_or(1, |read| start + read);
        }
        Ok(())
    }

    /// Inflates; the second value is how much was read, if the stream came to its end.
    fn inflate(&mut self, bytes: &[u8]) -> Result<(Vec<u8>, Option<usize>), TextsError> {
        self.inflater.reset(false);
        let mut out = vec![];
        loop {
            if out.len() == out.capacity() {
                out.reserve(out.len().max(512));
            }
            let (read, made) = (self.inflater.total_in(), out.len());
            let rest = usize::try_from(read).ok().and_then(|read| bytes.get(read..)).unwrap_or_default();
            let status = self.inflater.decompress_vec(rest, &mut out, FlushDecompress::None);
            self.spend(out.len() - made)?;
            match status {
                Ok(Status::StreamEnd) => return Ok((out, usize::try_from(self.inflater.total_in()).ok())),
                Ok(_) if out.len() > made || self.inflater.total_in() > read => {}
                // Cut off or damaged: what came out before counts.
                Ok(_) | Err(_) => return Ok((out, None)),
            }
        }
    }

    /// The same for the formats that have no deflate inside.
    fn decompress(&mut self, kind: &str, mut bytes: &[u8]) -> Result<(Vec<u8>, Option<usize>), TextsError> {
        let all = bytes.len();
        let mut out = vec![];
        let whole = match kind {
            "xz" => self.read_out(lzma_rust2::XzReader::new(&mut bytes, false), &mut out)?,
            "lzip" => self.read_out(lzma_rust2::LzipReader::new(&mut bytes), &mut out)?,
            "bzip2" => self.read_out(bzip2::bufread::BzDecoder::new(&mut bytes), &mut out)?,
            _ => match ruzstd::decoding::StreamingDecoder::new(&mut bytes) {
                Ok(decoder) => self.read_out(decoder, &mut out)?,
                Err(_) => false,
            },
        };
        Ok((out, whole.then(|| all - bytes.len())))
    }

    /// Reads what comes; says whether it came to its end.
    fn read_out(&mut self, mut reader: impl Read, out: &mut Vec<u8>) -> Result<bool, TextsError> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(true),
                Ok(count) => {
                    self.spend(count)?;
                    out.extend_from_slice(&buffer[..count]);
                }
                // Cut off or damaged: what came out before counts.
                Err(_) => return Ok(false),
            }
        }
    }

    /// Base64 and hex are decoded, also where they are broken into lines, and so are percent signs. gitleaks does some of it,
    /// but no lines, nothing binary, and now and then it misses a plain one.
    fn encoded(
        &mut self,
        bytes: &[u8],
        before: &str,
        depth: usize,
        found: &mut Vec<Derived>,
    ) -> Result<(), TextsError> {
        let (mut joined, mut decoded) = (vec![], vec![]);
        let (mut run, mut lines) = (vec![], 0);
        for line in bytes.split(|byte| *byte == b'\n').map(Some).chain([None]) {
            if let Some(line) = line.map(<[u8]>::trim_ascii)
                && let text = longest_run(line)
                // The last line of a block is shorter, but has nothing beside it.
                && (text.len() >= SHORTEST_LINE || lines > 0 && !text.is_empty() && line.len() <= text.len() + 6)
            {
                run.extend_from_slice(text);
                lines += 1;
            } else if lines > 0 {
                decode_into(&run, &mut decoded);
                if lines > 1 {
                    joined.append(&mut run);
                    joined.push(b'\n');
                }
                run.clear();
                lines = 0;
            }
        }
        self.spend(joined.len())?;
        if !joined.is_empty() {
            found.push(Derived { how: format!("{before}base64 lines joined"), bytes: joined });
        }
        self.spend(decoded.len())?;
        if !decoded.is_empty() {
            self.inner(decoded, format!("{before}base64 or hex"), depth, found)?;
        }
        if bytes.len() > SMALL && std::str::from_utf8(bytes).is_err() {
            return Ok(());
        }
        let percents = bytes.windows(3).filter(|part| part[0] == b'%' && part[1..].iter().all(u8::is_ascii_hexdigit));
        if percents.take(MANY_PERCENTS).count() == MANY_PERCENTS {
            let decoded = percent_encoding::percent_decode(bytes).collect::<Vec<u8>>();
            self.spend(decoded.len())?;
            self.inner(decoded, format!("{before}percent signs"), depth, found)?;
        }
        Ok(())
    }
}

/// Whether there is a run of printable characters, several of them different.
fn has_text(bytes: &[u8]) -> bool {
    let various = |part: &[u8]| part.iter().collect::<BTreeSet<_>>().len() >= SHORTEST;
    bytes.split(|byte| !is_printable(*byte) && *byte != 0).any(|run| run.windows(SHORTEST_DAMAGED).any(various))
}

fn is_printable(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace()
}

fn without_nuls(bytes: &[u8]) -> Vec<u8> {
    if bytes.contains(&0) { bytes.iter().copied().filter(|byte| *byte != 0).collect() } else { vec![] }
}

/// The printable characters that stand two or four bytes apart with NULs between, a run a line.
fn wide_runs(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    let mut at = 0;
    while at + 1 < bytes.len() {
        // A character and a NUL, or the other way round: the same runs, but for one end.
        if !(is_printable(bytes[at]) && bytes[at + 1] == 0) {
            at += 1;
            continue;
        }
        let step = if bytes.get(at + 2..at + 4) == Some(&[0, 0]) { 4 } else { 2 };
        let start = out.len();
        while at < bytes.len()
            && is_printable(bytes[at])
            && bytes[at + 1..].iter().take(step - 1).all(|byte| *byte == 0)
        {
            out.push(bytes[at]);
            at += step;
        }
        if out.len() - start < SHORTEST {
            out.truncate(start);
        } else {
            // Big-endian text ends in a character without a NUL behind it.
            out.extend(bytes.get(at).filter(|byte| is_printable(**byte)));
            out.push(b'\n');
        }
    }
    out
}

/// What begins here, and where its deflate stream starts.
fn header(bytes: &[u8]) -> Option<(&'static str, usize)> {
    let number = |at: usize| Some(usize::from(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
    match bytes {
        // RFC 1952.
        [0x1f, 0x8b, 8, flags, ..] => {
            let mut start = 10;
            if flags & 4 != 0 {
                start += 2 + number(start)?;
            }
            for text in [8, 16] {
                if flags & text != 0 {
                    start += bytes.get(start..)?.iter().position(|byte| *byte == 0)? + 1;
                }
            }
            Some(("gzip", start + if flags & 2 != 0 { 2 } else { 0 }))
        }
        // PKWARE's APPNOTE, 4.3.7. Method 0 is stored plain, and read with the bytes around it.
        [b'P', b'K', 3, 4, ..] if number(8)? == 8 => Some(("zip", 30 + number(26)? + number(28)?)),
        // RFC 1950, with any window and no dictionary.
        [method, flags, ..]
            if method & 0x8f == 8 && flags & 0x20 == 0 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31) =>
        {
            Some(("zlib", 2))
        }
        _ => None,
    }
}

/// The part of a line that base64 or hex could be: behind a quote, a comma or a key, before another.
fn longest_run(line: &[u8]) -> &[u8] {
    line.split(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')))
        .max_by_key(|run| run.len())
        .unwrap_or_default()
}

/// Decodes one run, as hex if it can be that; each decoded run is a line.
fn decode_into(run: &[u8], out: &mut Vec<u8>) {
    if let Ok(bytes) = hex::decode(run) {
        out.extend_from_slice(&bytes);
        return out.push(b'\n');
    }
    let standard: Vec<u8> = run
        .iter()
        .filter(|byte| **byte != b'=')
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    let whole = standard.len() - usize::from(standard.len() % 4 == 1);
    let config = base64::engine::GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone);
    let engine = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    if let Ok(bytes) = engine.decode(&standard[..whole]) {
        out.extend_from_slice(&bytes);
        out.push(b'\n');
    }
}

/// What else begins here.
fn packer(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some("xz"),
        [b'L', b'Z', b'I', b'P', 1, ..] => Some("lzip"),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Some("bzip2"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some("zstd"),
        _ => None,
    }
}

/// The file name endings by which gitleaks unpacks these bytes, if they are in one of the formats that it alone unpacks.
pub fn archive_names(bytes: &[u8]) -> &'static [&'static str] {
    match bytes {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => &["zst", "tar.zst"],
        [0x04, 0x22, 0x4d, 0x18, ..] => &["lz4", "tar.lz4"],
        [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => &["7z"],
        [b'R', b'a', b'r', b'!', 0x1a, 0x07, ..] => &["rar"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    const TEXT: &[u8] = b"needle in a haystack, twice as long as it has to be";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(vec![], Compression::default());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn says(bytes: &[u8]) -> Vec<String> {
        let found = Unpacker::new(1 << 20).unpack(bytes).expect("small");
        found
            .iter()
            .filter(|one| one.bytes.windows(6).any(|part| part == b"needle"))
            .map(|one| one.how.clone())
            .collect()
    }

    #[test]
    fn packed_text_is_found_wherever_it_is() {
        assert_eq!(says(&gzip(TEXT)), ["gzip at byte 0"]);
        assert_eq!(says(&[b"MZ padding ".as_slice(), &gzip(TEXT), b"tail"].concat()), ["gzip at byte 11"]);
        assert_eq!(says(&gzip(&gzip(TEXT))), ["gzip at byte 0, gzip at byte 0"]);
        let mut zlib = ZlibEncoder::new(b"%PDF stream\n".to_vec(), Compression::default());
        zlib.write_all(TEXT).expect("in memory");
        assert_eq!(says(&zlib.finish().expect("in memory")), ["zlib at byte 12"]);
        let packed = gzip(&TEXT.repeat(30));
        assert_eq!(says(&packed[..packed.len() - 12]), ["gzip at byte 0"]);
        let text = base64::engine::general_purpose::STANDARD.encode(gzip(TEXT));
        assert_eq!(says(format!("x: \"{text}\"\n").as_bytes()), ["base64 or hex, gzip at byte 0"]);
    }

    #[test]
    fn other_packers_are_read_too() {
        let mut bzip2 = bzip2::write::BzEncoder::new(vec![], bzip2::Compression::default());
        bzip2.write_all(TEXT).expect("in memory");
        assert_eq!(says(&bzip2.finish().expect("in memory")), ["bzip2 at byte 0"]);
        let zstd = ruzstd::encoding::compress_to_vec(TEXT, ruzstd::encoding::CompressionLevel::Fastest);
        assert!(says(&[b"junk".as_slice(), &zstd].concat()).contains(&"zstd at byte 4".to_owned()));
        // `printf %s TEXT | xz -9e --check=crc32`, as hex: the crate that reads it here does not write it.
        let xz = "fd377a585a0000016922de36020021011c00000010cf58cc0100326e6565646c6520696e206120686179737461636b2c207477696365206173206c6f6e672061732069742068617320746f206265000074e81b7400014733ff0d6e209042990d010000000001595a";
        assert!(says(&hex::decode(xz).expect("hex")).contains(&"xz at byte 0".to_owned()));
    }

    #[test]
    fn wide_characters_are_narrowed() {
        for wide in [
            String::from_utf8_lossy(TEXT).encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
            String::from_utf8_lossy(TEXT).encode_utf16().flat_map(u16::to_be_bytes).collect(),
        ] {
            assert_eq!(says(&wide), ["without NUL bytes"]);
            let large = [&vec![0xfe; SMALL + 1][..], &wide].concat();
            let found = Unpacker::new(4 << 20).unpack(&large).expect("small");
            let narrow: Vec<&[u8]> = found.iter().map(|one| one.bytes.trim_ascii()).collect();
            assert!(narrow.iter().any(|narrow| narrow.ends_with(&TEXT[1..])), "{narrow:?}");
        }
        let wide: Vec<u8> = TEXT.iter().flat_map(|byte| [*byte, 0, 0, 0]).collect();
        assert_eq!(wide_runs(&wide), [TEXT, b"\n"].concat());
    }

    #[test]
    fn broken_lines_are_joined() {
        let text = hex::encode(TEXT);
        let lines = format!("{}\n{}\n{}\n", &text[..40], &text[40..80], &text[80..]);
        let found = Unpacker::new(1 << 20).unpack(lines.as_bytes()).expect("small");
        assert!(found.iter().any(|one| one.bytes.starts_with(text.as_bytes())), "{found:?}");
        assert_eq!(says(lines.as_bytes()), ["base64 or hex"]);
        let base64 = base64::engine::general_purpose::STANDARD.encode(TEXT);
        assert_eq!(says(format!("a: {}\n  {}\nb: c\n", &base64[..41], &base64[41..]).as_bytes()), ["base64 or hex"]);
        assert_eq!(says(text.as_bytes()), ["base64 or hex"]);
        let percent: String = TEXT.iter().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(says(percent.as_bytes()), ["percent signs"]);
    }

    #[test]
    fn bombs_are_refused() {
        let bomb = gzip(&vec![b' '; 1 << 21]);
        assert_eq!(Unpacker::new(1 << 20).unpack(&bomb), Err(TextsError::TooLarge));
        let mut nested = gzip(TEXT);
        for _ in 0..DEEPEST + 1 {
            nested = gzip(&nested);
        }
        assert_eq!(Unpacker::new(1 << 20).unpack(&nested), Err(TextsError::TooDeep));
    }

    #[test]
    fn noise_says_little() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(3 << 20)
        .collect();
        let found = Unpacker::new(1 << 30).unpack(&noise).expect("little");
        let sizes: Vec<usize> = found.iter().map(|one| one.bytes.len()).collect();
        assert!(sizes.len() < 64, "{sizes:?}");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_fine(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4096)) {
            let _ = Unpacker::new(1 << 20).unpack(&bytes);
        }
    }
}
