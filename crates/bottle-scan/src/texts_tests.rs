use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::*;

const TEXT: &[u8] = b"needle in a haystack, twice as long as it has to be";

fn unpacked(budget: u64, bytes: &[u8]) -> Result<Vec<Derived>, TextsError> {
    let mut found = vec![];
    Unpacker::new(budget).unpack(bytes, &mut |derived| found.push(derived))?;
    Ok(found)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(vec![], Compression::default());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

fn says(bytes: &[u8]) -> Vec<String> {
    let found = unpacked(1 << 20, bytes).expect("small");
    found.iter().filter(|one| one.bytes.windows(6).any(|part| part == b"needle")).map(|one| one.how.clone()).collect()
}

#[test]
fn packed_text_is_found_wherever_it_is() {
    assert_eq!(says(&gzip(TEXT)), ["gzip at byte 0"]);
    assert_eq!(says(&[b"MZ padding ".as_slice(), &gzip(TEXT), b"tail"].concat()), ["gzip at byte 11"]);
    assert_eq!(says(&gzip(&gzip(TEXT))), ["gzip at byte 0, gzip at byte 0"]);
    let mut zlib = ZlibEncoder::new(b"%PDF stream\n".to_vec(), Compression::default());
    zlib.write_all(TEXT).expect("in memory");
    assert_eq!(says(&zlib.finish().expect("in memory")), ["zlib at byte 12"]);
    let packed = gzip(&TEXT.repeat(30));
    assert_eq!(says(&packed[..packed.len() - 12]), ["gzip at byte 0"]);
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, gzip(TEXT));
    assert_eq!(says(format!("x: \"{text}\"\n").as_bytes()), ["base64 or hex, gzip at byte 0"]);
}

#[test]
fn other_packers_are_read_too() {
    let mut bzip2 = bzip2::write::BzEncoder::new(vec![], bzip2::Compression::default());
    bzip2.write_all(TEXT).expect("in memory");
    assert_eq!(says(&bzip2.finish().expect("in memory")), ["bzip2 at byte 0"]);
    let zstd = ruzstd::encoding::compress_to_vec(TEXT, ruzstd::encoding::CompressionLevel::Fastest);
    assert!(says(&[b"junk".as_slice(), &zstd].concat()).contains(&"zstd at byte 4".to_owned()));
    // `printf %s TEXT | xz -9e --check=crc32`, as hex: the crate that reads it here does not write it.
    let xz = "fd377a585a0000016922de36020021011c00000010cf58cc0100326e6565646c6520696e206120686179737461636b2c207477696365206173206c6f6e672061732069742068617320746f206265000074e81b7400014733ff0d6e209042990d010000000001595a";
    assert!(says(&hex::decode(xz).expect("hex")).contains(&"xz at byte 0".to_owned()));
}

#[test]
fn wide_characters_are_narrowed() {
    for wide in [
        String::from_utf8_lossy(TEXT).encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
        String::from_utf8_lossy(TEXT).encode_utf16().flat_map(u16::to_be_bytes).collect(),
    ] {
        assert_eq!(says(&wide), ["without NUL bytes"]);
        let large = [&vec![0xfe; SMALL + 1][..], &wide].concat();
        let found = unpacked(4 << 20, &large).expect("small");
        let narrow: Vec<&[u8]> = found.iter().map(|one| one.bytes.trim_ascii()).collect();
        assert!(narrow.iter().any(|narrow| narrow.ends_with(&TEXT[1..])), "{narrow:?}");
    }
    let wide: Vec<u8> = TEXT.iter().flat_map(|byte| [*byte, 0, 0, 0]).collect();
    assert_eq!(wide_runs(&wide), [TEXT, b"\n"].concat());
}

#[test]
fn texts_beside_nuls_in_a_program_are_joined_as_a_guess_alone() {
    let guesses = |bytes: &[u8]| {
        let found = unpacked(1 << 20, bytes).expect("small");
        let with = found.iter().filter(|one| one.bytes.windows(6).any(|part| part == b"needle"));
        with.map(|one| one.is_guess).collect::<Vec<bool>>()
    };
    let cut = b"api_key\0= \"nee\0dle\"\0";
    assert!(guesses(cut).contains(&false), "a text with NULs in it");
    let program = [&[1, 2, 3, 4, 5, 6, 7, 8].repeat(8)[..], cut].concat();
    let found = guesses(&program);
    assert!(!found.is_empty() && !found.contains(&false), "{found:?}");
    let wide: Vec<u8> = b"the needle is wide".iter().flat_map(|byte| [*byte, 0]).collect();
    assert!(guesses(&[&program[..64], &wide].concat()).contains(&false), "wide letters");
}

#[test]
fn broken_lines_are_joined() {
    let text = hex::encode(TEXT);
    let lines = format!("{}\n{}\n{}\n", &text[..40], &text[40..80], &text[80..]);
    let found = unpacked(1 << 20, lines.as_bytes()).expect("small");
    assert!(found.iter().any(|one| one.bytes.starts_with(text.as_bytes())), "{found:?}");
    assert_eq!(says(lines.as_bytes()), ["base64 or hex"]);
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, TEXT);
    // Each line may be one by itself, too, and here says text as well.
    let cut = format!("a: {}\n  {}\nb: c\n", &base64[..41], &base64[41..]);
    assert_eq!(says(cut.as_bytes()), ["base64 or hex", "base64 or hex inside a word"]);
    assert_eq!(says(text.as_bytes()), ["base64 or hex"]);
    let percent: String = TEXT.iter().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(says(percent.as_bytes()), ["escapes"]);
}

#[test]
fn bombs_are_refused() {
    let bomb = gzip(&vec![b' '; 1 << 21]);
    assert_eq!(unpacked(1 << 20, &bomb), Err(TextsError::TooLarge));
    let mut nested = gzip(TEXT);
    for _ in 0..DEEPEST + 1 {
        nested = gzip(&nested);
    }
    assert_eq!(unpacked(1 << 20, &nested), Err(TextsError::TooDeep));
}

#[test]
fn noise_says_little() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(3 << 20)
    .collect();
    let found = unpacked(1 << 30, &noise).expect("little");
    let sizes: Vec<usize> = found.iter().map(|one| one.bytes.len()).collect();
    assert!(sizes.len() < 64, "{sizes:?}");
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_fine(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..4096)) {
        let _ = unpacked(1 << 20, &bytes);
    }
}

#[test]
fn of_binaries_the_runs_of_text_are_left() {
    assert_eq!(runs_of_text(b"a text \xc3\xbc with little else in it, and more"), None);
    assert_eq!(runs_of_text("только текст".as_bytes()), None);
    assert_eq!(runs_of_text(b"latin \xfc with little else in it"), None);
    let mut bytes = vec![0xfe; 40];
    bytes.extend(b"eight888\xff seven7\xffan\nother run\xff");
    bytes.extend([0; 40]);
    bytes.extend(b"the last");
    assert_eq!(runs_of_text(&bytes).as_deref(), Some(&b"eight888\nan\nother run\nthe last\n"[..]));
}

proptest::proptest! {
    #[test]
    fn runs_of_text_are_those_that_a_simple_reading_finds(bytes in proptest::collection::vec(
        proptest::prop_oneof![proptest::num::u8::ANY, proptest::strategy::Just(b'x')], 0..200,
    )) {
        let simple: Vec<u8> = bytes
            .split(|byte| !matches!(byte, b'\t'..=b'\r' | b' '..=b'~'))
            .filter(|run| run.len() >= 8)
            .flat_map(|run| [run, b"\n"].concat())
            .collect();
        if let Some(runs) = runs_of_text(&bytes) {
            proptest::prop_assert_eq!(runs, simple);
        }
    }
}

#[test]
fn no_start_is_passed_over() {
    // What is read by its first three bytes or more begins with two of the table.
    for first in 0..=255 {
        for second in 0..=255 {
            let tails = [
                &b"\x08\0\0\0\0\0\0\0\0\0"[..],
                b"\x03\x04\0\0\0\0\x08\0",
                b"zXZ\0",
                b"IP\x01",
                b"h11AY&SY",
                b"\x2f\xfd",
            ];
            for tail in tails.into_iter().map(|tail| [&[first, second], tail, &[0; 40]].concat()) {
                if header(&tail).is_some() || packer(&tail).is_some() {
                    assert_eq!(next_start(&tail, 0), Some(0), "{first:02x} {second:02x}");
                }
            }
        }
    }
    assert_eq!(next_start(b"x\x9c", 0), None);
    assert_eq!(next_start(b"..x\x9c.", 0), Some(2));
    assert_eq!(next_start(b"..x\x9c.", 3), None);
    assert_eq!(next_start(b"", 0), None);
}

/// Work is counted, not timed: see [`Work`].
#[test]
fn the_work_on_what_begins_again_and_again_is_bounded() {
    let many = |unit: &[u8], bytes: usize| unit.repeat(bytes / unit.len());
    for (name, bytes) in [
        ("zlib heads", many(b"\x78\x9c\x4b", 4 << 20)),
        ("bzip2 heads", many(b"BZh91AY&SY", 4 << 20)),
        ("xz heads", many(b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46", 4 << 20)),
        ("lzip heads", many(b"LZIP\x01\x1d", 4 << 20)),
        ("zstd heads", many(b"\x28\xb5\x2f\xfd\x24\0\x01\0\0", 4 << 20)),
    ] {
        let mut unpacker = Unpacker::new(1 << 30);
        let refused = unpacker.unpack(&bytes, &mut |_| {});
        assert!(matches!(refused, Err(TextsError::TooMany | TextsError::TooLarge)), "{name}: {refused:?}");
        assert!(unpacker.work.spent <= (1 << 20) + 32 * bytes.len() as u64, "{name}: {}", unpacker.work.spent);
    }
}

/// A stream whose blocks are empty ends where the next one begins: two hundred bytes for a start are cheap, and no refusal.
#[test]
fn streams_that_give_nothing_and_end_soon_pass_at_little_cost() {
    let empty_blocks = [&b"\x78\x9c"[..], &b"\x00\x00\x00\xff\xff".repeat(40)].concat();
    let bytes = empty_blocks.repeat((4 << 20) / empty_blocks.len());
    let mut unpacker = Unpacker::new(1 << 30);
    unpacker.unpack(&bytes, &mut |_| {}).expect("no refusal");
    assert!(unpacker.work.spent <= 16 * bytes.len() as u64, "{}", unpacker.work.spent);
}

/// What is nobody's form says something in one now and then, and what comes out says something, too: that has an end, and is no
/// refusal.
#[test]
fn guesses_do_not_feed_themselves() {
    let digits = |count: usize| (0..count).map(|at| format!("{}", at * 7919 % 1000)).collect::<String>();
    for (name, bytes) in [
        ("a grey picture", vec![0x33; 64 << 10]),
        ("one letter", vec![b'V'; 64 << 10]),
        ("literals in literals", format!("\\\"{}\\\" + ", digits(20)).repeat(2000).into_bytes()),
        ("backslashes", vec![b'\\'; 64 << 10]),
        ("escaped backslashes", b"\\x5c".repeat(16 << 10)),
        ("calls", b"chr(99)+chr(104)+chr(114)+chr(40)+chr(57)+".repeat(1500)),
        ("numbers of numbers", b"52 57 44 32 ".repeat(6000)),
        ("short lines", (0..9999).map(|at| format!("{at}\n")).collect::<String>().into_bytes()),
    ] {
        let mut derived = 0;
        let unpacked = Unpacker::new(1 << 30).unpack(&bytes, &mut |text| derived += text.bytes.len());
        assert_eq!(unpacked, Ok(()), "{name}");
        assert!(derived <= (1 << 20) + 16 * bytes.len(), "{name}: {derived}");
    }
}

/// Real archives in archives are refused, whatever they stand in.
#[test]
fn a_guess_is_no_way_round_a_refusal() {
    let mut nested = gzip(TEXT);
    for _ in 0..DEEPEST + 1 {
        nested = gzip(&nested);
    }
    let calls: String = nested.iter().map(|byte| format!("chr({byte})+")).collect();
    assert_eq!(unpacked(1 << 30, calls.as_bytes()), Err(TextsError::TooDeep));
    let bomb = gzip(&vec![b' '; 1 << 21]);
    let calls: String = bomb.iter().map(|byte| format!("chr({byte})+")).collect();
    assert_eq!(unpacked(1 << 20, calls.as_bytes()), Err(TextsError::TooLarge));
}

fn codes(text: &[u8]) -> Vec<u8> {
    let codes: Vec<String> = text.iter().map(u8::to_string).collect();
    codes.join(", ").into_bytes()
}

#[test]
fn lists_of_numbers_are_read_three_deep() {
    let mut text = TEXT.to_vec();
    for deep in 1..=3 {
        text = codes(&text);
        assert!(says(&text).contains(&vec!["numbers"; deep].join(", ")), "{deep} deep");
    }
    // Left out by design: see docs/security.md.
    assert_eq!(says(&codes(&text)), [] as [&str; 0]);
}

#[test]
fn a_third_is_nested_in_nothing() {
    // Of a program's documentation: 33 is the code of 3, in hex.
    for text in [
        "    -0.3333333333333333\n",
        "     1: array([-0.33333333,  0.        ]),\n     2: array([0.33333333, 0.        ]),\n",
    ] {
        unpacked(1 << 20, text.as_bytes()).expect("nothing is nested in it");
    }
}

#[test]
fn a_short_token_over_indented_lines_is_left_out() {
    let joined = |at: usize, length: usize| {
        let (first, rest) = "needle1B2c3D4e5F6g7H".split_at(length);
        let text = format!("{}key:\n    {first}\n    {rest}\n", " ".repeat(at));
        says(text.as_bytes()).contains(&"lines joined".to_owned())
    };
    assert!((0..8).all(|at| joined(at, 15)));
    // By design, see docs/security.md: without a stretch of eight bytes from a multiple of eight on, nothing is looked at.
    assert!(!(0..8).all(|at| joined(at, 9)));
}
