//! Commands in a machine: `smolvm machine exec`, with the agent's confined, and ended when the machine is lost.

use std::time::Duration;

use bottle_plan::plan::TOOLS_DIR;
use tokio::sync::{mpsc, oneshot};

use super::{Machine, cli};
use crate::backend::{BottleError, Exec, ExecUser, OutputChunk, Running, seccomp};
use crate::process::Program;

/// A command may take as long as a run; what limits it is above.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(25 * 3600);
/// In the guest: the seccomp programs that the agent's commands are under.
const FILTERS_DIR: &str = "/opt/claude-bottle/filters";
/// How much of what a call printed last is searched for smolvm's own error.
const TAIL: usize = 8 << 10;
/// Between the end of a machine and that of the calls that were going on in it.
const LAST_WORDS: Duration = Duration::from_millis(250);

impl Machine {
    /// `machine exec -i`: without `-i` output past 11 MiB is lost without a word.
    fn command(&self, exec: &Exec) -> Program {
        let guest = &self.plan.guest;
        let cwd = exec.cwd.as_deref().unwrap_or(&guest.root);
        let mut words: Vec<String> =
            ["exec", "-i", "--name", self.name(), "-u", "0:0", "-w", cwd].map(str::to_owned).to_vec();
        for (name, value) in guest.env.iter().chain(exec.env.iter().map(|(name, value)| (name, value))) {
            words.extend(["-e".to_owned(), format!("{name}={value}")]);
        }
        words.push("--".to_owned());
        if exec.user == ExecUser::Agent {
            words.extend([format!("{TOOLS_DIR}/bin/bottle-link"), "confine".to_owned()]);
            words.extend(["--user".to_owned(), format!("{}:{}", guest.uid, guest.gid)]);
            words.extend(["--most-processes".to_owned(), guest.resources.pids.to_string()]);
            words.extend((0..seccomp::PROGRAMS).flat_map(|at| ["--filter".to_owned(), filter(at)]));
            words.push("--".to_owned());
        }
        words.extend(exec.argv.iter().cloned());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.smolvm.machine(&[], &words).limit(COMMAND_TIMEOUT).input(exec.stdin.clone().unwrap_or_default())
    }

    /// Starts a command; a machine that is lost ends it.
    pub(super) fn run(&self, exec: &Exec) -> Result<Running, BottleError> {
        let failed = |error: &dyn std::fmt::Display| {
            let command = exec.argv.first().map_or("", String::as_str);
            BottleError::new(format_args!("failed to run `{command}` in the machine"), error)
        };
        let piped = self.command(exec).pipes().map_err(|error| failed(&error))?;
        let command = exec.argv.first().cloned().unwrap_or_default();
        let (life, name) = (self.life.clone(), self.name().to_owned());
        let (to_us, mut from_it) = mpsc::channel(64);
        let (sender, output) = mpsc::channel(64);
        let (code_sender, code) = oneshot::channel();
        tokio::spawn(async move {
            let mut tail = vec![];
            let pass = async {
                while let Some(piece) = from_it.recv().await {
                    if let OutputChunk::Stderr(bytes) = &piece {
                        tail.extend_from_slice(bytes);
                        tail.drain(..tail.len().saturating_sub(TAIL));
                    }
                    if sender.send(piece).await.is_err() {
                        break;
                    }
                }
            };
            let relayed = async {
                let ended = piped.relay(&to_us, OutputChunk::Stdout, OutputChunk::Stderr).await;
                drop(to_us);
                ended
            };
            let ended = tokio::select! {
                (ended, ()) = async { tokio::join!(relayed, pass) } => Some(ended),
                // What it had printed before is still on its way.
                () = async { life.lost().await; tokio::time::sleep(LAST_WORDS).await } => None,
                // Whoever started it has gone: the call is ended by being dropped.
                () = sender.closed() => return,
            };
            drop(sender);
            let doing = format!("failed to run `{command}` in the machine");
            let ended = match ended {
                Some(Ok(0)) => Ok(0),
                // A call whose machine is lost may end with anything, and before that is known.
                other => match (tokio::time::timeout(LAST_WORDS, life.lost()).await, other) {
                    (Ok(why), _) => Err(BottleError::new(format_args!("the machine {name} is lost"), why)),
                    (Err(_), Some(Ok(code))) => match cli::own_error(&tail) {
                        // Its own failure has a guest's exit code.
                        Some(error) if code == 1 => Err(BottleError::new(&doing, error)),
                        _ => Ok(i64::from(code)),
                    },
                    (Err(_), Some(Err(error))) => Err(BottleError::new(&doing, error)),
                    (Err(_), None) => Err(BottleError::new(&doing, "the machine is lost")),
                },
            };
            let _ = code_sender.send(ended);
        });
        Ok(Running { output, code })
    }
}

/// Where one of the seccomp programs is in the guest.
pub(super) fn filter(at: usize) -> String {
    format!("{FILTERS_DIR}/{at}")
}
