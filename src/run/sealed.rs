//! The self-test of the seal: the guest tries each way out before the agent starts; one that works stops the run.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use bottle_plan::plan::BottlePlan;
use bottle_types::door::Door;
use bottle_types::secret::SecretName;
use serde::Deserialize;

use super::provisioned::Provisioned;
use super::{LiveRun, RunContext, canary_push, case};
use crate::backend::{Bottle, Exec, finish};
use crate::exit::Failure;
use crate::host;
use crate::provision::GuestEnv;
use crate::report::{Case, Phase, Suite};
use crate::secrets::Secrets;

/// The doors may take this long to open, and every attempt to get out as long again.
const SELFTEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A bottle whose seal is proved. It takes the provisioned one, so that what it proves is what the agent finds.
pub(super) struct Sealed<'r> {
    run: LiveRun<'r>,
    env: GuestEnv,
}

impl<'r> Sealed<'r> {
    /// Runs the self-test.
    pub(super) async fn prove(provisioned: Provisioned<'r>) -> Result<Self, Failure> {
        let (run, env) = provisioned.into_parts();
        let events = run.context.events;
        events.phase(Phase::Seal);
        case(events, "seal", self_test(run.bottle, run.context)).await?;
        Ok(Self { run, env })
    }

    pub(super) fn into_parts(self) -> (LiveRun<'r>, GuestEnv) {
        (self.run, self.env)
    }
}

/// What stands before the door in the name of a case that sends the canary.
const CANARY_CASE: &str = "canary.";

/// A line of the self-test: one way out, or one door.
#[derive(Debug, Deserialize)]
struct SelfTestCase {
    case: String,
    ok: bool,
    detail: String,
    ms: u64,
}

/// Runs the self-test with the host's own addresses, at a port that does listen.
async fn self_test(bottle: &dyn Bottle, context: RunContext<'_>) -> Result<(), Failure> {
    let RunContext { inputs, plan, events, .. } = context;
    let broken = |why: &str| {
        Failure::machine(format_args!("the seal could not be proved: {why}"))
            .hint("nothing was run; compose.log in the run record says more")
    };
    // A port that answers on every address of this host: a guest that can reach any of them is not sealed.
    let listener = TcpListener::bind(("0.0.0.0", 0)).map_err(|error| broken(&error.to_string()))?;
    let port = listener.local_addr().map_err(|error| broken(&error.to_string()))?.port();
    let mut addresses = host::own_addresses()
        .map_err(|error| broken(&format!("failed to list the addresses of this machine: {error}")))?;
    addresses.extend(bottle.host_addresses().await.map_err(|error| broken(&error.to_string()))?);
    addresses.sort();
    addresses.dedup();
    if addresses.is_empty() {
        return Err(broken("no address of this host is known, so reaching it can't be tried"));
    }
    let mut argv = argv(plan, &addresses, port);
    if let Some(source) = bottle.own_system().await? {
        argv.extend(["--image".to_owned(), source]);
    }
    let mut exec = Exec::guest(argv).in_dir("/");
    exec.stdin = canarys_push(plan, &inputs.secrets)?;
    let done = finish(bottle, exec, SELFTEST_TIMEOUT).await.map_err(|error| broken(&error.to_string()))?;
    let (mut holes, mut leaks) = (vec![], vec![]);
    let (mut tried, mut doors) = (0, 0);
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        let case: SelfTestCase =
            serde_json::from_str(line).map_err(|error| broken(&format!("`{line}` is not a case: {error}")))?;
        match case.case.strip_prefix(CANARY_CASE) {
            Some(door) => {
                doors += 1;
                leaks.extend((!case.ok).then(|| format!("{door}: {}", case.detail)));
            }
            None => {
                tried += 1;
                holes.extend((!case.ok).then(|| format!("{}: {}", case.case, case.detail)));
            }
        }
        events.case(Case {
            failure: (!case.ok).then(|| case.detail.clone()),
            output: case.detail,
            ..Case::passed(Suite::Seal, case.case, Duration::from_millis(case.ms))
        });
    }
    if let Some(first) = holes.first() {
        return Err(Failure::machine(format_args!("the bottle is not sealed: {first}{}", more(holes.len())))
            .hint("nothing was run in it; junit.xml in the run record has each way out that was tried"));
    }
    if let Some(first) = leaks.first() {
        let more = more(leaks.len());
        return Err(Failure::machine(format_args!("a door does not refuse a known secret: {first}{more}")).hint(
            "the agent was not started; compose.log in the run record has what the door says, and junit.xml each door that was tried; \
             a door of another version than the runner does this, too: `bottle-runner self check` compares them",
        ));
    }
    // pipelock is no door of a guest that has egress.
    let is_behind = |door: &Door| *door == Door::Pipelock && plan.doors.contains(&Door::Egress);
    let all_doors = plan.doors.iter().filter(|door| !is_behind(door)).count();
    if done.code != 0 || tried == 0 || doors != all_doors {
        return Err(broken(&format!(
            "the self-test ended with {} after {tried} ways out and {doors} of {all_doors} doors: {}",
            done.code,
            done.text().trim()
        )));
    }
    events.note(format!("sealed: {tried} ways out tried, none works; {doors} doors refuse a known secret"));
    Ok(())
}

/// What the self-test pushes through the gate; none: there is no gate.
fn canarys_push(plan: &BottlePlan, secrets: &Secrets) -> Result<Option<Vec<u8>>, Failure> {
    if !plan.doors.contains(&Door::GitGate) {
        return Ok(None);
    }
    let (value, _) =
        secrets.value(&SecretName::canary()).ok_or_else(|| Failure::machine("the run has made no canary"))?;
    canary_push::push(value.expose()).map(Some)
}

/// The self-test's arguments, with each address that must not be reached.
fn argv(plan: &BottlePlan, addresses: &[IpAddr], port: u16) -> Vec<String> {
    let mut argv = plan.guest.selftest.clone();
    for address in addresses {
        argv.extend(["--host-address".to_owned(), SocketAddr::new(*address, port).to_string()]);
    }
    argv
}

fn more(holes: usize) -> String {
    if holes > 1 { format!(" (and {} more)", holes - 1) } else { String::new() }
}
