//! Runs the gate's unpacker and the doors' scan over every file of the directories given: what can't be looked through, what is
//! found, how much the files say in other forms, and what it costs. `scripts/bench decoder` runs it.
//!
//! With `--detect` the kinds of data of `pipelock.detect` are looked for, too, and counted.
//!
//! Of package trees nearly nothing is a finding, and nothing may be refused as not to be looked through.

#![expect(clippy::disallowed_methods, clippy::print_stdout, reason = "a benchmark reads files and prints")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bottle_scan::dlp::{DataKind, Rules, Scope, Search};
use bottle_scan::known::KnownSecrets;
use bottle_scan::texts::Unpacker;
use bottle_types::secret::{Secret, SecretName};
use sha2::{Digest as _, Sha256};

/// As the gate has it for a push of the default size.
const BUDGET: u64 = 512 << 20;
/// Of smaller files the time says nothing.
const TIMED: usize = 4 << 10;
/// So many of the slowest are told.
const SLOWEST: usize = 15;

/// What came of one file.
struct Looked {
    path: PathBuf,
    bytes: usize,
    derived: usize,
    gate: f64,
    door: f64,
    refused: Option<String>,
    gate_found: Vec<String>,
    door_found: Option<String>,
    /// Numbers of each kind, with what is said in other forms.
    numbers: BTreeSet<(DataKind, Vec<u8>)>,
}

impl Looked {
    fn per_byte(&self, seconds: f64) -> f64 {
        seconds * 1e9 / self.bytes.max(1) as f64
    }

    fn line(&self) -> String {
        format!(
            "{}\t{}\t{}\t{:.0}\t{:.0}\t{}\t{}\t{}",
            self.path.display(),
            self.bytes,
            self.derived,
            self.per_byte(self.gate),
            self.per_byte(self.door),
            self.refused.as_deref().unwrap_or("-"),
            self.gate_found.join(","),
            self.door_found.as_deref().unwrap_or("-"),
        ) + &self
            .numbers
            .iter()
            .map(|(kind, number)| format!("\t{}: {}", kind.name(), String::from_utf8_lossy(number)))
            .collect::<String>()
    }
}

fn main() {
    let (mut dirs, mut table, mut kinds) = (vec![], None, BTreeSet::new());
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--table" => table = arguments.next(),
            "--detect" => kinds = BTreeSet::from(DataKind::ALL),
            _ => dirs.push(PathBuf::from(argument)),
        }
    }
    let files = files(dirs);
    let (next, looked) = (AtomicUsize::new(0), Mutex::new(vec![]));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                let reader = Reader::new(&kinds);
                while let Some(path) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Ok(bytes) = std::fs::read(path) {
                        let one = reader.look(path, &bytes);
                        looked.lock().expect("a lock").push(one);
                    }
                }
            });
        }
    });
    let mut looked = looked.into_inner().expect("a lock");
    looked.sort_by(|one, other| one.path.cmp(&other.path));
    if let Some(table) = table {
        let lines: String = looked.iter().map(|one| one.line() + "\n").collect();
        std::fs::write(table, lines).expect("the table");
    }
    report(&looked);
}

/// What looks at one file.
struct Reader {
    rules: Rules,
    known: KnownSecrets,
}

impl Reader {
    fn new(kinds: &BTreeSet<DataKind>) -> Self {
        let name = SecretName::parse("KEY").expect("a name");
        let secret = Secret::new(hex::encode(&Sha256::digest([0])[..20]).into_bytes());
        let rules = Rules::with(&[], kinds, &[]).expect("rules");
        Self { rules, known: KnownSecrets::new(&[(name, secret)]).expect("secrets") }
    }

    fn look(&self, path: &Path, bytes: &[u8]) -> Looked {
        let (mut derived, mut gate_found) = (0, vec![]);
        let start = on_cpu();
        let mut look = |bytes: &[u8], how: &str| {
            let known = self.known.find(bytes).map(|_| "known-secret".to_owned());
            let found = known.or_else(|| self.rules.find(bytes, Scope::All).map(|found| found.rule.to_string()));
            gate_found.extend(found.map(|rule| format!("{rule}({how})")));
        };
        look(bytes, "plain");
        let unpacked = Unpacker::new(BUDGET).unpack(bytes, &mut |text| {
            derived += text.bytes.len();
            look(&text.bytes, &text.how);
        });
        let gate = on_cpu() - start;
        let start = on_cpu();
        let found = Search { known: &self.known, rules: Some((&self.rules, Scope::All)) }.find(bytes);
        let door = on_cpu() - start;
        let numbers = self.numbers(bytes);
        let refused = unpacked.err().map(|error| format!("{error:?}"));
        let door_found = found.map(|found| found.rule.to_string());
        Looked {
            path: path.to_owned(),
            bytes: bytes.len(),
            derived,
            gate,
            door,
            refused,
            gate_found,
            door_found,
            numbers,
        }
    }

    /// The different numbers of each kind in what the gate reads of a file.
    fn numbers(&self, bytes: &[u8]) -> BTreeSet<(DataKind, Vec<u8>)> {
        let mut numbers = BTreeSet::new();
        if self.rules.rules().iter().all(|rule| rule.kind.is_none()) {
            return numbers;
        }
        let kinds: BTreeMap<&str, DataKind> =
            self.rules.rules().iter().filter_map(|rule| Some((rule.id.as_str(), rule.kind?))).collect();
        let mut take = |bytes: &[u8]| {
            let found = self.rules.find_all(bytes, Scope::All, usize::MAX).into_iter();
            numbers.extend(found.filter_map(|(rule, at)| Some((*kinds.get(rule)?, bytes[at].to_vec()))));
        };
        take(bytes);
        // What can't be looked through is told by the verdict.
        let _ = Unpacker::new(BUDGET).unpack(bytes, &mut |text| take(&text.bytes));
        numbers
    }
}

fn files(mut dirs: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut files = vec![];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory") {
            let entry = entry.expect("an entry");
            match entry.file_type().expect("a type") {
                kind if kind.is_dir() => dirs.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files
}

fn report(looked: &[Looked]) {
    let refused: Vec<&Looked> = looked.iter().filter(|one| one.refused.is_some()).collect();
    println!("refused: {}", refused.len());
    for one in &refused {
        println!("  {} {}", one.refused.as_deref().unwrap_or_default(), one.path.display());
    }
    let mut rules = BTreeMap::<String, usize>::new();
    for one in looked {
        one.gate_found.iter().for_each(|rule| *rules.entry(format!("gate: {rule}")).or_default() += 1);
        one.door_found.iter().for_each(|rule| *rules.entry(format!("door: {rule}")).or_default() += 1);
    }
    println!("findings:");
    rules.iter().for_each(|(rule, count)| println!("  {count:>5} {rule}"));
    let mut timed: Vec<&Looked> = looked.iter().filter(|one| one.bytes >= TIMED).collect();
    let mut medians = vec![];
    for (who, time) in [("gate", &(|one: &Looked| one.gate) as &dyn Fn(&Looked) -> f64), ("door", &|one| one.door)] {
        timed.sort_by(|one, other| other.per_byte(time(other)).total_cmp(&one.per_byte(time(one))));
        let median = timed.get(timed.len() / 2).map_or(0.0, |one| one.per_byte(time(one)));
        println!("{who}: the median is {median:.1} ns a byte; the slowest:");
        for one in timed.iter().take(SLOWEST) {
            println!("  {:>9.0} ns a byte, {:>8.3} s: {}", one.per_byte(time(one)), time(one), one.path.display());
        }
        medians.push(median);
    }
    let sum = |of: &dyn Fn(&Looked) -> f64| looked.iter().map(of).sum::<f64>();
    let bytes = sum(&|one| one.bytes as f64);
    for kind in DataKind::ALL {
        let files = looked.iter().filter(|one| one.numbers.iter().any(|(of, _)| *of == kind)).count();
        let numbers = sum(&|one| one.numbers.iter().filter(|(of, _)| *of == kind).count() as f64);
        if numbers > 0.0 {
            println!("{}: {numbers} in {files} files, {:.4} per megabyte", kind.name(), numbers / (bytes / 1e6));
        }
    }
    println!(
        "{{\"bench\": \"decoder\", \"files\": {}, \"megabytes\": {:.0}, \"refused\": {}, \"derived_per_byte\": {:.3}, \
         \"gate_ns_a_byte\": {:.2}, \"door_ns_a_byte\": {:.2}, \"gate_median\": {:.2}, \"door_median\": {:.2}}}",
        looked.len(),
        bytes / 1e6,
        refused.len(),
        sum(&|one| one.derived as f64) / bytes,
        sum(&|one| one.gate) * 1e9 / bytes,
        sum(&|one| one.door) * 1e9 / bytes,
        medians[0],
        medians[1],
    );
}

/// Seconds that this thread has been at work: other work on the machine does not count.
fn on_cpu() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
