//! What runs before have left on this machine of the upstream that this run works on: lent to both sandboxes, and added to.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bottle_plan::plan::BottlePlan;
use bottle_types::door::SEED_DIR;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::mounts::MIRROR;
use crate::backend::sandbox::{RunDir, is_root};
use crate::cache::{Copying, KeptMirror, MAX_AGE_DAYS, MAX_MIRRORS_BYTES, MirrorStore, copy_mirror, hash_mirror};
use crate::host::Environment;

/// The place of an upstream's objects on this machine.
pub(super) struct KeptObjects {
    store: MirrorStore,
    url: String,
    /// In the run's directory: what a checkout on this machine gave to the mirror, if it did.
    seed: String,
    found: Arc<Mutex<Option<KeptMirror>>>,
    /// What is being kept now.
    keeping: tokio::sync::Mutex<Option<JoinHandle<()>>>,
    /// The run ends, and waits no longer.
    ending: Arc<Notify>,
}

/// In the run's directory: a mirror's objects, hashed.
const HASHED: &str = "hashed";
/// How long a run's end waits for that. It saves later runs more than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// A repository with the mirror's objects, each with its true name.
async fn hashed(mirror: &Path, scratch: PathBuf, ending: &Notify) -> Result<PathBuf, String> {
    std::fs::create_dir(&scratch).map_err(|error| format!("{}: {error}", scratch.display()))?;
    let (copy, hashed) = (scratch.join("copy"), scratch.join("mirror"));
    copy_mirror(mirror, &copy).await?;
    tokio::select! {
        done = hash_mirror(&copy, &hashed) => done.map(|()| hashed),
        () = ending.notified() => Err("the run was over before its objects were hashed".to_owned()),
    }
}

impl KeptObjects {
    /// Looks for it; nothing where this machine keeps none, which only costs time.
    pub(super) fn find(environment: &Environment, plan: &BottlePlan) -> Option<Self> {
        let git = plan.git.as_ref().filter(|git| git.kept.is_some())?;
        let upstream = plan.policies.gate.upstreams.iter().find(|upstream| upstream.name == git.upstream)?;
        let url = upstream.url.to_string();
        let store = MirrorStore::open(&environment.mirrors()?).ok()?;
        let found = store.find(&url).ok()?;
        let seed = format!("bundle/state/{SEED_DIR}/{}/branches", git.upstream);
        Some(Self {
            store,
            url,
            seed,
            found: Arc::new(Mutex::new(found)),
            keeping: tokio::sync::Mutex::default(),
            ending: Arc::default(),
        })
    }

    /// Whether there is something.
    pub(super) fn is_there(&self) -> bool {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Where the sandboxes' users can reach it. A root's store is closed to them, and on another file system it has no second name.
    pub(super) fn reachable(&self, run_dir: &RunDir) -> Option<PathBuf> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = found.as_ref()?;
        if !is_root() {
            return Some(kept.path().to_owned());
        }
        let path = run_dir.path("kept");
        kept.link(&path).ok().map(|()| path)
    }

    /// Begins to keep what the run's mirror has. What a checkout gave was not hashed on its way; it is before it outlives the run.
    pub(super) async fn keep(&self, run_dir: &RunDir) {
        let seeded = run_dir.path(&self.seed).symlink_metadata().is_ok();
        let (store, url, found) = (self.store.clone(), self.url.clone(), Arc::clone(&self.found));
        let (mirror, scratch, log) = (run_dir.path(MIRROR), run_dir.path(HASHED), run_dir.log("bundle.log"));
        let ending = Arc::clone(&self.ending);
        let keep = async move {
            let (mirror, how) = match seeded {
                true => (hashed(&mirror, scratch, &ending).await?, Copying::Link),
                false => (mirror, Copying::Bytes),
            };
            let keep = move || {
                let found = found.lock().unwrap_or_else(PoisonError::into_inner);
                store.keep(&url, &mirror, how, found.as_ref())?;
                store.prune(Duration::from_secs(MAX_AGE_DAYS * 24 * 3600), MAX_MIRRORS_BYTES, false).map(drop)
            };
            tokio::task::spawn_blocking(keep).await.unwrap_or_else(|error| Err(error.to_string()))
        };
        let task = tokio::spawn(async move {
            if let Err::<(), String>(why) = keep.await
                && let Ok(mut log) = log
            {
                // It only saves time.
                let _ = writeln!(log, "runner | the mirror is not kept for later runs: {why}");
            }
        });
        *self.keeping.lock().await = Some(task);
    }

    /// Forgets what was there: with it the run did not get its repository.
    pub(super) fn forget(&self) {
        if let Some(useless) = self.found.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // What can't be removed is left out once it is not used any more.
            let _ = MirrorStore::forget(useless);
        }
    }

    /// Waits for what is being kept, and not for long.
    pub(super) async fn settled(&self) {
        if let Some(task) = self.keeping.lock().await.as_mut() {
            let _ = tokio::time::timeout(PATIENCE, task).await;
        }
    }

    /// Gives up what is not kept yet; nothing of it goes on behind this.
    pub(super) async fn give_up(&self) {
        self.ending.notify_one();
        if let Some(task) = self.keeping.lock().await.take().filter(|task| !task.is_finished()) {
            let _ = task.await;
        }
    }
}
