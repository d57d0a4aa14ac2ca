//! The digits of base64, in both its alphabets; those of hex are among them.

/// What ends a run of digits.
pub(super) const BREAK: u8 = 64;
/// What may be the end of a line.
pub(super) const LINE: u8 = 65;

pub(super) const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What each byte is as a digit of base64, of both alphabets.
pub(super) const DIGITS: [u8; 256] = {
    let mut table = [BREAK; 256];
    let mut index = 0;
    while index < 64 {
        table[ALPHABET[index as usize] as usize] = index;
        index += 1;
    }
    table[b'-' as usize] = 62;
    table[b'_' as usize] = 63;
    table[b'\n' as usize] = LINE;
    table[b'\r' as usize] = LINE;
    table[b'\\' as usize] = LINE;
    table
};

/// Whether this byte is a digit of base64.
pub(crate) fn is_digit(byte: u8) -> bool {
    DIGITS[usize::from(byte)] < BREAK
}

/// What this byte is as a digit of base64.
pub(crate) fn digit(byte: u8) -> Option<u8> {
    Some(DIGITS[usize::from(byte)]).filter(|digit| *digit < BREAK)
}
