//! The live view: what is asked, with its diff; keys to decide; what has been decided.
//!
//! Lines are only ever added, so it reads the same over a pipe. Keys are about the proposal that was shown whole last, the
//! oldest that is open.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use bottle_policy::supervise::Request;
use bottle_wire::control::Update;
use bottle_wire::proposal::Standing;
use bottle_wire::proposal::{ProposalId, Verdict};

use super::decide::decide;
use super::keys::Keys;
use super::pick::AttachedRun;
use super::view;
use crate::approve::{one_line, outcome};
use crate::cli::Context;
use crate::exit::{Code, Failure};

/// A key that comes sooner after something new is shown was meant for something else.
const TOO_SOON: Duration = Duration::from_millis(400);

pub(super) async fn main(run: &AttachedRun, json: bool, context: &Context) -> Result<Code, Failure> {
    let mut updates = run.control().watch().await.map_err(Failure::machine)?;
    let mut screen = Screen {
        run,
        context,
        json,
        keys: if json { None } else { Keys::listen() },
        proposals: BTreeMap::new(),
        shown: None,
    };
    screen.say(&format!("{}: what the agent asks for\n", context.out.paint("1", &run.slug)));
    loop {
        let key = async {
            match &mut screen.keys {
                Some(keys) => keys.next().await,
                None => std::future::pending().await,
            }
        };
        let update = tokio::select! {
            update = updates.next() => Some(update.map_err(Failure::machine)?),
            key = key => match key {
                None | Some(b'q' | 0x03 | 0x04) => return Ok(Code::Done),
                Some(key) => {
                    screen.press(key).await;
                    None
                }
            },
            _ = tokio::signal::ctrl_c() => return Ok(Code::Done),
        };
        match update {
            Some(Some(update)) => screen.take(update),
            Some(None) => {
                screen.say(&format!("{}: ended\n", context.out.paint("1", &run.slug)));
                return Ok(Code::Done);
            }
            None => {}
        }
        screen.show_next();
    }
}

struct Screen<'a> {
    run: &'a AttachedRun,
    context: &'a Context,
    json: bool,
    keys: Option<Keys>,
    proposals: BTreeMap<ProposalId, Standing>,
    /// What was shown whole, with its hash, and when.
    shown: Option<(ProposalId, String, Instant)>,
}

impl Screen<'_> {
    /// A reader that went away is no error; the next key or update ends it.
    fn say(&self, text: &str) {
        if !self.json {
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    fn take(&mut self, update: Update) {
        if self.json {
            if let Ok(line) = serde_json::to_string(&update) {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush());
            }
            return;
        }
        match update {
            Update::Progress { line, .. } => self.say(&format!("     {}\n", one_line(&line))),
            Update::Proposal(standing) => {
                let id = standing.proposal.id;
                let before = self.proposals.insert(id, (*standing).clone());
                if before.as_ref().is_some_and(|before| {
                    before.state.is_open() == standing.state.is_open()
                        && before.proposal.hash == standing.proposal.hash
                        && before.state == standing.state
                }) {
                    return;
                }
                if standing.state.is_open() {
                    if self.shown.is_some() {
                        self.say(&format!("{}\n", view::line(&standing, self.context.out)));
                    }
                    return;
                }
                let Some(outcome) = outcome(&standing.state) else { return };
                let detail = if outcome.detail.is_empty() { String::new() } else { format!(": {}", outcome.detail) };
                self.say(&format!("{}{detail}\n", view::line(&standing, self.context.out)));
            }
        }
    }

    /// Shows the oldest open one whole, once.
    fn show_next(&mut self) {
        let open = self.proposals.values().find(|standing| standing.state.is_open());
        let Some(standing) = open else {
            self.shown = None;
            return;
        };
        let (id, hash) = (standing.proposal.id, standing.proposal.hash.clone());
        if self.json || self.shown.as_ref().is_some_and(|(shown, as_of, _)| *shown == id && *as_of == hash) {
            return;
        }
        let mut text = format!("\n{}", view::details(standing, self.context.out));
        if self.keys.is_some() {
            let yes = if matches!(standing.proposal.request, Request::Ask { .. }) { "[a]nswer" } else { "[a]pprove" };
            text.push_str(&format!("  {yes}  [d]eny  [q]uit\n"));
        }
        text.push('\n');
        self.say(&text);
        self.shown = Some((id, hash, Instant::now()));
    }

    async fn press(&mut self, key: u8) {
        let Some((id, _, since)) = self.shown.clone() else {
            return self.say("  nothing is open\n");
        };
        if !matches!(key, b'a' | b'd') {
            return self.say("  [a]pprove or [a]nswer, [d]eny, [q]uit\n");
        }
        if since.elapsed() < TOO_SOON {
            return self.say("  that was very fast: look, and press it again\n");
        }
        let Some(standing) = self.proposals.get(&id).cloned() else { return };
        let proposal = &standing.proposal;
        let question = matches!(proposal.request, Request::Ask { .. });
        let verdict = if key == b'a' && !question {
            Verdict::Approve
        } else {
            self.say(if key == b'a' { "  the answer (Escape gives up):\n> " } else { "  why (Escape gives up):\n> " });
            let Some(keys) = &mut self.keys else { return };
            let echo = |text: &str| {
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            };
            let Some(text) = keys.line(echo).await else { return };
            if key == b'a' { Verdict::Answer { text } } else { Verdict::Deny { why: text } }
        };
        // What came of it comes as an update.
        if let Err(failure) = decide(self.run, proposal, verdict, self.context).await {
            self.say(&format!("  {failure}\n"));
        }
    }
}
