//! The log of what has left in this run, written before it leaves: a restart goes on where the last life ended, so that ending
//! pipelock resets no limit.
//!
//! Bytes are set aside a little at a time; what was set aside and not sent counts as sent after a restart. Where there are
//! no limits, only names are written down, which are always limited.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bottle_policy::limits::{Count, Limits, Reached, Usage};
use bottle_types::host::{HostName, HostPattern};
use bottle_types::units::Rate;

use crate::common::{Dirs, Error};

/// So many bytes to a host are set aside at once.
const RESERVE_BYTES: u64 = 16 << 10;

/// The log of what has left in this run; a new policy does not begin a new one.
pub(super) struct UsageLog {
    state: Mutex<UsageState>,
    began: Instant,
    /// The self-test has been here. One that is here after a restart is none: the first life saw it.
    self_tested: AtomicBool,
}

struct UsageState {
    usage: Usage,
    file: File,
    /// Requests and bytes are written down, and not names alone.
    all: bool,
    /// Bytes to each host that are in the file.
    reserved: BTreeMap<HostName, u64>,
}

impl UsageLog {
    /// Opens the file, and goes on from what is in it.
    pub(super) fn open(dirs: &Dirs) -> Result<Self, Error> {
        let path: PathBuf = dirs.state.join("limits").join("counts.jsonl");
        let make = |error| Error::Make { path: path.clone(), error };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(make)?;
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(make)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(make)?;
        // A kill in the middle of a write leaves half a line, and nothing has gone because of it.
        let complete = text.rfind('\n').map_or(0, |at| at + 1);
        if complete < text.len() {
            text.truncate(complete);
            file.set_len(complete as u64).map_err(make)?;
        }
        let again = !text.is_empty();
        let mut state = UsageState { usage: Usage::default(), file, all: false, reserved: BTreeMap::new() };
        for line in text.lines() {
            let count: Count = serde_json::from_str(line).map_err(|error| Error::Policy {
                path: path.clone(),
                reason: format!("a line of it is no count: {error}"),
            })?;
            state.usage.add(&count);
            match count {
                Count::Requests { .. } => state.all = true,
                Count::Bytes { host, bytes } => *state.reserved.entry(host).or_default() += bytes,
                Count::Began | Count::Name { .. } => {}
            }
        }
        if again {
            state.usage.begin_again();
        }
        state.write(&[Count::Began]).map_err(make)?;
        Ok(Self { state: Mutex::new(state), began: Instant::now(), self_tested: AtomicBool::new(again) })
    }

    fn lock(&self) -> MutexGuard<'_, UsageState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether the self-test is here now: once in a run.
    pub(super) fn is_first_self_test(&self) -> bool {
        !self.self_tested.swap(true, Ordering::Relaxed)
    }

    /// Counts a request by the rule about these hosts.
    pub(super) fn request(&self, limits: &Limits, pattern: &HostPattern, host: &HostName) -> Result<(), Reached> {
        let mut state = self.lock();
        state.write_all_from_now_on(limits)?;
        let name = state.usage.request(limits, pattern, host)?;
        let mut counts: Vec<Count> = name.into_iter().collect();
        if state.all {
            counts.push(Count::Requests { host: host.clone(), count: 1 });
        }
        state.write(&counts).map_err(lost)
    }

    /// Counts bytes that are about to leave.
    pub(super) fn bytes(&self, limits: &Limits, host: &HostName, more: u64) -> Result<(), Reached> {
        let mut state = self.lock();
        state.write_all_from_now_on(limits)?;
        let sent = state.usage.bytes(limits, host, more)?;
        let reserved = state.reserved.get(host).copied().unwrap_or_default();
        if sent <= reserved {
            return Ok(());
        }
        let bytes = sent - reserved + RESERVE_BYTES;
        state.write(&[Count::Bytes { host: host.clone(), bytes }]).map_err(lost)?;
        *state.reserved.entry(host.clone()).or_default() += bytes;
        Ok(())
    }

    /// Counts a request against its route's rate.
    pub(super) fn rate(&self, route: usize, rate: Rate) -> Result<(), Reached> {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.lock().usage.rate(route, rate, now)
    }
}

impl UsageState {
    /// Under a policy with limits everything is written down, what went before it included.
    fn write_all_from_now_on(&mut self, limits: &Limits) -> Result<(), Reached> {
        if self.all || limits.is_default() {
            return Ok(());
        }
        let so_far: Vec<Count> = self.usage.requests_so_far().collect();
        self.write(&so_far).map_err(lost)?;
        self.all = true;
        Ok(())
    }

    /// Whole lines, in one write.
    fn write(&mut self, counts: &[Count]) -> io::Result<()> {
        let mut lines = vec![];
        for count in counts {
            serde_json::to_writer(&mut lines, count)?;
            lines.push(b'\n');
        }
        if lines.is_empty() { Ok(()) } else { self.file.write_all(&lines) }
    }
}

/// Refuses what can't be counted.
fn lost(error: io::Error) -> Reached {
    tracing::error!("failed to write down what leaves, so nothing does: {error}");
    Reached::Lost
}

#[cfg(test)]
mod tests {
    use bottle_types::units::{ByteSize, Seconds};

    use super::*;

    fn usage_log(dir: &std::path::Path) -> UsageLog {
        let state = dir.to_owned();
        let dirs = Dirs { doors: state.clone(), internal: state.clone(), secrets: state.clone(), state };
        UsageLog::open(&dirs).expect("counts")
    }

    fn host(name: &str) -> HostName {
        HostName::parse(name).expect("a host")
    }

    #[test]
    fn no_restart_gives_anything_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let pattern = HostPattern::parse("*.a.example").expect("a pattern");
        let limits =
            Limits { requests: Some(5), hosts: Some(3), bytes_out: Some(ByteSize(100 << 10)), ..Limits::default() };
        // Each in a life of its own.
        let request = |name: &str| usage_log(dir.path()).request(&limits, &pattern, &host(name));
        for (name, fine) in [
            ("x.a.example", true),
            ("y.a.example", true),
            ("x.a.example", true),
            ("z.a.example", true),
            ("w.a.example", false),
        ] {
            assert_eq!(request(name).is_ok(), fine, "{name}");
        }
        assert_eq!(request("x.a.example"), Ok(()));
        assert_eq!(request("x.a.example"), Err(Reached::Requests(5)));

        let bytes = |more| usage_log(dir.path()).bytes(&limits, &host("x.a.example"), more);
        assert_eq!((bytes(40 << 10), bytes(40 << 10)), (Ok(()), Ok(())));
        assert_eq!(bytes(10 << 10), Err(Reached::Bytes(100 << 10)), "what was set aside is sent");

        // Names are written down also where nothing else is limited.
        let little = Limits { names: ByteSize(12), ..Limits::default() };
        let name = |name: &str| usage_log(dir.path()).request(&little, &pattern, &host(name)).is_ok();
        assert!(name("abcdefghij.a.example") && name("klmnopqrst.a.example"));
        assert!(!name("uvwxyz0123.a.example") && name("abcdefghij.a.example"));

        let rate = Rate { count: 2, per: Seconds(3600) };
        assert!(usage_log(dir.path()).rate(0, rate).is_err(), "a restart filled a bucket");
        let fresh = tempfile::tempdir().expect("a directory");
        assert_eq!(usage_log(fresh.path()).rate(0, rate), Ok(()));
    }

    #[test]
    fn limits_that_come_later_know_what_went_before() {
        let dir = tempfile::tempdir().expect("a directory");
        let (pattern, none) = (HostPattern::parse("a.example").expect("a pattern"), Limits::default());
        let limits = Limits { requests: Some(4), ..Limits::default() };
        let first = usage_log(dir.path());
        for _ in 0..2 {
            assert_eq!(first.request(&none, &pattern, &host("a.example")), Ok(()));
        }
        for limits in [&limits, &none] {
            assert_eq!(first.request(limits, &pattern, &host("a.example")), Ok(()));
        }
        drop(first);
        assert_eq!(usage_log(dir.path()).request(&limits, &pattern, &host("a.example")), Err(Reached::Requests(4)));
    }

    #[test]
    fn half_a_line_is_dropped_and_a_strange_one_stops_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("limits/counts.jsonl");
        drop(usage_log(dir.path()));
        let text = std::fs::read_to_string(&path).expect("a file");
        std::fs::write(&path, format!("{text}{{\"requ")).expect("a file");
        drop(usage_log(dir.path()));
        assert_eq!(std::fs::read_to_string(&path).expect("a file"), text.repeat(2));
        std::fs::write(&path, format!("{text}strange\n")).expect("a file");
        let state = dir.path().to_owned();
        let dirs = Dirs { doors: state.clone(), internal: state.clone(), secrets: state.clone(), state };
        assert!(UsageLog::open(&dirs).is_err());
    }
}
