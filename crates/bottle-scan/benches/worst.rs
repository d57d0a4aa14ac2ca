//! Searches for the input that costs a scanner most for its size: random mixes of what begins a form, the worst of them changed and
//! tried again. `scripts/bench worst` runs it.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads files and prints")]

use std::hint::black_box;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bottle_scan::dlp::{Mode, Rules, Scope, Search, Stream};
use bottle_scan::known::KnownSecrets;
use bottle_scan::texts::Unpacker;
use bottle_testkit::SplitMix64;
use bottle_types::secret::{Secret, SecretName};
use sha2::{Digest as _, Sha256};

/// Bytes of each input.
const SIZE: usize = 256 << 10;
/// As the gate has it for a push of the default size.
const BUDGET: u64 = 512 << 20;
/// So many of the worst are changed, and told.
const KEPT: usize = 8;
/// Bytes that one part has where something packs a thousandfold. Those cost by what is unpacked; see `WorkBudget`.
const ZEROS: usize = 64 << 10;
/// The worst input may cost so many times what the slowest honest kind does.
const TARGET: f64 = 3.0;

/// One of the two scanners.
#[derive(Clone, Copy)]
enum Scanner {
    Doors,
    Gate,
}

/// Parts that are repeated until the size is there.
#[derive(Clone)]
struct Mix {
    parts: Vec<(usize, usize)>,
    seconds: f64,
}

struct Bench {
    rules: Rules,
    known: KnownSecrets,
    parts: Vec<(String, Vec<u8>)>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let tries: usize = arguments.first().map_or(3000, |text| text.parse().expect("a number of tries"));
    let seed: u64 = arguments.get(1).map_or(1, |text| text.parse().expect("a seed"));
    let bench = Bench::new();
    let mut figures = vec![];
    for (name, scanner) in [("doors", Scanner::Doors), ("gate", Scanner::Gate)] {
        let honest = bench.honest();
        let mut costs: Vec<_> = honest.iter().map(|(kind, bytes)| (bench.cost(scanner, bytes), *kind)).collect();
        costs.sort_by(|one, other| other.0.total_cmp(&one.0));
        println!("{name}, MB/s on one core:");
        for (seconds, kind) in costs.iter().rev() {
            println!("  {:>8.1}  {kind}", SIZE as f64 / 1e6 / seconds);
        }
        let (slowest, kind) = costs[0];
        let worst = bench.search(scanner, tries, &mut SplitMix64(seed));
        println!("  the worst of {tries}, against {kind}:");
        for mix in &worst {
            let ratio = mix.seconds / slowest;
            println!("  {:>8.1}  {ratio:.2}x  {}", SIZE as f64 / 1e6 / mix.seconds, bench.told(mix));
        }
        for (name, packed) in [("gzip", gzip(&[0; ZEROS])), ("zlib", zlib(&[0; ZEROS]))] {
            let count = SIZE / packed.len();
            let seconds = bench.cost(scanner, &packed.repeat(count));
            let unpacked = (count * ZEROS) as f64 / 1e6;
            println!(
                "  {:>8.1}  of {unpacked:.0} MB of zeros that {name} has packed into the same size",
                unpacked / seconds
            );
        }
        let ratio = worst[0].seconds / slowest;
        let code = costs.iter().find(|(_, kind)| *kind == "code").map_or(f64::NAN, |(seconds, _)| *seconds);
        figures.push(format!(
            "\"{name}\": {{\"slowest_honest\": \"{kind}\", \"worst_ratio\": {ratio:.2}, \"worst_of_code\": {:.1}}}",
            worst[0].seconds / code
        ));
    }
    println!(
        "{{\"bench\": \"worst\", \"tries\": {tries}, \"seed\": {seed}, \"target\": {TARGET}, {}}}",
        figures.join(", ")
    );
}

impl Bench {
    fn new() -> Self {
        let secrets: Vec<_> = (0..4)
            .map(|index| {
                let name = SecretName::parse(&format!("KEY_{index}")).expect("a name");
                (name, Secret::new(hex::encode(&Sha256::digest([index])[..20]).into_bytes()))
            })
            .collect();
        let (rules, known) = (Rules::builtin().expect("rules"), KnownSecrets::new(&secrets).expect("secrets"));
        Self { rules, known, parts: parts() }
    }

    /// Seconds of this thread, the better of two.
    fn cost(&self, scanner: Scanner, bytes: &[u8]) -> f64 {
        let once = || {
            let start = on_cpu();
            match scanner {
                Scanner::Doors => self.doors(bytes),
                Scanner::Gate => self.gate(bytes),
            }
            on_cpu() - start
        };
        once().min(once())
    }

    fn doors(&self, bytes: &[u8]) {
        let search = Search { known: &self.known, rules: Some((&self.rules, Scope::All)) };
        let mut stream = Stream::default();
        let pushed = bytes.chunks(64 << 10).try_for_each(|chunk| stream.push(search, chunk, Mode::Warn).map(drop));
        let _ = black_box(pushed.and_then(|()| stream.finish(search, Mode::Warn).map(drop)));
    }

    fn gate(&self, bytes: &[u8]) {
        let look = |bytes: &[u8]| {
            black_box((self.known.find(bytes), self.rules.find_all(bytes, Scope::All, 1000)));
        };
        look(bytes);
        let _ = black_box(Unpacker::new(BUDGET).unpack(bytes, &mut |derived| look(&derived.bytes)));
    }

    /// The worst mixes, the worst first: half of the tries are random, the others change one of the worst so far.
    fn search(&self, scanner: Scanner, tries: usize, random: &mut SplitMix64) -> Vec<Mix> {
        let mut worst: Vec<Mix> = vec![];
        for turn in 0..tries.max(KEPT) {
            let mut mix = if turn < self.parts.len() {
                Mix { parts: vec![(turn, 1)], seconds: 0.0 }
            } else if turn % 2 == 0 || worst.is_empty() {
                let parts = (0..=random.below(5)).map(|_| self.part(random)).collect();
                Mix { parts, seconds: 0.0 }
            } else {
                self.changed(random.pick(&worst), random)
            };
            mix.seconds = self.cost(scanner, &self.made(&mix));
            worst.push(mix);
            worst.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
            worst.dedup_by(|one, other| one.parts == other.parts);
            worst.truncate(KEPT);
        }
        worst
    }

    fn part(&self, random: &mut SplitMix64) -> (usize, usize) {
        let times = *random.pick(&[1, 1, 1, 2, 3, 8, 40]);
        (below(random, self.parts.len()), times)
    }

    /// One part added, taken away, or another in its place.
    fn changed(&self, mix: &Mix, random: &mut SplitMix64) -> Mix {
        let mut mix = mix.clone();
        let at = below(random, mix.parts.len());
        match random.below(3) {
            0 if mix.parts.len() > 1 => drop(mix.parts.remove(at)),
            1 if mix.parts.len() < 12 => mix.parts.insert(at, self.part(random)),
            _ => mix.parts[at] = self.part(random),
        }
        mix
    }

    fn made(&self, mix: &Mix) -> Vec<u8> {
        let once: Vec<u8> =
            mix.parts.iter().flat_map(|(part, times)| self.parts[*part].1.repeat(*times)).take(SIZE).collect();
        once.iter().copied().cycle().take(SIZE).collect()
    }

    fn told(&self, mix: &Mix) -> String {
        let one = |(part, times): &(usize, usize)| match times {
            1 => self.parts[*part].0.clone(),
            _ => format!("{times} {}", self.parts[*part].0),
        };
        mix.parts.iter().map(one).collect::<Vec<_>>().join(" + ")
    }

    /// Inputs of the same size as people have them.
    fn honest(&self) -> Vec<(&'static str, Vec<u8>)> {
        let code = String::from_utf8(code(16 * SIZE)).expect("text");
        let fill = |bytes: &[u8]| bytes.iter().copied().cycle().take(SIZE).collect::<Vec<u8>>();
        let (noise, packed) = (noise(SIZE), gzip(code.as_bytes()));
        assert!(packed.len() >= SIZE, "{}", packed.len());
        let numbers: String = code.bytes().map(|byte| format!("{byte}, ")).collect();
        let minified: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
        vec![
            ("code", fill(code.as_bytes())),
            ("code in one line", fill(minified.as_bytes())),
            ("JSON", fill(serde_json::json!({ "text": &code }).to_string().as_bytes())),
            ("base64", fill(STANDARD.encode(&noise).as_bytes())),
            ("hex", fill(hex::encode(&noise).as_bytes())),
            ("a list of numbers", fill(numbers.as_bytes())),
            ("noise", noise),
            ("a gzip file", packed[..SIZE].to_vec()),
        ]
    }
}

/// What begins, is or ends a form.
fn parts() -> Vec<(String, Vec<u8>)> {
    let text = code(4 << 10);
    let mut all: Vec<(String, Vec<u8>)> = [
        "\n",
        " ",
        "=",
        "\"",
        "' + '",
        "\" \"",
        "\\",
        "\\x41",
        "\\u0041",
        "\\u{41}",
        "%41",
        "%25",
        "&#65;",
        "&#x41;",
        "&amp;",
        "+",
        "-",
        ",",
        "65, ",
        "0x41, ",
        "a",
        "A",
        "7",
        "ab",
        "q\u{200b}",
        "\u{ad}",
        "\u{ff21}",
        "\u{430}",
        "x\u{9c}",
        "> ",
        "| ",
        "begin 644 x\n",
        "literal 40\nzcmV",
        "data:;base64,",
        "chr(65)+",
        "\"\\\n\"",
        "=\n",
        "=41",
        "Content-Transfer-Encoding: base64\n\n",
        "'a','b',",
        "..",
        "\0",
        "\x1b[0m",
        "\r\n",
        "AAAA",
        "MFRG",
        "deadbeef",
        "deadbeef ",
        "-----BEGIN RSA PRIVATE KEY-----\n",
        "password = ",
        "key: ",
        "token=",
        "{\"a\":",
        "[",
        "<a b=\"",
    ]
    .into_iter()
    .map(|text| (format!("{text:?}"), text.as_bytes().to_vec()))
    .collect();
    let keywords = include_str!("../src/dlp_rules.toml").lines().filter_map(|line| line.strip_prefix("keywords = "));
    for word in keywords.flat_map(|list| list.split('"').skip(1).step_by(2)) {
        all.push((format!("keyword {word}"), word.as_bytes().to_vec()));
    }
    let packed: Vec<(&str, Vec<u8>)> = vec![
        ("gzip", gzip(&text)),
        ("zlib", zlib(&text)),
        ("zlib's beginning", b"\x78\x9c\xed".to_vec()),
        ("stored zlib", b"\x78\x01\x00\xff\x00\x00\xff".to_vec()),
        ("gzip's beginning", b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec()),
        ("zip's beginning", b"PK\x03\x04\x14\0\0\0\x08\0".to_vec()),
        ("zstd's beginning", b"\x28\xb5\x2f\xfd\x24\0\x01\0\0a".to_vec()),
        ("xz's beginning", b"\xfd7zXZ\0\0\x04\xe6\xd6".to_vec()),
        ("bzip2's beginning", b"BZh91AY&SY".to_vec()),
        ("lzma's beginning", b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0".to_vec()),
        ("lz4's beginning", b"\x04\x22\x4d\x18\x64\x40\xa7\x05\0\0".to_vec()),
        ("noise", noise(200)),
        ("text", text[..60].to_vec()),
    ];
    for (name, bytes) in &packed {
        all.push(((*name).to_owned(), bytes.clone()));
        all.push((format!("{name} in base64"), STANDARD.encode(bytes).into_bytes()));
        all.push((format!("{name} in base64 twice"), STANDARD.encode(STANDARD.encode(bytes)).into_bytes()));
        all.push((format!("{name} in hex"), hex::encode(bytes).into_bytes()));
        all.push((
            format!("{name} in numbers"),
            bytes.iter().flat_map(|byte| format!("{byte},").into_bytes()).collect(),
        ));
        all.push((
            format!("{name} in percent"),
            bytes.iter().flat_map(|byte| format!("%{byte:02x}").into_bytes()).collect(),
        ));
    }
    all
}

/// Code, so many bytes, that differs all the way: it packs as code does.
fn code(bytes: usize) -> Vec<u8> {
    let lines: Vec<&str> = include_str!("../src/dlp.rs").lines().filter(|line| line.len() > 20).collect();
    let mut random = SplitMix64(7);
    let mut out = vec![];
    while out.len() < bytes {
        out.extend_from_slice(random.pick(&lines).as_bytes());
        out.extend_from_slice(format!(" // {:08x}\n", random.below(1 << 32)).as_bytes());
    }
    out.truncate(bytes);
    out
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = SplitMix64(42);
    (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(bytes).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    writer.write_all(bytes).expect("packed");
    writer.finish().expect("packed")
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::ZlibEncoder::new(vec![], flate2::Compression::default());
    writer.write_all(bytes).expect("packed");
    writer.finish().expect("packed")
}

fn below(random: &mut SplitMix64, end: usize) -> usize {
    usize::try_from(random.below(end as u64)).expect("an index")
}

/// Seconds that this thread has been at work: other work on the machine does not count.
fn on_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
