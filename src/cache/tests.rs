//! Tries to poison the cache: archives of `poison.toml`, and a store that somebody has changed.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tar::EntryType;
use tempfile::TempDir;

use super::archive::{check, pieces, rewrite};
use super::store::{CacheEntry, NewEntry, Pruned, Store};

const MAX_BYTES: u64 = 1 << 20;
const DAY: u64 = 24 * 3600;

#[derive(Deserialize)]
struct Tries {
    r#try: Vec<Try>,
}

#[derive(Deserialize)]
struct Try {
    name: String,
    entries: Vec<Vec<toml::Value>>,
    refused: Option<String>,
    #[serde(default)]
    kept: u64,
    #[serde(default)]
    left_out: u64,
}

fn directories() -> Vec<String> {
    vec!["/home/node/.npm".to_owned()]
}

/// One entry, written byte by byte: a library would refuse to.
fn entry(words: &[toml::Value]) -> Vec<u8> {
    let word = |at: usize| words.get(at).and_then(toml::Value::as_str).unwrap_or_default();
    let number = |at: usize| words.get(at).and_then(toml::Value::as_integer);
    let kind = match word(0) {
        "dir" => EntryType::Directory,
        "file" => EntryType::Regular,
        "link" => EntryType::Symlink,
        "hard" => EntryType::Link,
        "char" => EntryType::Char,
        "block" => EntryType::Block,
        "fifo" => EntryType::Fifo,
        other => panic!("{other}"),
    };
    let mut header = tar::Header::new_gnu();
    let size = number(4).map_or(0, |size| u64::try_from(size).expect("a size"));
    header.set_size(size);
    header.set_mode(number(3).map_or(0o755, |mode| u32::try_from(mode).expect("a mode")));
    header.set_mtime(1);
    header.set_entry_type(kind);
    let old = header.as_old_mut();
    old.name[..word(1).len()].copy_from_slice(word(1).as_bytes());
    old.linkname[..word(2).len()].copy_from_slice(word(2).as_bytes());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(bytes.len() + usize::try_from(size.next_multiple_of(512)).expect("a size"), b'x');
    bytes
}

fn archive(entries: &[Vec<toml::Value>]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(|words| entry(words)).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[test]
fn nothing_is_kept_that_could_do_harm() {
    let tries: Tries = toml::from_str(include_str!("poison.toml")).expect("the tries");
    assert!(tries.r#try.len() >= 30);
    for one in tries.r#try {
        let raw = archive(&one.entries);
        let mut kept = vec![];
        let result = rewrite(&raw[..], &mut kept, &directories(), MAX_BYTES);
        let strict = check(&raw[..], &directories(), MAX_BYTES);
        match &one.refused {
            Some(why) => {
                // The same when it is written and when it comes out of a store.
                for result in [result, strict] {
                    let error = result.expect_err(&one.name).to_string();
                    assert!(error.contains(why.as_str()), "{}: {error}", one.name);
                }
            }
            None => {
                let summary = result.unwrap_or_else(|error| panic!("{}: {error}", one.name));
                assert_eq!((summary.files, summary.left_out), (one.kept, one.left_out), "{}", one.name);
                assert_eq!(strict.is_err(), one.left_out > 0, "{}: what is left out is never in a store", one.name);
                let again = check(&kept[..], &directories(), MAX_BYTES).expect("what was written is good");
                assert_eq!((again.files, again.left_out), (one.kept, 0), "{}", one.name);
            }
        }
    }
}

#[test]
fn a_bomb_of_files_is_refused() {
    let mut raw = entry(&words(&["dir", "home/node/.npm"]));
    for number in 0..5_000_u32 {
        raw.extend(entry(&words(&["file", &format!("home/node/.npm/{number}")])));
    }
    let error = rewrite(&raw[..], std::io::sink(), &directories(), MAX_BYTES).expect_err("too many");
    assert_eq!(error.to_string(), "it has more than 5000 files");
}

fn words(words: &[&str]) -> Vec<toml::Value> {
    words.iter().map(|word| toml::Value::String((*word).to_owned())).collect()
}

/// What the guest gets is the same again, the owner's, in pieces of whole files.
#[test]
fn a_guest_gets_all_of_an_archive_in_pieces() {
    let directories = directories();
    let mut raw = entry(&words(&["dir", "home/node/.npm"]));
    for number in 0..40 {
        let mut words = words(&["file", &format!("home/node/.npm/{number}"), ""]);
        words.extend([toml::Value::Integer(0o444), toml::Value::Integer(1 << 20)]);
        raw.extend(entry(&words));
    }
    raw.resize(raw.len() + 1024, 0);
    let mut given = vec![];
    let give = |piece| {
        given.push(piece);
        Ok(())
    };
    pieces(&raw[..], &directories, 64 << 20, 1000, give).expect("pieces");
    assert_eq!(given.len(), 2);
    let mut seen = 0;
    for piece in &given {
        for entry in tar::Archive::new(&piece[..]).entries().expect("entries") {
            let mut entry = entry.expect("an entry");
            assert_eq!(entry.header().uid().expect("a user"), 1000);
            let mut content = vec![];
            entry.read_to_end(&mut content).expect("its content");
            assert!(content.iter().all(|byte| *byte == b'x'));
            seen += 1;
        }
    }
    assert_eq!(seen, 41);
}

/// A store with one entry.
struct World {
    _dir: TempDir,
    store: Store,
    root: PathBuf,
}

fn asked(key: &str) -> NewEntry {
    NewEntry {
        key: key.repeat(64 / key.len()),
        repository: "https://git.example.org/team/app.git".to_owned(),
        directories: directories(),
        max_bytes: MAX_BYTES,
    }
}

/// An archive as a guest gives it, with this in it.
fn raw(content: &str) -> File {
    let mut builder = tar::Builder::new(vec![]);
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    builder.append_data(&mut header, "home/node/.npm/", &[][..]).expect("a directory");
    header.set_entry_type(EntryType::Regular);
    header.set_size(content.len() as u64);
    builder.append_data(&mut header, "home/node/.npm/a", content.as_bytes()).expect("a file");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&builder.into_inner().expect("an archive")).expect("written");
    file
}

fn content(found: CacheEntry) -> String {
    let CacheEntry::Kept(mut kept) = found else { panic!("{found:?}") };
    assert_eq!(kept.archive.stream_position().expect("a position"), 0);
    let mut text = String::new();
    kept.archive.read_to_string(&mut text).expect("an archive of texts");
    text
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().join("setups");
        let store = Store::open(&root).expect("a store");
        let world = Self { _dir: dir, store, root };
        world.store.keep(&mut raw("made by the setup"), &asked("a")).expect("kept");
        world
    }

    fn index(&self) -> PathBuf {
        self.root.join("entries").join(format!("{}.json", asked("a").key))
    }

    fn archive(&self) -> PathBuf {
        self.files("archives").pop().expect("an archive")
    }

    fn files(&self, part: &str) -> Vec<PathBuf> {
        fs::read_dir(self.root.join(part)).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
    }

    /// The index with one word changed.
    fn edit(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.index()).expect("an index");
        assert!(text.contains(from), "{text}");
        fs::write(self.index(), text.replace(from, to)).expect("written");
    }
}

#[test]
fn what_was_kept_is_found_by_its_key_alone() {
    let world = World::new();
    assert!(content(world.store.find(&asked("a"))).contains("made by the setup"));
    assert!(matches!(world.store.find(&asked("b")), CacheEntry::Nothing));
    for path in [world.root.clone(), world.index(), world.archive()] {
        let mode = fs::metadata(&path).expect("it is there").mode();
        assert_eq!(mode & 0o077, 0, "{} is open to others", path.display());
    }
}

/// Each change of the store is found before anything of it is used; the entry goes, and the next setup makes it anew.
#[test]
fn a_store_that_was_changed_is_no_store() {
    type Change = fn(&World);
    let tries: [(&str, Change, &str); 13] = [
        ("a byte of the archive", |w| flip(&w.archive(), 600), "its archive has another hash than its name"),
        ("a byte at its end", |w| flip(&w.archive(), -1), "its archive has another hash than its name"),
        ("a truncated archive", |w| truncate(&w.archive(), 700), "its archive has 700 bytes"),
        ("an empty archive", |w| truncate(&w.archive(), 0), "its archive has 0 bytes"),
        ("an archive with more behind it", |w| append(&w.archive(), &[0; 512]), "its archive has"),
        ("no archive", |w| fs::remove_file(w.archive()).expect("removed"), "its archive is gone"),
        ("a link in place of the archive", link_archive, "its archive can't be opened"),
        ("a directory in place of the archive", dir_for_archive, "its archive can't be opened"),
        (
            "an index that names another path",
            |w| w.edit("\"sha256\": \"", "\"sha256\": \"../../"),
            "its index names no archive",
        ),
        ("an index that names another archive", other_archive, "its archive has"),
        ("an index of another key", |w| w.edit(&asked("a").key, &asked("b").key), "its index is another entry's"),
        ("an index of another repository", |w| w.edit("team/app", "evil/app"), "it is another repository's"),
        ("an index that is none", |w| truncate(&w.index(), 20), "its index is none"),
    ];
    for (name, change, why) in tries {
        let world = World::new();
        change(&world);
        match world.store.find(&asked("a")) {
            CacheEntry::Bad(said) => assert!(said.contains(why), "{name}: {said}"),
            found => panic!("{name}: {found:?}"),
        }
        assert!(matches!(world.store.find(&asked("a")), CacheEntry::Nothing), "{name}: the entry is still there");
        let _ = fs::remove_dir(world.root.join("archives").join("x"));
        if name != "a directory in place of the archive" {
            world.store.keep(&mut raw("made anew"), &asked("a")).expect("kept");
            assert!(content(world.store.find(&asked("a"))).contains("made anew"), "{name}");
        }
    }
}

fn flip(path: &Path, at: isize) {
    let mut bytes = fs::read(path).expect("an archive");
    let at = if at < 0 { bytes.len() - at.unsigned_abs() } else { at.unsigned_abs() };
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("written");
}

fn truncate(path: &Path, length: u64) {
    File::options().write(true).open(path).and_then(|file| file.set_len(length)).expect("cut");
}

fn append(path: &Path, bytes: &[u8]) {
    File::options().append(true).open(path).expect("a file").write_all(bytes).expect("written");
}

fn link_archive(world: &World) {
    let (archive, elsewhere) = (world.archive(), world.root.join("elsewhere"));
    fs::rename(&archive, &elsewhere).expect("moved");
    symlink(elsewhere, archive).expect("a link");
}

fn dir_for_archive(world: &World) {
    let archive = world.archive();
    fs::remove_file(&archive).expect("removed");
    fs::create_dir(archive).expect("a directory");
}

/// Another archive, well-formed and of this store, under the index of the first; its size is another's.
fn other_archive(world: &World) {
    let first = world.archive();
    world.store.keep(&mut raw(&"of another key".repeat(100)), &asked("c")).expect("kept");
    let other = world.files("archives").into_iter().find(|path| *path != first).expect("another");
    let name = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    world.edit(&name(&first), &name(&other));
}

/// An archive by somebody who writes index and hash with it is still judged entry by entry.
#[test]
fn an_archive_with_a_right_hash_is_judged_all_the_same() {
    use sha2::Digest as _;
    let world = World::new();
    let evil =
        archive(&[words(&["dir", "home/node/.npm"]), words(&["link", "home/node/.npm/l", "/home/node/.claude"])]);
    let hash = hex::encode(sha2::Sha256::digest(&evil));
    fs::write(world.root.join("archives").join(format!("{hash}.tar")), &evil).expect("written");
    let old = world.archive();
    let text = format!(
        "{{\"version\":1,\"key\":\"{}\",\"repository\":\"{}\",\"sha256\":\"{hash}\",\"size\":{},\"files\":2,\"made\":\"\"}}",
        asked("a").key,
        asked("a").repository,
        evil.len()
    );
    fs::write(world.index(), text).expect("written");
    let CacheEntry::Bad(why) = world.store.find(&asked("a")) else { panic!("it is taken") };
    assert!(why.contains("is a link that leads out of its directory"), "{why}");
    drop(old);
}

#[test]
fn a_directory_that_others_can_change_is_not_used() {
    let dir = tempfile::tempdir().expect("a directory");
    for (mode, others) in [(0o777, true), (0o750, true), (0o705, true), (0o700, false)] {
        let path = dir.path().join("store");
        fs::create_dir_all(&path).expect("a directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        let opened = Store::open(&path);
        assert_eq!(opened.is_err_and(|why| why.contains("is open to others: `chmod 700")), others, "{mode:o}");
    }
    fs::write(dir.path().join("file"), "").expect("a file");
    assert!(Store::open(&dir.path().join("file")).is_err_and(|why| why.contains("can't be used")));
    let linked = dir.path().join("linked");
    fs::create_dir(&linked).expect("a directory");
    fs::set_permissions(&linked, fs::Permissions::from_mode(0o700)).expect("a mode");
    symlink(dir.path().join("store"), linked.join("archives")).expect("a link");
    assert!(Store::open(&linked).is_err_and(|why| why.contains("is no directory")));
}

/// A writer that is killed leaves one of these; the entry is there whole or not at all.
#[test]
fn a_writer_that_was_killed_leaves_no_half_entry() {
    let world = World::new();
    let whole = world.archive();
    fs::remove_file(world.index()).expect("removed");
    assert!(matches!(world.store.find(&asked("a")), CacheEntry::Nothing), "an archive alone is no entry");
    fs::write(world.root.join("entries/.partial-x"), "{").expect("written");
    fs::write(world.root.join("archives/.partial-y"), "half").expect("written");
    let all = || (world.files("archives").len(), world.files("entries").len());
    world.store.prune(Duration::from_secs(DAY), u64::MAX, false).expect("pruned");
    assert_eq!(all(), (2, 1), "another writer may be at it");
    for file in [world.files("archives"), world.files("entries")].concat() {
        age(&file, 2 * DAY);
    }
    let pruned = world.store.prune(Duration::from_secs(DAY), u64::MAX, false).expect("pruned");
    assert_eq!((pruned.len(), all()), (3, (0, 0)), "{}", whole.display());
}

fn age(path: &Path, seconds: u64) {
    let then = SystemTime::now() - Duration::from_secs(seconds);
    File::open(path).and_then(|file| file.set_modified(then)).expect("a time");
}

#[test]
fn two_writers_and_readers_at_once_see_whole_entries_alone() {
    let world = World::new();
    let texts = ["made by the setup".to_owned(), "one ".repeat(2000), "two ".repeat(3000)];
    std::thread::scope(|scope| {
        for text in &texts[1..] {
            let store = world.store.clone();
            scope.spawn(move || {
                for _ in 0..30 {
                    store.keep(&mut raw(text), &asked("a")).expect("kept");
                }
            });
        }
        for _ in 0..2 {
            let (store, texts) = (world.store.clone(), &texts);
            scope.spawn(move || {
                for _ in 0..60 {
                    let found = content(store.find(&asked("a")));
                    assert!(texts.iter().any(|text| found.contains(text.as_str())), "half an entry");
                }
            });
        }
    });
    assert!(!world.files("archives").iter().any(|path| path.to_string_lossy().contains("partial")));
}

#[test]
fn old_entries_go_and_those_that_a_run_holds_stay() {
    let world = World::new();
    for (key, text, days) in [("b", "b", 1), ("c", "c", 40), ("d", "d", 50)] {
        world.store.keep(&mut raw(text), &asked(key)).expect("kept");
        age(&world.root.join("entries").join(format!("{}.json", asked(key).key)), days * DAY);
    }
    let month = Duration::from_secs(30 * DAY);
    let would = world.store.prune(month, u64::MAX, true).expect("a list");
    assert_eq!((would.len(), world.files("entries").len()), (2, 4), "a dry run removes nothing");
    let CacheEntry::Kept(held) = world.store.find(&asked("d")) else { panic!("it is there") };
    // Used just now; as old as before for what follows.
    age(&world.root.join("entries").join(format!("{}.json", asked("d").key)), 50 * DAY);
    let pruned = world.store.prune(month, u64::MAX, false).expect("pruned");
    let why = "not used for 40 days".to_owned();
    let removed = pruned
        .iter()
        .any(|one| matches!(one, Pruned::Removed { key, why: said, .. } if *key == asked("c").key && *said == why));
    assert!(removed && pruned.contains(&Pruned::InUse { key: asked("d").key }), "{pruned:?}");
    drop(held);
    let size = fs::metadata(world.archive()).expect("an archive").len();
    world.store.prune(month, size, false).expect("pruned");
    assert!(matches!(world.store.find(&asked("a")), CacheEntry::Kept(_)), "the one used last stays");
    assert!(
        matches!(world.store.find(&asked("b")), CacheEntry::Nothing)
            && matches!(world.store.find(&asked("d")), CacheEntry::Nothing)
    );
    world.store.prune(Duration::ZERO, 0, false).expect("pruned");
    assert!(world.files("entries").is_empty() && world.files("archives").is_empty());
}

/// Two keys with the same content share an archive; it goes with the last of them.
#[test]
fn an_archive_stays_as_long_as_an_entry_names_it() {
    let world = World::new();
    world.store.keep(&mut raw("made by the setup"), &asked("b")).expect("kept");
    assert_eq!(world.files("archives").len(), 1);
    age(&world.root.join("entries").join(format!("{}.json", asked("b").key)), 40 * DAY);
    world.store.prune(Duration::from_secs(30 * DAY), u64::MAX, false).expect("pruned");
    assert!(
        matches!(world.store.find(&asked("a")), CacheEntry::Kept(_))
            && matches!(world.store.find(&asked("b")), CacheEntry::Nothing)
    );
}

/// A disk that is full, or a limit that a process has: nothing is half there.
#[test]
fn a_store_that_can_not_be_written_keeps_nothing() {
    let world = World::new();
    fs::remove_dir_all(world.root.join("archives")).expect("removed");
    fs::write(world.root.join("archives"), "").expect("a file");
    assert!(world.store.spool().is_err());
    let why = world.store.keep(&mut raw("x"), &asked("b")).expect_err("no place");
    assert!(why.contains("failed to write to"), "{why}");
    assert!(matches!(world.store.find(&asked("b")), CacheEntry::Nothing));
}
