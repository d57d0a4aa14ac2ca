//! Random texts of the operating system's, for secrets that may stand in no file, and numbers that can be had again by their seed.

use std::fs::File;
use std::io::Read as _;

/// Reads so many random bytes.
pub fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("random bytes");
    bytes
}

/// Makes a text of so many letters and digits.
pub fn random(length: usize) -> String {
    let mut text = String::new();
    while text.len() < length {
        let bytes = random_bytes(length);
        let fit = bytes.into_iter().filter(u8::is_ascii_alphanumeric).map(char::from);
        text.extend(fit.take(length - text.len()));
    }
    text
}

/// Makes a text of so many characters that AWS uses in its key ids: base32, in capitals.
pub fn random_letters(count: usize) -> String {
    let letter = |byte: u8| char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[usize::from(byte % 32)]);
    random_bytes(count).into_iter().map(letter).collect()
}

/// Makes a text of so many hex digits, an even number.
pub fn random_hex(count: usize) -> String {
    random_bytes(count / 2).into_iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SplitMix64 (Steele, Lea and Flood, 2014): random numbers that can be had again by their seed.
#[derive(Debug)]
pub struct SplitMix64(pub u64);

impl SplitMix64 {
    /// Gives the next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends, so that it needs no Option")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// Gives a number below this one.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Gives one of these.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.below(items.len() as u64);
        &items[usize::try_from(index).expect("an index")]
    }
}
