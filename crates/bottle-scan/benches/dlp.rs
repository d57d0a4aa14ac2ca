//! What a search for secrets costs, by kind of input: megabytes a second on one core. `scripts/bench dlp` runs it.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads files and prints")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;

use aho_corasick::AhoCorasick;
use base64::Engine as _;
use bottle_scan::dlp::{Mode, Packing, Rules, Scope, Search, Stream};
use bottle_scan::known::KnownSecrets;
use bottle_types::secret::{Secret, SecretName};
use sha2::{Digest as _, Sha256};

/// How much is searched, and how often: other work on the machine can only make a run slower, so the best counts.
#[derive(Clone, Copy)]
struct Amount {
    bytes: usize,
    runs: usize,
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let amount = if is_quick { Amount { bytes: 1 << 20, runs: 2 } } else { Amount { bytes: 8 << 20, runs: 5 } };
    let rate = |bytes: usize, run: &mut dyn FnMut()| rate(amount, bytes, run);
    let text = source(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").as_path());
    let source: Vec<u8> = text.bytes().cycle().take(amount.bytes).collect();
    let file = include_str!("../src/dlp_rules.toml");
    let rules = Rules::builtin().expect("rules");
    let more = Rules::parse(&format!("{file}{}", ten_more())).expect("rules");
    let known = known();
    let nothing = KnownSecrets::new(&[]).expect("nothing");
    let inputs = inputs(amount.bytes, &text, &source);
    // What is found ends a look: the source has to be clean.
    assert_eq!(rules.find(&source, Scope::All), None);

    println!(
        "{:32} {:>10} {:>14} {:>14} {:>14}",
        "MB/s on one core", "rules alone", "rules, known", "doors: forms", "and known"
    );
    let mut figures = vec![];
    for (name, input, packings) in &inputs {
        let find = |known: &KnownSecrets| {
            rate(input.len(), &mut || {
                black_box(known.find(input).is_some() || rules.find(input, Scope::All).is_some());
            })
        };
        let through = |known: &KnownSecrets| {
            rate(input.len(), &mut || {
                stream(Search { known, rules: Some((&rules, Scope::All)) }, input, packings);
            })
        };
        let row = [find(&nothing), find(&known), through(&nothing), through(&known)];
        println!("{name:32} {:>10.0} {:>14.0} {:>14.0} {:>14.0}", row[0], row[1], row[2], row[3]);
        figures.push((*name, row));
    }

    // Keywords in any case, each match of each: how the rules were looked for before.
    let keywords: Vec<String> = file
        .lines()
        .filter_map(|line| line.strip_prefix("keywords = "))
        .flat_map(|list| {
            list.split('"').skip(1).step_by(2).map(|word| word.split('[').next().unwrap_or(word).to_owned())
        })
        .filter(|word| word.len() > 1)
        .collect();
    let automaton = AhoCorasick::builder().ascii_case_insensitive(true).build(&keywords).expect("an automaton");
    let before = rate(source.len(), &mut || {
        black_box(automaton.find_overlapping_iter(&source).count());
    });
    println!("\nsource, its keywords by an overlapping Aho-Corasick in any case: {before:.0} MB/s");
    // A byte that is nowhere: what there is to do at least is to read them all.
    let floor = rate(source.len(), &mut || {
        black_box(memchr::memchr(black_box(0xff), black_box(&source[..])));
    });
    println!("source, by memchr for a byte that is not there: {floor:.0} MB/s");

    let base = figures[0].1[2];
    let search = Search { known: &nothing, rules: Some((&more, Scope::All)) };
    // Side by side, because the machine's speed changes.
    let (mut with, mut without) = (0.0f64, 0.0f64);
    for _ in 0..5 {
        let before = Search { rules: Some((&rules, Scope::All)), ..search };
        without = without.max(rate(source.len(), &mut || stream(before, &source, &[])));
        with = with.max(rate(source.len(), &mut || stream(search, &source, &[])));
    }
    let cost = (without / with - 1.0) * 100.0;
    println!("ten rules more: {with:.0} MB/s instead of {without:.0}, {cost:.1}% more time");

    let mut json = format!(
        "{{\"bench\": \"dlp\", \"rules\": {}, \"source_mb_s\": {base:.0}, \"source_target_mb_s\": 400, \
         \"source_known_mb_s\": {:.0}, \"rules_alone_mb_s\": {:.0}, \"aho_corasick_mb_s\": {before:.0}, \"memchr_mb_s\": {floor:.0}, \
         \"ten_rules_percent\": {cost:.1}, \"ten_rules_target_percent\": 5, \"kinds\": {{",
        rules.rules().len(),
        figures[0].1[3],
        figures[0].1[0],
    );
    for (index, (name, row)) in figures.iter().enumerate() {
        let _ = write!(json, "{}\"{name}\": {:.0}", if index > 0 { ", " } else { "" }, row[3]);
    }
    println!("{json}}}}}");
}

fn rate(amount: Amount, bytes: usize, run: &mut dyn FnMut()) -> f64 {
    let best = (0..amount.runs).map(|_| {
        let start = on_cpu();
        run();
        on_cpu() - start
    });
    bytes as f64 / 1e6 / best.fold(f64::MAX, f64::min)
}

/// Seconds that this thread has been at work: other work on the machine does not count.
fn on_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn stream(search: Search<'_>, input: &[u8], packings: &[Packing]) {
    let mut stream = Stream::packed(packings);
    for chunk in input.chunks(64 << 10) {
        if black_box(stream.push(search, chunk, Mode::Warn)).is_err() {
            return;
        }
    }
    let _ = black_box(stream.finish(search, Mode::Warn));
}

/// Inputs of about the same size; the last is packed.
fn inputs(size: usize, text: &str, source: &[u8]) -> Vec<(&'static str, Vec<u8>, Vec<Packing>)> {
    let fill = |part: &[u8]| part.iter().copied().cycle().take(size).collect::<Vec<u8>>();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let noise: Vec<u8> = (0..1 << 20)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()[3]
        })
        .collect();
    let base64 = base64::engine::general_purpose::STANDARD.encode(&noise);
    let lines: Vec<&str> = text.lines().collect();
    let messages: Vec<serde_json::Value> =
        lines.chunks(60).map(|lines| serde_json::json!({ "role": "user", "content": lines.join("\n") })).collect();
    let conversation = serde_json::json!({ "model": "claude-test", "messages": messages }).to_string();
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::default());
    gzip.write_all(source).expect("packed");
    let form: String = text.bytes().take(1 << 20).map(|byte| format!("%{byte:02X}")).collect();
    let numbers: String = text.bytes().take(1 << 20).map(|byte| format!("{byte}, ")).collect();
    vec![
        ("source", source.to_vec(), vec![]),
        ("a conversation (JSON)", fill(conversation.as_bytes()), vec![]),
        (
            "text in another script",
            fill("Ключ хранится в переменной окружения. 密钥保存在环境变量中。\n".as_bytes()),
            vec![],
        ),
        ("base64", fill(base64.as_bytes()), vec![]),
        ("hex", fill(hex::encode(&noise).as_bytes()), vec![]),
        ("every byte percent-escaped", fill(form.as_bytes()), vec![]),
        ("a list of numbers", fill(numbers.as_bytes()), vec![]),
        ("noise", fill(&noise), vec![]),
        ("zeros", vec![0; size], vec![]),
        ("keywords without an end", fill(b"ghp_ sk-ant-api03- AKIA glpat- "), vec![]),
        ("gzip (of packed bytes)", gzip.finish().expect("packed"), vec![Packing::Gzip]),
    ]
}

/// The workspace's own text.
fn source(root: &Path) -> String {
    let mut out = String::new();
    let mut dirs = vec![root.join("crates"), root.join("src"), root.join("docs"), root.join("scripts")];
    while let Some(dir) = dirs.pop() {
        let mut paths: Vec<_> =
            std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        for path in paths {
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                out.push_str(&text);
            }
        }
    }
    out
}

/// Rules like those that are there.
fn ten_more() -> String {
    (0..10)
        .map(|index| {
            format!(
                "\n[[rule]]\nid = \"more-{index}\"\ndescription = \"one more\"\nkeywords = [\"mr{index}q_\"]\n\
                 regex = 'mr{index}q_[A-Za-z0-9]{{36}}\\b'\nentropy = 3.0\nmodel = true\nsample = 'mr{index}q_{{an:36}}'\n"
            )
        })
        .collect()
}

fn known() -> KnownSecrets {
    // Sums, because whatever stood in this file would be found in it.
    let secrets: Vec<_> = (0..4)
        .map(|index| {
            let name = SecretName::parse(&format!("KEY_{index}")).expect("a name");
            (name, Secret::new(hex::encode(&Sha256::digest([index])[..20]).into_bytes()))
        })
        .collect();
    KnownSecrets::new(&secrets).expect("secrets")
}
