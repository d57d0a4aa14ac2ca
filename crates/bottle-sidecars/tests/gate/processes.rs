//! What runs in a world: processes found in /proc by what they were given.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::world::World;

/// A process, as it was when it was looked at.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) id: u32,
    pub(crate) parent: u32,
    pub(crate) words: Vec<String>,
    pub(crate) dir: PathBuf,
}

impl Process {
    fn read(id: u32) -> Option<Self> {
        let of = |name: &str| PathBuf::from(format!("/proc/{id}/{name}"));
        let command = fs::read(of("cmdline")).ok()?;
        let words = command.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
        // A process of the kernel, or one that has ended and was not waited for.
        if words.is_empty() {
            return None;
        }
        let stat = fs::read_to_string(of("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
        Some(Self { id, parent, words, dir: fs::read_link(of("cwd")).unwrap_or_default() })
    }

    fn is_of(&self, world: &World, path: &str) -> bool {
        world.sshd.id() == Some(self.parent)
            || self.dir.starts_with(path)
            || self.words.iter().any(|word| word.contains(path))
    }

    fn environment(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/environ", self.id)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The program's name.
    pub(crate) fn name(&self) -> &str {
        self.words[0].rsplit('/').next().unwrap_or_default()
    }

    pub(crate) fn has(&self, word: &str) -> bool {
        self.words.iter().any(|one| one == word)
    }

    fn has_ending(&self, end: &str) -> bool {
        self.words.iter().any(|word| word.ends_with(end))
    }

    /// Ends it without a chance to tidy up; nothing happens if it has ended already.
    pub(crate) fn kill(&self) {
        let _ = Command::new("kill").args(["-KILL", &self.id.to_string()]).output();
    }
}

/// All that belongs to the gate of this world and to its upstream, but the gate's own process and the server that listens.
pub(crate) fn of(world: &World) -> Vec<Process> {
    select(world, |process, path| process.is_of(world, path) || process.environment().contains(path))
}

/// The same without those that only their environment gives away; this is quicker.
pub(crate) fn plainly_of(world: &World) -> Vec<Process> {
    select(world, |process, path| process.is_of(world, path))
}

fn select(world: &World, is_meant: impl Fn(&Process, &str) -> bool) -> Vec<Process> {
    let paths = ["state", "upstream"].map(|name| world.path(name).display().to_string());
    let standing = [world.gate.as_ref().map(|gate| gate.id()), world.sshd.id()];
    let ids = fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    ids.filter(|id| !standing.contains(&Some(*id)))
        .filter_map(Process::read)
        .filter(|process| !process.has_ending("https.py"))
        .filter(|process| paths.iter().any(|path| is_meant(process, path)))
        .collect()
}
