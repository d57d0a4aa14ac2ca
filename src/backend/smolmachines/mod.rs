//! The smolmachines backend: the guest is a microVM of smolvm's, with a kernel of its own. The bundle is on the host, and between
//! them is one address that has the doors' ports and nothing else.
//!
//! Map: `cli` (calls of smolvm), `exec` (commands in a machine), `life` (whether it still lives), `kvm`, `machine` (asking for one, and what is left
//! of dead runs), `doors` (the network that its monitor is in). Always: the allow list in force is read back before anything
//! runs; the monitor is in a network without a way out; every call has a time limit, because smolvm has been seen to hang.

mod cli;
mod doors;
mod exec;
mod kvm;
mod life;
mod machine;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bottle_plan::plan::{BottlePlan, TOOLS_DIR};
use bottle_scan::known::KnownSecrets;
use bottle_types::backend;
use bottle_types::door::BUNDLE_ADDRESS;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use self::cli::{CallError, Smolvm};
use self::exec::filter;
use self::life::Life;
use super::bundle::{self, HostBundle};
use super::image;
use super::sandbox::{self, Sandbox, Tools};
use super::{
    BackendDriver, Bottle, BottleError, Exec, Leftover, Progress, Running, Side, Survey, Tree, copy, finish, seccomp,
    succeed,
};
use crate::exit::Failure;
use crate::host::Environment;
use crate::secrets::Secrets;

/// Files into a machine; a checkout may be large and emulation slow.
const COPY_TIMEOUT: Duration = Duration::from_secs(600);
/// Ending what the agent has left running.
const SIGNAL_TIMEOUT: Duration = Duration::from_secs(30);
/// A machine with a processor that can do it starts in less.
const USUAL_START: Duration = Duration::from_secs(3);
/// The most that a slow machine gets.
const MOST_SLOW: u32 = 60;

/// This machine, with smolvm.
pub(super) struct Smolmachines {
    environment: Environment,
    /// The directory of all runs.
    base: PathBuf,
    smolvm: Smolvm,
}

impl Smolmachines {
    pub(super) async fn connect() -> Result<Self, Failure> {
        let environment = Environment::read();
        let base = sandbox::base(&environment);
        Ok(Self { smolvm: Smolvm::connect(&environment, &base).await?, base, environment })
    }
}

/// What this machine has for it: `/dev/kvm`, smolvm, and what the bundle on the host needs.
pub(super) async fn survey() -> Survey {
    let environment = Environment::read();
    let mut survey = Survey::default();
    match kvm::usable() {
        Ok(()) => survey.there("/dev/kvm can be opened (whether it boots a kernel shows at the first run)"),
        Err(failure) => survey.missing(format!("{failure}; {}", failure.hint.as_deref().unwrap_or_default())),
    }
    match Smolvm::find(&environment, &sandbox::base(&environment)) {
        Ok(smolvm) => match smolvm.version().await {
            Ok(version) => survey.there(format!("{version}: {}", smolvm.path().display())),
            Err(why) => survey.missing(why),
        },
        Err(why) => survey.missing(why),
    }
    survey.checks.extend(sandbox::survey(&environment).await.checks);
    survey
}

/// True if a run that names no backend may take this one: smolvm is installed here, not only fetched for tests.
pub(super) async fn is_there() -> bool {
    let environment = Environment::read();
    let fetched = |smolvm: &Smolvm| {
        environment
            .cache()
            .and_then(|cache| cache.canonicalize().ok())
            .is_some_and(|cache| smolvm.path().starts_with(cache))
    };
    kvm::usable().is_ok() && Smolvm::connect(&environment, Path::new("/")).await.is_ok_and(|smolvm| !fetched(&smolvm))
}

impl BackendDriver for Smolmachines {
    fn prepare<'a>(&'a self, plan: &'a BottlePlan, progress: &'a dyn Progress) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            kvm::usable()?;
            sandbox::tools(&self.environment)?;
            sandbox::trial().await?;
            sandbox::make_base(&self.base)?;
            image::ready(&plan.images.guest, &self.base, Some(progress)).await.map(drop)
        }
        .boxed()
    }

    fn bottle(&self, plan: &BottlePlan, record: &Path) -> Box<dyn Bottle> {
        let bundle = HostBundle::new(&self.environment, plan, record);
        Box::new(Machine {
            neighbour: bundle.sandbox(doors::NAME),
            smolvm: self.smolvm.clone(),
            base: self.base.clone(),
            slowness: AtomicU32::new(1),
            life: Arc::default(),
            plan: plan.clone(),
            bundle,
        })
    }

    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<Leftover>, Failure>> {
        async {
            let mut found = bundle::leftovers(&self.environment, backend::Backend::Smolmachines);
            if !self.base.is_dir() {
                return Ok(found);
            }
            let machines = machine::leftovers(&self.smolvm)
                .await
                .map_err(|error| Failure::machine(format_args!("failed to list the machines: {error}")))?;
            for machine in machines {
                match found.iter_mut().find(|one| one.slug == machine.slug) {
                    Some(one) => {
                        one.running |= machine.running;
                        one.age = one.age.min(machine.age);
                        one.record = one.record.take().or(machine.record);
                        one.parts.extend(machine.parts);
                    }
                    None => found.push(machine),
                }
            }
            Ok(found)
        }
        .boxed()
    }

    fn remove<'a>(&'a self, leftover: &'a Leftover, mask: &'a KnownSecrets) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            for name in leftover.ids(machine::MACHINE) {
                machine::remove(&self.smolvm, name)
                    .await
                    .map_err(|error| Failure::machine(format_args!("failed to remove the machine {name}: {error}")))?;
            }
            bundle::remove(&self.environment, leftover, mask).await
        }
        .boxed()
    }
}

/// A bottle of a machine and the bundle beside it.
struct Machine {
    smolvm: Smolvm,
    /// The directory of all runs.
    base: PathBuf,
    /// How many times longer than elsewhere things may take, as the start has shown.
    slowness: AtomicU32,
    life: Arc<Life>,
    plan: BottlePlan,
    bundle: HostBundle,
    /// The sandbox whose network the machine's monitor is in.
    neighbour: Sandbox,
}

impl Machine {
    fn name(&self) -> &str {
        &self.plan.names.agent
    }

    async fn start(&self, secrets: &Secrets) -> Result<Vec<String>, Failure> {
        let image = image::ready(&self.plan.images.guest, &self.base, None).await?;
        let tools = self.bundle.open().await?;
        let guest = async {
            let neighbour = self.doors(&tools).await?;
            self.boot(&image, neighbour).await?;
            self.furnish(&tools).await.map_err(Failure::machine)
        };
        let (guest, bundle) = tokio::join!(guest, self.bundle.start(&tools, secrets));
        bundle.and(guest)?;
        let resources = &self.plan.guest.resources;
        Ok(vec![format!(
            "limits of the guest: the machine has {} processors and {} of memory; {} processes by rlimit",
            resources.cpus.ceil().max(1.0),
            resources.memory,
            resources.pids
        )])
    }

    /// Starts the machine's neighbour and waits until it listens; the process whose network it is.
    async fn doors(&self, tools: &Tools) -> Result<i32, Failure> {
        let run_dir = &self.bundle.run_dir;
        let mut options = doors::sandbox(run_dir, tools);
        options.user = self.bundle.users.setup;
        self.bundle.launch(doors::NAME, options, &doors::init(&self.plan)).await?;
        let log = run_dir.path(&format!("{}.log", doors::NAME));
        let ports = self.plan.guest.init.iter().filter(|word| word.ends_with(".sock")).count();
        let until = tokio::time::Instant::now() + doors::LISTEN;
        loop {
            let log_text = std::fs::read_to_string(&log).unwrap_or_default();
            if log_text.matches("forwarding ").count() == ports {
                break;
            }
            if tokio::time::Instant::now() >= until {
                return Err(Failure::machine(format_args!(
                    "the doors don't listen at {BUNDLE_ADDRESS}: {}",
                    log_text.trim()
                )));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let info = std::fs::read(run_dir.path(&format!("{}.info", doors::NAME))).unwrap_or_default();
        serde_json::from_slice::<serde_json::Value>(&info)
            .ok()
            .and_then(|info| i32::try_from(info["child-pid"].as_i64()?).ok())
            .ok_or_else(|| Failure::machine("bwrap did not say which process the doors' network belongs to"))
    }

    /// Makes the machine, starts it in the doors' network, and makes sure that it is what was asked for.
    async fn boot(&self, image: &Path, neighbour: i32) -> Result<(), Failure> {
        let name = self.name();
        let words = machine::create(&self.plan, image);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.smolvm.call(&words).await.map_err(|error| {
            Failure::machine(format_args!("smolvm can't make the machine {name}: {error}"))
                .hint("`bottle-runner cleanup` removes what dead runs have left")
        })?;
        let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let before = doors::enter(neighbour, user, group);
        let started = Instant::now();
        cli::finish(self.smolvm.machine(&before, &["start", "--name", name]).limit(cli::START)).await.map_err(
            |error| {
                Failure::machine(format_args!("the machine {name} does not start: {error}"))
                    .hint(kvm::hint(&error.to_string()))
            },
        )?;
        let slowness = started.elapsed().as_secs() / USUAL_START.as_secs();
        self.slowness.store(u32::try_from(slowness).unwrap_or(MOST_SLOW).clamp(1, MOST_SLOW), Ordering::Relaxed);
        let broken = |why: String| {
            Failure::machine(format_args!("the machine {name} is not what was asked for: {why}"))
                .hint("nothing was run in it; is this a version of smolvm that this one does not know?")
        };
        let status = machine::status(&self.smolvm, name).await.map_err(|error| broken(error.to_string()))?;
        if let Some(why) = machine::mismatch(&status) {
            return Err(broken(why));
        }
        let Some(monitor) = status.pid else { return Err(broken("it has no monitor".to_owned())) };
        match doors::same_network(monitor, neighbour) {
            Ok(true) => {
                self.life.follow(&self.smolvm, name, monitor, self.slowness.load(Ordering::Relaxed));
                Ok(())
            }
            Ok(false) => Err(broken("its monitor is in another network than its doors".to_owned())),
            Err(why) => Err(broken(why)),
        }
    }

    /// Brings in what every bottle has beside its image: the link, the seccomp programs, and Claude Code where the image has
    /// none.
    async fn furnish(&self, tools: &Tools) -> Result<(), BottleError> {
        let failed = |error: &dyn std::fmt::Display| BottleError::new("failed to furnish the machine", error);
        let bin = format!("{TOOLS_DIR}/bin");
        let claude = format!("{bin}/claude");
        let there = self.root(vec!["test".to_owned(), "-x".to_owned(), claude.clone()]);
        let there = finish(self, there, SIGNAL_TIMEOUT).await?.code == 0;
        self.put(&tools.link, &format!("{bin}/bottle-link"), "0755").await?;
        if !there {
            self.put(&tools.claude, &claude, "0755").await?;
        }
        for (at, program) in seccomp::programs().map_err(|error| failed(&error))?.iter().enumerate() {
            let path =
                self.bundle.run_dir.write(&format!("seccomp.{at}"), program, None).map_err(|error| failed(&error))?;
            self.put(&path, &filter(at), "0444").await?;
        }
        // A new machine's working directory is anybody's.
        let guest = &self.plan.guest;
        let owner = format!("{}:{}", guest.uid, guest.gid);
        let script = "mkdir -p \"$2\" && chown \"$1\" \"$2\" && chmod 0755 \"$2\"";
        let words = ["sh", "-c", script, "sh", &owner, &guest.root].map(str::to_owned);
        succeed(self, self.root(words.to_vec()), SIGNAL_TIMEOUT).await.map(drop)
    }

    fn root(&self, argv: Vec<String>) -> Exec {
        Exec::guest(argv).by_root().in_dir("/")
    }

    /// Copies one file into the machine.
    async fn put(&self, from: &Path, to: &str, mode: &str) -> Result<(), BottleError> {
        let (from, to) = (from.display().to_string(), format!("{}:{to}", self.name()));
        let args = ["cp", "--mode", mode, "--uid", "0", "--gid", "0", &from, &to];
        cli::finish(self.smolvm.machine(&[], &args).limit(COPY_TIMEOUT))
            .await
            .map(drop)
            .map_err(|error| BottleError::new(format_args!("failed to copy {from} into the machine"), error))
    }
}

impl Bottle for Machine {
    fn up<'a>(&'a self, secrets: &'a Secrets) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        self.start(secrets).boxed()
    }

    fn died(&self) -> BoxFuture<'_, String> {
        async {
            tokio::select! {
                biased;
                how = self.bundle.died() => how,
                () = self.neighbour.ended() => "the sandbox with the machine's network has ended".to_owned(),
                why = self.life.lost() => format!("the machine {} is lost: {why}", self.name()),
            }
        }
        .boxed()
    }

    fn last_words(&self, _: usize) -> BoxFuture<'_, String> {
        async { String::new() }.boxed()
    }

    fn exec(&self, exec: Exec) -> BoxFuture<'_, Result<Running, BottleError>> {
        async move {
            match exec.side {
                Side::Guest => self.run(&exec),
                Side::Bundle => self.bundle.exec(exec).await,
                Side::Service(_) => Err(BottleError::new("failed to run a command in a service", "machines have none")),
            }
        }
        .boxed()
    }

    fn copy_in(&self, side: Side, tree: Tree) -> BoxFuture<'_, Result<(), BottleError>> {
        async move {
            if side == Side::Bundle {
                return copy::copy_in(self, side, tree).await;
            }
            // As root, so that everything has the owner that the tree says.
            let archive =
                tree.to_tar().map_err(|error| BottleError::new("failed to copy files into the machine", error))?;
            let words = ["tar", "-x", "-p", "--same-owner", "--numeric-owner", "-f", "-", "-C", "/"];
            let mut exec = self.root(words.map(str::to_owned).to_vec());
            exec.stdin = Some(archive);
            succeed(self, exec, COPY_TIMEOUT).await.map(drop)
        }
        .boxed()
    }

    fn copy_out<'a>(&'a self, side: Side, path: &'a str) -> BoxFuture<'a, Result<Option<Tree>, BottleError>> {
        async move {
            match side {
                Side::Guest | Side::Service(_) => copy::copy_out(self, side, path).await,
                Side::Bundle => self.bundle.copy_out(path),
            }
        }
        .boxed()
    }

    fn signal(&self, signal: &'static str) -> BoxFuture<'_, Result<(), BottleError>> {
        async move {
            // `-1` is every process of this user but the sender. Ending the call on the host would not always end it.
            let sent = async {
                let mut running = self.exec(Exec::shell(&format!("kill -{signal} -1")).in_dir("/")).await?;
                while running.output.recv().await.is_some() {}
                Ok(())
            };
            let limit = self.patience(SIGNAL_TIMEOUT);
            tokio::time::timeout(limit, sent)
                .await
                .unwrap_or_else(|_| Err(BottleError::Slow { command: format!("kill -{signal} -1"), limit }))
        }
        .boxed()
    }

    fn patience(&self, limit: Duration) -> Duration {
        // Some wait for ever.
        limit.saturating_mul(self.slowness.load(Ordering::Relaxed))
    }

    fn host_addresses(&self) -> BoxFuture<'_, Result<Vec<IpAddr>, BottleError>> {
        // At the doors' address too nothing of the host's may answer: what listens on all addresses must not be there.
        async { Ok(vec![IpAddr::V4(BUNDLE_ADDRESS)]) }.boxed()
    }

    fn system_id(&self) -> BoxFuture<'_, Result<String, BottleError>> {
        async { Err(BottleError::new("failed to learn the guest's system", "setups keep nothing in smolmachines")) }
            .boxed()
    }

    fn logs(&self) -> BoxFuture<'_, Result<Vec<u8>, BottleError>> {
        async {
            let mut logs = self.bundle.run_dir.logs();
            logs.extend(machine::refused(&self.smolvm, self.name()).await.into_bytes());
            Ok(logs)
        }
        .boxed()
    }

    fn tear_down(&self) -> BoxFuture<'_, Result<(), BottleError>> {
        async {
            self.life.let_go();
            let machine = machine::remove(&self.smolvm, self.name()).await;
            let bundle = self.bundle.tear_down().await;
            let failed = |error: CallError| {
                BottleError::new(format_args!("failed to remove the machine {}", self.name()), error)
            };
            machine.map_err(failed).and(bundle)
        }
        .boxed()
    }
}
