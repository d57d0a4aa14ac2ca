//! The bubblewrap backend: two sandboxes of bwrap, no daemon and no image. In the one is the guest, without a network; in the
//! other the bundle, with the host's.
//!
//! Map: `host` (what this machine has), `users` (who they are on the host), `place` (the run's own directory), `mounts` (what
//! they see), `seccomp`, `limits`, `sandbox` (starting one, and running commands in it). Always: both end with the
//! runner; nothing of the host but programs and the run's own directories is in them; no secret is on a disk.

mod host;
mod limits;
mod mounts;
mod place;
mod sandbox;
mod seccomp;
mod users;

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bottle_plan::manifest::Resources;
use bottle_plan::plan::{BottlePlan, HOST_CA_FILE, HOST_SYSTEM, TOOLS_DIR};
use bottle_policy::door::{CONFIG_DIR, SECRETS_DIR};
use bottle_policy::known::KnownSecrets;
use bottle_policy::units::ByteSize;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::{
    Backend, Bottle, BottleError, Exec, Leftover, Output, Progress, Room, Running, Survey, Tree, Who, succeed,
};
use crate::exit::Failure;
use crate::facts::{self, Environment};
use crate::process::Kept;
use crate::secrets::Secrets;
use place::{Notes, Place, Process};
use sandbox::{Options, Sandbox};
use users::Users;

/// Copying in and out, and setting up.
const STEP: Duration = Duration::from_secs(120);
/// The exit code by which copying out says that there is nothing.
const NOTHING: i64 = 44;
/// The bundle's share, as on Docker.
const BUNDLE: Resources = Resources { cpus: 64.0, memory: ByteSize(2 << 30), pids: 1024 };

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
    host::survey(&Environment::read()).await
}

impl Backend for Bubblewrap {
    fn prepare<'a>(&'a self, plan: &'a BottlePlan, _progress: &'a dyn Progress) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            if plan.images.guest != HOST_SYSTEM {
                return Err(Failure::machine(format_args!(
                    "bubblewrap runs this machine's own system, not the image {}",
                    plan.images.guest
                ))
                .hint("leave out `image:` and --image, or use --backend docker"));
            }
            host::tools(&self.environment)?;
            host::trial().await
        }
        .boxed()
    }

    fn bottle(&self, plan: &BottlePlan, record: &Path) -> Box<dyn Bottle> {
        let place = Place::of(&place::base(&self.environment), plan.slug.as_str());
        let sandbox = |name: &str| Sandbox {
            socket: place.path(&format!("{name}.sock")),
            log: place.path(&format!("{name}.log")),
        };
        Box::new(Sandboxed {
            guest: sandbox("guest"),
            bundle: sandbox("bundle"),
            users: Users::of(plan.slug.as_str()),
            environment: self.environment.clone(),
            plan: plan.clone(),
            record: record.to_owned(),
            running: Mutex::default(),
            place,
        })
    }

    fn leftovers(&self) -> BoxFuture<'_, Result<Vec<Leftover>, Failure>> {
        async move {
            let found = Place::all(&place::base(&self.environment)).into_iter().map(|(slug, place)| {
                let notes = place.notes();
                let age = Some(Duration::from_secs(place.age()));
                let mut leftover = Leftover {
                    slug,
                    age,
                    record: notes.as_ref().map(|notes| notes.record.clone()),
                    ..Leftover::default()
                };
                leftover.add("directory", place.path("").display().to_string());
                let notes = notes.unwrap_or_default();
                for _ in notes.processes.iter().filter(|process| process.is_alive()) {
                    leftover.running = true;
                    leftover.add("sandbox", "");
                }
                notes.cgroups.iter().for_each(|group| leftover.add("control group", group.display().to_string()));
                leftover
            });
            Ok(found.collect())
        }
        .boxed()
    }

    fn remove<'a>(&'a self, leftover: &'a Leftover, mask: &'a KnownSecrets) -> BoxFuture<'a, Result<(), Failure>> {
        async move {
            let place = Place::of(&place::base(&self.environment), &leftover.slug);
            let lost = leftover.record.as_deref().filter(|dir| dir.is_dir() && !dir.join("compose.log").exists());
            if let Some(record) = lost {
                std::fs::write(record.join("compose.log"), mask.mask(&place.logs())).map_err(|error| {
                    Failure::machine(format_args!("failed to write {}/compose.log: {error}", record.display()))
                })?;
            }
            place.remove().await.map_err(|why| {
                Failure::machine(format_args!("failed to remove what {} has left: {why}", leftover.slug))
            })
        }
        .boxed()
    }
}

/// A bottle of two sandboxes.
struct Sandboxed {
    guest: Sandbox,
    bundle: Sandbox,
    users: Users,
    environment: Environment,
    plan: BottlePlan,
    record: PathBuf,
    place: Place,
    /// The sandboxes that this process has started: they end with these.
    running: Mutex<Vec<Kept>>,
}

impl Sandboxed {
    async fn start(&self, secrets: &Secrets) -> Result<Vec<String>, Failure> {
        let mut tools = host::tools(&self.environment)?;
        let failed = |error: std::io::Error| {
            Failure::machine(format_args!("failed to make {}: {error}", self.place.path("").display()))
                .hint("set BOTTLE_RUNTIME_DIR to a directory of your own on a local disk")
        };
        self.place.make()?;
        for tool in [&mut tools.link, &mut tools.sidecars, &mut tools.claude, &mut tools.gitleaks] {
            *tool = self.place.reachable(tool).map_err(failed)?;
        }
        let mut notes = Notes { record: self.record.clone(), started: facts::unix_seconds(), ..Notes::default() };
        self.place.note(&notes).map_err(failed)?;
        mounts::make(&self.place, &self.plan, self.users).map_err(failed)?;

        let name = |room: &str| format!("claude-bottle-{}-{room}", self.plan.slug);
        let guest_limits = limits::set(&name("guest"), &self.plan.guest.resources);
        let bundle_limits = limits::set(&name("bundle"), &BUNDLE);
        notes.cgroups = [&guest_limits, &bundle_limits].into_iter().flat_map(|limits| limits.groups.clone()).collect();
        self.place.note(&notes).map_err(failed)?;

        let mut guest = mounts::guest(&self.place, &self.plan, &tools);
        self.confine(&mut guest).map_err(Failure::machine)?;
        guest.user = self.users.guest;
        guest.groups = guest_limits.groups;
        guest.info = Some(self.place.path("guest.info"));
        for (name, value) in &self.plan.guest.env {
            guest.add(&["--setenv", name, value]);
        }
        guest.add(&["--chdir", &self.plan.guest.root, "--remount-ro", "/dev", "--remount-ro", "/"]);
        let mut init = self.plan.guest.init.clone();
        init.push("--control".to_owned());
        init.extend(guest_limits.options);

        let mut bundle = mounts::bundle(&self.place, &tools);
        bundle.user = self.users.bundle;
        bundle.groups = bundle_limits.groups;
        bundle.info = Some(self.place.path("bundle.info"));
        if self.plan.host_ca_bundle.is_some() {
            bundle.add(&["--setenv", "SSL_CERT_FILE", HOST_CA_FILE, "--setenv", "GIT_SSL_CAINFO", HOST_CA_FILE]);
        }
        bundle.add(&["--chdir", "/", "--remount-ro", "/"]);
        let link = [&format!("{TOOLS_DIR}/bin/bottle-link"), "forward", "--control"].map(str::to_owned);

        let (guest, bundle) = tokio::join!(
            self.guest.start(&guest, &init, self.place.log("guest.log").map_err(failed)?),
            self.bundle.start(&bundle, &link, self.place.log("bundle.log").map_err(failed)?),
        );
        let mut first = None;
        for started in [guest, bundle] {
            match started {
                Ok((kept, process)) => {
                    self.running.lock().await.push(kept);
                    notes.processes.push(process);
                }
                Err(error) => first = first.or(Some(error)),
            }
        }
        self.place.note(&notes).map_err(failed)?;
        if let Some(error) = first {
            return Err(Failure::machine(error).hint("`bottle-runner doctor` tries a sandbox and says what is missing"));
        }
        self.sidecars(secrets).await.map_err(Failure::machine)?;
        Ok(vec![format!("limits of the guest: {}", guest_limits.said)])
    }

    /// The seccomp programs, as files that bwrap reads.
    fn confine(&self, options: &mut Options) -> Result<(), String> {
        for (at, program) in seccomp::programs()?.into_iter().enumerate() {
            let path = self.place.write(&format!("seccomp.{at}"), &program, None);
            options.filters.push(path.map_err(|error| format!("failed to write a seccomp program: {error}"))?);
        }
        Ok(())
    }

    /// Gives the bundle its secrets, in memory, and starts the supervisor.
    async fn sidecars(&self, secrets: &Secrets) -> Result<(), BottleError> {
        let mut tree = Tree::new();
        for (name, value) in secrets.files() {
            tree = tree.file(format!("{SECRETS_DIR}/{name}"), 0, 0o400, value.to_vec());
        }
        if !tree.nodes.is_empty() {
            self.copy_in(Room::Bundle, tree).await?;
        }
        let supervisor = format!("{TOOLS_DIR}/bin/bottle-sidecars");
        let config = format!("{CONFIG_DIR}/bundle.yaml");
        let mut exec = Exec::guest([supervisor.as_str(), "supervisor", "--config", &config]);
        exec.room = Room::Bundle;
        let mut running = self.bundle.exec(exec).await?;
        let mut log =
            self.place.log("bundle.log").map_err(|error| BottleError::new("failed to open bundle.log", error))?;
        tokio::spawn(async move {
            let mut rest = vec![];
            while let Some(Output::Stdout(bytes) | Output::Stderr(bytes)) = running.output.recv().await {
                rest.extend_from_slice(&bytes);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = rest.drain(..=end).collect();
                    // A full disk must not end the doors.
                    let _ = log.write_all(&[facts::now().as_bytes(), b" ", &line].concat());
                }
            }
            let ended = running.code.await;
            let said = match ended {
                Ok(Ok(code)) => format!("ended with {code}"),
                _ => "went away".to_owned(),
            };
            let _ = log.write_all(format!("{} supervisor | {said}\n", facts::now()).as_bytes());
        });
        Ok(())
    }

    /// Runs a command beside the guest, in its system but for writing: what the agent must not change is set up so.
    async fn set_up(&self, exec: Exec) -> Result<Running, BottleError> {
        let command = exec.argv.first().cloned().unwrap_or_default();
        let failed = |error: &dyn std::fmt::Display| {
            BottleError::new(format_args!("failed to run `{command}` beside the bottle"), error)
        };
        let mut options = mounts::setup(&self.place);
        self.confine(&mut options).map_err(|error| failed(&error))?;
        options.user = self.users.setup;
        for (name, value) in &exec.env {
            options.add(&["--setenv", name, value]);
        }
        options.add(&["--chdir", exec.cwd.as_deref().unwrap_or("/")]);
        let program = options.command(&exec.argv).limit(STEP).input(exec.stdin.unwrap_or_default());
        let ended = program.run().await.map_err(|error| failed(&error))?;
        let (sender, output) = mpsc::channel(2);
        let (code_sender, code) = oneshot::channel();
        // There is room for both, and the receivers are here.
        let _ = sender.send(Output::Stdout(ended.stdout.into())).await;
        let _ = sender.send(Output::Stderr(ended.stderr.into())).await;
        let _ = code_sender.send(Ok(ended.code.into()));
        Ok(Running { output, code })
    }
}

impl Bottle for Sandboxed {
    fn up<'a>(&'a self, secrets: &'a Secrets) -> BoxFuture<'a, Result<Vec<String>, Failure>> {
        self.start(secrets).boxed()
    }

    fn exec(&self, exec: Exec) -> BoxFuture<'_, Result<Running, BottleError>> {
        async move {
            match (exec.room, exec.who) {
                (Room::Guest, Who::Agent) => self.guest.exec(exec).await,
                (Room::Guest, Who::Root) => self.set_up(exec).await,
                (Room::Bundle, _) => self.bundle.exec(exec).await,
            }
        }
        .boxed()
    }

    fn copy_in(&self, room: Room, tree: Tree) -> BoxFuture<'_, Result<(), BottleError>> {
        async move {
            let archive =
                tree.to_tar().map_err(|error| BottleError::new("failed to copy files into the bottle", error))?;
            let mut exec = Exec::guest(["tar", "-x", "-p", "-o", "-f", "-", "-C", "/"]).in_dir("/");
            (exec.room, exec.stdin) = (room, Some(archive));
            succeed(self, exec, STEP).await.map(drop)
        }
        .boxed()
    }

    fn copy_out<'a>(&'a self, room: Room, path: &'a str) -> BoxFuture<'a, Result<Option<Tree>, BottleError>> {
        async move {
            let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
            let script = format!("[ -e \"$1/$2\" ] || exit {NOTHING}; exec tar -c -f - -C \"$1/\" -- \"$2\"");
            let mut exec = Exec::guest(["sh", "-c", &script, "sh", parent, name]).in_dir("/");
            exec.room = room;
            let failed = |reason: &dyn std::fmt::Display| {
                BottleError::new(format_args!("failed to copy {path} out of the bottle"), reason)
            };
            let mut running = self.exec(exec).await?;
            let (mut archive, mut complaint) = (vec![], vec![]);
            while let Some(output) = running.output.recv().await {
                match output {
                    Output::Stdout(bytes) => archive.extend_from_slice(&bytes),
                    Output::Stderr(bytes) => complaint.extend_from_slice(&bytes),
                }
            }
            match running.code.await.map_err(|_| failed(&"the sandbox went away"))?? {
                0 => Tree::from_tar(&archive, parent).map(Some).map_err(|error| failed(&error)),
                NOTHING => Ok(None),
                code => {
                    Err(failed(&format_args!("tar ended with {code}: {}", String::from_utf8_lossy(&complaint).trim())))
                }
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

    fn logs(&self) -> BoxFuture<'_, Result<Vec<u8>, BottleError>> {
        async { Ok(self.place.logs()) }.boxed()
    }

    fn tear_down(&self) -> BoxFuture<'_, Result<(), BottleError>> {
        async move {
            for process in self.place.notes().unwrap_or_default().processes {
                Process::kill(process);
            }
            for mut kept in self.running.lock().await.drain(..) {
                kept.end().await;
            }
            self.place.remove().await.map_err(|why| BottleError::new("failed to remove the sandboxes", why))
        }
        .boxed()
    }
}
