//! A known secret in pieces: letters and digits alone are looked at, whatever stands between them.
//!
//! Two readings. In one the secret stands there whole once everything but letters and digits is left out: dashes, line
//! breaks, the quotes of a list, the dots of a host name. In the other four letters at a time are recognised, in any order,
//! with other text between: a secret cut over parameters, headers, parts or events. That one needs a value that looks
//! random, because words of a sentence are found everywhere.

use std::collections::HashMap;

/// A value with fewer letters and digits can't be told from others by them.
const SHORTEST: usize = 12;
/// From this length on, and from these many bits a letter, a value is random enough to be recognised in pieces.
const RANDOM: usize = 16;
const RANDOM_BITS: f64 = 3.3;
/// So many letters and digits a secret's pieces may be apart.
const SPREAD: usize = 4096;
/// Of a secret, so many hundredths have to be there.
const ENOUGH: usize = 75;

#[derive(Debug)]
struct Form {
    letters: Vec<u8>,
    owner: usize,
    /// Whether its pieces count in any order.
    pieces: bool,
}

/// All secrets, as their letters and digits.
#[derive(Debug)]
pub(crate) struct Pieces {
    forms: Vec<Form>,
    bits: Box<[u64; 1 << 10]>,
    /// Four letters to forms, and where they are in each.
    fours: HashMap<u32, Vec<(usize, usize)>>,
}

impl Pieces {
    /// Makes the tables; of `values`, pieces of the secret itself count, of `spellings` only the whole.
    pub(crate) fn new(values: &[(usize, Vec<u8>)], spellings: &[(usize, Vec<u8>)]) -> Self {
        let mut forms = vec![];
        for (own, list) in [(true, values), (false, spellings)] {
            for (owner, value) in list {
                let letters: Vec<u8> =
                    value.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
                if letters.len() >= SHORTEST {
                    let pieces = own
                        && letters.len() >= RANDOM
                        && super::entropy(&letters) >= RANDOM_BITS
                        && letters.iter().filter(|byte| byte.is_ascii_digit()).count() >= 3;
                    forms.push(Form { letters, owner: *owner, pieces });
                }
            }
        }
        let mut bits = Box::new([0u64; 1 << 10]);
        let mut fours: HashMap<u32, Vec<(usize, usize)>> = HashMap::new();
        for (index, form) in forms.iter().enumerate() {
            let count = if form.pieces { form.letters.len() - 3 } else { 1 };
            for (at, four) in form.letters.windows(4).take(count).enumerate() {
                let four = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
                let hash = hash(four);
                bits[hash >> 6] |= 1 << (hash & 63);
                fours.entry(four).or_default().push((index, at));
            }
        }
        Self { forms, bits, fours }
    }

    /// Whose secret is there in pieces, and which byte ends the finding.
    pub(crate) fn find(&self, bytes: &[u8], letters: &mut Vec<u8>) -> Option<(usize, usize)> {
        if self.forms.is_empty() || bytes.len() < SHORTEST {
            return None;
        }
        fill(bytes, letters);
        // For each form and place in it, behind which letter it was last seen.
        let mut seen: HashMap<usize, Vec<usize>> = HashMap::new();
        let mut four = 0u32;
        for (at, letter) in letters.iter().enumerate() {
            four = four >> 8 | u32::from(*letter) << 24;
            let hash = hash(four);
            if self.bits[hash >> 6] >> (hash & 63) & 1 == 0 || at < 3 {
                continue;
            }
            for (index, place) in self.fours.get(&four).map(Vec::as_slice).unwrap_or_default() {
                let form = &self.forms[*index];
                if *place == 0 && letters[at - 3..].starts_with(&form.letters) {
                    return Some((form.owner, position(bytes, at - 3)));
                }
                if !form.pieces {
                    continue;
                }
                let seen = seen.entry(*index).or_insert_with(|| vec![0; form.letters.len() - 3]);
                seen[*place] = at + 1;
                let recent = |place: usize| seen.get(place).is_some_and(|last| *last > 0 && last + SPREAD > at);
                let there =
                    (0..form.letters.len()).filter(|letter| (letter.saturating_sub(3)..=*letter).any(recent)).count();
                if there * 100 >= form.letters.len() * ENOUGH {
                    return Some((form.owner, position(bytes, at)));
                }
            }
        }
        None
    }
}

/// Letters and digits, in lower case.
fn fill(bytes: &[u8], letters: &mut Vec<u8>) {
    letters.clear();
    letters.resize(bytes.len(), 0);
    let mut made = 0;
    for byte in bytes {
        letters[made] = LETTERS[usize::from(*byte)];
        made += usize::from(LETTERS[usize::from(*byte)] != 0);
    }
    letters.truncate(made);
}

/// Where in the text a letter is.
fn position(bytes: &[u8], letter: usize) -> usize {
    let mut letters = bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric());
    letters.nth(letter).map_or(0, |(at, _)| at)
}

fn hash(four: u32) -> usize {
    usize::try_from(four.wrapping_mul(0x9e37_79b1) >> 16).unwrap_or_default()
}

const LETTERS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0u8;
    while byte < 128 {
        if byte.is_ascii_alphanumeric() {
            table[byte as usize] = byte.to_ascii_lowercase();
        }
        byte += 1;
    }
    table
};
