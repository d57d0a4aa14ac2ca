//! Where a keyword of many stands, in one pass that looks at every second place, or every fifth.
//!
//! Of a keyword's first four places, three that follow each other begin at an even distance from wherever the pass began:
//! so a table of such threes, asked at every second place, misses none. Where no keyword has fewer than eight places, the
//! same goes for fours and every fifth place. What it costs grows with the hits, hardly with the keywords.

#[cfg(test)]
use super::short_cuts;

/// How many places of a keyword are needed.
pub(crate) const SHORTEST: usize = 4;
/// A keyword's first places may stand for so many texts at most.
const MOST_TEXTS: usize = 5000;
/// So many bytes are looked at in one step, and hits are gathered in so many.
const LOOK: usize = 16;
const BLOCK: usize = 256;
const _: () = assert!(BLOCK <= 1 << 16, "a hit's place is a u16");
const EIGHT: usize = 8;
/// What is looked for in base64 and hex has its keyword spelled out, in so many ways at most.
const MOST_LITERALS: usize = 10;

/// The bytes that may stand at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ByteClass([u64; 4]);

impl ByteClass {
    const NONE: Self = Self([0; 4]);

    fn of(byte: u8) -> Self {
        let mut class = Self::NONE;
        class.add(byte);
        class
    }

    fn add(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    pub(crate) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=255).filter(|byte| self.has(*byte))
    }
}

/// Reads a keyword: bytes that stand for themselves, and classes such as `[0-9a-f]`.
pub(crate) fn parse(text: &str, any_case: bool) -> Result<Vec<ByteClass>, String> {
    let mut classes = vec![];
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let mut class = ByteClass::NONE;
        if *first == b'[' {
            let end = after.iter().position(|byte| *byte == b']').ok_or("a class has no end")?;
            let (mut inner, behind) = (&after[..end], &after[end + 1..]);
            while let [low, more @ ..] = inner {
                if let [b'-', high, more @ ..] = more {
                    (*low..=*high).for_each(|byte| class.add(byte));
                    inner = more;
                } else {
                    class.add(*low);
                    inner = more;
                }
            }
            rest = behind;
        } else {
            class = ByteClass::of(*first);
            rest = after;
        }
        if any_case {
            for byte in class.bytes().collect::<Vec<_>>() {
                class.add(byte.to_ascii_lowercase());
                class.add(byte.to_ascii_uppercase());
            }
        }
        classes.push(class);
    }
    if classes.len() < SHORTEST {
        return Err(format!("the keyword `{text}` has fewer than {SHORTEST} places"));
    }
    Ok(classes)
}

/// A keyword that stands for itself.
pub(crate) fn literal(text: &[u8]) -> Vec<ByteClass> {
    text.iter().map(|byte| ByteClass::of(*byte)).collect()
}

/// The texts that a keyword's first places stand for, if they are few: as many places as make few of them.
pub(crate) fn literals(classes: &[ByteClass]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = vec![vec![]];
    for class in classes {
        let bytes: Vec<u8> = class.bytes().collect();
        if all.len() * bytes.len() > MOST_LITERALS {
            break;
        }
        all = all.iter().flat_map(|text| bytes.iter().map(|byte| [text.as_slice(), &[*byte]].concat())).collect();
    }
    all.retain(|text| text.len() >= SHORTEST);
    all
}

/// All keywords, each with whose it is; each has `GRAM + STEP - 1` places or more, so that of those one in `STEP` places
/// begins `GRAM` bytes that tell it.
#[derive(Debug)]
pub(crate) struct Keywords<const GRAM: usize, const STEP: usize> {
    keywords: Vec<(Vec<ByteClass>, usize)>,
    /// Whether so many bytes with this hash begin at one of a keyword's first places.
    grams: Hashes,
    /// Of a keyword's first four places: what the grams let pass is chance for the most part.
    firsts: Hashes,
    /// By hash: keyword, and at which of its places the bytes are.
    entries: Vec<(u32, u8, u16)>,
    /// By a hash's first bits, where its entries begin; behind the last, where they end.
    starts: Vec<usize>,
    /// By the first byte, in order: for tests without short cuts.
    #[cfg(test)]
    by_first: Vec<Vec<usize>>,
}

/// Keywords of a rule, of four places or more.
pub(crate) type Short = Keywords<3, 2>;
/// Keywords of eight places or more.
pub(crate) type Long = Keywords<4, 5>;

impl<const GRAM: usize, const STEP: usize> Keywords<GRAM, STEP> {
    /// Makes the tables.
    pub(crate) fn new(keywords: Vec<(Vec<ByteClass>, usize)>) -> Result<Self, String> {
        let mut entries: Vec<(u32, u8, u16)> = vec![];
        let (mut grams, mut firsts) = (Hashes::none(), Hashes::none());
        for (index, (classes, _)) in keywords.iter().enumerate() {
            let index = u16::try_from(index).map_err(|_| "there are too many keywords")?;
            if classes.len() < GRAM + STEP - 1 {
                return Err("a keyword is short".to_owned());
            }
            for skip in 0..STEP {
                let before = entries.len();
                texts(&classes[skip..skip + GRAM], &mut |text| {
                    grams.add(hash::<GRAM>(text));
                    entries.push((hash::<GRAM>(text), u8::try_from(skip).unwrap_or(u8::MAX), index));
                });
                if entries.len() - before > MOST_TEXTS {
                    return Err("a keyword begins with too wide classes".to_owned());
                }
            }
            texts(&classes[..SHORTEST], &mut |text| firsts.add(hash::<SHORTEST>(text)));
        }
        // Of two keywords, the one that begins first comes first; then the file's order.
        entries.sort_unstable_by_key(|(hash, skip, index)| (*hash, std::cmp::Reverse(*skip), *index));
        entries.dedup();
        entries.shrink_to_fit();
        let start = |bucket: u32| entries.partition_point(|(hash, ..)| hash >> BUCKET < bucket);
        let starts = (0..=1 << (BITS - BUCKET)).map(start).collect();
        Ok(Self {
            #[cfg(test)]
            by_first: by_first(&keywords),
            keywords,
            grams,
            firsts,
            entries,
            starts,
        })
    }

    /// Tells where keywords begin from `from` on, in order, and whose they are, until told that it is enough.
    pub(crate) fn scan<T>(
        &self,
        bytes: &[u8],
        from: usize,
        mut each: impl FnMut(usize, usize) -> Option<T>,
    ) -> Option<T> {
        #[cfg(test)]
        if short_cuts::are_off() {
            return self.scan_slowly(bytes, from, &mut each);
        }
        let mut at = from;
        let mut hits = [0; BLOCK];
        while bytes.len() - at.min(bytes.len()) >= LOOK {
            let (next, count) = self.hits(bytes, at, &mut hits);
            for hit in &hits[..count] {
                if let Some(found) = self.look(bytes, from, at + usize::from(*hit), &mut each) {
                    return Some(found);
                }
            }
            at = next;
        }
        // Behind the end stands nothing, and what seems to begin with it is seen to be none.
        let rest = bytes.get(at..).unwrap_or_default();
        let mut last = [0; LOOK];
        last[..rest.len()].copy_from_slice(rest);
        for place in (0..(rest.len() + 1).saturating_sub(GRAM)).step_by(STEP) {
            if self.grams.has(hash::<GRAM>(gram(&last, place)))
                && let Some(found) = self.look(bytes, from, at + place, &mut each)
            {
                return Some(found);
            }
        }
        None
    }

    /// Compares each keyword that may begin with the byte at each place.
    #[cfg(test)]
    fn scan_slowly<T>(&self, bytes: &[u8], from: usize, each: &mut impl FnMut(usize, usize) -> Option<T>) -> Option<T> {
        (from..bytes.len()).find_map(|at| {
            self.by_first[usize::from(bytes[at])].iter().find_map(|index| {
                let (classes, owner) = &self.keywords[*index];
                let here = bytes[at..].get(..classes.len())?;
                here.iter().zip(classes).all(|(byte, class)| class.has(*byte)).then(|| each(at, *owner)).flatten()
            })
        })
    }

    /// Whether a keyword stands at the first byte.
    pub(crate) fn begins(&self, bytes: &[u8]) -> bool {
        #[cfg(test)]
        if short_cuts::are_off() {
            return self.scan_slowly(bytes, 0, &mut |at, _| Some(at == 0)) == Some(true);
        }
        self.look(bytes, 0, 0, &mut |_, _| Some(())).is_some()
    }

    /// Puts where behind `from` the table knows the bytes to the front of `hits`: where the next look begins, and how many hits there are.
    /// Text has so many that a processor would often guess wrong at a branch for each; so there is none.
    fn hits(&self, bytes: &[u8], from: usize, hits: &mut [u16; BLOCK]) -> (usize, usize) {
        let places = const { (LOOK - GRAM) / STEP + 1 };
        let (mut at, mut count) = (0, 0);
        while at + places * STEP <= BLOCK
            && let Some(some) = bytes[from + at..].first_chunk::<LOOK>()
        {
            for place in 0..places {
                let gram = gram(some, place * STEP);
                hits[count] = (at + place * STEP) as u16;
                count += usize::from(self.grams.has(hash::<GRAM>(gram)));
            }
            at += places * STEP;
        }
        let mut left = 0;
        for hit in 0..count {
            hits[left] = hits[hit];
            left += usize::from(self.may_begin(bytes, from + usize::from(hits[hit])));
        }
        (from + at, left)
    }

    /// The entries with this hash, and those with others whose first bits are the same.
    fn bucket(&self, hash: u32) -> &[(u32, u8, u16)] {
        let bucket = (hash >> BUCKET) as usize;
        &self.entries[self.starts[bucket]..self.starts[bucket + 1]]
    }

    /// Whether a keyword's first four places may be here, or where one begins of which what is here is a part.
    fn may_begin(&self, bytes: &[u8], at: usize) -> bool {
        (at.saturating_sub(STEP - 1)..=at).fold(false, |begins, start| {
            let text = bytes.get(start..).and_then(|rest| rest.first_chunk::<SHORTEST>());
            begins | text.is_some_and(|text| self.firsts.has(hash::<SHORTEST>(u32::from_le_bytes(*text))))
        })
    }

    fn look<T>(
        &self,
        bytes: &[u8],
        from: usize,
        at: usize,
        each: &mut impl FnMut(usize, usize) -> Option<T>,
    ) -> Option<T> {
        if !self.may_begin(bytes, at) {
            return None;
        }
        let mut gram = [0; SHORTEST];
        gram[..GRAM].copy_from_slice(bytes.get(at..at + GRAM)?);
        let hash = hash::<GRAM>(u32::from_le_bytes(gram));
        for (_, skip, index) in self.bucket(hash).iter().filter(|(other, ..)| *other == hash) {
            let Some(start) = at.checked_sub(usize::from(*skip)).filter(|start| *start >= from) else { continue };
            let (classes, owner) = &self.keywords[usize::from(*index)];
            let here = bytes[start..].get(..classes.len());
            if here.is_some_and(|here| here.iter().zip(classes).all(|(byte, class)| class.has(*byte)))
                && let Some(found) = each(start, *owner)
            {
                return Some(found);
            }
        }
        None
    }
}

/// Which keywords may begin with each byte.
#[cfg(test)]
fn by_first(keywords: &[(Vec<ByteClass>, usize)]) -> Vec<Vec<usize>> {
    let may_begin = |byte: u8| (0..keywords.len()).filter(|index| keywords[*index].0[0].has(byte)).collect();
    (0..=u8::MAX).map(may_begin).collect()
}

/// Gives every text that these places, four at most, stand for.
fn texts(classes: &[ByteClass], each: &mut impl FnMut(u32)) {
    fn rest(classes: &[ByteClass], text: u32, shift: u32, each: &mut impl FnMut(u32)) {
        let [class, more @ ..] = classes else { return each(text) };
        for byte in class.bytes() {
            rest(more, text | u32::from(byte) << shift, shift + 8, each);
        }
    }
    rest(classes, 0, 0, each);
}

/// The four bytes here; where there are fewer, the last ones are not of the text.
fn gram(bytes: &[u8; LOOK], at: usize) -> u32 {
    let from = at.min(LOOK - EIGHT);
    let eight = bytes[from..].first_chunk::<EIGHT>().map_or(0, |eight| u64::from_le_bytes(*eight));
    (eight >> (8 * (at - from))) as u32
}

/// Of the lowest `GRAM` bytes, [`BITS`] long.
pub(crate) fn hash<const GRAM: usize>(bytes: u32) -> u32 {
    (bytes & (u32::MAX >> (32 - 8 * GRAM))).wrapping_mul(0x9e37_79b1) >> (32 - BITS)
}

/// How long a hash is: text is far from chance, so a table needs room, and this one still fits in a processor's first cache.
const BITS: u32 = 17;

/// So many of a hash's last bits are the same for entries that are looked up together.
const BUCKET: u32 = 5;

/// Which hashes there are.
#[derive(Debug)]
pub(crate) struct Hashes(Box<[u64; 1 << (BITS - 6)]>);

impl Hashes {
    pub(crate) fn none() -> Self {
        Self(Box::new([0; 1 << (BITS - 6)]))
    }

    pub(crate) fn add(&mut self, hash: u32) {
        self.0[usize::try_from(hash >> 6).unwrap_or_default()] |= 1 << (hash & 63);
    }

    pub(crate) fn has(&self, hash: u32) -> bool {
        self.bit(hash) & 1 == 1
    }

    /// The lowest bit says it.
    pub(crate) fn bit(&self, hash: u32) -> u64 {
        self.0[usize::try_from(hash >> 6).unwrap_or_default()] >> (hash & 63)
    }
}
