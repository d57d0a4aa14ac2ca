//! What the gate's mirrors had of their upstreams: for each upstream a bare repository without a configuration, whose objects later
//! runs on this machine read in place of fetching them.
//!
//! A run's mirror asks upstream for its refs in any case; the refs here only tell what is here. A generation grows by what each run
//! has fetched on top, and a new one begins where that has become many files. Who uses one holds its lock.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bottle_types::git::{ObjectId, RefName};
use rustix::fs::{FlockOperation, OFlags, flock};
use sha2::{Digest as _, Sha256};

use super::store::{Pruned, own_directory};
use crate::host;
use crate::process::Program;

/// All mirrors together; those not used for longest are removed first.
pub(crate) const MAX_MIRRORS_BYTES: u64 = 10 << 30;
/// git looks into each pack for each object.
const MAX_PACKS: usize = 20;
/// Small fetches leave a file for each object.
const MAX_LOOSE: usize = 4000;
/// A large repository takes a minute; without it a later run is slower, no more.
const HASH_TIMEOUT: Duration = Duration::from_secs(600);
/// With it, a generation is whole.
const REFS: &str = "packed-refs";
const LOCK: &str = "lock";
const PARTIAL: &str = ".partial-";

/// A directory of this user's alone.
#[derive(Debug, Clone)]
pub(crate) struct MirrorStore {
    dir: PathBuf,
}

/// A generation that nothing removes while this is alive.
#[derive(Debug)]
pub(crate) struct KeptMirror {
    dir: PathBuf,
    _lock: File,
}

impl KeptMirror {
    /// The bare repository.
    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }

    /// Makes another name for it, of hard links: for users who can't get into the store.
    pub(crate) fn link(&self, to: &Path) -> io::Result<()> {
        let mut directories = vec![PathBuf::new()];
        while let Some(below) = directories.pop() {
            fs::create_dir(to.join(&below))?;
            fs::set_permissions(to.join(&below), Permissions::from_mode(0o755))?;
            for entry in fs::read_dir(self.dir.join(&below))? {
                let entry = entry?;
                let name = below.join(entry.file_name());
                let (kind, is_partial) = (entry.file_type()?, entry.file_name().to_string_lossy().starts_with(PARTIAL));
                if kind.is_dir() {
                    directories.push(name);
                } else if kind.is_file() && !is_partial && name != Path::new(LOCK) {
                    fs::hard_link(entry.path(), to.join(&name))?;
                }
            }
        }
        Ok(())
    }
}

impl MirrorStore {
    /// The directory, made where it is not there. Others' and one that others can read or change is not taken.
    pub(crate) fn open(dir: &Path) -> Result<Self, String> {
        own_directory(dir)?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// What there is of an upstream; nothing where it has become many files, so that this run fetches all of it for the next ones.
    pub(crate) fn find(&self, url: &str) -> Result<Option<KeptMirror>, String> {
        let Some((_, dir)) = self.generations(url)?.into_iter().next_back() else { return Ok(None) };
        let read = |error: io::Error| format!("{} can't be read: {error}", dir.display());
        let Some(lock) = lock(&dir, FlockOperation::NonBlockingLockShared) else { return Ok(None) };
        // Once it is locked nobody removes it any more.
        if !dir.join(REFS).is_file() {
            return Ok(None);
        }
        let (packs, loose) = count(&dir.join("objects")).map_err(read)?;
        if packs > MAX_PACKS || loose > MAX_LOOSE {
            return Ok(None);
        }
        // When it was used last; one whose time can't be set is removed sooner.
        let _ = lock.set_modified(super::store::now());
        Ok(Some(KeptMirror { dir, _lock: lock }))
    }

    /// Keeps what a mirror has beyond what it began with; gives how many bytes that is. What nobody else can change may be linked.
    pub(crate) fn keep(
        &self,
        url: &str,
        mirror: &Path,
        how: Copying,
        began_with: Option<&KeptMirror>,
    ) -> Result<u64, String> {
        let dir = match began_with {
            Some(kept) => kept.dir.clone(),
            None => {
                let number = self.generations(url)?.last().map_or(1, |(number, _)| number + 1);
                self.dir.join(format!("{}-{number}", key(url)))
            }
        };
        let failed = |error: io::Error| format!("failed to write to {}: {error}", dir.display());
        for part in ["objects/pack", "objects/info", "refs"] {
            fs::create_dir_all(dir.join(part)).map_err(failed)?;
        }
        // The sandboxes' users are others; whoever can't get into the directory above can't read it.
        for part in ["", "objects", "objects/pack", "objects/info", "refs"] {
            fs::set_permissions(dir.join(part), Permissions::from_mode(0o755)).map_err(failed)?;
        }
        let locked =
            lock(&dir, FlockOperation::LockShared).ok_or_else(|| format!("{} can't be locked", dir.display()))?;
        let bytes = copy_objects(&mirror.join("objects"), &dir.join("objects"), how)?;
        let refs = packed_refs(&refs(mirror)?);
        write(&dir, "HEAD", b"ref: refs/heads/main\n").map_err(failed)?;
        // Last: its ids say that their objects are here.
        write(&dir, REFS, refs.as_bytes()).map_err(failed)?;
        drop(locked);
        Ok(bytes)
    }

    /// Removes a generation that did not help; the next run makes another.
    pub(crate) fn forget(kept: KeptMirror) -> io::Result<()> {
        // Without its refs it is none. Runs that read its objects still find them.
        fs::remove_file(kept.dir.join(REFS))
    }

    /// Removes what was not used for so long, what is too much for all together, what is no longer whole or has a newer generation; never
    /// what a run holds.
    pub(crate) fn prune(&self, max_age: Duration, max_bytes: u64, dry_run: bool) -> Result<Vec<Pruned>, String> {
        let failed = |error: io::Error| format!("failed to read {}: {error}", self.dir.display());
        let mut found = vec![];
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let dir = entry.map_err(failed)?.path();
            let Some((key, number)) = generation(&dir) else { continue };
            let used = fs::metadata(dir.join(LOCK)).map_or(0, |lock| u64::try_from(lock.mtime()).unwrap_or_default());
            found.push((used, key, number, dir));
        }
        found.sort_by(|one, other| other.cmp(one));
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        for (_, key, number, _) in &found {
            let of_key = newest.entry(key.clone()).or_default();
            *of_key = (*of_key).max(*number);
        }
        let (now, mut total, mut pruned) = (host::unix_seconds(), 0_u64, vec![]);
        for (used, key, number, dir) in found {
            let size = size(&dir).map_err(failed)?;
            let age = Duration::from_secs(now.saturating_sub(used));
            let why = match () {
                () if newest.get(&key) != Some(&number) => "a newer one is there".to_owned(),
                () if age > max_age => format!("not used for {} days", age.as_secs() / (24 * 3600)),
                // What is being made has no refs yet, and its lock is held.
                () if !dir.join(REFS).is_file() => "it is not whole".to_owned(),
                () if total.saturating_add(size) > max_bytes => "too much with all that was used later".to_owned(),
                () => {
                    total = total.saturating_add(size);
                    continue;
                }
            };
            let key = format!("mirror-{}", &key[..5]);
            let Some(_locked) = lock(&dir, FlockOperation::NonBlockingLockExclusive) else {
                pruned.push(Pruned::InUse { key });
                continue;
            };
            if !dry_run {
                fs::remove_dir_all(&dir).map_err(failed)?;
            }
            pruned.push(Pruned::Removed { key, size, why });
        }
        Ok(pruned)
    }

    /// Those of an upstream, the newest last.
    fn generations(&self, url: &str) -> Result<Vec<(u64, PathBuf)>, String> {
        let failed = |error: io::Error| format!("failed to read {}: {error}", self.dir.display());
        let key = key(url);
        let mut found = vec![];
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let dir = entry.map_err(failed)?.path();
            found.extend(generation(&dir).filter(|(of, _)| *of == key).map(|(_, number)| (number, dir)));
        }
        found.sort();
        Ok(found)
    }
}

/// How a file gets a second place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Copying {
    /// By its bytes: what happens to the first is nothing to the second.
    Bytes,
    /// By a hard link, where the file system allows one.
    Link,
}

/// Gives a mirror's objects and refs, and nothing else, to a new bare repository at `to`, whose configuration is our own. Whoever can
/// change the mirror can change those objects as well: they are only there to be hashed.
pub(crate) async fn copy_mirror(mirror: &Path, to: &Path) -> Result<(), String> {
    let refs = refs(mirror)?;
    let format = refs.values().next().map(ObjectId::object_format).ok_or("it has no refs")?;
    init(to, format).await?;
    let (from, objects) = (mirror.join("objects"), to.join("objects"));
    tokio::task::spawn_blocking(move || copy_objects(&from, &objects, Copying::Link))
        .await
        .map_err(|error| error.to_string())??;
    write(to, REFS, packed_refs(&refs).as_bytes()).map_err(|error| format!("{}: {error}", to.display()))
}

/// Fetches a copy of a mirror into a new bare repository at `to`. git hashes each object on the way, so each has its true name there, and
/// looks whether all that the refs reach is there.
pub(crate) async fn hash_mirror(copy: &Path, to: &Path) -> Result<(), String> {
    let format = refs(copy)?.values().next().map(ObjectId::object_format).ok_or("it has no refs")?;
    init(to, format).await?;
    let settings = ["-c", "fetch.unpackLimit=1", "--git-dir", text(to)?];
    let fetch = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc", "--end-of-options"];
    git(to, &[&settings[..], &fetch, &[text(copy)?, "+refs/*:refs/*"]].concat()).await
}

async fn init(dir: &Path, format: &str) -> Result<(), String> {
    fs::create_dir(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    let format = format!("--object-format={format}");
    git(dir, &["init", "--quiet", "--bare", "--template=", &format, text(dir)?]).await
}

async fn git(dir: &Path, args: &[&str]) -> Result<(), String> {
    let ended =
        Program::git(dir, args).low_priority().limit(HASH_TIMEOUT).run().await.map_err(|error| error.to_string())?;
    if ended.code == 0 { Ok(()) } else { Err(format!("git failed with a copy of it: {}", ended.complaint())) }
}

fn text(path: &Path) -> Result<&str, String> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8", path.display()))
}

/// An upstream's name here; its address may be nobody else's business.
fn key(url: &str) -> String {
    hex::encode(Sha256::digest(url))
}

/// The upstream and the number in a directory's name.
fn generation(dir: &Path) -> Option<(String, u64)> {
    let (key, number) = dir.file_name()?.to_str()?.split_once('-')?;
    (key.len() == 64 && is_hex(key)).then_some((key.to_owned(), number.parse().ok()?))
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn lock(dir: &Path, how: FlockOperation) -> Option<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::CLOEXEC).bits().cast_signed();
    let mut options = OpenOptions::new();
    let file =
        options.write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(dir.join(LOCK)).ok()?;
    flock(&file, how).ok().map(|()| file)
}

/// Packs and objects that have a file of their own.
fn count(objects: &Path) -> io::Result<(usize, usize)> {
    let (mut packs, mut loose) = (0, 0);
    for entry in fs::read_dir(objects)? {
        let entry = entry?;
        match entry.file_name().to_str() {
            Some("pack") => {
                for file in fs::read_dir(entry.path())? {
                    packs += usize::from(file?.path().extension().is_some_and(|ending| ending == "pack"));
                }
            }
            Some(name) if name.len() == 2 => loose += fs::read_dir(entry.path())?.count(),
            _ => {}
        }
    }
    Ok((packs, loose))
}

fn size(dir: &Path) -> io::Result<u64> {
    let mut total = 0_u64;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let about = entry.metadata()?;
        total = total.saturating_add(if about.is_dir() { size(&entry.path())? } else { about.len() });
    }
    Ok(total)
}

/// Copies what is not there yet; a pack before its index, by which git takes it for whole.
fn copy_objects(from: &Path, to: &Path, how: Copying) -> Result<u64, String> {
    let failed = |error: io::Error| format!("failed to copy {}: {error}", from.display());
    let mut bytes = 0_u64;
    for entry in fs::read_dir(from).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let is_pack = name == "pack";
        let is_loose = name.len() == 2 && is_hex(&name);
        if !(is_pack || is_loose) {
            continue;
        }
        let target = to.join(&name);
        fs::create_dir_all(&target).map_err(failed)?;
        fs::set_permissions(&target, Permissions::from_mode(0o755)).map_err(failed)?;
        let mut files = vec![];
        for file in fs::read_dir(entry.path()).map_err(failed)? {
            let Ok(name) = file.map_err(failed)?.file_name().into_string() else { continue };
            let rank = match name.strip_prefix("pack-").and_then(|rest| rest.split_once('.')) {
                Some((id, "pack")) if is_pack && is_hex(id) => 0,
                Some((id, "idx")) if is_pack && is_hex(id) => 1,
                None if !is_pack && is_hex(&name) => 0,
                _ => continue,
            };
            files.push((rank, name));
        }
        files.sort();
        for (_, name) in files {
            bytes = bytes.saturating_add(copy(&entry.path().join(&name), &target, &name, how).map_err(failed)?);
        }
    }
    Ok(bytes)
}

/// Copies a plain file, following no link, if it is not there; it appears whole.
fn copy(from: &Path, into: &Path, name: &str, how: Copying) -> io::Result<u64> {
    let target = into.join(name);
    if target.exists() {
        return Ok(0);
    }
    if how == Copying::Link && fs::hard_link(from, &target).is_ok() {
        let about = fs::symlink_metadata(&target)?;
        if about.is_file() {
            return Ok(about.len());
        }
        // What it was a link to is not looked at.
        fs::remove_file(&target)?;
        return Err(io::Error::other(format!("{name} is no file")));
    }
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let mut source = OpenOptions::new().read(true).custom_flags(flags).open(from)?;
    if !source.metadata()?.is_file() {
        return Err(io::Error::other(format!("{name} is no file")));
    }
    let mut new = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(into)?;
    let bytes = io::copy(&mut source, new.as_file_mut())?;
    new.as_file().set_permissions(Permissions::from_mode(0o444))?;
    new.as_file().sync_all()?;
    new.persist(target).map_err(|error| error.error)?;
    Ok(bytes)
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut new = tempfile::Builder::new().prefix(PARTIAL).tempfile_in(dir)?;
    io::Write::write_all(&mut new, bytes)?;
    new.as_file().set_permissions(Permissions::from_mode(0o644))?;
    new.as_file().sync_all()?;
    new.persist(dir.join(name)).map(drop).map_err(|error| error.error)
}

/// A mirror's refs as its files have them (gitrepository-layout(5)): a file each, before which nothing counts that is packed.
fn refs(mirror: &Path) -> Result<BTreeMap<RefName, ObjectId>, String> {
    let mut refs = BTreeMap::new();
    let packed = match fs::read_to_string(mirror.join(REFS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.map_err(|error| format!("{REFS} can't be read: {error}"))?,
    };
    for line in packed.lines().filter(|line| !line.starts_with(['#', '^'])) {
        let parsed =
            line.split_once(' ').and_then(|(id, name)| Some((RefName::parse(name).ok()?, ObjectId::parse(id).ok()?)));
        refs.extend(parsed);
    }
    let mut directories = vec![("refs".to_owned(), mirror.join("refs"))];
    while let Some((name, dir)) = directories.pop() {
        for entry in fs::read_dir(&dir).map_err(|error| format!("{} can't be read: {error}", dir.display()))? {
            let entry = entry.map_err(|error| error.to_string())?;
            let Ok(last) = entry.file_name().into_string() else { continue };
            let (name, kind) = (format!("{name}/{last}"), entry.file_type().map_err(|error| error.to_string())?);
            if kind.is_dir() {
                directories.push((name, entry.path()));
            } else if kind.is_file() {
                let id = fs::read_to_string(entry.path()).map_err(|error| format!("{name} can't be read: {error}"))?;
                // A lock, or a ref of a name that is none.
                let parsed = RefName::parse(&name).ok().zip(ObjectId::parse(id.trim_end()).ok());
                refs.extend(parsed);
            }
        }
    }
    Ok(refs)
}

fn packed_refs(refs: &BTreeMap<RefName, ObjectId>) -> String {
    refs.iter().map(|(name, id)| format!("{id} {name}\n")).collect()
}

#[cfg(test)]
mod tests {
    use bottle_testkit::git_script as git;

    use super::*;

    /// An upstream with a commit, its mirror, and a store.
    fn world() -> (tempfile::TempDir, MirrorStore) {
        let dir = tempfile::tempdir().expect("a directory");
        git(
            dir.path(),
            "git init -q -b main work; cd work; echo one > one; git add one; git commit -qm one; git tag -a -m t v1; cd ..
             git clone -q --mirror work mirror.git",
        );
        let store = MirrorStore::open(&dir.path().join("mirrors")).expect("a store");
        (dir, store)
    }

    const URL: &str = "ssh://git@git.bottle.test/app.git";

    #[test]
    fn a_later_mirror_has_all_of_it_from_here_and_adds_what_is_new() {
        let (dir, store) = world();
        let mirror = dir.path().join("mirror.git");
        assert!(store.find(URL).expect("readable").is_none());
        assert!(store.keep(URL, &mirror, Copying::Bytes, None).expect("kept") > 0);
        assert!(store.find("ssh://git@git.bottle.test/other.git").expect("readable").is_none());
        let kept = store.find(URL).expect("readable").expect("kept");
        let bare = kept.path().display().to_string();
        let both = |path: &str| {
            git(dir.path(), &format!("git --git-dir={path} for-each-ref --format='%(refname) %(objectname)'"))
        };
        assert_eq!(both(&bare), both("mirror.git"));
        assert!(!kept.path().join("config").exists());
        let linked = dir.path().join("linked");
        kept.link(&linked).expect("linked");
        assert_eq!(both("linked"), both("mirror.git"));
        assert!(!linked.join(LOCK).exists());
        git(dir.path(), &format!("git --git-dir={bare} fsck --full --strict"));
        // A second run, on top of it: a pack and an object by itself.
        git(
            dir.path(),
            &format!(
                "git init -q --bare second.git; echo {bare}/objects > second.git/objects/info/alternates
                 cd work; for n in 1 2 3; do echo $n > $n; git add $n; git commit -qm $n; done; cd ..
                 git --git-dir=second.git -c fetch.unpackLimit=1 fetch -q ./work '+refs/*:refs/*'; cd work; git commit -q --allow-empty -m 4; cd ..
                 git --git-dir=second.git fetch -q ./work '+refs/*:refs/*'; test $(ls second.git/objects/pack/*.pack | wc -l) = 1"
            ),
        );
        assert!(store.keep(URL, &dir.path().join("second.git"), Copying::Bytes, Some(&kept)).expect("kept") > 0);
        assert_eq!(both(&bare), both("second.git"));
        git(dir.path(), &format!("git --git-dir={bare} fsck --full --strict"));
        // Nothing is new.
        assert_eq!(store.keep(URL, &dir.path().join("second.git"), Copying::Bytes, Some(&kept)).expect("kept"), 0);
        // One that did not help is none for the next run, and its objects stay for those that have it.
        let objects = kept.path().join("objects");
        MirrorStore::forget(kept).expect("forgotten");
        assert!(store.find(URL).expect("readable").is_none() && objects.is_dir());
        store.keep(URL, &mirror, Copying::Bytes, None).expect("kept");
        let next = store.find(URL).expect("readable").expect("kept");
        assert!(next.path().to_string_lossy().ends_with("-2"), "{next:?}");
    }

    #[test]
    fn what_is_no_object_is_not_kept_and_no_link_is_followed() {
        let (dir, store) = world();
        git(
            dir.path(),
            "cd mirror.git; echo x > objects/pack/tmp_pack_1; echo x > objects/pack/pack-zz.pack; mkdir objects/tmp_objdir-1; echo x > objects/tmp_objdir-1/x
             echo x > refs/heads/main.lock; ln -s /etc/passwd refs/heads/link; echo /elsewhere > objects/info/alternates",
        );
        let mirror = dir.path().join("mirror.git");
        store.keep(URL, &mirror, Copying::Bytes, None).expect("kept");
        let kept = store.find(URL).expect("readable").expect("kept");
        let bare = kept.path().display();
        let files = git(
            dir.path(),
            &format!(
                "cd {bare}; find . -type f | grep -v -e 'pack-[0-9a-f]*[.]' -e 'objects/[0-9a-f][0-9a-f]/' | sort | tr '\\n' ' '"
            ),
        );
        assert_eq!(files, "./HEAD ./lock ./packed-refs");
        assert_eq!(
            git(dir.path(), &format!("cut -d ' ' -f 2 {bare}/packed-refs | tr '\\n' ' '")),
            "refs/heads/main refs/tags/v1"
        );
        // An object's file that is a link to something of this machine.
        git(dir.path(), "cd mirror.git; mkdir -p objects/ab; ln -s /etc/passwd objects/ab/cdef");
        let why = store.keep(URL, &mirror, Copying::Bytes, Some(&kept)).expect_err("a link");
        assert!(why.contains("failed to copy"), "{why}");
        assert!(!kept.path().join("objects/ab/cdef").exists());
        for how in [Copying::Bytes, Copying::Link] {
            let to = dir.path().join(format!("{how:?}"));
            copy_objects(&mirror.join("objects"), &to, how).expect_err("a link");
            to.join("ab/cdef").symlink_metadata().expect_err("not taken");
        }
    }

    #[test]
    fn what_is_old_or_too_much_is_removed_and_what_a_run_holds_is_not() {
        let (dir, store) = world();
        let mirror = dir.path().join("mirror.git");
        let day = Duration::from_secs(24 * 3600);
        // A process that another test starts has this one's locks too, until it is another program.
        let prune = |max_bytes: u64, dry_run: bool, held: usize| {
            for _ in 0..1000 {
                let pruned = store.prune(day, max_bytes, dry_run).expect("pruned");
                if pruned.iter().filter(|one| matches!(one, Pruned::InUse { .. })).count() == held {
                    return pruned.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>().join("\n");
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("more than what the runs hold is in use");
        };
        for url in ["ssh://a.test/a", "ssh://a.test/b"] {
            store.keep(url, &mirror, Copying::Bytes, None).expect("kept");
        }
        let held = store.find("ssh://a.test/a").expect("readable").expect("kept");
        assert_eq!(prune(u64::MAX, false, 0), "");
        let said = prune(1, true, 1);
        assert!(said.contains("InUse") && said.contains("too much"), "{said}");
        prune(1, false, 1);
        assert!(store.find("ssh://a.test/b").expect("readable").is_none());
        drop(held);
        // Many packs: the next run fetches all of it, and what it keeps takes the place of this.
        let old = store.find("ssh://a.test/a").expect("readable").expect("kept");
        for number in 0..=MAX_PACKS {
            fs::write(old.path().join(format!("objects/pack/pack-{number:040}.pack")), "").expect("a file");
        }
        drop(old);
        assert!(store.find("ssh://a.test/a").expect("readable").is_none());
        store.keep("ssh://a.test/a", &mirror, Copying::Bytes, None).expect("kept");
        let said = prune(u64::MAX, false, 0);
        assert!(said.contains("a newer one is there"), "{said}");
        assert!(store.find("ssh://a.test/a").expect("readable").is_some());
        // A directory that is somebody else's, or open to others, is not taken.
        fs::set_permissions(dir.path().join("mirrors"), Permissions::from_mode(0o755)).expect("a mode");
        MirrorStore::open(&dir.path().join("mirrors")).expect_err("open to others");
    }

    /// A pack of one object, in whose index it has another's name (gitformat-pack(5): a fan-out table of 256 numbers behind eight bytes, then
    /// the names).
    fn misnamed(dir: &Path, content: &str, name: &str) {
        let pack = git(
            dir,
            &format!(
                "printf '{content}' | git --git-dir=mirror.git hash-object -w --stdin | git --git-dir=mirror.git pack-objects -q mirror.git/objects/pack/pack"
            ),
        );
        let path = dir.join(format!("mirror.git/objects/pack/pack-{pack}.idx"));
        let (mut index, name) = (fs::read(&path).expect("an index"), hex::decode(name).expect("a name"));
        for (first, count) in (0..=255_u8).zip(index[8..].chunks_exact_mut(4)) {
            count.copy_from_slice(&u32::from(first >= name[0]).to_be_bytes());
        }
        index[8 + 1024..8 + 1024 + 20].copy_from_slice(&name);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("a mode");
        fs::write(&path, index).expect("written");
    }

    #[tokio::test]
    async fn what_a_checkout_gave_is_kept_by_its_true_name_or_not_at_all() {
        for format in ["sha1", "sha256"] {
            let dir = tempfile::tempdir().expect("a directory");
            git(
                dir.path(),
                &format!(
                    "git init -q --object-format={format} -b main work; cd work; echo one > one; git add one; git commit -qm one; git gc -q
                     echo two > two; git add two; git commit -qm two; git tag -a -m t v1; cd ..; git clone -q --mirror work mirror.git"
                ),
            );
            let (mirror, copy, hashed) =
                (dir.path().join("mirror.git"), dir.path().join("copy"), dir.path().join("hashed"));
            copy_mirror(&mirror, &copy).await.expect("copied");
            assert!(!fs::read_to_string(copy.join("config")).expect("readable").contains("remote"));
            hash_mirror(&copy, &hashed).await.expect("hashed");
            let store = MirrorStore::open(&dir.path().join("mirrors")).expect("a store");
            store.keep(URL, &hashed, Copying::Link, None).expect("kept");
            let kept = store.find(URL).expect("readable").expect("kept");
            let refs = |path: &Path| git(path, "git --git-dir=. for-each-ref");
            assert_eq!(refs(&hashed), refs(&mirror), "{format}");
            assert_eq!(super::refs(kept.path()), super::refs(&mirror), "{format}");
        }
        // The blob of `one` is gone, and a pack has other words by its name.
        let (dir, _) = world();
        let (mirror, copy) = (dir.path().join("mirror.git"), dir.path().join("copy"));
        let blob = git(&mirror, "git --git-dir=. rev-parse main:one");
        fs::remove_file(mirror.join(format!("objects/{}/{}", &blob[..2], &blob[2..]))).expect("a loose object");
        misnamed(dir.path(), "evil", &blob);
        assert_eq!(git(&mirror, "git --git-dir=. cat-file blob main:one"), "evil");
        copy_mirror(&mirror, &copy).await.expect("copied");
        let why = hash_mirror(&copy, &dir.path().join("hashed")).await.expect_err("another's name");
        assert!(why.starts_with("git failed with a copy of it: "), "{why}");
    }
}
