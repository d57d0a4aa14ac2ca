//! Running Claude Code in a bottle: start it, read its event stream, keep its limits, say how it ended.
//!
//! Map: `stream` (lines to [`stream::AgentEvent`]). What counts as success is decided here alone: exit 0, a `result` event
//! of subtype `success`, no error flag, and at least one turn. Its output is data, never instructions to the runner.

mod stream;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bottle_plan::plan::BottlePlan;
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

/// Runs the agent to its end, or to a limit.
pub(crate) async fn run(
    bottle: &dyn Bottle,
    plan: &BottlePlan,
    env: &GuestEnv,
    record: &RunRecord,
    events: &Events,
) -> Result<AgentOutcome, Failure> {
    let started = Instant::now();
    let mut session = Session::new(plan, record.lines(RecordFile::Transcript)?, events);
    let mut exec = Exec::guest(plan.command.clone()).in_dir(&plan.guest.workdir);
    exec.env.clone_from(&env.0);
    let lost = |error: &dyn std::fmt::Display| {
        Failure::machine(format_args!("lost the agent: {error}")).hint(
            "what it pushed before is in gate.jsonl of the run record, and compose.log says more; start the run again",
        )
    };
    let mut running = bottle.exec(exec).await.map_err(|error| lost(&error))?;
    let time_limit = plan.limits.time.unwrap_or(TIME_LIMIT);
    let deadline = started + Duration::from(time_limit);
    let mut stopping: Option<Instant> = None;
    loop {
        let until = stopping.map_or(deadline, |since| since + GRACE);
        let next = match tokio::time::timeout_at(until.into(), running.output.recv()).await {
            Ok(Some(OutputChunk::Stderr(bytes))) => session.read_stderr(&bytes),
            Ok(Some(OutputChunk::Stdout(bytes))) => session.read_stdout(&bytes, stopping.is_some())?,
            Ok(None) => break,
            Err(_) if stopping.is_none() => {
                session.fail(Code::Limit, format!("the time limit of {time_limit} was reached"));
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
    let outcome = session.outcome(code);
    events.case(Case {
        suite: Suite::Agent,
        name: plan.agent.name.to_string(),
        duration: started.elapsed(),
        failure: outcome.failure.as_ref().map(|(_, why)| why.clone()),
        output: outcome.result.clone().unwrap_or_default(),
    });
    Ok(outcome)
}

/// The runner's answer to a piece of the agent's output.
enum Next {
    GoOn,
    /// SIGTERM, and SIGKILL after [`GRACE`].
    Terminate,
    Kill,
}

/// The agent's output as far as it was read: into the transcript, into events, and into what the outcome is made of.
struct Session<'a> {
    transcript: LineFile,
    events: &'a Events,
    lines: LineSplitter,
    watch: LimitWatch,
    /// Bytes of standard output.
    printed: u64,
    stderr: String,
    result: Option<stream::AgentEnd>,
    outcome: AgentOutcome,
}

impl<'a> Session<'a> {
    fn new(plan: &BottlePlan, transcript: LineFile, events: &'a Events) -> Self {
        Self {
            transcript,
            events,
            lines: LineSplitter::default(),
            watch: LimitWatch::new(plan),
            printed: 0,
            stderr: String::new(),
            result: None,
            outcome: AgentOutcome::default(),
        }
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
        self.printed += bytes.len() as u64;
        if self.printed > MOST_OUTPUT {
            self.fail(Code::Task, format!("the agent printed more than {MOST_OUTPUT} bytes"));
            return Ok(Next::Kill);
        }
        for line in self.lines.push(bytes) {
            self.transcript.push(&line)?;
            for event in stream::parse(&line) {
                self.take(event);
            }
        }
        if !stopping && let Some(reached) = self.watch.reached() {
            self.fail(Code::Limit, reached);
            return Ok(Next::Terminate);
        }
        Ok(Next::GoOn)
    }

    fn take(&mut self, event: AgentEvent) {
        match event {
            AgentEvent::Session { id } => self.outcome.session_id = Some(id),
            AgentEvent::Said(text) => self.events.emit(RunEvent::Said { text }),
            AgentEvent::Tool { name, input } => self.events.emit(RunEvent::Tool { name, input }),
            AgentEvent::Usage { message, usage } => self.watch.count(message, usage),
            AgentEvent::Result(end) => self.result = Some(end),
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
        "error_max_turns" => return Some((Code::Limit, "the limit of turns was reached".to_owned())),
        "error_max_budget_usd" => return Some((Code::Limit, "the cost limit was reached".to_owned())),
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
