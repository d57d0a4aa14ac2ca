//! Objects in a push: every new pointer has its object, each object is scanned with the rest, and upstream has them all before
//! it gets a ref.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bottle_types::git::ObjectId;
use bottle_types::units::ByteSize;
use sha2::{Digest as _, Sha256};
use tokio::runtime::{Builder, Runtime};

use super::super::changes::{Changes, Repo};
use super::super::rules::Refusal;
use super::super::stat::LOOK;
use super::LfsError;
use super::pointer::{self, LfsPointer, position};
use super::server::{LfsOperation, LfsServer, ObjectAnswer, missing};
use super::store::{FoundObject, LfsStore, shelf};

/// No more reasons than this are told.
const MAX_REASONS: usize = 10;

/// The new pointers of a push, by the index of their blob.
#[derive(Debug, Default)]
pub(in super::super) struct LfsChanges {
    /// Those whose object the guest has sent, and where it is.
    here: BTreeMap<usize, (LfsPointer, PathBuf)>,
    /// Those whose object upstream has to have.
    absent: BTreeMap<usize, LfsPointer>,
    /// Ids of the pointers whose sent object git would take for binary.
    binary: BTreeSet<ObjectId>,
}

impl LfsChanges {
    /// The bytes of all objects that the guest has sent.
    pub(in super::super) fn bytes(&self) -> u64 {
        self.sent().iter().map(|(pointer, _)| pointer.size).fold(0, u64::saturating_add)
    }

    /// The size of the object behind a blob; 0 where there is none.
    pub(in super::super) fn size(&self, index: usize) -> u64 {
        self.here.get(&index).map_or(0, |(pointer, _)| pointer.size)
    }

    /// Tells whether a blob is a pointer to a sent object that git would take for binary.
    pub(in super::super) fn is_binary(&self, id: &ObjectId) -> bool {
        self.binary.contains(id)
    }

    /// The object behind a blob, checked once more.
    pub(in super::super) fn content(&self, index: usize) -> Result<Option<Vec<u8>>, String> {
        let Some((pointer, path)) = self.here.get(&index) else { return Ok(None) };
        let short = pointer.oid.short();
        let bytes = fs::read(path).map_err(|error| format!("the LFS object {short} can't be read: {error}"))?;
        if hex::encode(Sha256::digest(&bytes)) != pointer.oid.as_str() {
            return Err(format!("the LFS object {short} has another SHA-256 than its pointer says"));
        }
        Ok(Some(bytes))
    }

    /// Every sent object once.
    fn sent(&self) -> BTreeSet<&(LfsPointer, PathBuf)> {
        self.here.values().collect()
    }
}

/// Finds the new pointers of a push, and the objects that the guest has sent for them.
pub(in super::super) fn list(repo: &Repo<'_>, changes: &mut Changes) -> Result<Vec<Refusal>, String> {
    let (store, push) = (LfsStore::new(repo.gate, &repo.upstream.name), &repo.upstream.push);
    let (mut lfs, mut refusals) = (LfsChanges::default(), vec![]);
    for (index, pointer) in pointer::among(repo, &changes.objects)? {
        if pointer.is_empty() {
            continue;
        }
        let found = store.find(&pointer).map_err(|error| format!("an LFS object can't be looked up: {error}"))?;
        let why = match found {
            FoundObject::Here(_) if pointer.size > push.max_blob_bytes.0 => {
                let (size, most) = (ByteSize(pointer.size), push.max_blob_bytes);
                format!("is an LFS object of {size} bytes, and {most} is allowed; leave it out of the commit")
            }
            FoundObject::Here(path) => {
                if begins_binary(&path).map_err(|error| format!("an LFS object can't be read: {error}"))? {
                    lfs.binary.insert(changes.objects[index].id.clone());
                }
                lfs.here.insert(index, (pointer, path));
                continue;
            }
            FoundObject::Absent => {
                lfs.absent.insert(index, pointer);
                continue;
            }
            FoundObject::OtherSize(size) => format!(
                "is a Git LFS pointer that says {} bytes, and its object has {size}: make the pointer with git-lfs",
                pointer.size
            ),
        };
        refusals.push(Refusal::about(position(changes, index), why));
    }
    refusals.truncate(MAX_REASONS);
    changes.lfs = lfs;
    Ok(refusals)
}

fn begins_binary(path: &Path) -> std::io::Result<bool> {
    let mut beginning = vec![];
    fs::File::open(path)?.take(LOOK as u64).read_to_end(&mut beginning)?;
    Ok(beginning.contains(&0))
}

/// Gives upstream the objects of a push that may go there, and looks that it has all the others.
pub(in super::super) fn forward(repo: &Repo<'_>, changes: &Changes) -> Result<(), String> {
    let lfs = &changes.lfs;
    if lfs.here.is_empty() && lfs.absent.is_empty() {
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to make an event loop: {error}"))?;
    upstream_has_absent(repo, changes, &runtime)?;
    if lfs.here.is_empty() {
        return Ok(());
    }
    if repo.gate.policy.dry_run {
        return keep(repo, lfs).map_err(|error| format!("failed to keep an LFS object: {error}"));
    }
    let sent = lfs.sent();
    let upload = || {
        let server = LfsServer::open(repo.gate, repo.upstream, LfsOperation::Upload)?;
        runtime.block_on(upload(&server, &sent))
    };
    upload().map_err(|error| format!("upstream did not take its LFS objects: {error}"))
}

/// Looks that upstream has every object that the guest has not sent.
fn upstream_has_absent(repo: &Repo<'_>, changes: &Changes, runtime: &Runtime) -> Result<(), String> {
    let absent = changes.lfs.absent.iter().filter(|(_, pointer)| !is_on_shelf(repo, pointer));
    let absent: BTreeMap<usize, &LfsPointer> = absent.map(|(index, pointer)| (*index, pointer)).collect();
    let Some((first, first_pointer)) = absent.first_key_value() else { return Ok(()) };
    let asked: BTreeSet<LfsPointer> = absent.values().copied().cloned().collect();
    let asked: Vec<LfsPointer> = asked.into_iter().collect();
    let answers = LfsServer::open(repo.gate, repo.upstream, LfsOperation::Download)
        .and_then(|server| runtime.block_on(server.batch(LfsOperation::Download, &asked)));
    let answers =
        answers.map_err(|error| without_object(&position(changes, *first), first_pointer, &error.to_string()))?;
    let there: BTreeSet<&LfsPointer> =
        asked.iter().zip(&answers).filter(|(_, answer)| answer.is_there()).map(|(pointer, _)| pointer).collect();
    match absent.iter().find(|(_, pointer)| !there.contains(*pointer)) {
        Some((index, pointer)) => Err(without_object(&position(changes, *index), pointer, &missing(pointer))),
        None => Ok(()),
    }
}

/// The refusal of a pointer alone.
fn without_object(path: &str, pointer: &LfsPointer, why: &str) -> String {
    format!(
        "{path} is a Git LFS pointer, and its object {} was not sent: {why}; send it by `git lfs push origin HEAD` in a clone \
         that has it, then push again",
        pointer.oid.short()
    )
}

async fn upload(server: &LfsServer, sent: &BTreeSet<&(LfsPointer, PathBuf)>) -> Result<(), LfsError> {
    let pointers: Vec<LfsPointer> = sent.iter().map(|(pointer, _)| pointer.clone()).collect();
    let answers = server.batch(LfsOperation::Upload, &pointers).await?;
    for ((pointer, path), ObjectAnswer { actions, error, .. }) in sent.iter().zip(&answers) {
        if let Some(error) = error {
            let (short, code) = (pointer.oid.short(), error.code);
            let message: String = super::super::process::printable(&error.message).chars().take(200).collect();
            return Err(LfsError::Refused(format!("the LFS object {short}: {code} {message}")));
        }
        // No action: upstream has it.
        if let Some(actions) = actions {
            server.upload(pointer, path, actions).await?;
        }
    }
    Ok(())
}

/// Tells whether an earlier push of this dry run has brought it.
fn is_on_shelf(repo: &Repo<'_>, pointer: &LfsPointer) -> bool {
    repo.gate.policy.dry_run && shelf(repo.gate, repo.upstream).join(pointer.oid.as_str()).is_file()
}

/// A dry run: the objects that would have been uploaded, each in a file beside the bundle.
fn keep(repo: &Repo<'_>, lfs: &LfsChanges) -> std::io::Result<()> {
    let shelf = shelf(repo.gate, repo.upstream);
    fs::create_dir_all(&shelf)?;
    for (pointer, path) in lfs.sent() {
        let mut copy = tempfile::NamedTempFile::new_in(&repo.gate.tmp)?;
        std::io::copy(&mut fs::File::open(path)?, copy.as_file_mut())?;
        copy.persist(shelf.join(pointer.oid.as_str())).map_err(|error| error.error)?;
    }
    Ok(())
}

/// Drops the objects of a push that has ended, however it did: the same push sends them again.
pub(in super::super) fn forget(repo: &Repo<'_>, changes: &Changes) {
    let store = LfsStore::new(repo.gate, &repo.upstream.name);
    for (pointer, _) in changes.lfs.sent() {
        store.drop_object(&pointer.oid);
    }
}
