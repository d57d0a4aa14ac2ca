//! Any body in any pieces: the same verdict as in one piece, and where nothing is found, the same bytes come out.
#![no_main]

use std::sync::LazyLock;

use bottle_scan::dlp::{Finding, Mode, Packing, Rules, Scope, Search, Stream};
use bottle_scan::known::KnownSecrets;
use bottle_types::secret::{Secret, SecretName};
use libfuzzer_sys::fuzz_target;

static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::builtin().expect("rules"));
static KNOWN: LazyLock<KnownSecrets> = LazyLock::new(|| {
    let secret = |name: &str, value: &str| {
        (SecretName::parse(name).expect("a name"), Secret::new(value.as_bytes().to_vec()))
    };
    KnownSecrets::new(&[secret("SHORT", "hunter2x"), secret("LONG", "q7Zr9xKp2LmW4vTbY8nA")]).expect("secrets")
});

fn through(body: &[u8], pieces: &[u8], packings: &[Packing]) -> Result<Vec<u8>, Finding> {
    let search = Search { known: &KNOWN, rules: Some((&RULES, Scope::All)) };
    let mut stream = Stream::packed(packings);
    let (mut out, mut rest) = (vec![], body);
    let mut sizes = pieces.iter().cycle();
    while !rest.is_empty() {
        // Small pieces and large ones: a block is 32 KiB.
        let size = sizes.next().map_or(rest.len(), |size| match size {
            0 => rest.len(),
            1..=127 => usize::from(*size),
            _ => usize::from(size & 127) << 9,
        });
        let (piece, more) = rest.split_at(size.clamp(1, rest.len()));
        out.extend(stream.push(search, piece, Mode::Block)?);
        rest = more;
    }
    out.extend(stream.finish(search, Mode::Block)?);
    Ok(out)
}

fuzz_target!(|input: (u8, Vec<u8>, u8, Vec<u8>)| {
    let (packing, pieces, repeat, part) = input;
    let body = part.repeat(usize::from(repeat % 64) + 1);
    let packings = match packing % 8 {
        0 => Packing::declared("gzip"),
        1 => Packing::declared("br"),
        2 => Packing::declared("deflate"),
        3 => Packing::declared("zstd"),
        4 => Packing::declared("gzip, br"),
        _ => Packing::declared(""),
    }
    .expect("packings");
    let whole = through(&body, &[], &packings);
    let cut = through(&body, &pieces, &packings);
    match (&whole, &cut) {
        (Ok(whole), Ok(cut)) => {
            assert!(*whole == body, "bytes were changed");
            assert!(*cut == body, "bytes were changed in pieces");
        }
        (Err(whole), Err(cut)) => assert_eq!(whole, cut),
        _ => panic!("in one piece {whole:?}, in pieces {cut:?}"),
    }
});
