//! The services of a bottle: programs of this machine, each in a sandbox of its own that has no network and no door. Its first process,
//! the link, takes the agent's connections on sockets that it has from outside; none has a name in there.

use std::io::Write as _;
use std::path::PathBuf;

use bottle_plan::plan::{BottlePlan, ServicePlan, ServiceSource, TOOLS_DIR};
use tokio::sync::watch;

use crate::backend::bundle::HostBundle;
use crate::backend::sandbox::{BwrapOptions, RunDir, SERVICE, Sandbox, Tools, etc as host_etc};
use crate::backend::{BottleError, Exec, OutputChunk, Running, last_lines};
use crate::exit::Failure;
use crate::secrets::Secrets;

/// Who it is inside.
const SERVICE_ID: u32 = 1000;
/// Where it starts, and all that it may write to but for /tmp.
const DATA: &str = "/data";
/// The most that is kept of what it prints, as on Docker.
const MAX_LOG_BYTES: usize = 50 << 20;
/// So much of that end is looked at for its last words.
const LAST_BYTES: usize = 16 << 10;

/// One service.
pub(super) struct HostService {
    sandbox: Sandbox,
    plan: ServicePlan,
    /// How its program has ended.
    ended: watch::Sender<Option<String>>,
    /// What its program sees besides its plan's variables.
    generated: watch::Sender<Vec<(String, String)>>,
}

impl HostService {
    pub(super) fn all(plan: &BottlePlan, bundle: &HostBundle) -> Vec<Self> {
        let one = |service: &ServicePlan| Self {
            sandbox: bundle.sandbox(&name(service)),
            plan: service.clone(),
            ended: watch::Sender::new(None),
            generated: watch::Sender::new(vec![]),
        };
        plan.services.iter().map(one).collect()
    }

    /// Makes its sandbox, and starts its program; how it is limited.
    pub(super) async fn start(
        &self,
        bundle: &HostBundle,
        tools: &Tools,
        filters: Vec<PathBuf>,
        secrets: &Secrets,
    ) -> Result<String, Failure> {
        let service = &self.plan;
        let name = name(service);
        let limits = bundle.limits(&name, &service.resources).await?;
        let made = options(&bundle.run_dir, service, tools, bundle.users.service);
        let mut options = made.map_err(|error| bundle.failed(error))?;
        (options.user, options.groups, options.filters) = (bundle.users.service, limits.groups, filters);
        let mut init = service.link.clone();
        init.extend(limits.options);
        bundle.launch(&name, options, &init).await?;
        let generated =
            service.generated.iter().map(|(variable, agents)| Ok((variable.clone(), secrets.generated(agents)?)));
        self.generated.send_replace(generated.collect::<Result<_, Failure>>()?);
        let ServiceSource::Program(program) = &service.source else {
            return Err(Failure::machine(format_args!("the service `{}` is no program of this machine", service.name)));
        };
        let running = self.exec(Exec::guest(program.iter().map(String::as_str))).await.map_err(Failure::machine)?;
        let log = bundle.run_dir.log(&format!("{name}.log")).map_err(|error| bundle.failed(error))?;
        tokio::spawn(keep_log(running, log, self.ended.clone()));
        Ok(format!("limits of the service {}: {}", service.name, limits.summary))
    }

    /// Runs a command in it, with the variables that its program has.
    pub(super) async fn exec(&self, mut exec: Exec) -> Result<Running, BottleError> {
        let own = self.plan.env.iter().map(|(name, value)| (name.clone(), value.clone()));
        exec.env = own.chain(self.generated.borrow().iter().cloned()).chain(exec.env).collect();
        exec.cwd.get_or_insert_with(|| DATA.to_owned());
        self.sandbox.exec(exec).await
    }

    /// Ends when its program has; how, and what it said last.
    pub(super) async fn died(&self) -> String {
        let mut ended = self.ended.subscribe();
        // The sender is beside the receiver.
        let how = ended.wait_for(Option::is_some).await.map(|how| how.clone().unwrap_or_default()).unwrap_or_default();
        match self.last_words() {
            words if words.is_empty() => format!("the service `{}` {how}", self.plan.name),
            words => format!("the service `{}` {how}: {words}", self.plan.name),
        }
    }

    /// What it has printed last.
    pub(super) fn last_words(&self) -> String {
        let printed = std::fs::read(&self.sandbox.log).unwrap_or_default();
        last_lines(&printed[printed.len().saturating_sub(LAST_BYTES)..])
    }
}

fn name(service: &ServicePlan) -> String {
    format!("{SERVICE}{}", service.name)
}

/// No network, no door, none of the run's directories but its own; the system's programs, read-only.
fn options(run_dir: &RunDir, service: &ServicePlan, tools: &Tools, user: Option<u32>) -> std::io::Result<BwrapOptions> {
    let name = name(service);
    run_dir.directory(&name, 0o755, None)?;
    run_dir.directory(&format!("{name}/data"), 0o700, user)?;
    run_dir.directory(&format!("{name}/tmp"), 0o1777, user)?;
    let id = SERVICE_ID;
    let mut own_files = vec![
        ("passwd", format!("root:x:0:0:root:/root:/bin/sh\nservice:x:{id}:{id}::{DATA}:/bin/sh\n")),
        ("group", format!("root:x:0:\nservice:x:{id}:\n")),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n".to_owned()),
        ("resolv.conf", String::new()),
    ];
    own_files.extend(host_etc::names("files"));
    let parts = host_etc::guest_parts();
    let etc = host_etc::shared_etc(run_dir.base(), &parts, &own_files, &[])?;
    let mut options = BwrapOptions::default();
    host_etc::add(&mut options, &id.to_string(), &parts);
    options.add(&["--unshare-net", "--as-pid-1", "--setenv", "HOME", DATA]);
    options.bind("--ro-bind", &etc, "/etc");
    options.bind("--bind", &run_dir.path(&format!("{name}/data")), DATA);
    options.bind("--bind", &run_dir.path(&format!("{name}/tmp")), "/tmp");
    options.bind("--ro-bind", &tools.link, &format!("{TOOLS_DIR}/bin/bottle-link"));
    options.add(&["--chdir", DATA, "--remount-ro", "/dev", "--remount-ro", "/"]);
    options.served =
        service.ports.iter().map(|port| (port.port, run_dir.path(&format!("doors/{}", port.socket)))).collect();
    Ok(options)
}

/// Keeps what its program prints, and how it ends.
async fn keep_log(mut running: Running, mut log: std::fs::File, ended: watch::Sender<Option<String>>) {
    let mut room = MAX_LOG_BYTES;
    while let Some(OutputChunk::Stdout(bytes) | OutputChunk::Stderr(bytes)) = running.output.recv().await {
        let kept = &bytes[..bytes.len().min(room)];
        room -= kept.len();
        // A full disk must not end the service.
        let _ = log.write_all(kept);
    }
    let how = match running.code.await {
        Ok(Ok(code)) => format!("has ended with {code}"),
        _ => "has lost its sandbox".to_owned(),
    };
    ended.send_replace(Some(how));
}
