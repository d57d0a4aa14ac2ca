//! A clock that a test turns, in the programs as they are shipped: `turned_clock.c`, preloaded into each by the test.
//!
//! Only the time of day is turned. What programs wait for goes by the other clock, as on a machine whose clock is set. A static program takes
//! no notice: whoever uses this looks whether the time that a program tells is the turned one.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tempfile::TempDir;

use crate::process::sh;

/// Where a sandbox has the clock's directory.
const INSIDE: &str = "/turned-clock";

/// The clock of some processes of one test.
#[derive(Debug)]
pub struct TurnedClock {
    dir: TempDir,
    file: File,
    turned: AtomicI64,
}

impl TurnedClock {
    /// Makes one that is right.
    #[must_use]
    pub fn start() -> Self {
        let dir = TempDir::with_prefix("bottle-clock-").expect("a temporary directory");
        // Sandboxes have other users.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("a mode");
        let source = dir.path().join("clock.c");
        fs::write(&source, include_str!("turned_clock.c")).expect("a file");
        let [source, library] = [source, dir.path().join("clock.so")].map(|path| path.display().to_string());
        sh(&["cc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", &library, &source]);
        let file = File::create(dir.path().join("seconds")).expect("a file");
        file.write_all_at(&0_i64.to_ne_bytes(), 0).expect("written");
        Self { dir, file, turned: AtomicI64::new(0) }
    }

    /// Turns it forward.
    pub fn turn(&self, by: Duration) {
        let by = i64::try_from(by.as_secs()).expect("seconds");
        let now = self.turned.fetch_add(by, Ordering::SeqCst) + by;
        self.file.write_all_at(&now.to_ne_bytes(), 0).expect("written");
    }

    /// Tells the time by it, in seconds since 1970.
    pub fn now(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
        since.checked_add_signed(self.turned.load(Ordering::SeqCst)).expect("a time")
    }

    fn variables(&self, dir: &Path) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", "clock.so"), ("TURNED_CLOCK", "seconds")]
            .map(|(name, file)| (name, dir.join(file).display().to_string()))
    }

    /// Has a program, and all that it starts, go by it.
    pub fn rule(&self, command: &mut Command) {
        command.envs(self.variables(self.dir.path()));
    }

    /// Gives the words by which bwrap makes a sandbox whose programs go by it.
    pub fn bwrap_words(&self) -> String {
        let dir = self.dir.path().display();
        let variables = self.variables(Path::new(INSIDE)).map(|(name, value)| format!("--setenv {name} {value}"));
        format!("--ro-bind {dir} {INSIDE} {}", variables.join(" "))
    }
}
