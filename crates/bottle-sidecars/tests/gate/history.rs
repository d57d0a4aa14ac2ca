//! A random history of several hundred operations on both sides of the gate. After each batch whatever can be seen through the
//! gate is what upstream has; while upstream is down nothing can be seen at all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::thread;

use crate::https::{Server, https_world};
use crate::processes;
use crate::random::Random;
use crate::world::{PUSH, World, said};

/// Batches, and operations of upstream's own in each.
const BATCHES: u32 = 8;
const OPERATIONS: u32 = 50;

/// Some are others' directories: git can't have both at once. Some differ from one another in case alone.
const BRANCHES: [&str; 12] = [
    "main",
    "a",
    "a/b",
    "a/b/c",
    "next",
    "Next",
    "topic/one",
    "topic/two",
    "topic",
    "release-1.x",
    "größe",
    "bottle/theirs",
];
const TAGS: [&str; 8] = ["v1", "v1.1", "V1", "t/x", "t/y", "light", "nightly", "ünï"];

/// How upstream is reached, and how it goes down.
enum Host {
    Ssh,
    Https(Server),
}

impl Host {
    fn down(&mut self, world: &mut World) {
        match self {
            Self::Ssh => {
                let sessions: Vec<_> = processes::plainly_of(world)
                    .into_iter()
                    .filter(|process| Some(process.parent) == world.sshd.id())
                    .collect();
                world.sshd.down();
                sessions.iter().for_each(processes::Process::kill);
            }
            Self::Https(server) => server.down(),
        }
    }

    fn up(&mut self, world: &mut World) {
        match self {
            Self::Ssh => world.sshd.up(),
            Self::Https(server) => server.up(world),
        }
    }
}

/// What upstream's own side knows: where its branches are, for `git fast-import`.
struct Upstream {
    /// Each with a commit's id, or a mark of the batch that is being made.
    branches: BTreeMap<String, String>,
    marks: u32,
}

impl Upstream {
    fn read(world: &World) -> Self {
        let refs = world.upstream_refs();
        let branches = refs.lines().filter_map(|line| line.strip_prefix("refs/heads/")?.split_once(' '));
        Self { branches: branches.map(|(name, id)| (name.to_owned(), id.to_owned())).collect(), marks: 0 }
    }

    fn some(&self, random: &mut Random) -> (String, String) {
        let names: Vec<_> = self.branches.iter().collect();
        let (name, at) = random.pick(&names);
        ((*name).clone(), (*at).clone())
    }

    /// A commit, with these parents.
    fn commit(&mut self, stream: &mut String, random: &mut Random, parents: &[&str]) -> String {
        self.marks += 1;
        let mark = format!(":{}", self.marks);
        let time = 1_700_000_000 + u64::from(self.marks) * 60;
        let (content, file) = (random.next(), random.below(20));
        let _ = write!(
            stream,
            "commit refs/making/it\nmark {mark}\ncommitter Up <up@example.org> {time} +0000\ndata 3\nup\n"
        );
        for (index, parent) in parents.iter().enumerate() {
            let _ = writeln!(stream, "{} {parent}", if index == 0 { "from" } else { "merge" });
        }
        if parents.is_empty() {
            stream.push_str("deleteall\n");
        }
        let content = format!("{content:x}\n").repeat(1 + usize::try_from(random.below(40)).expect("small"));
        let _ = write!(stream, "M 100644 inline dir{}/f{file}\ndata {}\n{content}\n", file % 3, content.len());
        mark
    }

    /// One operation, as text for fast-import; what it does to refs is for [`Self::apply`].
    fn operate(&mut self, stream: &mut String, tags: &mut Vec<String>, random: &mut Random) {
        let (name, at) = self.some(random);
        let (_, other) = self.some(random);
        match random.below(100) {
            0..30 => {
                let made = self.commit(stream, random, &[&at]);
                self.branches.insert(name, made);
            }
            30..40 if at != other => {
                let made = self.commit(stream, random, &[&at, &other]);
                self.branches.insert(name, made);
            }
            // Created, or forced to another place.
            40..60 => {
                let name = (*random.pick(&BRANCHES)).to_owned();
                self.make_room(&name);
                self.branches.insert(name, at);
            }
            60..66 => {
                let made = self.commit(stream, random, &[]);
                let name = (*random.pick(&BRANCHES)).to_owned();
                self.make_room(&name);
                self.branches.insert(name, made);
            }
            66..78 if name != "main" => drop(self.branches.remove(&name)),
            78..84 if name != "main" => {
                self.branches.remove(&name);
                let name = (*random.pick(&BRANCHES)).to_owned();
                self.make_room(&name);
                self.branches.insert(name, at);
            }
            84..90 => tags.push(format!("git tag -f '{}' {}", random.pick(&TAGS), self.later(&at))),
            90..95 => tags.push(format!("git tag -f -a -m 'a tag' '{}' {}", random.pick(&TAGS), self.later(&at))),
            95..97 => tags.push(format!("git tag -f blob-tag {}^{{tree}}", self.later(&at))),
            97..98 => {
                tags.push("git for-each-ref --format='delete %(refname)' refs/tags/t | git update-ref --stdin".into())
            }
            _ => tags.push(format!("git notes add -f -m note-{} {}", random.next(), self.later(&at))),
        }
    }

    /// How a shell that has read the marks calls a commit.
    fn later(&self, at: &str) -> String {
        at.strip_prefix(':').map_or_else(|| at.to_owned(), |mark| format!("${{mark[{mark}]}}"))
    }

    /// Neither a branch's directory nor one below it may be there.
    fn make_room(&mut self, name: &str) {
        self.branches.retain(|other, _| {
            other == "main" || !(other.starts_with(&format!("{name}/")) || name.starts_with(&format!("{other}/")))
        });
    }

    /// The script that makes upstream so.
    fn apply(&self, stream: &str, tags: &[String]) -> String {
        let mut refs = String::new();
        for (name, at) in &self.branches {
            let _ = writeln!(refs, "echo \"update refs/heads/{name} {}\"", self.later(at));
        }
        format!(
            "cat >stream <<'STREAM'\n{stream}reset refs/making/it\nfrom {zeros}\n\nSTREAM\n\
             git fast-import --quiet --force --export-marks=marks <stream\n\
             declare -A mark; while read -r name id; do mark[${{name#:}}]=$id; done <marks\n\
             ({{\n{refs}\n}}) >refs.new\n\
             git for-each-ref --format='%(refname)' refs/heads refs/making | sort >refs.old\n\
             awk '{{print $2}}' refs.new | sort | comm -23 refs.old - | sed 's/^/delete /' | git update-ref --stdin\n\
             git update-ref --stdin <refs.new\n{tags}\n",
            zeros = "0".repeat(40),
            tags = tags.join("\n"),
        )
    }
}

/// A batch of upstream's own; the number of operations.
fn upstream_works(world: &World, random: &mut Random) {
    let mut upstream = Upstream::read(world);
    let (mut stream, mut tags) = (String::new(), vec![]);
    for _ in 0..OPERATIONS {
        upstream.operate(&mut stream, &mut tags, random);
    }
    world.ok(&world.upstream("origin"), &upstream.apply(&stream, &tags));
}

/// What a guest does in a batch: fetches, commits, merges, and pushes a branch of its own, a new one, one that grows or one
/// that is rewritten, and now and then a tag.
fn guest_script(number: usize, batch: u32, random: &mut Random) -> String {
    let mut script =
        "git fetch -q --prune origin\nbase() { git for-each-ref --format='%(objectname)' refs/remotes/origin | \
                      sort | awk -v n=$1 '{line[NR]=$0} END {print line[n % NR + 1]}'; }\n"
            .to_owned();
    let _ = writeln!(script, "git checkout -q -f --detach $(base {})", random.below(1000));
    for file in 0..=random.below(3) {
        let _ =
            writeln!(script, "echo {:x} >g{number}-{file}; git add .; git commit -q -m guest-{batch}", random.next());
        if random.percent(30) {
            let merge = "git merge -q --no-edit -s ours --allow-unrelated-histories";
            let _ = writeln!(script, "{merge} $(base {}) >/dev/null", random.below(1000));
        }
    }
    let branch = format!("bottle/g{number}-{batch}");
    let mut refs = format!("HEAD:refs/heads/{branch}");
    if random.percent(40) {
        let _ = write!(refs, " +HEAD:refs/heads/bottle/own-{number}");
    }
    if random.percent(30) {
        let annotated = if random.percent(50) { "-a -m tag" } else { "" };
        let _ = writeln!(script, "git tag {annotated} g{number}-{batch}");
        let _ = write!(refs, " refs/tags/g{number}-{batch}");
    }
    let _ = writeln!(script, "git push -q origin {refs}\ngit rev-parse HEAD");
    script
}

/// Both guests at once, and what they pushed is upstream.
fn guests_work(world: &World, guests: &[PathBuf], batch: u32, random: &mut Random) {
    let scripts: Vec<String> = (0..guests.len()).map(|number| guest_script(number, batch, random)).collect();
    thread::scope(|scope| {
        for (guest, script) in guests.iter().zip(&scripts) {
            scope.spawn(move || world.ok(guest, script));
        }
    });
    let refs = world.upstream_refs();
    for (number, guest) in guests.iter().enumerate() {
        let head = world.ok(guest, "git rev-parse HEAD");
        assert!(refs.contains(&format!("refs/heads/bottle/g{number}-{batch} {head}")), "guest {number}: {refs}");
    }
}

fn lines_below(refs: &str, below: &str) -> String {
    refs.lines().filter_map(|line| line.strip_prefix(below)).collect::<Vec<_>>().join("\n")
}

/// Whatever can be seen through the gate is what upstream has.
fn compare(world: &World, watcher: &Path, guest: &Path, version: u64) {
    let list = |url: &str| format!("git -c protocol.version={version} ls-remote {url} | sort");
    let there = world.ok(&world.upstream("origin"), &list("."));
    assert_eq!(world.ok(world.dir.path(), &list("\"$ORIGIN\"")), there, "ls-remote, protocol {version}");

    let refs = world.upstream_refs();
    const LIST: &str = "git for-each-ref --format='%(refname) %(objectname)'";
    assert_eq!(world.ok(&world.path("state/git/origin.git"), LIST), refs, "the mirror itself");
    world.ok(watcher, "git fetch -q --prune --force --no-tags \"$ORIGIN\" '+refs/*:refs/*'");
    assert_eq!(world.ok(watcher, LIST), refs, "a fetch of everything");

    world.ok(guest, "git fetch -q --prune --prune-tags --force --tags origin");
    let seen = world.ok(guest, &format!("{LIST} refs/remotes/origin refs/tags"));
    let seen: String =
        seen.lines().filter(|line| !line.contains("origin/HEAD")).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(lines_below(&seen, "refs/remotes/origin/"), lines_below(&refs, "refs/heads/"), "a guest's branches");
    assert_eq!(lines_below(&seen, "refs/tags/"), lines_below(&refs, "refs/tags/"), "a guest's tags");
}

/// A shallow and a partial clone, against the same made at upstream itself.
fn compare_clones(world: &World, random: &mut Random) {
    let refs = world.upstream_refs();
    let branches: Vec<&str> =
        refs.lines().filter_map(|line| Some(line.strip_prefix("refs/heads/")?.split_once(' ')?.0)).collect();
    let script = format!(
        "rm -rf c; mkdir c; cd c; branch='{branch}'; depth={depth}; \
         at() {{ git clone -q --no-local --depth $depth -b $branch \"$1\" $2; git -C $2 rev-list --all --parents | sort; }}; \
         [ \"$(at \"$ORIGIN\" gate)\" = \"$(at \"file://$UPSTREAM\" direct)\" ]; \
         [ $(git -C gate rev-parse --is-shallow-repository) = false ] || git -C gate fetch -q --unshallow; \
         git -C gate rev-list --all | sort >one; \
         git -C \"$UPSTREAM\" rev-list refs/heads/$branch | sort >other; comm -13 one other | cmp - /dev/null; \
         git clone -q --filter=blob:none -b $branch \"$ORIGIN\" partial; \
         [ $(git -C partial rev-parse HEAD) = $(git -C \"$UPSTREAM\" rev-parse refs/heads/$branch) ]; \
         git -C partial checkout -q $(git -C partial rev-list HEAD | sed -n '1p;6p' | tail -n 1); \
         git -C partial status --porcelain | cmp - /dev/null",
        branch = random.pick(&branches),
        depth = 1 + random.below(5),
    );
    world.ok(world.dir.path(), &script);
}

/// Nothing can be had from a mirror whose upstream is away, though it has moved on meanwhile.
fn while_it_is_down(world: &World, guest: &Path, watcher: &Path) {
    for (dir, command) in [
        (guest, "git fetch -q origin"),
        (guest, "git commit -q --allow-empty -m x; git push -q origin HEAD:refs/heads/bottle/while-down"),
        (watcher, "git ls-remote \"$ORIGIN\""),
        (world.dir.path(), "git clone -q \"$ORIGIN\" while-down"),
        (world.dir.path(), "git clone -q --depth 1 \"$ORIGIN\" while-down"),
    ] {
        let output = world.sh(dir, command, &[]);
        assert!(!output.status.success(), "{command}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{command}: {}", said(&output));
        assert!(said(&output).contains("upstream of origin can't be fetched"), "{command}: {}", said(&output));
    }
}

/// Upstream is killed at a random moment of a fetch: the fetch gets everything, or it fails.
fn killed_during_a_fetch(world: &mut World, host: &mut Host, watcher: &Path, random: &mut Random) {
    let pause = std::time::Duration::from_millis(random.below(400));
    let origin = world.guest_url("origin");
    let watcher_dir = watcher.to_owned();
    let fetching = thread::spawn(move || {
        std::process::Command::new("git")
            .args(["fetch", "-q", "--prune", "--force", "--no-tags", &origin, "+refs/*:refs/*"])
            .current_dir(watcher_dir)
            .output()
            .expect("git")
    });
    thread::sleep(pause);
    host.down(world);
    let output = fetching.join().expect("a fetch");
    if output.status.success() {
        let here = world.ok(watcher, "git for-each-ref --format='%(refname) %(objectname)'");
        assert_eq!(here, world.upstream_refs(), "a fetch whose upstream was killed");
    }
    host.up(world);
}

fn history(mut world: World, mut host: Host) {
    let mut random = Random::new();
    world.ok(&world.upstream("origin"), "git branch bottle/theirs main");
    let guests = [world.clone_origin(), world.clone_origin()];
    let watcher = world.path("watcher");
    world.ok(world.dir.path(), "git init -q --bare watcher");
    for batch in 0..BATCHES {
        match batch {
            3 => {
                host.down(&mut world);
                upstream_works(&world, &mut random);
                while_it_is_down(&world, &guests[0], &watcher);
                host.up(&mut world);
            }
            5 | 6 => {
                upstream_works(&world, &mut random);
                killed_during_a_fetch(&mut world, &mut host, &watcher, &mut random);
            }
            _ => upstream_works(&world, &mut random),
        }
        compare(&world, &watcher, &guests[0], u64::from(batch % 3));
        if batch % 2 == 0 {
            guests_work(&world, &guests, batch, &mut random);
            compare(&world, &watcher, &guests[1], 2);
        }
        if batch % 4 == 2 {
            compare_clones(&world, &mut random);
        }
    }
    world.ok(&watcher, "git fsck --connectivity-only --no-dangling");
    world.ok(&world.path("state/git/origin.git"), "git fsck --connectivity-only --no-dangling");
}

#[test]
fn over_ssh() {
    let rules = PUSH.lines().filter(|line| !line.contains("protect_paths")).flat_map(|line| [line, "\n"]);
    let rules: String = rules.collect();
    history(World::with(|_| {}, |policy| policy.replace(PUSH, &rules)), Host::Ssh);
}

#[test]
fn over_https() {
    let (world, server, _) = https_world("origin.git", "tls.pem");
    history(world, Host::Https(server));
}
