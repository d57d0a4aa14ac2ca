//! What is skipped quickly is nothing that a slow look would find.

use bottle_testkit::SplitMix64;

use super::keywords::{self, Long, Short};
use super::{hints, joined, plain, radix};

/// Texts of what forms are made of, with other bytes between.
fn texts(count: u64) -> impl Iterator<Item = Vec<u8>> {
    const PARTS: [&[u8]; 40] = [
        b"\"",
        b"'",
        b"`",
        b"\\\"",
        b"\\n",
        b"\\\\n",
        b" + ",
        b", ",
        b" .. ",
        b"\n",
        b"\r\n",
        b"(",
        b")",
        b"f'",
        b"abc1",
        b"x9",
        b"%41",
        b"%u0041",
        b"\\u0041",
        b"\\x41",
        b"\\101",
        b"&#65;",
        b"=41=42",
        b"=\n",
        b"=3D",
        b"\0",
        b"\0\0\0",
        b"begin 644 a\n",
        b"literal 12\n",
        b"delta 3\n",
        b"\nMAAAA",
        b"\xef\xbc\xa1",
        b"\xe2\x80\x8b",
        b"\xc3",
        b"\x80\x80",
        b"\xf0\x9d",
        b"\xff",
        b"          ",
        b"aaaaaaaaaaaaaaaa",
        b"\xd0\xb0bcdef",
    ];
    (0..count).map(|seed| {
        let mut random = SplitMix64(seed);
        let (mut text, length) = (vec![], random.below(600));
        while (text.len() as u64) < length {
            match random.below(5) {
                0 => text.push(random.next().to_le_bytes()[0]),
                _ => text.extend_from_slice(random.pick::<&[u8]>(&PARTS)),
            }
        }
        text
    })
}

#[test]
fn hints_skip_nothing() {
    let (mut said, mut patches) = (0, 0);
    for text in texts(20_000) {
        let mut quick = vec![];
        hints::hints(&text, &mut quick);
        let all = vec![u8::MAX; quick.len()];
        let read = |hints: &[u8]| {
            let mut out = [vec![], vec![], vec![]];
            joined::literals(&text, hints, &mut out[0]);
            let mut places = vec![];
            radix::line_places(&text, hints, &mut places);
            radix::uuencode(&text, &places, &mut out[1]);
            radix::git_patch(&text, &places, &mut out[2]);
            (plain::plain(&text, hints), out)
        };
        let slow = read(&all);
        assert_eq!(read(&quick), slow, "{:?}", String::from_utf8_lossy(&text));
        said += usize::from(!slow.0.is_empty()) + usize::from(!slow.1[0].is_empty());
        patches += usize::from(!slow.1[1].is_empty());
    }
    assert!(said > 15_000 && patches > 2000, "{said} and {patches} texts say something");
}

#[test]
fn each_keyword_is_found_wherever_a_look_begins() {
    let words: [&[u8]; 5] = [b"abcd", b"abcdabcd", b"bcdabbbb", b"ddddcccc", b"aabbccdd"];
    let classes = |from: usize| words[from..].iter().map(|word| keywords::literal(word)).zip(0..).collect::<Vec<_>>();
    let (short, long) = (Short::new(classes(0)).expect("keywords"), Long::new(classes(1)).expect("keywords"));
    let mut found = 0;
    for seed in 0..2000 {
        let mut random = SplitMix64(seed);
        let text: Vec<u8> = (0..random.below(800)).map(|_| *random.pick(b"abcd")).collect();
        let from = usize::try_from(random.below(40)).expect("a place").min(text.len());
        let slow = |words: &[&[u8]]| {
            let mut places = vec![];
            for at in from..text.len() {
                places.extend(
                    (0..words.len()).filter(|word| text[at..].starts_with(words[*word])).map(|word| (at, word)),
                );
            }
            places
        };
        let mut places = vec![];
        let mut take = |at: usize, word: usize| {
            places.push((at, word));
            None::<()>
        };
        _ = short.scan(&text, from, &mut take);
        places.sort_unstable();
        assert_eq!(places, slow(&words), "from {from} of {:?}", String::from_utf8_lossy(&text));
        found += places.len();
        places.clear();
        _ = long.scan(&text, from, |at, word| {
            places.push((at, word));
            None::<()>
        });
        places.sort_unstable();
        assert_eq!(places, slow(&words[1..]), "from {from} of {:?}", String::from_utf8_lossy(&text));
        assert_eq!(short.begins(&text), words.iter().any(|word| text.starts_with(word)));
    }
    assert!(found > 2000, "{found}");
}

#[test]
fn invalid_utf8_hides_no_strange_character() {
    for text in texts(20_000) {
        let mut quick = vec![];
        plain::strange(&text, &mut quick);
        assert_eq!(quick, strange(&text), "{text:?}");
    }
}

/// Where characters are that are read as others, with no invalid bytes skipped but by `from_utf8`.
fn strange(bytes: &[u8]) -> Vec<usize> {
    let (mut base, mut next, mut found) = (0, 0, vec![]);
    for chunk in bytes.utf8_chunks() {
        let text = chunk.valid();
        if text.len() >= plain::STRETCH {
            for (at, char) in text.char_indices().filter(|(_, char)| !char.is_ascii()) {
                if base + at >= next && plain::is_strange(char, text.as_bytes(), at, char.len_utf8()) {
                    found.push(base + at);
                    next = base + at + plain::NEAR;
                }
            }
        }
        base += text.len() + chunk.invalid().len();
    }
    found
}
