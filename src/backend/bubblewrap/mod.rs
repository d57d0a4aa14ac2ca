//! The bubblewrap backend: two sandboxes of bwrap, no daemon and no image. In the one is the guest, without a network; in the
//! other the bundle, with the host's. Each service has one more, like the guest's.
//!
//! Map: `mounts` (what the guest sees), `rootfs` (an image's system in place of this machine's), `services` (what runs
//! beside the agent); `seccomp` beside this room has
//! the system calls, `sandbox` and `bundle` everything else.

mod mounts;
mod rootfs;
mod services;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bottle_plan::plan::BottlePlan;
use bottle_scan::known::KnownSecrets;
use bottle_types::backend;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{OnceCell, mpsc, oneshot};

use self::rootfs::Rootfs;
use self::services::HostService;
use super::bundle::{self, HostBundle};
use super::sandbox::{self, BwrapOptions, Sandbox, Tools};
use super::{
    BackendDriver, Bottle, BottleError, Exec, ExecUser, Leftover, OutputChunk, Progress, Running, Side, Survey, Tree,
    any, copy, seccomp,
};
use crate::exit::Failure;
use crate::host::Environment;
use crate::secrets::Secrets;

/// `update-ca-certificates` on a slow disk.
const SETUP_TIMEOUT: Duration = Duration::from_secs(60);

/// This machine, with bubblewrap.
pub(super) struct Bubblewrap {
    environment: Environment,
}

impl Bubblewrap {
    pub(super) fn new() -> Self {
        Self { environment: Environment::read() }
    }
}

/// What this machine has for it.
pub(super) async fn survey() -> Survey {
    sandbox::survey(&Environment::read()).await
}

impl BackendDriver for Bubblewrap {
    fn prepare<'a>(&'a self, plan: &'a BottlePlan, progress: &'a dyn Progress) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            sandbox::tools(&self.environment)?;
            Rootfs::from_plan(plan, &self.environment, Some(progress)).await.map(drop)
        }
        .boxed()
    }

    fn bottle(&self, plan: &BottlePlan, record: &Path) -> Box<dyn Bottle> {
        let bundle = HostBundle::new(&self.environment, plan, record);
        let (plan, environment) = (plan.clone(), self.environment.clone());
        Box::new(BubblewrapBottle {
            guest: bundle.sandbox("guest"),
            services: HostService::all(&plan, &bundle),
            plan,
            environment,
            bundle,
            rootfs: OnceCell::new(),
            etc: OnceLock::new(),
        })
    }

    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<Leftover>, Failure>> {
        async { Ok(bundle::leftovers(&self.environment, backend::Backend::Bubblewrap)) }.boxed()
    }

    fn remove<'a>(&'a self, leftover: &'a Leftover, mask: &'a KnownSecrets) -> BoxFuture<'a, Result<(), Failure>> {
        bundle::remove(&self.environment, leftover, mask).boxed()
    }
}

/// A bottle of two sandboxes, and one for each service.
struct BubblewrapBottle {
    guest: Sandbox,
    services: Vec<HostService>,
    bundle: HostBundle,
    plan: BottlePlan,
    environment: Environment,
    /// Looked for once.
    rootfs: OnceCell<Option<Rootfs>>,
    /// What it sees at /etc, once it is started.
    etc: OnceLock<PathBuf>,
}

/// What the guest's sandbox is made of.
struct GuestSetup {
    options: BwrapOptions,
    /// Its first process.
    init: Vec<String>,
    /// What limits it.
    limits_summary: String,
}

impl BubblewrapBottle {
    /// The image's system; none: this machine's.
    async fn rootfs(&self) -> Result<Option<&Rootfs>, Failure> {
        let rootfs = self.rootfs.get_or_try_init(|| Rootfs::from_plan(&self.plan, &self.environment, None));
        Ok(rootfs.await?.as_ref())
    }

    async fn start(&self, secrets: &Secrets) -> Result<Vec<String>, Failure> {
        let tools = self.bundle.open().await?;
        // The guest's sandbox is made while the doors start, which takes longest: two at once hold each other up.
        let (bundle, prepared) = tokio::join!(self.bundle.make(&tools), self.prepare_guest(&tools));
        bundle?;
        let GuestSetup { options, init, limits_summary } = prepared?;
        self.bundle.start_doors(secrets).await?;
        let mut said = vec![format!("limits of the guest: {limits_summary}")];
        for service in &self.services {
            said.push(service.start(&self.bundle, &tools, options.filters.clone(), secrets).await?);
        }
        let fill = || {
            let rootfs = self.rootfs.get().and_then(Option::as_ref);
            let filled = rootfs.map_or(Ok(()), |rootfs| mounts::fill(&self.bundle.run_dir, &self.plan, rootfs));
            filled.map_err(|error| self.bundle.failed(error))
        };
        let (launched, filled) = tokio::join!(self.bundle.launch("guest", options, &init), async { fill() });
        launched.and(filled)?;
        Ok(said)
    }

    /// Makes the guest's directories and control groups, and all that bwrap is told.
    async fn prepare_guest(&self, tools: &Tools) -> Result<GuestSetup, Failure> {
        let (run_dir, users) = (&self.bundle.run_dir, self.bundle.users);
        let rootfs = self.rootfs().await?;
        let etc = mounts::make(run_dir, &self.plan, rootfs, users).map_err(|error| self.bundle.failed(error))?;
        let limits = self.bundle.limits("guest", &self.plan.guest.resources).await?;
        let mut options = mounts::guest(run_dir, &self.plan, rootfs, &etc, tools);
        self.bundle.lend_kept(&mut options);
        let _ = self.etc.set(etc);
        self.confine(&mut options).map_err(Failure::machine)?;
        (options.user, options.groups) = (users.guest, limits.groups);
        for (name, value) in &self.plan.guest.env {
            options.add(&["--setenv", name, value]);
        }
        options.add(&["--chdir", &self.plan.guest.root, "--remount-ro", "/dev", "--remount-ro", "/"]);
        let mut init = self.plan.guest.init.clone();
        init.push("--control".to_owned());
        init.extend(limits.options);
        Ok(GuestSetup { options, init, limits_summary: limits.summary })
    }

    /// The seccomp programs, as files that bwrap reads.
    fn confine(&self, options: &mut BwrapOptions) -> Result<(), String> {
        for (at, program) in seccomp::programs()?.iter().enumerate() {
            let path = self.bundle.run_dir.write(&format!("seccomp.{at}"), program, None);
            options.filters.push(path.map_err(|error| format!("failed to write a seccomp program: {error}"))?);
        }
        Ok(())
    }

    /// Runs a command beside the guest, in its system but for writing: what the agent must not change is set up so.
    async fn set_up(&self, exec: Exec) -> Result<Running, BottleError> {
        let command = exec.argv.first().cloned().unwrap_or_default();
        let failed = |error: &dyn std::fmt::Display| {
            BottleError::new(format_args!("failed to run `{command}` beside the bottle"), error)
        };
        let rootfs = self.rootfs().await.map_err(|error| failed(&error))?;
        let etc = self.etc.get().ok_or_else(|| failed(&"the bottle was not started by this process"))?;
        let mut options = mounts::setup(&self.bundle.run_dir, rootfs, etc);
        self.confine(&mut options).map_err(|error| failed(&error))?;
        options.user = self.bundle.users.setup;
        options.link = self.bundle.link().map_err(|error| failed(&error))?;
        for (name, value) in &exec.env {
            options.add(&["--setenv", name, value]);
        }
        options.add(&["--chdir", exec.cwd.as_deref().unwrap_or("/")]);
        let program = options.command(&exec.argv).limit(SETUP_TIMEOUT).input(exec.stdin.unwrap_or_default());
        let ended = self.bundle.uncut(|| async { Ok(program.run().await) }).await?.map_err(|error| failed(&error))?;
        let (sender, output) = mpsc::channel(2);
        let (code_sender, code) = oneshot::channel();
        // There is room for both, and the receivers are here.
        let _ = sender.send(OutputChunk::Stdout(ended.stdout.into())).await;
        let _ = sender.send(OutputChunk::Stderr(ended.stderr.into())).await;
        let _ = code_sender.send(Ok(ended.code.into()));
        Ok(Running { output, code })
    }
}

impl Bottle for BubblewrapBottle {
    fn up<'a>(&'a self, secrets: &'a Secrets) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        self.start(secrets).boxed()
    }

    fn opened(&self) -> BoxFuture<'_, ()> {
        self.bundle.opened().boxed()
    }

    fn has_kept_mirror(&self) -> bool {
        self.bundle.has_kept()
    }

    fn keep_mirror(&self, works: bool) -> BoxFuture<'_, ()> {
        self.bundle.keep_mirror(works).boxed()
    }

    fn mirror_kept(&self) -> BoxFuture<'_, ()> {
        self.bundle.mirror_kept().boxed()
    }

    fn died(&self) -> BoxFuture<'_, String> {
        async {
            tokio::select! {
                biased;
                how = self.bundle.died() => how,
                () = self.guest.ended() => "the guest's sandbox has ended".to_owned(),
                how = any(self.services.iter().map(HostService::died)) => how,
            }
        }
        .boxed()
    }

    fn last_words(&self, service: usize) -> BoxFuture<'_, String> {
        async move { self.services.get(service).map(HostService::last_words).unwrap_or_default() }.boxed()
    }

    fn exec(&self, exec: Exec) -> BoxFuture<'_, Result<Running, BottleError>> {
        async move {
            match (exec.side, exec.user) {
                (Side::Guest, ExecUser::Agent) => self.guest.exec(exec).await,
                (Side::Guest, ExecUser::Root) => self.set_up(exec).await,
                (Side::Bundle, _) => self.bundle.exec(exec).await,
                (Side::Service(index), _) => match self.services.get(index) {
                    Some(service) => service.exec(exec).await,
                    None => Err(BottleError::new("failed to run a command in a service", "there is no such service")),
                },
            }
        }
        .boxed()
    }

    fn copy_in(&self, side: Side, tree: Tree) -> BoxFuture<'_, Result<(), BottleError>> {
        copy::copy_in(self, side, tree).boxed()
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
            // `-1` is every process in here but the first and the sender.
            let mut running = self.exec(Exec::shell(&format!("kill -{signal} -1")).in_dir("/")).await?;
            while running.output.recv().await.is_some() {}
            Ok(())
        }
        .boxed()
    }

    fn host_addresses(&self) -> BoxFuture<'_, Result<Vec<IpAddr>, BottleError>> {
        // The host's own are all that there is.
        async { Ok(vec![]) }.boxed()
    }

    fn own_system(&self) -> BoxFuture<'_, Result<Option<String>, Failure>> {
        async { Ok(self.rootfs().await?.map(|rootfs| rootfs.source.clone())) }.boxed()
    }

    fn system_id(&self) -> BoxFuture<'_, Result<String, BottleError>> {
        async {
            let failed =
                |error: &dyn std::fmt::Display| BottleError::new("failed to look at the guest's system", error);
            let rootfs = self.rootfs().await.map_err(|error| failed(&error))?;
            let root = rootfs.map_or_else(|| PathBuf::from("/"), |rootfs| rootfs.dir.clone());
            let id = tokio::task::spawn_blocking(move || sandbox::system_id(&root)).await;
            id.map_err(|error| failed(&error))?.map_err(|error| failed(&error))
        }
        .boxed()
    }

    fn logs(&self) -> BoxFuture<'_, Result<Vec<u8>, BottleError>> {
        async { Ok(self.bundle.logs().await) }.boxed()
    }

    fn tear_down(&self) -> BoxFuture<'_, Result<(), BottleError>> {
        self.bundle.tear_down().boxed()
    }
}
