//! Where in a stream something packed could begin.

use super::packed::Packing;
use super::short_cuts;

/// Where something packed could begin: nowhere in plain text.
pub(super) fn beginnings(buffer: &[u8], from: usize, to: usize) -> Vec<usize> {
    /// Packed bytes look like text for so long at most.
    const LIKE_TEXT: usize = 64;
    const ARCHIVES: [&[u8]; 3] = [b"PK\x03\x04", b"\x04\x22\x4d\x18", b"7z\xbc\xaf\x27\x1c"];
    let mut found: Vec<usize> = vec![];
    // Of text, the last is not looked for.
    let is_ascii = buffer[from..].is_ascii();
    for archive in ARCHIVES.into_iter().filter(|archive| !is_ascii || archive.is_ascii()) {
        let part = &buffer[from..buffer.len().min(to + archive.len() - 1)];
        found.extend(memchr::memmem::find_iter(part, archive).map(|at| from + at));
    }
    let start = if is_ascii || buffer[from..to].is_ascii() { to.saturating_sub(LIKE_TEXT).max(from) } else { from };
    for at in (start..to).step_by(LIKE_TEXT) {
        let end = to.min(at + LIKE_TEXT);
        if may_begin(&buffer[at..buffer.len().min(end + 1)]) || short_cuts::are_off() {
            found.extend((at..end).filter(|at| Packing::begins(&buffer[*at..]).is_some()));
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether something could begin in these bytes, except for an archive, by two of its bytes.
fn may_begin(bytes: &[u8]) -> bool {
    // Pairs compared instead of searched for, with no short cuts: the compiler takes many at once, of a known length.
    let pair = |a: u8, b: u8| {
        (a == 0x1f) & (b == 0x8b)
            | (a == 0x28) & (b == 0xb5)
            | (a == 0xfd) & (b == b'7')
            | (a == 0x5d) & (b == 0)
            | ((a == b'L') | (a == b'B')) & (b == b'Z')
            | (a == 0x78) & ((b == 0x01) | (b == 0x5e) | (b == 0x9c) | (b == 0xda))
    };
    let any = |first: &[u8], second: &[u8]| first.iter().zip(second).fold(false, |any, (a, b)| any | pair(*a, *b));
    match bytes.first_chunk::<65>() {
        Some(some) => any(&some[..64], &some[1..]) || may_begin(&bytes[64..]),
        None => any(bytes, bytes.get(1..).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cut_hides_a_beginning() {
        let starts: [&[u8]; 10] = [
            b"PK\x03\x04\x14\0\0\0\x08\0",
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
            b"\x28\xb5\x2f\xfd\x24\0\x01\0\0a",
            b"\xfd7zXZ\0\0\x04\xe6\xd6",
            b"LZIP\x01\x14\0\0\0\0",
            b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff",
            b"\x04\x22\x4d\x18\x64\x40\xa7\x05\0\0",
            b"7z\xbc\xaf\x27\x1c\0\x04\0\0",
            b"BZh91AY&SY",
            b"\x78\x9c\x4bLJ\x06\0\x02\x4d\x01",
        ];
        for start in starts {
            let bytes = [&[b'x'; 100], start, "é".repeat(100).as_bytes()].concat();
            for cut in 1..bytes.len() {
                let found = [beginnings(&bytes, 0, cut), beginnings(&bytes, cut, bytes.len())].concat();
                assert_eq!(found, [100], "{start:?}, cut at {cut}");
            }
        }
    }
}
