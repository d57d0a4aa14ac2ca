//! Random numbers that can be had again: a test that uses them says its seed when it fails, and takes `GATE_SEED`.

use bottle_testkit::{SplitMix64, random_bytes};

/// A generator that says its seed when a test fails.
#[derive(Debug)]
pub(crate) struct Random {
    seed: u64,
    numbers: SplitMix64,
}

impl Random {
    /// A new seed, or the one that was asked for.
    pub(crate) fn new() -> Self {
        let asked = std::env::var("GATE_SEED").ok().map(|text| text.parse().expect("GATE_SEED is a number"));
        let seed = asked.unwrap_or(u64::from_le_bytes(random_bytes(8).try_into().expect("eight bytes")) >> 32);
        Self { seed, numbers: SplitMix64(seed) }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.numbers.next()
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.numbers.below(end)
    }

    /// Whether something that happens so many times in a hundred happens now.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        self.numbers.pick(items)
    }
}

impl Drop for Random {
    #[expect(clippy::print_stderr, reason = "the test runner shows it with the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the same again: GATE_SEED={}", self.seed);
        }
    }
}
