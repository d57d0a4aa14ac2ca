//! Running Claude Code in a bottle: start it, have it go on in its session, read its event stream, keep its limits, say how it ended.
//!
//! Map: `stream` (lines to [`stream::AgentEvent`]). What counts as success is decided here alone: exit 0, a `result` event
//! of subtype `success`, no error flag, and at least one turn. Its output is data, never instructions to the runner.

mod stream;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bottle_plan::plan::{BottlePlan, ClaudeLimits, SessionId};
use bottle_policy::budget::REACHED;
use bottle_types::record_file::RecordFile;
use bottle_types::units::Seconds;

use crate::backend::{Bottle, Exec, OutputChunk};
use crate::exit::{Code, Failure};
use crate::provision::GuestEnv;
use crate::report::{Case, Events, RunEvent, Suite};
use crate::state::{LineFile, RunRecord};

use stream::{AgentEvent, LineSplitter, TokenUsage};

/// How the agent ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct AgentOutcome {
    /// The failure with its exit code; none: the agent did what it set out to do.
    pub(crate) failure: Option<(Code, String)>,
    pub(crate) session_id: Option<String>,
    pub(crate) turns: Option<u64>,
    pub(crate) cost_usd: Option<f64>,
    /// The agent's last words.
    pub(crate) result: Option<String>,
}

/// Where the manifest gives no time limit: a job of the forges' hosted runners ends after six hours in any case.
const TIME_LIMIT: Seconds = Seconds(6 * 3600);
/// The most output that is read: more is no event stream, and the record is on the host's disk.
const MOST_OUTPUT: u64 = 256 << 20;
/// After a SIGTERM, how long until SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// With less of a US dollar left nothing is begun: no request costs so little, and Claude Code takes no limit of zero.
const LEAST_COST: f64 = 0.0001;
const TURNS_REACHED: &str = "the limit of turns was reached";
const COST_REACHED: &str = "the cost limit was reached";

/// The agent of a run. It may be asked to go on, in the same session of Claude Code's; its limits are for all of that together.
pub(crate) struct AgentSession<'r> {
    bottle: &'r dyn Bottle,
    plan: &'r BottlePlan,
    env: GuestEnv,
    /// Arguments that the plan does not know.
    arguments: &'static [&'static str],
    events: &'r Events,
    transcript: LineFile,
    watch: LimitWatch,
    /// When it has begun first.
    started: Option<Instant>,
    /// How often it has begun.
    attempts: u32,
    /// Bytes of standard output.
    printed: u64,
    session_id: Option<String>,
    turns: Option<u64>,
    cost_usd: Option<f64>,
}

impl<'r> AgentSession<'r> {
    pub(crate) fn new(
        bottle: &'r dyn Bottle,
        plan: &'r BottlePlan,
        env: &GuestEnv,
        arguments: &'static [&'static str],
        record: &RunRecord,
        events: &'r Events,
    ) -> Result<Self, Failure> {
        Ok(Self {
            bottle,
            plan,
            env: env.clone(),
            arguments,
            events,
            transcript: record.lines(RecordFile::Transcript)?,
            watch: LimitWatch::new(plan),
            started: None,
            attempts: 0,
            printed: 0,
            session_id: None,
            turns: None,
            cost_usd: None,
        })
    }

    /// Runs the agent to its end, or to a limit.
    pub(crate) async fn begin(&mut self) -> Result<AgentOutcome, Failure> {
        self.attempt(Ok(Exec::guest(self.plan.command.clone()))).await
    }

    /// Has the agent go on in a session of an earlier run, whose turns and dollars are not this run's.
    pub(crate) async fn begin_in(&mut self, earlier: &SessionId, prompt: &str) -> Result<AgentOutcome, Failure> {
        self.session_id = Some(earlier.as_str().to_owned());
        self.go_on(prompt).await
    }

    /// Has the agent go on with this, to its end or to a limit. The outcome is that of all its attempts.
    pub(crate) async fn go_on(&mut self, prompt: &str) -> Result<AgentOutcome, Failure> {
        let exec = self.going_on().map(|argv| {
            let mut exec = Exec::guest(argv);
            exec.stdin = Some(prompt.as_bytes().to_vec());
            exec
        });
        self.attempt(exec).await
    }

    /// The command, within what is left of the limits; or why there can be none.
    fn going_on(&self) -> Result<Vec<String>, (Code, String)> {
        let Some(session) = self.session_id.as_deref().and_then(SessionId::parse) else {
            return Err((Code::Task, "the agent can't go on: its session has no id".to_owned()));
        };
        let limits = self.plan.limits.clone();
        let turns = limits.turns.map(|limit| u64::from(limit).saturating_sub(self.turns.unwrap_or_default()));
        let cost_usd = limits.cost_usd.map(|limit| limit - self.cost_usd.unwrap_or_default().max(0.0));
        if turns == Some(0) {
            return Err((Code::Limit, TURNS_REACHED.to_owned()));
        }
        if cost_usd.is_some_and(|left| left < LEAST_COST) {
            return Err((Code::Limit, COST_REACHED.to_owned()));
        }
        Ok(self.plan.go_on(&session, ClaudeLimits { turns, cost_usd }))
    }

    /// One process of the agent's; or the reason for which there is none.
    async fn attempt(&mut self, exec: Result<Exec, (Code, String)>) -> Result<AgentOutcome, Failure> {
        let begun = Instant::now();
        let deadline = *self.started.get_or_insert(begun) + Duration::from(self.time_limit());
        self.attempts += 1;
        let exec = exec.and_then(|mut exec| match begun < deadline {
            true => {
                exec.argv.extend(self.arguments.iter().map(|argument| (*argument).to_owned()));
                Ok(exec)
            }
            false => Err((Code::Limit, self.time_reached())),
        });
        let ended = match exec {
            Ok(exec) => self.run(exec, deadline).await?,
            Err(failure) => AgentOutcome { failure: Some(failure), ..AgentOutcome::default() },
        };
        let outcome = self.with(ended);
        self.events.case(Case {
            failure: outcome.failure.as_ref().map(|(_, why)| why.clone()),
            output: outcome.result.clone().unwrap_or_default(),
            attempt: (self.attempts > 1).then_some(self.attempts),
            ..Case::passed(Suite::Agent, self.plan.agent.name.to_string(), begun.elapsed())
        });
        Ok(outcome)
    }

    fn time_limit(&self) -> Seconds {
        self.plan.limits.time.unwrap_or(TIME_LIMIT)
    }

    fn time_reached(&self) -> String {
        format!("the time limit of {} was reached", self.time_limit())
    }

    /// The outcome of all attempts, the last of which ended like this. Claude Code counts turns anew each time, and dollars through the
    /// whole session.
    fn with(&mut self, ended: AgentOutcome) -> AgentOutcome {
        self.session_id = ended.session_id.or(self.session_id.take());
        self.turns = match (self.turns, ended.turns) {
            (Some(before), Some(more)) => Some(before.saturating_add(more)),
            (before, more) => more.or(before),
        };
        self.cost_usd = match (self.cost_usd, ended.cost_usd) {
            (Some(before), Some(all)) => Some(before.max(all)),
            (before, all) => all.or(before),
        };
        AgentOutcome {
            session_id: self.session_id.clone(),
            turns: self.turns,
            cost_usd: self.cost_usd,
            failure: ended.failure,
            result: ended.result,
        }
    }

    async fn run(&mut self, exec: Exec, deadline: Instant) -> Result<AgentOutcome, Failure> {
        let (bottle, time_reached) = (self.bottle, self.time_reached());
        let mut exec = exec.in_dir(&self.plan.guest.start());
        exec.env.clone_from(&self.env.0);
        let lost = |error: &dyn std::fmt::Display| {
            Failure::machine(format_args!("lost the agent: {error}")).hint(
                "what it pushed before is in gate.jsonl of the run record, and compose.log says more; start the run again",
            )
        };
        let mut output = AgentOutput::new(self);
        let mut running = bottle.exec(exec).await.map_err(|error| lost(&error))?;
        let mut stopping: Option<Instant> = None;
        loop {
            let until = stopping.map_or(deadline, |since| since + GRACE);
            let next = match tokio::time::timeout_at(until.into(), running.output.recv()).await {
                Ok(Some(OutputChunk::Stderr(bytes))) => output.read_stderr(&bytes),
                Ok(Some(OutputChunk::Stdout(bytes))) => output.read_stdout(&bytes, stopping.is_some())?,
                Ok(None) => break,
                Err(_) if stopping.is_none() => {
                    output.fail(Code::Limit, time_reached.clone());
                    Next::Terminate
                }
                Err(_) => Next::Kill,
            };
            match next {
                Next::GoOn => {}
                Next::Terminate => {
                    bottle.signal("TERM").await.map_err(|error| lost(&error))?;
                    stopping = Some(Instant::now());
                }
                Next::Kill => {
                    bottle.signal("KILL").await.map_err(|error| lost(&error))?;
                    break;
                }
            }
        }
        let code = match tokio::time::timeout(GRACE, running.code).await {
            Ok(Ok(code)) => code.map_err(|error| lost(&error))?,
            _ => -1,
        };
        Ok(output.outcome(code))
    }
}

/// The runner's answer to a piece of the agent's output.
enum Next {
    GoOn,
    /// SIGTERM, and SIGKILL after [`GRACE`].
    Terminate,
    Kill,
}

/// The output of one process of the agent's as far as it was read: into the transcript, into events, and into what the outcome is
/// made of.
struct AgentOutput<'s, 'r> {
    session: &'s mut AgentSession<'r>,
    lines: LineSplitter,
    stderr: String,
    result: Option<stream::AgentEnd>,
    outcome: AgentOutcome,
}

impl<'s, 'r> AgentOutput<'s, 'r> {
    fn new(session: &'s mut AgentSession<'r>) -> Self {
        let lines = LineSplitter::default();
        Self { session, lines, stderr: String::new(), result: None, outcome: AgentOutcome::default() }
    }

    fn fail(&mut self, code: Code, why: String) {
        self.outcome.failure = Some((code, why));
    }

    fn read_stderr(&mut self, bytes: &[u8]) -> Next {
        self.stderr.push_str(&String::from_utf8_lossy(bytes));
        // The end is what matters of a long complaint.
        if self.stderr.len() > 64 << 10 {
            self.stderr = self.stderr.chars().skip(self.stderr.chars().count() / 2).collect();
        }
        Next::GoOn
    }

    fn read_stdout(&mut self, bytes: &[u8], stopping: bool) -> Result<Next, Failure> {
        self.session.printed += bytes.len() as u64;
        if self.session.printed > MOST_OUTPUT {
            self.fail(Code::Task, format!("the agent printed more than {MOST_OUTPUT} bytes"));
            return Ok(Next::Kill);
        }
        for line in self.lines.push(bytes) {
            self.session.transcript.push(&line)?;
            for event in stream::parse(&line) {
                self.take(event);
            }
        }
        if !stopping && let Some(reached) = self.session.watch.reached() {
            self.fail(Code::Limit, reached);
            return Ok(Next::Terminate);
        }
        Ok(Next::GoOn)
    }

    fn take(&mut self, event: AgentEvent) {
        match event {
            AgentEvent::Session { id } => self.outcome.session_id = Some(id),
            AgentEvent::NoServer { name } => self.without_server(&name),
            AgentEvent::Said(text) => self.session.events.emit(RunEvent::Said { text }),
            AgentEvent::Tool { name, input } => self.session.events.emit(RunEvent::Tool { name, input }),
            AgentEvent::Usage { message, usage } => self.session.watch.count(message, usage),
            AgentEvent::Result(end) => self.result = Some(end),
        }
    }

    /// Says of a server of the manifest's that the agent has to do without it.
    fn without_server(&self, name: &str) {
        if self.session.plan.tools.servers.keys().any(|known| known.as_str() == name) {
            self.session
                .events
                .warn(format!("the MCP server `{name}` did not start; the agent works without its tools"));
        }
    }

    /// The outcome, now that the agent has ended with this exit code.
    fn outcome(self, code: i64) -> AgentOutcome {
        let mut outcome = self.outcome;
        if let Some(end) = self.result {
            outcome.turns = end.turns;
            outcome.cost_usd = end.cost_usd;
            outcome.session_id = end.session_id.clone().or(outcome.session_id);
            outcome.result.clone_from(&end.text);
            outcome.failure = outcome.failure.or_else(|| judge(code, &end));
        }
        if outcome.turns.is_none() && outcome.failure.is_none() {
            let why = self.stderr.trim();
            let why = if why.is_empty() { "it printed no result" } else { why };
            outcome.failure = Some((Code::Task, format!("the agent ended with {code} without a result: {why}")));
        }
        outcome
    }
}

/// The fault of a result, if it has one: an API error can come with exit code 0 or subtype `success`.
fn judge(code: i64, ended: &stream::AgentEnd) -> Option<(Code, String)> {
    let message = ended.text.as_deref().unwrap_or_default().trim();
    match ended.subtype.as_str() {
        "error_max_turns" => return Some((Code::Limit, TURNS_REACHED.to_owned())),
        "error_max_budget_usd" => return Some((Code::Limit, COST_REACHED.to_owned())),
        "success" => {}
        other => return Some((Code::Task, format!("the agent ended with `{other}`: {message}"))),
    }
    // egress' words, which Claude Code passes on; whoever makes them up only says that he is done.
    if (ended.is_error || code != 0)
        && let Some((_, what)) = message.split_once(REACHED)
    {
        let what = what.split([';', '"']).next().unwrap_or_default();
        return Some((Code::Limit, format!("a limit was reached: {what}")));
    }
    if ended.is_error {
        return Some((Code::Task, format!("the agent ended on an error: {message}")));
    }
    if code != 0 {
        return Some((Code::Task, format!("the agent ended with exit code {code}: {message}")));
    }
    if ended.turns == Some(0) {
        return Some((Code::Task, "the agent did nothing: no turn at all".to_owned()));
    }
    None
}

/// Tokens so far, by message: a message's usage comes again with each of its blocks.
struct LimitWatch {
    limit: Option<u64>,
    messages: HashMap<String, TokenUsage>,
}

impl LimitWatch {
    fn new(plan: &BottlePlan) -> Self {
        Self { limit: plan.limits.tokens, messages: HashMap::new() }
    }

    fn count(&mut self, message: String, usage: TokenUsage) {
        let seen = self.messages.entry(message).or_default();
        *seen = TokenUsage { input: seen.input.max(usage.input), output: seen.output.max(usage.output) };
    }

    fn reached(&self) -> Option<String> {
        let limit = self.limit?;
        let used: u64 = self.messages.values().map(|usage| usage.input + usage.output).sum();
        (used > limit).then(|| format!("the limit of {limit} tokens was reached ({used} used)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_egress_keeps_is_a_limit() {
        let ended = |is_error, text: &str| stream::AgentEnd {
            subtype: "success".to_owned(),
            is_error,
            text: Some(text.to_owned()),
            turns: Some(3),
            ..stream::AgentEnd::default()
        };
        let message =
            format!(r#"API Error: 400 {{"message":"{REACHED}5.02 of 5 US dollars are spent; the run ends"}}"#);
        let (code, why) = judge(1, &ended(true, &message)).expect("a failure");
        assert_eq!((code, why.as_str()), (Code::Limit, "a limit was reached: 5.02 of 5 US dollars are spent"));
        // A run that went well may talk of limits as it likes.
        assert_eq!(judge(0, &ended(false, &message)), None);
        assert_eq!(judge(1, &ended(true, "API Error: 400")).map(|(code, _)| code), Some(Code::Task));
    }
}
