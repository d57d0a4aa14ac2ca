//! The loop: one task owns all daemons; signals, ends and starts come to it one after the other.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bottle_policy::bundle::{self, Bundle};
use bottle_types::door::Door;
use bottle_wire::control::SUPERVISOR_SOCKET;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant as Later, sleep, sleep_until, timeout};

use super::control::{self, ControlChannels};
use super::daemon::{DaemonProcess, RestartDecision, describe};
use super::error::InitError;
use super::install::Installer;
use super::lines::say;
use crate::common::{self, Dirs, PIPELOCK_SOCKET};
use crate::confirm::Report;

/// How long daemons may take to end by themselves.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long their last lines may take to come.
const LAST_LINES_TIMEOUT: Duration = Duration::from_millis(50);
/// How often a door that is not open yet is tried.
const DOOR_CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// Whoever is in the bundle may connect; who it is decides what counts.
const SOCKET_MODE: u32 = 0o666;
/// Control messages that wait.
const QUEUE_LENGTH: usize = 32;

/// Runs the bundle until SIGTERM or SIGINT, or until a daemon is given up.
pub(super) async fn run(dirs: &Dirs, bundle: &Bundle, config_dir: &Path) -> Result<(), InitError> {
    let start = |error| InitError::Start { what: "the supervisor".to_owned(), error };
    let mut term = signal(SignalKind::terminate()).map_err(start)?;
    let mut int = signal(SignalKind::interrupt()).map_err(start)?;
    let mut hup = signal(SignalKind::hangup()).map_err(start)?;
    let mut child = signal(SignalKind::child()).map_err(start)?;
    // Orphans of daemons come here also where this is not PID 1.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));

    // Behind egress, pipelock has no door of the guest's.
    let behind = bundle.daemons.iter().any(|daemon| daemon.door == Door::Egress);
    let socket = |daemon: &bundle::Daemon| match daemon.door {
        Door::Pipelock if behind => dirs.internal.join(PIPELOCK_SOCKET),
        door => dirs.socket(door),
    };
    let mut daemons: Vec<DaemonProcess> =
        bundle.daemons.iter().map(|daemon| DaemonProcess::new(daemon.clone(), socket(daemon))).collect();
    let doors = daemons.iter().map(|daemon| daemon.socket.clone()).collect();
    tokio::spawn(announce("supervisor", "all doors open", doors));
    let Control { mut reports, mut hangups, to_installer } = control(dirs, bundle, config_dir)?;

    let result = loop {
        if let Err(error) = start_due(&mut daemons, dirs, config_dir) {
            break Err(error);
        }
        let due = daemons.iter().filter_map(|daemon| daemon.due).min();
        tokio::select! {
            _ = term.recv() => break Ok(()),
            _ = int.recv() => break Ok(()),
            _ = hup.recv() => daemons.iter_mut().for_each(DaemonProcess::hang_up),
            Some(door) = hangups.recv() => {
                daemons.iter_mut().filter(|daemon| daemon.name == door.name()).for_each(DaemonProcess::hang_up);
            }
            Some((pid, report)) = reports.recv() => {
                let from = daemons.iter_mut().zip(&bundle.daemons);
                let of = |daemon: &DaemonProcess| daemon.pid().is_some_and(|daemon_pid| daemon_pid.as_raw_nonzero().get() == pid);
                if let Some((daemon, policy)) = from.into_iter().find(|(daemon, _)| of(daemon)) {
                    daemon.reported();
                    // It waits for nobody: only what is said while a policy is installed matters.
                    let _ = to_installer.try_send((policy.door, report));
                }
            }
            _ = child.recv() => {
                if let Err(error) = note_ends(&mut daemons) {
                    break Err(error);
                }
            }
            () = sleep_until(due.map_or_else(Later::now, Later::from_std)), if due.is_some() => {}
        }
    };
    if let Err(error) = &result {
        say("supervisor", &format!("ending the bundle: {error}"));
    }
    end(&mut daemons, &mut child).await;
    result
}

/// Channels between the loop and the installer of policies.
struct Control {
    /// Process, and what it says.
    reports: mpsc::Receiver<(i32, Report)>,
    /// Doors to signal.
    hangups: mpsc::Receiver<Door>,
    to_installer: mpsc::Sender<(Door, Report)>,
}

/// Opens the control socket, and starts what puts policies in force; gives what the loop has to do with it.
fn control(dirs: &Dirs, bundle: &Bundle, config_dir: &Path) -> Result<Control, InitError> {
    let listener = common::listen(&dirs.internal.join(SUPERVISOR_SOCKET), SOCKET_MODE)?;
    let (to_loop, reports) = mpsc::channel(QUEUE_LENGTH);
    let (to_wanted, wanted) = mpsc::channel(QUEUE_LENGTH);
    let (to_hangups, hangups) = mpsc::channel(QUEUE_LENGTH);
    let (to_installer, from_doors) = mpsc::channel(QUEUE_LENGTH);
    tokio::spawn(control::serve(listener, ControlChannels::new(bundle, to_loop, to_wanted)));
    let installer = Installer {
        dirs: dirs.clone(),
        config_dir: config_dir.to_owned(),
        doors: bundle.daemons.iter().map(|daemon| (daemon.door, daemon.config.clone())).collect(),
        hangups: to_hangups,
        reports: from_doors,
    };
    tokio::spawn(installer.run(wanted));
    Ok(Control { reports, hangups, to_installer })
}

fn start_due(daemons: &mut [DaemonProcess], dirs: &Dirs, config_dir: &Path) -> Result<(), InitError> {
    let now = Instant::now();
    for daemon in daemons.iter_mut().filter(|daemon| daemon.due.is_some_and(|due| due <= now)) {
        if let Err(error) = daemon.start(dirs, config_dir) {
            after_the_end(daemon, &format!("failed to start: {error}"))?;
        }
    }
    Ok(())
}

/// Collects every child that has ended; those that are no daemons are orphans of theirs.
fn ends() -> impl Iterator<Item = (Pid, WaitStatus)> {
    std::iter::from_fn(|| rustix::process::wait(WaitOptions::NOHANG).ok().flatten())
}

fn note_ends(daemons: &mut [DaemonProcess]) -> Result<(), InitError> {
    for (pid, status) in ends() {
        if let Some(daemon) = daemons.iter_mut().find(|daemon| daemon.pid() == Some(pid)) {
            // Processes that it started may hold its socket or its repository.
            daemon.signal_group(Signal::KILL);
            after_the_end(daemon, &describe(status))?;
        }
    }
    Ok(())
}

fn after_the_end(daemon: &mut DaemonProcess, reason: &str) -> Result<(), InitError> {
    match daemon.ended(Instant::now()) {
        RestartDecision::Again(pause) => {
            say(
                "supervisor",
                &format!("{} ended: {reason}; starting it again in {} ms", daemon.name, pause.as_millis()),
            );
            // What it listened on is closed, and takes no connection until the next one listens.
            tokio::spawn(announce(daemon.name, "open again", vec![daemon.socket.clone()]));
            Ok(())
        }
        RestartDecision::GiveUp => Err(InitError::GaveUp { door: daemon.name, reason: reason.to_owned() }),
    }
}

/// Ends all daemons: asks, waits as long as it must, insists.
async fn end(daemons: &mut [DaemonProcess], child: &mut tokio::signal::unix::Signal) {
    let start = Instant::now();
    daemons.iter().for_each(|daemon| daemon.signal_group(Signal::TERM));
    let mut insisted = false;
    loop {
        let ended: Vec<Pid> = ends().map(|(pid, _)| pid).collect();
        for daemon in daemons.iter_mut().filter(|daemon| daemon.pid().is_some_and(|pid| ended.contains(&pid))) {
            daemon.signal_group(Signal::KILL);
            daemon.ended(Instant::now());
        }
        let left: Vec<&str> =
            daemons.iter().filter(|daemon| daemon.pid().is_some()).map(|daemon| daemon.name).collect();
        if left.is_empty() {
            break;
        }
        if start.elapsed() >= STOP_TIMEOUT && !insisted {
            say("supervisor", &format!("killing what does not end: {}", left.join(", ")));
            daemons.iter().for_each(|daemon| daemon.signal_group(Signal::KILL));
            insisted = true;
        }
        let pause = if insisted { STOP_TIMEOUT } else { STOP_TIMEOUT.saturating_sub(start.elapsed()) };
        tokio::select! {
            _ = child.recv() => {}
            () = sleep(pause) => if insisted && start.elapsed() >= 2 * STOP_TIMEOUT { break },
        }
    }
    // Last lines are still in the pipes. A pipe may be held open by what has left its daemon's group.
    for lines in daemons.iter_mut().filter_map(|daemon| daemon.lines.take()) {
        let _ = timeout(LAST_LINES_TIMEOUT, lines).await;
    }
    say("supervisor", &format!("all ended in {} ms", start.elapsed().as_millis()));
}

/// Says when every one of these doors takes connections.
async fn announce(name: &'static str, what: &'static str, doors: Vec<PathBuf>) {
    let start = Instant::now();
    for door in doors {
        while UnixStream::connect(&door).await.is_err() {
            sleep(DOOR_CHECK_INTERVAL).await;
        }
    }
    say(name, &format!("{what} after {} ms", start.elapsed().as_millis()));
}
