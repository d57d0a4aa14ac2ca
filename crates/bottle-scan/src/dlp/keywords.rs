//! Where a keyword of many stands, in one pass that looks at every second place, or every fifth.
//!
//! Of a keyword's first four places, three that follow each other begin at an even distance from wherever the pass began:
//! so a table of such threes, asked at every second place, misses none. Where no keyword has fewer than eight places, the
//! same goes for fours and every fifth place. What it costs grows with the hits, hardly with the keywords.

/// How many places of a keyword are needed.
pub(crate) const SHORTEST: usize = 4;
/// A keyword's first places may stand for so many texts at most.
const MOST_TEXTS: usize = 5000;
/// So many places are looked at in one step, and so many bytes at most are needed for that.
const PLACES: usize = 3;
const LOOK: usize = 16;
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
        Ok(Self { keywords, grams, firsts, entries })
    }

    /// Tells where keywords begin from `from` on, in order, and whose they are, until told that it is enough.
    pub(crate) fn scan<T>(
        &self,
        bytes: &[u8],
        from: usize,
        mut each: impl FnMut(usize, usize) -> Option<T>,
    ) -> Option<T> {
        let mut at = from;
        // Several places in one look: a branch for all of them.
        while let Some(some) = bytes.get(at..).and_then(|rest| rest.first_chunk::<LOOK>()) {
            let bit = |place: usize| self.grams.bit(hash::<GRAM>(four(some, place * STEP))) & 1;
            if (0..PLACES).fold(0, |hit, place| hit | bit(place)) != 0 {
                for place in (0..PLACES).filter(|place| bit(*place) != 0) {
                    if let Some(found) = self.look(bytes, from, at + place * STEP, &mut each) {
                        return Some(found);
                    }
                }
            }
            at += PLACES * STEP;
        }
        while at + GRAM <= bytes.len() {
            if let Some(found) = self.look(bytes, from, at, &mut each) {
                return Some(found);
            }
            at += STEP;
        }
        None
    }

    #[cold]
    fn look<T>(
        &self,
        bytes: &[u8],
        from: usize,
        at: usize,
        each: &mut impl FnMut(usize, usize) -> Option<T>,
    ) -> Option<T> {
        let begins = |start: usize| {
            let text = bytes.get(start..).and_then(|rest| rest.first_chunk::<SHORTEST>());
            text.is_some_and(|text| self.firsts.bit(hash::<SHORTEST>(u32::from_le_bytes(*text))) & 1 == 1)
        };
        if !(at.saturating_sub(STEP - 1).max(from)..=at).any(begins) {
            return None;
        }
        let mut gram = [0; SHORTEST];
        gram[..GRAM].copy_from_slice(bytes.get(at..at + GRAM)?);
        let hash = hash::<GRAM>(u32::from_le_bytes(gram));
        let first = self.entries.partition_point(|(other, ..)| *other < hash);
        for (_, skip, index) in self.entries[first..].iter().take_while(|(other, ..)| *other == hash) {
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

fn four(bytes: &[u8; LOOK], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Of the lowest `GRAM` bytes, [`BITS`] long.
pub(crate) fn hash<const GRAM: usize>(bytes: u32) -> u32 {
    (bytes & (u32::MAX >> (32 - 8 * GRAM))).wrapping_mul(0x9e37_79b1) >> (32 - BITS)
}

/// How long a hash is: text is far from chance, so a table needs room, and this one still fits in a processor's first cache.
const BITS: u32 = 17;

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

    /// The lowest bit says it.
    pub(crate) fn bit(&self, hash: u32) -> u64 {
        self.0[usize::try_from(hash >> 6).unwrap_or_default()] >> (hash & 63)
    }
}
