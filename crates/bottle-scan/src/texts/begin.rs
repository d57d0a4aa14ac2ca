//! Where something packed begins, told by its first bytes.

use super::may_be_deflate;
use crate::dlp::Packing;

/// Two bytes with which something packed may begin: a bit for each pair. Nearly all that is scanned begins nothing, and is
/// passed over by this alone.
const STARTS: [u64; 1 << 10] = {
    let mut table = [0; 1 << 10];
    let mut pair: usize = 0;
    while pair < 1 << 16 {
        let (first, second) = ((pair >> 8) as u8, pair as u8);
        let is_start = is_zlib(first, second)
            || matches!(
                (first, second),
                (0x1f, 0x8b)
                    | (b'P', b'K')
                    | (0xfd, b'7')
                    | (b'L', b'Z')
                    | (b'B', b'Z')
                    | (0x28, 0xb5)
                    | (0x04, 0x22)
                    | (0x5d, 0)
                    | (b'7', b'z')
            );
        if is_start {
            table[pair >> 6] |= 1 << (pair & 63);
        }
        pair += 1;
    }
    table
};

/// The first bytes of those pairs.
const FIRSTS: [bool; 256] = {
    let mut table = [false; 256];
    let mut pair = 0;
    while pair < 1 << 16 {
        table[pair >> 8] |= STARTS[pair >> 6] & 1 << (pair & 63) != 0;
        pair += 1;
    }
    table
};

/// The next place from `at` where something packed may begin, with at least three bytes from there.
pub(super) fn next_start(bytes: &[u8], mut at: usize) -> Option<usize> {
    let last = bytes.len().checked_sub(2)?;
    loop {
        at += bytes.get(at..last)?.iter().position(|byte| FIRSTS[usize::from(*byte)])?;
        let pair = usize::from(bytes[at]) << 8 | usize::from(bytes[at + 1]);
        if STARTS[pair >> 6] & 1 << (pair & 63) != 0 {
            return Some(at);
        }
        at += 1;
    }
}

/// RFC 1950's first two bytes, with any window and no dictionary.
const fn is_zlib(method: u8, flags: u8) -> bool {
    method & 0x8f == 8 && flags & 0x20 == 0 && u16::from_be_bytes([method, flags]).is_multiple_of(31)
}

/// What begins here, and where its deflate stream starts.
pub(super) fn header(bytes: &[u8]) -> Option<(&'static str, usize)> {
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
        [method, flags, block @ ..] if is_zlib(*method, *flags) && may_be_deflate(block) => Some(("zlib", 2)),
        _ => None,
    }
}

/// What else begins here.
pub(super) fn packer(bytes: &[u8]) -> Option<Packing> {
    Packing::begins(bytes).filter(|packing| !packing.is_deflate())
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
