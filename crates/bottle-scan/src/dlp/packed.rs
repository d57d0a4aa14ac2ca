//! Compressed bytes, unpacked as they come: what a body is said to be packed in, and what begins somewhere inside it.

use std::io::{self, Write};

use bottle_types::rule::Rule;
use brotli_decompressor::DecompressorWriter;
use flate2::{Decompress, FlushDecompress, Status};

use super::Finding;

/// How much comes out at once.
const PIECE: usize = 32 << 10;
/// A gzip or zip header with its names is shorter.
const LONGEST_HEADER: usize = 64 << 10;
/// A zstd block and its headers are not longer.
const LONGEST_BLOCK: usize = (128 << 10) + 32;
/// zstd frames with a larger window are not unpacked: RFC 9659 has 8 MiB for what goes over HTTP.
const ZSTD_WINDOW: u64 = 8 << 20;
/// What is unpacked only when all of it is there, up to this size.
const LONGEST_WHOLE: usize = 16 << 20;

/// A way to pack bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// RFC 1952.
    Gzip,
    /// What HTTP calls deflate: RFC 1950, or RFC 1951 without its header.
    Deflate,
    /// A member of a zip archive.
    Zip,
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
    /// Julian Seward's.
    Bzip2,
    /// XZ Utils'.
    Xz,
    /// lzip's.
    Lzip,
    /// What `xz --format=lzma` writes: the LZMA SDK's own, with a header of 13 bytes.
    Lzma,
    /// A frame of LZ4.
    Lz4,
    /// An archive of 7-Zip's.
    SevenZip,
}

impl Packing {
    /// The packings that a `Content-Encoding` names, in the order in which they are undone; one that is not
    /// known is a finding: what it packs can't be looked into.
    pub fn declared(header: &str) -> Result<Vec<Self>, Finding> {
        let mut all = vec![];
        for name in header.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            all.push(match name.to_ascii_lowercase().as_str() {
                // The first frames its chunks in text, and what it frames can be read.
                "aws-chunked" | "identity" => continue,
                // No packing, but clients say it: a character set, or nothing.
                "utf-8" | "utf8" | "none" | "binary" | "7bit" | "8bit" => continue,
                "gzip" | "x-gzip" => Self::Gzip,
                "deflate" => Self::Deflate,
                "br" => Self::Brotli,
                "zstd" => Self::Zstd,
                _ => {
                    return Err(Finding {
                        rule: Rule::unreadable("a content-encoding that can't be undone"),
                        offset: 0,
                    });
                }
            });
        }
        all.reverse();
        Ok(all)
    }

    /// What begins with these bytes.
    pub(crate) fn begins(bytes: &[u8]) -> Option<Self> {
        Some(match bytes {
            [0x1f, 0x8b, 8, flags, ..] if flags & 0xe0 == 0 => Self::Gzip,
            [b'P', b'K', 3, 4, _, _, _, _, 8, 0, ..] => Self::Zip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'L', b'Z', b'I', b'P', 1, ..] => Self::Lzip,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..] => Self::Bzip2,
            // The usual window, at any of the four levels; the block type is a valid one.
            [0x78, 0x01 | 0x5e | 0x9c | 0xda, block @ ..] if may_be_deflate(block) => Self::Deflate,
            [0x04, 0x22, 0x4d, 0x18, flags, _, ..] if flags & 0xc2 == 0x40 => Self::Lz4,
            [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, 0, ..] => Self::SevenZip,
            [0x5d, dict @ ..] if begins_lzma(dict) => Self::Lzma,
            _ => return None,
        })
    }

    /// What people call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "zlib",
            Self::Zip => "zip",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Lzip => "lzip",
            Self::Lzma => "lzma",
            Self::Lz4 => "lz4",
            Self::SevenZip => "7z",
        }
    }

    /// Whether what it packs is a stream of deflate's.
    pub(crate) fn is_deflate(self) -> bool {
        matches!(self, Self::Gzip | Self::Deflate | Self::Zip)
    }

    /// So many bytes tell what begins.
    pub(crate) const TELLING: usize = 10;

    /// What it costs to begin one, in units of [`WorkBudget`].
    pub(crate) fn start_cost(self) -> u64 {
        match self {
            Self::Gzip | Self::Deflate | Self::Zip | Self::Brotli => START_COST,
            Self::Zstd => 4 * START_COST,
            // Tables and windows of megabytes.
            Self::Bzip2 | Self::Xz | Self::Lzip | Self::Lzma | Self::Lz4 | Self::SevenZip => 64 * START_COST,
        }
    }
}

/// What an unpacker costs that has unpacked nothing, in bytes that it could have unpacked meanwhile.
pub(crate) const START_COST: u64 = 1 << 10;

/// Work that may be done on packed parts, in bytes that are unpacked: so much for each byte that came, and a little for all. What
/// comes out is bounded elsewhere; this bounds what is tried, for nothing comes out of most of it.
#[derive(Debug)]
pub(crate) struct WorkBudget {
    left: u64,
    /// What was done.
    pub(crate) spent: u64,
}

impl Default for WorkBudget {
    fn default() -> Self {
        Self { left: Self::FREE, spent: 0 }
    }
}

impl WorkBudget {
    pub(crate) const FREE: u64 = 1 << 20;
    /// A git pack of tiny objects, as they are packed at worst, has one start for 32 bytes.
    pub(crate) const PER_BYTE: u64 = 32;

    /// So many bytes have come.
    pub(crate) fn allow(&mut self, bytes: usize) {
        self.left = self.left.saturating_add(bytes as u64 * Self::PER_BYTE);
    }

    /// Takes work; none: there is not so much left.
    pub(crate) fn spend(&mut self, units: u64) -> Option<()> {
        self.left = self.left.checked_sub(units)?;
        self.spent += units;
        Some(())
    }
}

/// Whether bytes begin as text does: then nothing is packed there that has no head.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    let is_text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    bytes[..bytes.len().min(64)].iter().all(is_text)
}

/// Unpacks all that is packed by brotli or by deflate without a head; says whether it came to its end.
pub(crate) fn headless<E>(packing: Packing, bytes: &[u8], out: Out<'_, E>) -> Result<bool, E> {
    let mut unpacker = StreamUnpacker::new(packing, false);
    let state = unpacker.push(bytes, out)?;
    if state == UnpackState::Going {
        return Ok(unpacker.finish(out)? == UnpackState::Ended);
    }
    Ok(state == UnpackState::Ended)
}

/// Whether a dictionary's size and the beginning of a length follow as LZMA's header has them: of the usual properties, which no
/// program that writes such files changes.
fn begins_lzma(rest: &[u8]) -> bool {
    let Some((dict, length)) = rest.split_first_chunk::<4>() else { return false };
    let dict = u32::from_le_bytes(*dict);
    let usual = dict.is_power_of_two() || (dict / 3).is_power_of_two() && dict.is_multiple_of(3);
    let length = length.get(..5);
    usual
        && (1 << 12..=1 << 27).contains(&dict)
        && length.is_some_and(|length| length[4] == 0 && length[..4] != [0; 4] || length == [0xff; 5])
}

/// Whether a deflate stream may begin here, as far as its first block's head tells (RFC 1951, 3.2.3).
pub(crate) fn may_be_deflate(bytes: &[u8]) -> bool {
    let Some(first) = bytes.first() else { return true };
    match (first >> 1) & 3 {
        // Stored: a length, and its complement.
        0 => bytes.get(1..5).is_none_or(|length| length[0] == !length[2] && length[1] == !length[3]),
        1 => true,
        // More codes than there are.
        2 => first >> 3 <= 29 && bytes.get(1).is_none_or(|second| second & 0x1f <= 29),
        _ => false,
    }
}

/// How far an unpacker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UnpackState {
    /// More may come.
    Going,
    /// The packed bytes have come to their end.
    Ended,
    /// It is not, or no longer, what it is said to be.
    Broken,
}

/// Takes what comes out, and says whether that was too much.
type Out<'a, E> = &'a mut dyn FnMut(&[u8]) -> Result<(), E>;

/// Unpacks one stream.
pub(super) struct StreamUnpacker {
    kind: Kind,
    state: UnpackState,
    /// Bytes that could not be used yet.
    waiting: Vec<u8>,
    piece: Vec<u8>,
    /// Another member may follow.
    many: bool,
    /// Of a member's end, so many bytes are its sum and length.
    skip: usize,
    /// Members that have begun behind the first, and are not charged yet.
    members: u64,
}

enum Kind {
    /// Before the deflate stream; then in it.
    Header(Packing),
    Inflate(Packing, Box<Decompress>),
    Brotli(Box<DecompressorWriter<Sink>>),
    Zstd(Box<ruzstd::decoding::FrameDecoder>),
    Bzip2(Box<bzip2::Decompress>),
    Whole(Packing),
}

/// What came out of one write; more than there may be is an error.
#[derive(Default)]
struct Sink(Vec<u8>);

/// Brotli at its best makes less than this out of what one write gives it.
const SINK: usize = 64 << 20;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > SINK {
            return Err(io::Error::other("too much"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StreamUnpacker {
    /// One for this packing; `many`: after the end another one of the same may begin.
    pub(super) fn new(packing: Packing, many: bool) -> Self {
        let kind = Kind::of(packing);
        Self { kind, state: UnpackState::Going, waiting: vec![], piece: vec![], many, skip: 0, members: 0 }
    }

    pub(super) fn state(&self) -> UnpackState {
        self.state
    }

    /// What beginning further members has cost since this was asked last.
    pub(super) fn take_cost(&mut self) -> u64 {
        std::mem::take(&mut self.members) * START_COST
    }

    /// Takes the next packed bytes.
    pub(super) fn push<E>(&mut self, bytes: &[u8], out: Out<'_, E>) -> Result<UnpackState, E> {
        if self.state == UnpackState::Ended && self.many && !bytes.is_empty() {
            // Something follows the end, which nobody would look into.
            self.state = UnpackState::Broken;
        }
        if self.state != UnpackState::Going {
            return Ok(self.state);
        }
        self.waiting.extend_from_slice(bytes);
        if self.piece.is_empty() {
            self.piece.resize(PIECE, 0);
        }
        let mut at = 0;
        loop {
            let skipped = self.skip.min(self.waiting.len() - at);
            at += skipped;
            self.skip -= skipped;
            let (used, state) = self.step(at, out)?;
            at += used;
            let all_used = at == self.waiting.len();
            match state {
                UnpackState::Ended if self.many => match &self.kind {
                    Kind::Inflate(Packing::Gzip, _) => {
                        (self.kind, self.skip) = (Kind::of(Packing::Gzip), 8);
                        self.members += 1;
                    }
                    Kind::Zstd(_) => {
                        self.kind = Kind::of(Packing::Zstd);
                        self.members += 1;
                    }
                    // Of the others, one is all there may be.
                    _ if all_used => self.state = UnpackState::Ended,
                    _ => self.state = UnpackState::Broken,
                },
                UnpackState::Going if used == 0 => break,
                UnpackState::Going => {}
                _ => self.state = state,
            }
            if self.state != UnpackState::Going || all_used {
                break;
            }
        }
        // Once, not with each step: what is left may be much more than what one takes.
        self.waiting.drain(..at);
        Ok(self.state)
    }

    /// No more bytes come; what has to be whole is unpacked now.
    pub(super) fn finish<E>(&mut self, out: Out<'_, E>) -> Result<UnpackState, E> {
        if self.state != UnpackState::Going {
            return Ok(self.state);
        }
        match &mut self.kind {
            Kind::Whole(packing) => {
                let ended = whole(*packing, &mut self.waiting.as_slice(), &mut self.piece, out)?;
                self.state = if ended { UnpackState::Ended } else { UnpackState::Broken };
            }
            Kind::Brotli(writer) => {
                let closed = writer.close().is_ok();
                let last = std::mem::take(&mut writer.get_mut().0);
                out(&last)?;
                self.state = if closed { UnpackState::Ended } else { UnpackState::Broken };
            }
            // Another member could have begun, and did not.
            Kind::Header(_) | Kind::Zstd(_) if self.many && self.waiting.is_empty() => self.state = UnpackState::Ended,
            _ => self.state = UnpackState::Broken,
        }
        Ok(self.state)
    }

    /// Unpacks of what waits from `at` on as much as can be unpacked now: how much was used, and how the stream is then.
    fn step<E>(&mut self, at: usize, out: Out<'_, E>) -> Result<(usize, UnpackState), E> {
        let (waiting, piece) = (&self.waiting[at..], self.piece.as_mut_slice());
        match &mut self.kind {
            Kind::Header(packing) => {
                let packing = *packing;
                self.header(packing, at, out)
            }
            Kind::Inflate(_, inflater) => inflate(inflater, waiting, piece, out),
            Kind::Brotli(writer) => brotli(writer, waiting, out),
            Kind::Zstd(decoder) => unzstd(decoder, waiting, piece, out),
            Kind::Bzip2(decoder) => bunzip2(decoder, waiting, piece, out),
            Kind::Whole(_) => {
                Ok((0, if waiting.len() > LONGEST_WHOLE { UnpackState::Broken } else { UnpackState::Going }))
            }
        }
    }

    /// Reads the header before a deflated stream, and goes on with the stream.
    fn header<E>(&mut self, packing: Packing, at: usize, out: Out<'_, E>) -> Result<(usize, UnpackState), E> {
        match start(packing, &self.waiting[at..]) {
            Start::At(length, zlib) => {
                self.kind = Kind::Inflate(packing, Box::new(Decompress::new(zlib)));
                let (used, state) = self.step(at + length, out)?;
                Ok((length + used, state))
            }
            Start::More if self.waiting.len() - at <= LONGEST_HEADER => Ok((0, UnpackState::Going)),
            Start::More | Start::None => Ok((0, UnpackState::Broken)),
        }
    }
}

/// Inflates until the inflater neither takes nor gives anything: it may have more to give when it has taken all.
fn inflate<E>(
    inflater: &mut Decompress,
    waiting: &[u8],
    piece: &mut [u8],
    out: Out<'_, E>,
) -> Result<(usize, UnpackState), E> {
    let mut all = 0;
    loop {
        let (before_in, before_out) = (inflater.total_in(), inflater.total_out());
        let result = inflater.decompress(&waiting[all..], piece, FlushDecompress::None);
        let used = usize::try_from(inflater.total_in() - before_in).unwrap_or_default();
        let made = usize::try_from(inflater.total_out() - before_out).unwrap_or_default();
        all += used;
        out(&piece[..made])?;
        match result {
            Ok(Status::StreamEnd) => return Ok((all, UnpackState::Ended)),
            Ok(_) if made == 0 && used == 0 => return Ok((all, UnpackState::Going)),
            Ok(_) => {}
            Err(_) => return Ok((all, UnpackState::Broken)),
        }
    }
}

fn brotli<E>(
    writer: &mut DecompressorWriter<Sink>,
    waiting: &[u8],
    out: Out<'_, E>,
) -> Result<(usize, UnpackState), E> {
    let used = waiting.len().min(4096);
    let result = writer.write_all(&waiting[..used]);
    let made = std::mem::take(&mut writer.get_mut().0);
    for piece in made.chunks(PIECE) {
        out(piece)?;
    }
    Ok((used, if result.is_ok() { UnpackState::Going } else { UnpackState::Broken }))
}

fn unzstd<E>(
    decoder: &mut ruzstd::decoding::FrameDecoder,
    waiting: &[u8],
    piece: &mut [u8],
    out: Out<'_, E>,
) -> Result<(usize, UnpackState), E> {
    if waiting.is_empty() {
        return Ok((0, UnpackState::Going));
    }
    // Blocks are at most that long; as long as one is not whole, nothing is read.
    let part = &waiting[..waiting.len().min(LONGEST_BLOCK)];
    let (used, made) = match decoder.decode_from_to(part, piece) {
        // It says that it has read a sum of which not every byte was there.
        Ok((used, _)) if used > part.len() => return Ok((0, UnpackState::Going)),
        Ok(step) => step,
        // A frame's header that is not whole is an error to this decoder.
        Err(_) if waiting.len() < 18 => {
            *decoder = zstd();
            return Ok((0, UnpackState::Going));
        }
        Err(_) => return Ok((0, UnpackState::Broken)),
    };
    out(&piece[..made])?;
    while decoder.can_collect() > 0 {
        match io::Read::read(decoder, piece) {
            Ok(0) | Err(_) => break,
            Ok(more) => out(&piece[..more])?,
        }
    }
    if decoder.is_finished() && decoder.can_collect() == 0 {
        return Ok((used, UnpackState::Ended));
    }
    if used == 0 && made > 0 {
        return unzstd(decoder, waiting, piece, out);
    }
    let stuck = used == 0 && part.len() == LONGEST_BLOCK;
    Ok((used, if stuck { UnpackState::Broken } else { UnpackState::Going }))
}

/// Unpacks until the decoder neither takes nor gives anything, as [`inflate`] does.
fn bunzip2<E>(
    decoder: &mut bzip2::Decompress,
    waiting: &[u8],
    piece: &mut [u8],
    out: Out<'_, E>,
) -> Result<(usize, UnpackState), E> {
    let mut all = 0;
    loop {
        let (before_in, before_out) = (decoder.total_in(), decoder.total_out());
        let result = decoder.decompress(&waiting[all..], piece);
        let used = usize::try_from(decoder.total_in() - before_in).unwrap_or_default();
        let made = usize::try_from(decoder.total_out() - before_out).unwrap_or_default();
        all += used;
        out(&piece[..made])?;
        match result {
            Ok(bzip2::Status::StreamEnd) => return Ok((all, UnpackState::Ended)),
            Ok(_) if made == 0 && used == 0 => return Ok((all, UnpackState::Going)),
            Ok(_) => {}
            Err(_) => return Ok((all, UnpackState::Broken)),
        }
    }
}

impl Kind {
    fn of(packing: Packing) -> Self {
        match packing {
            Packing::Gzip | Packing::Deflate | Packing::Zip => Self::Header(packing),
            Packing::Brotli => Self::Brotli(Box::new(DecompressorWriter::new(Sink::default(), 4096))),
            Packing::Zstd => Self::Zstd(Box::new(zstd())),
            Packing::Bzip2 => Self::Bzip2(Box::new(bzip2::Decompress::new(true))),
            Packing::Xz | Packing::Lzip | Packing::Lzma | Packing::Lz4 | Packing::SevenZip => Self::Whole(packing),
        }
    }
}

fn zstd() -> ruzstd::decoding::FrameDecoder {
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW);
    decoder
}

/// Unpacks bytes that are all there, and takes those away that belonged to it; says whether it came to its end. What deflate
/// and brotli pack is no matter of this.
pub(crate) fn whole<E>(packing: Packing, bytes: &mut &[u8], piece: &mut [u8], out: Out<'_, E>) -> Result<bool, E> {
    match packing {
        Packing::Xz => read_out(lzma_rust2::XzReader::new(bytes, false), piece, out),
        Packing::Lzip => read_out(lzma_rust2::LzipReader::new(bytes), piece, out),
        Packing::Bzip2 => read_out(bzip2::bufread::BzDecoder::new(bytes), piece, out),
        Packing::Lz4 => read_out(lz4_flex::frame::FrameDecoder::new(bytes), piece, out),
        Packing::Lzma => match lzma_rust2::LzmaReader::new_mem_limit(bytes, MEMORY_KIB, None) {
            Ok(reader) => read_out(reader, piece, out),
            Err(_) => Ok(false),
        },
        Packing::Zstd => match ruzstd::decoding::StreamingDecoder::new(bytes) {
            Ok(reader) => read_out(reader, piece, out),
            Err(_) => Ok(false),
        },
        Packing::SevenZip => seven_zip(bytes, piece, out),
        Packing::Gzip | Packing::Deflate | Packing::Zip | Packing::Brotli => Ok(false),
    }
}

/// So much memory, in KiB, an archive may ask for: what `xz -9` and `7z -mx=9` ask for.
const MEMORY_KIB: u32 = 80 << 10;

/// Unpacks what is in an archive of 7-Zip's, one file after the other. Its list stands at its end, behind what is packed.
fn seven_zip<E>(bytes: &mut &[u8], piece: &mut [u8], out: Out<'_, E>) -> Result<bool, E> {
    let number = |at: usize| {
        let eight = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>())?;
        usize::try_from(u64::from_le_bytes(*eight)).ok()
    };
    // A head of 32 bytes says where the list is, and how long.
    let end = number(12).zip(number(20)).and_then(|(from, length)| from.checked_add(length)?.checked_add(32));
    let Some((archive, rest)) = end.and_then(|end| bytes.split_at_checked(end)) else { return Ok(false) };
    let limit = usize::try_from(MEMORY_KIB).unwrap_or(usize::MAX);
    let password = sevenz_rust2::Password::empty();
    let Ok(mut reader) = sevenz_rust2::ArchiveReader::new_with_memory_limit(io::Cursor::new(archive), password, limit)
    else {
        return Ok(false);
    };
    let mut stopped = Ok(true);
    let read = reader.for_each_entries(|_, file| {
        stopped = read_out(file, piece, out);
        Ok(matches!(stopped, Ok(true)))
    });
    *bytes = rest;
    Ok(stopped? && read.is_ok())
}

fn read_out<E>(mut reader: impl io::Read, piece: &mut [u8], out: Out<'_, E>) -> Result<bool, E> {
    loop {
        match reader.read(piece) {
            Ok(0) => return Ok(true),
            Ok(made) => out(&piece[..made])?,
            // Cut off or damaged: what came out before counts.
            Err(_) => return Ok(false),
        }
    }
}

enum Start {
    /// Here the deflate stream begins; whether with zlib's header.
    At(usize, bool),
    /// That can't be told yet.
    More,
    /// There is none.
    None,
}

/// Where the deflate stream behind a header begins.
fn start(packing: Packing, bytes: &[u8]) -> Start {
    let number = |at: usize| Some(usize::from(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?])));
    let found = match packing {
        Packing::Gzip => {
            if !b"\x1f\x8b\x08".starts_with(&bytes[..bytes.len().min(3)]) {
                return Start::None;
            }
            let Some(flags) = bytes.get(3) else { return Start::More };
            let mut at = Some(10);
            if flags & 4 != 0 {
                at = at.and_then(|at| Some(at + 2 + number(at)?));
            }
            for text in [8, 16] {
                if flags & text != 0 {
                    at = at.and_then(|at| Some(at + bytes.get(at..)?.iter().position(|byte| *byte == 0)? + 1));
                }
            }
            at.map(|at| at + if flags & 2 != 0 { 2 } else { 0 })
        }
        // PKWARE's APPNOTE, 4.3.7.
        Packing::Zip => number(26).and_then(|name| Some(30 + name + number(28)?)),
        _ => match bytes {
            [method, flags, ..] => {
                let header = u16::from_be_bytes([*method, *flags]);
                return Start::At(0, method & 0x8f == 8 && header.is_multiple_of(31));
            }
            _ => None,
        },
    };
    match found {
        Some(at) if at <= bytes.len() => Start::At(at, false),
        _ => Start::More,
    }
}
