//! Recovery phrases of wallets (BIP 39): twelve words and more of one list, the last of which holds a checksum.

use std::cmp::Ordering;

use bip39::{Language, Mnemonic};

/// Words of the list have so many letters.
const SHORTEST_WORD: usize = 3;
const LONGEST_WORD: usize = 8;
/// Between two words there are so many bytes at most: blanks, commas, quotes, numbers of a list.
const LONGEST_GAP: usize = 12;
/// How many words a phrase may have, the most first.
const COUNTS: [usize; 5] = [24, 21, 18, 15, 12];
const FEWEST: usize = 12;

/// The next word from here on: where it begins and ends.
fn next_word(bytes: &[u8], from: usize) -> Option<(usize, usize)> {
    let start = from + bytes.get(from..)?.iter().position(u8::is_ascii_alphabetic)?;
    let length = bytes[start..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    Some((start, start + length))
}

/// Whether words may be one phrase with these bytes between them.
fn is_gap(between: &[u8]) -> bool {
    between.len() <= LONGEST_GAP && between.is_ascii()
}

/// What stands between two words, but for its digits and for how its blanks are made: the same between all words of a phrase, and hardly
/// twice the same in code.
fn gap(between: &[u8]) -> Vec<u8> {
    let mut gap: Vec<u8> = vec![];
    for byte in between.iter().filter(|byte| !byte.is_ascii_digit()) {
        match (byte.is_ascii_whitespace(), gap.last()) {
            (true, Some(b' ')) => {}
            (true, _) => gap.push(b' '),
            (false, _) => gap.push(*byte),
        }
    }
    gap
}

/// Tells where as many words stand as a phrase has, of those that begin in `from..to`, until told that it is enough.
pub(super) fn scan<T>(bytes: &[u8], from: usize, to: usize, mut each: impl FnMut(usize) -> Option<T>) -> Option<T> {
    // Where the last few words begin, by their number.
    let (mut starts, mut count, mut end) = ([0; FEWEST], 0, from);
    // The rest of a word is none.
    if from.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(u8::is_ascii_alphabetic) {
        end += bytes[from..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    }
    while let Some((start, next)) = next_word(bytes, end) {
        if count > 0 && !is_gap(&bytes[end..start]) {
            count = 0;
        }
        end = next;
        if !(SHORTEST_WORD..=LONGEST_WORD).contains(&(next - start)) {
            count = 0;
            continue;
        }
        if count == 0 && start >= to {
            return None;
        }
        starts[count % FEWEST] = start;
        count += 1;
        if count >= FEWEST {
            let first = starts[count % FEWEST];
            if first >= to {
                return None;
            }
            if let Some(found) = each(first) {
                return Some(found);
            }
        }
    }
    None
}

/// The length of the longest phrase that these bytes begin with. Words in the order of the alphabet are a piece of the list itself.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let (mut words, mut ends, mut at): (Vec<&'static str>, Vec<usize>, usize) = (vec![], vec![], 0);
    let mut first_gap = None;
    while words.len() < COUNTS[0]
        && let Some((start, end)) = next_word(bytes, at)
        && is_gap(&bytes[at..start])
        && (words.is_empty() || *first_gap.get_or_insert_with(|| gap(&bytes[at..start])) == gap(&bytes[at..start]))
        && let Some(word) = listed(&bytes[start..end])
    {
        words.push(word);
        ends.push(end);
        at = end;
    }
    let is_sorted = |words: &[&str]| words.windows(2).all(|two| two[0].cmp(two[1]) == Ordering::Less);
    COUNTS.into_iter().filter(|count| *count <= words.len()).find_map(|count| {
        let words = &words[..count];
        let is_phrase = !is_sorted(words) && Mnemonic::parse_in_normalized(Language::English, &words.join(" ")).is_ok();
        is_phrase.then(|| ends[count - 1])
    })
}

/// The word of the list, in whichever case it is written.
fn listed(word: &[u8]) -> Option<&'static str> {
    if !(SHORTEST_WORD..=LONGEST_WORD).contains(&word.len()) {
        return None;
    }
    let word = std::str::from_utf8(word).ok()?.to_ascii_lowercase();
    let index = Language::English.find_word(&word)?;
    Language::English.word_list().get(usize::from(index)).copied()
}
