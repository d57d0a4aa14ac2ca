//! Where a keyword of many stands, in one pass that looks at every second place.
//!
//! Of a keyword's first four places, three that follow each other begin at an even distance from wherever the pass began:
//! so a table of such threes, asked at every second place, misses none. What it costs grows with the hits, hardly with
//! the keywords.

/// How many places of a keyword are needed.
pub(crate) const SHORTEST: usize = 4;
/// A keyword's first places may stand for so many texts at most.
const MOST_THREES: usize = 5000;
/// What is looked for in base64 and hex has its keyword spelled out, in so many ways at most.
const MOST_LITERALS: usize = 10;

/// The bytes that may stand at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class([u64; 4]);

impl Class {
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
pub(crate) fn parse(text: &str, any_case: bool) -> Result<Vec<Class>, String> {
    let mut classes = vec![];
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let mut class = Class::NONE;
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
            class = Class::of(*first);
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
pub(crate) fn literal(text: &[u8]) -> Vec<Class> {
    text.iter().map(|byte| Class::of(*byte)).collect()
}

/// The texts that a keyword's first places stand for, if they are few: as many places as make few of them.
pub(crate) fn literals(classes: &[Class]) -> Vec<Vec<u8>> {
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

/// All keywords, each with whose it is.
#[derive(Debug)]
pub(crate) struct Keywords {
    keywords: Vec<(Vec<Class>, usize)>,
    /// Whether three bytes with this hash begin at a keyword's first or second place.
    bits: Box<[u64; 1 << 10]>,
    /// By hash, where in `entries` its own begin.
    starts: Vec<u32>,
    /// Keyword, and at which of its places the three bytes are.
    entries: Vec<(u16, u8)>,
}

impl Keywords {
    /// Makes the tables.
    pub(crate) fn new(keywords: Vec<(Vec<Class>, usize)>) -> Result<Self, String> {
        let mut found: Vec<(u16, u8, u16)> = vec![];
        for (index, (classes, _)) in keywords.iter().enumerate() {
            let index = u16::try_from(index).map_err(|_| "there are too many keywords")?;
            for skip in [1u8, 0] {
                let [a, b, c, ..] = &classes[usize::from(skip)..] else { return Err("a keyword is short".to_owned()) };
                let before = found.len();
                for a in a.bytes() {
                    for b in b.bytes() {
                        for c in c.bytes() {
                            found.push((hash(u64::from(u32::from_le_bytes([a, b, c, 0]))), skip, index));
                        }
                    }
                }
                if found.len() - before > MOST_THREES {
                    return Err("a keyword begins with too wide classes".to_owned());
                }
            }
        }
        // Of two keywords, the one that begins first comes first; then the file's order.
        found.sort_unstable_by_key(|(hash, skip, index)| (*hash, std::cmp::Reverse(*skip), *index));
        found.dedup();
        let mut bits = Box::new([0u64; 1 << 10]);
        let mut starts = vec![0u32; (1 << 16) + 1];
        for (hash, _, _) in &found {
            bits[usize::from(hash >> 6)] |= 1 << (hash & 63);
            starts[usize::from(*hash) + 1] += 1;
        }
        for index in 1..starts.len() {
            starts[index] += starts[index - 1];
        }
        let entries = found.into_iter().map(|(_, skip, index)| (index, skip)).collect();
        Ok(Self { keywords, bits, starts, entries })
    }

    /// Tells where keywords begin from `from` on, in order, and whose they are, until told that it is enough.
    pub(crate) fn scan<T>(
        &self,
        bytes: &[u8],
        from: usize,
        mut each: impl FnMut(usize, usize) -> Option<T>,
    ) -> Option<T> {
        let mut at = from;
        // Three places in one look: a branch for every six bytes.
        while let Some(eight) = bytes.get(at..at + 8).and_then(|eight| eight.first_chunk::<8>()) {
            let eight = u64::from_le_bytes(*eight);
            let hit = self.bit(eight) | self.bit(eight >> 16) | self.bit(eight >> 32);
            if hit & 1 != 0 {
                for place in [at, at + 2, at + 4] {
                    if let Some(found) = self.look(bytes, from, place, &mut each) {
                        return Some(found);
                    }
                }
            }
            at += 6;
        }
        while at + 3 <= bytes.len() {
            if let Some(found) = self.look(bytes, from, at, &mut each) {
                return Some(found);
            }
            at += 2;
        }
        None
    }

    fn bit(&self, bytes: u64) -> u64 {
        let hash = hash(bytes);
        self.bits[usize::from(hash >> 6)] >> (hash & 63)
    }

    #[cold]
    fn look<T>(
        &self,
        bytes: &[u8],
        from: usize,
        at: usize,
        each: &mut impl FnMut(usize, usize) -> Option<T>,
    ) -> Option<T> {
        let three = bytes.get(at..at + 3)?;
        let hash = usize::from(hash(u64::from(u32::from_le_bytes([three[0], three[1], three[2], 0]))));
        let range = usize::try_from(self.starts[hash]).ok()?..usize::try_from(self.starts[hash + 1]).ok()?;
        for (index, skip) in &self.entries[range] {
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

/// Of the lowest three bytes.
fn hash(bytes: u64) -> u16 {
    (((bytes & 0x00ff_ffff) as u32).wrapping_mul(0x9e37_79b1) >> 16) as u16
}
