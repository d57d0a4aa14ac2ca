//! A known secret in pieces: letters and digits alone are looked at, whatever stands between them.
//!
//! Two readings. In one the secret stands there whole once everything but letters and digits is left out: dashes, line
//! breaks, the quotes of a list, the dots of a host name. In the other four letters at a time are recognised, in any order,
//! with other text between: a secret cut over parameters, headers, parts or events. That one needs a value that looks
//! random, because words of a sentence are found everywhere.

use std::collections::HashMap;
use std::ops::Range;

use super::keywords::{Hashes, hash};
use super::short_cuts;

/// A value with fewer letters and digits can't be told from others by them.
const SHORTEST: usize = 12;
/// From this length on, and from these many bits a letter, a value is random enough to be recognised in pieces.
const RANDOM: usize = 16;
const RANDOM_BITS: f64 = 3.3;
/// So many letters and digits a secret's pieces may be apart.
const SPREAD: usize = 4096;
/// A secret of which so many hundredths are in words has pieces that stand in many texts.
const WORDY: usize = 40;
/// Of pieces in turn so many hundredths have to be there, in so many times the secret's length.
const NEARLY_ALL: usize = 95;
const FAR: usize = 12;
/// Of a secret, so many hundredths have to be there.
const ENOUGH: usize = 75;

/// So many bytes are taken at once.
const EIGHT: usize = 8;

#[derive(Debug)]
struct Form {
    letters: Vec<u8>,
    owner: usize,
    /// Whether its pieces count, and how.
    pieces: Option<Order>,
}

/// How pieces of a secret have to follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Anyhow: nobody else's text has them.
    Any,
    /// One behind the other and close together: each of them is a part of a word, and stands in many texts.
    InTurn,
}

/// All secrets, as their letters and digits.
#[derive(Debug)]
pub(crate) struct Pieces {
    forms: Vec<Form>,
    /// Whether three letters with this hash are in the middle of four, at either place.
    threes: Hashes,
    fours: Hashes,
    /// Four letters, of which form, and where in it; sorted.
    entries: Vec<(u32, usize, usize)>,
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
                    let wordy = words(value) * 100 >= letters.len() * WORDY;
                    let pieces = pieces.then_some(if wordy { Order::InTurn } else { Order::Any });
                    forms.push(Form { letters, owner: *owner, pieces });
                }
            }
        }
        let (mut threes, mut fours, mut entries) = (Hashes::none(), Hashes::none(), vec![]);
        for (index, form) in forms.iter().enumerate() {
            let count = if form.pieces.is_some() { form.letters.len() - 3 } else { 1 };
            for (at, four) in form.letters.windows(4).take(count).enumerate() {
                let four = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
                // Four begin at a place that is looked at, or one behind it: then the last three or the first three follow it.
                threes.add(hash::<3>(four >> 8));
                threes.add(hash::<3>(four));
                fours.add(hash::<4>(four));
                entries.push((four, index, at));
            }
        }
        entries.sort_unstable();
        Self { forms, threes, fours, entries }
    }

    /// Whose secret is there in pieces, and which byte ends the finding.
    pub(crate) fn find(&self, bytes: &[u8], letters: &mut Vec<u8>) -> Option<(usize, usize)> {
        if self.forms.is_empty() || bytes.len() < SHORTEST {
            return None;
        }
        let (mut seen, mut at) = (HashMap::new(), 0);
        if short_cuts::are_off() {
            letters.clear();
            letters.extend(bytes.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase));
            let found = self.look(letters, 0..letters.len(), &mut seen);
            return found.map(|(owner, letter)| (owner, position(bytes, letter)));
        }
        fill(bytes, letters);
        while let Some(some) = letters.get(at + 1..).and_then(|rest| rest.first_chunk::<8>()) {
            let some = u64::from_le_bytes(*some);
            let hit = (0..3).fold(0, |hit, place| hit | self.threes.bit(hash::<3>((some >> (16 * place)) as u32)));
            if hit & 1 != 0
                && let Some((owner, letter)) = self.look(letters, at..at + 6, &mut seen)
            {
                return Some((owner, position(bytes, letter)));
            }
            at += 6;
        }
        let found = self.look(letters, at..letters.len(), &mut seen);
        found.map(|(owner, letter)| (owner, position(bytes, letter)))
    }

    /// Looks at the four letters that begin at each of these places; `seen` tells for each form behind which letter each of
    /// its places was last seen.
    #[cold]
    fn look(
        &self,
        letters: &[u8],
        places: Range<usize>,
        seen: &mut HashMap<usize, Vec<usize>>,
    ) -> Option<(usize, usize)> {
        for start in places {
            let four = u32::from_le_bytes(*letters.get(start..)?.first_chunk::<4>()?);
            if self.fours.bit(hash::<4>(four)) & 1 == 0 && !short_cuts::are_off() {
                continue;
            }
            let at = start + 3;
            let first = self.entries.partition_point(|(other, ..)| *other < four);
            for (_, index, place) in self.entries[first..].iter().take_while(|(other, ..)| *other == four) {
                let form = &self.forms[*index];
                if *place == 0 && letters[start..].starts_with(&form.letters) {
                    return Some((form.owner, start));
                }
                let Some(order) = form.pieces else { continue };
                let seen = seen.entry(*index).or_insert_with(|| vec![0; form.letters.len() - 3]);
                seen[*place] = at + 1;
                let letters = form.letters.len();
                let there = match order {
                    Order::Any => near(seen, at, letters),
                    // All of it, or it is chance: where it is cut in pieces of four or more, each letter is seen.
                    Order::InTurn if in_turn(seen, at, letters) * 100 < letters * NEARLY_ALL => 0,
                    Order::InTurn => letters,
                };
                if there * 100 >= form.letters.len() * ENOUGH {
                    return Some((form.owner, at));
                }
            }
        }
        None
    }
}

/// How many of the letters were seen not long before.
fn near(seen: &[usize], at: usize, letters: usize) -> usize {
    let recent = |place: usize| seen.get(place).is_some_and(|last| *last > 0 && last + SPREAD > at);
    (0..letters).filter(|letter| (letter.saturating_sub(3)..=*letter).any(recent)).count()
}

/// How many of the letters were seen shortly before, each piece behind the one before it.
fn in_turn(seen: &[usize], at: usize, letters: usize) -> usize {
    let (mut next, mut left, mut there) = (at + 2, letters, 0);
    for (place, last) in seen.iter().enumerate().rev() {
        if *last > 0 && *last < next && last + FAR * letters > at {
            there += (place + 4).min(left) - place;
            (next, left) = (*last, place);
        }
    }
    there
}

/// Letters that stand in words, as far as can be told: in stretches of four or more in which many of the pairs are those of
/// English.
fn words(value: &[u8]) -> usize {
    let mut parts: Vec<Vec<u8>> = vec![vec![]];
    for pair in [&[0], value].concat().windows(2) {
        let begins = !pair[0].is_ascii_alphabetic() || pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase();
        if begins {
            parts.push(vec![]);
        }
        if let Some(part) = parts.last_mut().filter(|_| pair[1].is_ascii_alphabetic()) {
            part.push(pair[1].to_ascii_lowercase());
        }
    }
    let is_word = |part: &&Vec<u8>| {
        let common = part.windows(2).filter(|pair| COMMON.chunks(2).any(|other| other == *pair)).count();
        part.len() >= 4 && common * 3 >= part.len() - 1
    };
    parts.iter().filter(is_word).map(Vec::len).sum()
}

/// The most usual pairs of letters in English, and in the names of things.
const COMMON: &[u8] = b"thheinerreonatendtiesorteofeditisalarstontngsehaasouioleveecomedehirirocneearacelichllbemasiomurusutprtrnsaccticktesssepolaamadidmiincywlydotopawordkeys";

/// Letters and digits, in lower case.
fn fill(bytes: &[u8], letters: &mut Vec<u8>) {
    letters.clear();
    letters.resize(bytes.len() + EIGHT, 0);
    let (eights, rest) = bytes.as_chunks::<EIGHT>();
    let mut made = 0;
    // Of a known length, which the compiler needs no loop for.
    for eight in eights {
        made += put(eight, &mut letters[made..]);
    }
    made += put(rest, &mut letters[made..]);
    letters.truncate(made);
}

/// Puts the letters among at most eight bytes to the front; how many there are.
fn put(some: &[u8], out: &mut [u8]) -> usize {
    let Some(out) = out.first_chunk_mut::<EIGHT>() else { return 0 };
    let mut next = 0;
    for byte in some {
        let letter = LETTERS[usize::from(*byte)];
        out[next % EIGHT] = letter;
        next += usize::from(letter != 0);
    }
    next
}

/// Where in the text a letter is.
fn position(bytes: &[u8], letter: usize) -> usize {
    let mut letters = bytes.iter().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric());
    letters.nth(letter).map_or(0, |(at, _)| at)
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
