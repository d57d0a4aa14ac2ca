//! The bundle on the host itself, for backends that have no container for it: a sandbox of bwrap that has the host's network,
//! and in it the same supervisor with the same sidecars.
//!
//! Map: `mounts` (what it sees of the host), `kept` (what earlier runs have left of its upstream). It is made of the kit in `sandbox`, as is the bubblewrap backend's guest. Always:
//! it ends with the runner; no secret is on a disk.

mod kept;
mod mounts;

use self::kept::KeptObjects;
pub(super) use self::mounts::MIRROR;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bottle_plan::manifest::Resources;
use bottle_plan::plan::{BottlePlan, HOST_CA_FILE, TOOLS_DIR};
use bottle_scan::known::KnownSecrets;
use bottle_types::backend;
use bottle_types::door::{CONFIG_DIR, SECRETS_DIR, STATE_DIR};
use bottle_types::record_file::RecordFile;
use bottle_types::units::ByteSize;
use tokio::sync::{Mutex, RwLock, watch};

use super::sandbox::{
    BwrapOptions, CgroupLimits, RunDir, RunNotes, SERVICE, Sandbox, Tools, Users, base, cgroup, tools, trial,
};
use super::{BottleError, Exec, Leftover, OutputChunk, Running, Side, Tree};
use crate::exit::Failure;
use crate::host::{self, Environment};
use crate::process::ChildGuard;
use crate::secrets::Secrets;

/// The bundle's share of the machine, as on Docker: memory and processes; processors as many as there are.
const BUNDLE: Resources = Resources { cpus: 64.0, memory: ByteSize(2 << 30), pids: 1024 };
/// Giving the secrets takes no time, but on a machine that is out of memory.
const SECRETS_TIMEOUT: Duration = Duration::from_secs(30);

/// A run that is stopped in its launch waits so long for what its doors have to say.
const DOORS_LOG_TIMEOUT: Duration = Duration::from_secs(1);

/// One run's bundle, and the run's directory on this machine.
pub(super) struct HostBundle {
    pub(super) run_dir: RunDir,
    pub(super) users: Users,
    plan: BottlePlan,
    record: PathBuf,
    environment: Environment,
    sandbox: Sandbox,
    started: Arc<RunningSandboxes>,
    /// The link, once it is brought where it can be run.
    link: OnceLock<PathBuf>,
    /// None where this machine keeps nothing.
    kept: Option<KeptObjects>,
    /// Where the sandboxes can reach it.
    kept_at: OnceLock<PathBuf>,
}

/// What this process has started: it ends with these.
#[derive(Debug, Default)]
struct RunningSandboxes {
    notes: Mutex<RunNotes>,
    running: Mutex<Vec<ChildGuard>>,
    /// Held for reading while a sandbox is being made. A bwrap that is killed before its child is tied to it leaves the child
    /// behind, which nobody knows yet: so nothing of this is cut short, and the teardown waits for it.
    making: Arc<RwLock<()>>,
    doors: watch::Sender<DoorsState>,
}

/// The doors, as far as their supervisor has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum DoorsState {
    #[default]
    Starting,
    /// All of them take connections.
    Open,
    /// The supervisor has ended, and they with it; how.
    Ended(String),
}

impl RunningSandboxes {
    /// Changes what the next runner will know, if this one dies.
    async fn note(&self, run_dir: &RunDir, change: impl FnOnce(&mut RunNotes)) -> std::io::Result<()> {
        let mut notes = self.notes.lock().await;
        change(&mut notes);
        run_dir.note(&notes)
    }
}

impl HostBundle {
    pub(super) fn new(environment: &Environment, plan: &BottlePlan, record: &Path) -> Self {
        let run_dir = RunDir::for_run(&base(environment), plan.slug.as_str());
        Self {
            sandbox: Self::sandbox_in(&run_dir, "bundle"),
            users: Users::for_run(plan.slug.as_str()),
            plan: plan.clone(),
            record: record.to_owned(),
            environment: environment.clone(),
            started: Arc::default(),
            link: OnceLock::new(),
            kept: KeptObjects::find(environment, plan),
            kept_at: OnceLock::new(),
            run_dir,
        }
    }

    fn sandbox_in(run_dir: &RunDir, name: &str) -> Sandbox {
        Sandbox { socket: run_dir.path(&format!("{name}.sock")), log: run_dir.path(&format!("{name}.log")) }
    }

    /// Another sandbox of the same run.
    pub(super) fn sandbox(&self, name: &str) -> Sandbox {
        Self::sandbox_in(&self.run_dir, name)
    }

    /// What a failure to write there comes to.
    pub(super) fn failed(&self, error: std::io::Error) -> Failure {
        Failure::machine(format_args!("failed to make {}: {error}", self.run_dir.path("").display()))
            .hint("set BOTTLE_RUNTIME_DIR to a directory of your own on a local disk")
    }

    /// The sockets that are made by their paths on the host: the sandboxes', and the services'. The doors make theirs inside.
    fn sockets(&self) -> Vec<String> {
        let services = self.plan.services.iter().flat_map(|service| {
            let doors = service.ports.iter().map(|port| format!("doors/{}", port.socket));
            doors.chain([format!("{SERVICE}{}.sock", service.name)])
        });
        std::iter::once("bundle.sock".to_owned()).chain(services).collect()
    }

    /// Makes the run's directory, and brings the host's programs where the sandboxes' users can reach them.
    pub(super) async fn open(&self) -> Result<Tools, Failure> {
        let mut tools = tools(&self.environment)?;
        self.run_dir.make(&self.sockets())?;
        let start = RunNotes {
            backend: self.plan.backend,
            record: self.record.clone(),
            started: host::unix_seconds(),
            ..RunNotes::default()
        };
        self.note(|notes| *notes = start).await?;
        // A guest may be started before the bundle is, and has the doors' directory bound.
        self.run_dir.directory("doors", 0o755, self.users.bundle).map_err(|error| self.failed(error))?;
        if let Some(path) = self.kept.as_ref().and_then(|kept| kept.reachable(&self.run_dir)) {
            let _ = self.kept_at.set(path);
        }
        // The step before bwrap starts as the runner's user, where it is: a name in the base goes when another build runs.
        let _ = self.link.set(tools.link.clone());
        for tool in [&mut tools.link, &mut tools.sidecars, &mut tools.claude, &mut tools.gitleaks] {
            *tool = self.run_dir.reachable(tool).map_err(|error| self.failed(error))?;
        }
        Ok(tools)
    }

    /// The link, as the step before bwrap.
    pub(super) fn link(&self) -> Result<PathBuf, Failure> {
        self.link.get().cloned().ok_or_else(|| Failure::machine("the bottle was not opened by this process"))
    }

    /// Changes what the next runner will know, if this one dies.
    pub(super) async fn note(&self, change: impl FnOnce(&mut RunNotes)) -> Result<(), Failure> {
        self.started.note(&self.run_dir, change).await.map_err(|error| self.failed(error))
    }

    /// Control groups for one of the run's sandboxes, or other limits.
    pub(super) async fn limits(&self, side: &str, resources: &Resources) -> Result<CgroupLimits, Failure> {
        let mut limits = CgroupLimits::default();
        // A group that was made is noted before anything else can happen.
        self.note(|notes| {
            limits = cgroup::set(&format!("claude-bottle-{}-{side}", self.plan.slug), resources);
            notes.cgroups.extend(limits.groups.iter().cloned());
        })
        .await?;
        Ok(limits)
    }

    /// Starts a sandbox; it ends with this process.
    pub(super) async fn launch(&self, name: &str, mut options: BwrapOptions, init: &[String]) -> Result<(), Failure> {
        let info = self.run_dir.path(&format!("{name}.info"));
        options.info = Some(info.clone());
        options.link = self.link()?;
        let log = self.run_dir.log(&format!("{name}.log")).map_err(|error| self.failed(error))?;
        let sandbox = self.sandbox(name);
        let (started, run_dir) = (self.started.clone(), self.run_dir.clone());
        let made = self.uncut(|| {
            // From this thread: a task's would wait for a processor at the moment at which bwrap needs it.
            let kept = sandbox.start(&options, init, log);
            async move {
                let kept = kept?;
                let process = sandbox.made(&info).await?;
                started.running.lock().await.push(kept);
                let noted = started.note(&run_dir, |notes| notes.processes.push(process)).await;
                noted.map_err(|error| BottleError::new("failed to note which process it is", error))
            }
        });
        if let Err(error) = made.await {
            // Where no sandbox can be made at all, that is what has to be said.
            trial().await?;
            return Err(Failure::machine(error).hint("compose.log in the run record says more"));
        }
        Ok(())
    }

    /// Makes a sandbox: to the end, whether or not its caller still waits for it.
    pub(super) async fn uncut<T: Send + 'static, M>(&self, making: impl FnOnce() -> M) -> Result<T, BottleError>
    where
        M: Future<Output = Result<T, BottleError>> + Send + 'static,
    {
        let held = self.started.making.clone().read_owned().await;
        let making = making();
        let task = tokio::spawn(async move {
            let _held = held;
            making.await
        });
        task.await.unwrap_or_else(|error| Err(BottleError::new("failed to make a sandbox", error)))
    }

    /// Makes the bundle's sandbox and starts its doors.
    pub(super) async fn start(&self, tools: &Tools, secrets: &Secrets) -> Result<(), Failure> {
        self.make(tools).await?;
        self.start_doors(secrets).await
    }

    /// Makes the bundle's sandbox.
    pub(super) async fn make(&self, tools: &Tools) -> Result<(), Failure> {
        let etc = mounts::make(&self.run_dir, &self.plan, self.users.bundle).map_err(|error| self.failed(error))?;
        let limits = self.limits("bundle", &BUNDLE).await?;
        let mut options = mounts::bundle(&self.run_dir, &self.plan, &etc, tools);
        self.lend_kept(&mut options);
        (options.user, options.groups) = (self.users.bundle, limits.groups);
        if self.plan.host_ca_bundle.is_some() {
            options.add(&["--setenv", "SSL_CERT_FILE", HOST_CA_FILE, "--setenv", "GIT_SSL_CAINFO", HOST_CA_FILE]);
        }
        options.add(&["--chdir", "/", "--remount-ro", "/"]);
        let link = format!("{TOOLS_DIR}/bin/bottle-link");
        let init = [link, "forward".to_owned(), "--control".to_owned()];
        // Its files are written while the sandbox is being made.
        let kept = self.kept_at.get().is_some();
        let fill =
            || mounts::fill(&self.run_dir, &self.plan, self.users.bundle, kept).map_err(|error| self.failed(error));
        let (launched, filled) = tokio::join!(self.launch("bundle", options, &init), async { fill() });
        launched.and(filled)
    }

    /// Whether an earlier run has left something of the upstream.
    pub(super) fn has_kept(&self) -> bool {
        self.kept.as_ref().is_some_and(KeptObjects::is_there)
    }

    /// Lets a sandbox read it.
    pub(super) fn lend_kept(&self, options: &mut BwrapOptions) {
        let to = self.plan.git.as_ref().and_then(|git| git.kept.as_deref());
        if let (Some(kept), Some(to)) = (self.kept_at.get(), to) {
            options.bind("--ro-bind", kept, to);
        }
    }

    /// Keeps the run's mirror for later ones, beside what goes on; or forgets what was kept, if with it there was no repository.
    pub(super) async fn keep_mirror(&self, works: bool) {
        match &self.kept {
            Some(kept) if works => kept.keep(&self.run_dir).await,
            Some(kept) => kept.forget(),
            None => {}
        }
    }

    /// Waits until it is kept, and not for long.
    pub(super) async fn mirror_kept(&self) {
        if let Some(kept) = &self.kept {
            kept.settled().await;
        }
    }

    /// Gives the bundle its secrets, in memory, and starts the supervisor.
    pub(super) async fn start_doors(&self, secrets: &Secrets) -> Result<(), Failure> {
        self.start_supervisor(secrets).await.map_err(Failure::machine)
    }

    async fn start_supervisor(&self, secrets: &Secrets) -> Result<(), BottleError> {
        self.give(secrets).await?;
        let supervisor = format!("{TOOLS_DIR}/bin/bottle-sidecars");
        let config = format!("{CONFIG_DIR}/bundle.yaml");
        let mut exec = Exec::guest([supervisor.as_str(), "supervisor", "--config", &config]);
        exec.side = Side::Bundle;
        let running = self.exec(exec).await?;
        let log =
            self.run_dir.log("bundle.log").map_err(|error| BottleError::new("failed to open bundle.log", error))?;
        tokio::spawn(keep_log(running, log, self.started.clone()));
        Ok(())
    }

    /// Puts the secrets where the sidecars look for them.
    async fn give(&self, secrets: &Secrets) -> Result<(), BottleError> {
        let mut tree = Tree::new();
        for (name, value) in secrets.files() {
            tree = tree.file(format!("{SECRETS_DIR}/{name}"), 0, 0o400, value.to_vec());
        }
        if tree.nodes.is_empty() {
            return Ok(());
        }
        let doing = "failed to give the bundle its secrets";
        let archive = tree.to_tar().map_err(|error| BottleError::new(doing, error))?;
        let mut give = Exec::guest(["tar", "-x", "-p", "-o", "-f", "-", "-C", "/"]).in_dir("/");
        (give.side, give.stdin) = (Side::Bundle, Some(archive));
        let given = async {
            let running = self.exec(give).await?;
            running.code.await.map_err(|_| BottleError::new(doing, "the sandbox went away"))?
        };
        match tokio::time::timeout(SECRETS_TIMEOUT, given).await {
            Ok(Ok(0)) => Ok(()),
            Ok(Ok(code)) => Err(BottleError::new(doing, format_args!("tar ended with {code}"))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(BottleError::new(doing, "tar does not end")),
        }
    }

    /// Waits until the doors are open, by what the supervisor prints; ends also with the supervisor.
    pub(super) async fn opened(&self) {
        // The sender is beside the receiver.
        let _ = self.started.doors.subscribe().wait_for(|doors| *doors != DoorsState::Starting).await;
    }

    /// Ends when the doors have ended; how.
    pub(super) async fn died(&self) -> String {
        let mut doors = self.started.doors.subscribe();
        loop {
            if let DoorsState::Ended(how) = &*doors.borrow_and_update() {
                return format!("the doors have ended: {how}");
            }
            // The sender is beside the receiver.
            let _ = doors.changed().await;
        }
    }

    /// Reads what the bundle has at the path, whether or not it still lives.
    pub(super) fn copy_out(&self, path: &str) -> Result<Option<Tree>, BottleError> {
        let failed = |reason: &dyn std::fmt::Display| {
            BottleError::new(format_args!("failed to copy {path} out of the bundle"), reason)
        };
        let dirs = [(STATE_DIR, "bundle/state"), (CONFIG_DIR, "bundle/config")];
        let found = dirs.into_iter().find_map(|(inside, dir)| Some((path.strip_prefix(inside)?, dir)));
        let (name, dir) = found.ok_or_else(|| failed(&"it is in memory alone"))?;
        Tree::read(&self.run_dir.path(dir), name, path).map_err(|error| failed(&error))
    }

    /// Runs a command in the bundle.
    pub(super) async fn exec(&self, exec: Exec) -> Result<Running, BottleError> {
        self.sandbox.exec(exec).await
    }

    /// What has been printed so far. Doors that this process has only just started get to say so first.
    pub(super) async fn logs(&self) -> Vec<u8> {
        if !self.started.running.lock().await.is_empty() {
            let _ = tokio::time::timeout(DOORS_LOG_TIMEOUT, self.opened()).await;
        }
        self.run_dir.logs()
    }

    /// Ends all sandboxes of the run and removes its directory.
    pub(super) async fn tear_down(&self) -> Result<(), BottleError> {
        if let Some(kept) = &self.kept {
            kept.give_up().await;
        }
        let _none = self.started.making.write().await;
        for process in self.run_dir.notes().unwrap_or_default().processes {
            process.kill();
        }
        for mut kept in self.started.running.lock().await.drain(..) {
            kept.end().await;
        }
        self.run_dir.remove().await.map_err(|why| BottleError::new("failed to remove the sandboxes", why))
    }
}

/// What the supervisor prints once every door takes connections.
const OPENED: &[u8] = b"supervisor | all doors open";
/// What it prints before the reason for which it ends by itself.
const GAVE_UP: &[u8] = b"supervisor | error: ";

/// Puts what the supervisor prints into a file, with the time.
async fn keep_log(mut running: Running, mut log: std::fs::File, started: Arc<RunningSandboxes>) {
    // A full disk must not end the doors.
    let mut line = |text: &[u8]| drop(log.write_all(&[host::now().as_bytes(), b" ", text, b"\n"].concat()));
    let (mut rest, mut said) = (vec![], None);
    while let Some(OutputChunk::Stdout(bytes) | OutputChunk::Stderr(bytes)) = running.output.recv().await {
        rest.extend_from_slice(&bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            line(&rest[..end]);
            if rest.starts_with(OPENED) {
                started.doors.send_replace(DoorsState::Open);
            }
            if let Some(why) = rest[..end].strip_prefix(GAVE_UP) {
                said = Some(String::from_utf8_lossy(why).into_owned());
            }
            rest.drain(..=end);
        }
    }
    let how = match running.code.await {
        Ok(Ok(code)) => format!("their supervisor ended with {code}"),
        _ => "their sandbox went away".to_owned(),
    };
    line(format!("supervisor | gone: {how}").as_bytes());
    started.doors.send_replace(DoorsState::Ended(said.unwrap_or(how)));
}

/// What this backend's runs have on this machine.
pub(super) fn leftovers(environment: &Environment, backend: backend::Backend) -> Vec<Leftover> {
    let mut found = vec![];
    for (slug, run_dir) in RunDir::all(&base(environment)) {
        let notes = run_dir.notes();
        if notes.as_ref().is_some_and(|notes| notes.backend != backend) {
            continue;
        }
        let mut leftover = Leftover {
            slug,
            age: Some(Duration::from_secs(run_dir.age())),
            record: notes.as_ref().map(|notes| notes.record.clone()),
            ..Leftover::default()
        };
        leftover.add("directory", "directories", run_dir.path("").display().to_string());
        let notes = notes.unwrap_or_default();
        for _ in notes.processes.iter().filter(|process| process.is_alive()) {
            leftover.running = true;
            leftover.add("sandbox", "sandboxes", "");
        }
        for group in &notes.cgroups {
            leftover.add("control group", "control groups", group.display().to_string());
        }
        found.push(leftover);
    }
    found
}

/// Saves what the sandboxes of a dead run printed to its record, ends them, and removes everything.
pub(super) async fn remove(environment: &Environment, leftover: &Leftover, mask: &KnownSecrets) -> Result<(), Failure> {
    let run_dir = RunDir::for_run(&base(environment), &leftover.slug);
    let lost = leftover.record.as_deref().filter(|dir| dir.is_dir() && !dir.join(RecordFile::DoorLog).exists());
    if let Some(record) = lost {
        std::fs::write(record.join(RecordFile::DoorLog), mask.mask(&run_dir.logs())).map_err(|error| {
            Failure::machine(format_args!("failed to write {}/compose.log: {error}", record.display()))
        })?;
    }
    run_dir
        .remove()
        .await
        .map_err(|why| Failure::machine(format_args!("failed to remove what {} has left: {why}", leftover.slug)))
}
