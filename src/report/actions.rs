//! The log of an Actions job: groups, annotations, masks, and a fence that keeps what is relayed from being taken for
//! commands; and the files by which a step hands on its outputs and its summary.
//!
//! Always: while anything of the agent's or of other people's is shown, commands are stopped by a token that was never
//! shown before; what is printed outside the fence is ours or made plain. Without a token nothing is shown.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bottle_wire::run_record::Outcome;

use super::gantt::gantt;
use super::{Case, Reporter, RunEvent, Suite, TimedEvent, card};
use crate::exit::{Code, Failure};
use crate::host;
use crate::workflow_commands::{escaped, plain, property, say};

/// GitHub shows ten annotations of a kind and step.
const MOST_ANNOTATIONS: usize = 10;

/// The terminal's lines, with what a job's runner wants around them.
pub(crate) struct Actions {
    inner: Box<dyn Reporter>,
    /// Makes the tokens.
    token: fn() -> Result<String, Failure>,
    /// Lifts the fence that is up.
    fence: Option<String>,
    /// True once it was said that there is no token.
    said_no_token: bool,
    group: bool,
    /// `GITHUB_STEP_SUMMARY`.
    summary: Option<PathBuf>,
    seen: Vec<TimedEvent>,
}

impl Actions {
    /// # Errors
    /// Where there is no token for the first fence.
    pub(crate) fn new(inner: Box<dyn Reporter>, summary: Option<PathBuf>) -> Result<Self, Failure> {
        Self::with_tokens(inner, summary, host::unguessable)
    }

    fn with_tokens(
        inner: Box<dyn Reporter>,
        summary: Option<PathBuf>,
        token: fn() -> Result<String, Failure>,
    ) -> Result<Self, Failure> {
        let mut actions = Self { inner, token, fence: None, said_no_token: false, group: false, summary, seen: vec![] };
        actions.raise_fence()?;
        Ok(actions)
    }

    fn raise_fence(&mut self) -> Result<(), Failure> {
        let token = (self.token)()?;
        say(&format!("::stop-commands::{token}\n"));
        self.fence = Some(token);
        Ok(())
    }

    /// Raises the fence; where that fails, the log says so once, and shows nothing until it succeeds.
    fn stop_commands(&mut self) {
        if let Err(failure) = self.raise_fence()
            && !std::mem::replace(&mut self.said_no_token, true)
        {
            let text =
                format!("{failure}; what others say is left out of this log: nothing would keep it from being obeyed");
            say(&format!("::error title=claude-bottle::{}\n", escaped(&text)));
        }
    }

    /// Shows an event inside of the fence, or not at all.
    fn show(&mut self, event: &RunEvent) {
        if self.fence.is_some() {
            self.inner.on(event);
        }
    }

    fn take_commands(&mut self) {
        if let Some(token) = self.fence.take() {
            say(&format!("::{token}::\n"));
        }
    }

    fn end_group(&mut self) {
        if std::mem::take(&mut self.group) {
            say("::endgroup::\n");
        }
    }
}

impl Reporter for Actions {
    fn on(&mut self, event: &RunEvent) {
        self.seen.push((i64::try_from(host::unix_millis()).unwrap_or(i64::MAX), event.clone()));
        match event {
            RunEvent::Phase { phase } => {
                self.take_commands();
                self.end_group();
                say(&format!("::group::{}\n", phase.name()));
                self.group = true;
                self.stop_commands();
                self.show(event);
            }
            RunEvent::Finished { .. } => {
                self.take_commands();
                self.end_group();
                self.stop_commands();
                self.show(event);
                self.take_commands();
                let seen: Vec<RunEvent> = self.seen.iter().map(|(_, event)| event.clone()).collect();
                for line in annotations(&seen) {
                    say(&line);
                }
                if let Some(path) = &self.summary
                    && let Err(error) = append(path, &format!("{}\n{}\n", card::status(&seen), gantt(&self.seen)))
                {
                    say(&format!(
                        "::warning::{}\n",
                        escaped(&format!("failed to write the job summary {}: {error}", path.display()))
                    ));
                }
            }
            // What comes after the end is fenced by itself.
            _ if self.fence.is_none() => {
                self.stop_commands();
                self.show(event);
                self.take_commands();
            }
            _ => self.show(event),
        }
    }
}

impl Drop for Actions {
    /// A run that ended without its last event must not leave the job's runner deaf.
    fn drop(&mut self) {
        self.take_commands();
        self.end_group();
    }
}

/// An annotation for each thing that failed, at its file and line where they are known; the run's own end is `cli`'s.
fn annotations(events: &[RunEvent]) -> Vec<String> {
    let failed = events.iter().filter_map(|event| match event {
        RunEvent::Case { case } if case.failure.is_some() && !case.was_superseded(events) => Some(case),
        _ => None,
    });
    let mut lines = vec![];
    for case in failed {
        let failure = case.failure.as_deref().unwrap_or_default();
        let title = format!("{}: {}", case.suite.name(), plain(&case.title()));
        let mut places = places(case);
        if places.is_empty() {
            places.push((String::new(), failure.to_owned()));
        }
        for (place, what) in places {
            let title = property(&title.chars().take(120).collect::<String>());
            let what: String = what.chars().take(1000).collect();
            lines.push(format!("::error {place}title={title}::{}\n", escaped(&what)));
        }
    }
    lines.truncate(MOST_ANNOTATIONS);
    lines
}

/// Files and lines of the repository that a failure names, as properties, each with its words.
fn places(case: &Case) -> Vec<(String, String)> {
    let text = match case.suite {
        // The gate names the place in its reason.
        Suite::Gate => case.failure.as_deref().unwrap_or_default(),
        Suite::Setup | Suite::Verify => case.output.as_str(),
        Suite::Bottle | Suite::Seal | Suite::Agent | Suite::Supervise => return vec![],
    };
    let mut places: Vec<(String, String)> = vec![];
    for line in text.lines() {
        if let Some((file, number)) = place(line) {
            let place = format!("file={},line={number},", property(&file));
            let what = if case.suite == Suite::Gate { text } else { line };
            if places.iter().all(|(seen, _)| *seen != place) {
                places.push((place, what.trim().to_owned()));
            }
        }
    }
    places.truncate(MOST_ANNOTATIONS);
    places
}

/// `src/a.rs:12`, `src/a.rs:12:5: error`, `File "/workspace/app/a.py", line 12`: a file of the repository and a line.
fn place(line: &str) -> Option<(String, u32)> {
    let words = line.trim();
    if let Some(rest) = words.strip_prefix("File \"") {
        let (file, rest) = rest.split_once("\", line ")?;
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        return Some((relative(file)?, number.parse().ok()?));
    }
    words.split_whitespace().find_map(|word| {
        let word = word.trim_matches(['(', ')', '"', '\'', ',', '`']);
        let (file, rest) = word.split_once(':')?;
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        // `host:443` is no place: a file has an extension or a directory.
        let named = file.contains('/')
            || file
                .rsplit_once('.')
                .is_some_and(|(stem, end)| !stem.is_empty() && end.chars().all(char::is_alphanumeric));
        let closed = rest[number.len()..].chars().next().is_none_or(|c| matches!(c, ':' | ',' | ')'));
        (named && closed && !number.is_empty()).then(|| Some((relative(file)?, number.parse().ok()?)))?
    })
}

/// A path below the repository's root, where the guest has it or as it stands; nothing that leads out of it.
fn relative(file: &str) -> Option<String> {
    let inside = match file.strip_prefix('/') {
        // `/workspace/NAME/` is the repository in the guest.
        Some(_) => file.strip_prefix("/workspace/")?.split_once('/')?.1,
        None => file.strip_prefix("./").unwrap_or(file),
    };
    let stays_inside = !inside.is_empty() && inside.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (stays_inside && inside.len() < 300).then(|| inside.to_owned())
}

/// What a step hands on.
#[derive(Debug, Default)]
pub(crate) struct Outputs {
    pub(crate) conclusion: &'static str,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) record: Option<String>,
    /// The agent's answer and its file.
    pub(crate) answer: Option<(String, String)>,
}

/// The longest answer that is an output, in bytes: a step takes it by a variable, and Linux takes no longer one than 128 KiB, its
/// name among them (`MAX_ARG_STRLEN`). Forges take 1 MiB.
const LONGEST_ANSWER_OUTPUT: usize = 96 << 10;

/// The word for how a command ended; `skipped` is for an event that asks for nothing.
pub(crate) fn conclusion(code: Code) -> &'static str {
    match code {
        Code::Done => "success",
        Code::Task => "failure",
        Code::Input => "bad-input",
        Code::Refused => "refused",
        Code::Machine => "machine",
        Code::Gate => "gate-refused",
        Code::Limit => "limit",
        Code::Interrupted | Code::Terminated => "cancelled",
    }
}

/// Every output once, each between delimiters that its value can't know.
///
/// # Errors
/// Where the file can't be written, or there is no delimiter: then nothing is written.
pub(crate) fn write_outputs(path: &Path, outputs: &Outputs) -> Result<(), Failure> {
    let text = rendered(outputs, host::unguessable)?;
    append_outputs(path, &text)
}

/// The outputs of a step that divides an issue: the issues that runs shall do, as JSON, and the agent that shall do them.
///
/// # Errors
/// As for [`write_outputs`].
pub(crate) fn write_issues(path: &Path, conclusion: &str, issues: &[u64], agent: &str) -> Result<(), Failure> {
    let issues = serde_json::json!(issues).to_string();
    let values = [("conclusion", conclusion.to_owned()), ("issues", issues), ("agent", agent.to_owned())];
    append_outputs(path, &fenced(values, host::unguessable)?)
}

fn append_outputs(path: &Path, text: &str) -> Result<(), Failure> {
    append(path, text).map_err(|error| {
        Failure::machine(format_args!("failed to write the step's outputs to {}: {error}", path.display()))
            .hint("GITHUB_OUTPUT must name a file that can be written")
    })
}

fn rendered(outputs: &Outputs, delimiter: impl FnMut() -> Result<String, Failure>) -> Result<String, Failure> {
    let outcome = outputs.outcome.as_ref();
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    let pull = outcome.and_then(|outcome| outcome.pull_request.as_ref());
    let answer = outputs.answer.as_ref();
    let values = [
        ("conclusion", outputs.conclusion.to_owned()),
        ("branch", text(outcome.and_then(|outcome| outcome.branch.as_ref()))),
        ("commit", outcome.and_then(|outcome| outcome.commit.as_ref()).map(ToString::to_string).unwrap_or_default()),
        ("pr-number", pull.map(|pull| pull.number.to_string()).unwrap_or_default()),
        ("pr-url", pull.map(|pull| pull.url.clone()).unwrap_or_default()),
        ("session-id", text(outcome.and_then(|outcome| outcome.session_id.as_ref()))),
        ("turns", outcome.and_then(|outcome| outcome.turns).map(|turns| turns.to_string()).unwrap_or_default()),
        ("cost-usd", outcome.and_then(|outcome| outcome.cost_usd).map(|cost| format!("{cost:.4}")).unwrap_or_default()),
        ("record", text(outputs.record.as_ref())),
        ("structured-output", text(answer.map(|(text, _)| text).filter(|text| text.len() <= LONGEST_ANSWER_OUTPUT))),
        ("structured-output-file", text(answer.map(|(_, file)| file))),
    ];
    fenced(values, delimiter)
}

/// Each value between delimiters that it can't know.
fn fenced<const COUNT: usize>(
    values: [(&str, String); COUNT],
    mut delimiter: impl FnMut() -> Result<String, Failure>,
) -> Result<String, Failure> {
    let mut all = String::new();
    for (name, value) in values {
        // An output is one line: what comes after a line end would be the next reader's surprise.
        let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mark = delimiter()?;
        all.push_str(&format!("{name}<<{mark}\n{value}\n{mark}\n"));
    }
    Ok(all)
}

/// The job's files are shared by all its steps: they are added to, never replaced.
fn append(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// Keeps what it is shown.
    struct Shown(Arc<Mutex<Vec<String>>>);

    impl Reporter for Shown {
        fn on(&mut self, event: &RunEvent) {
            self.0.lock().expect("a list").push(format!("{event:?}"));
        }
    }

    fn no_token() -> Result<String, Failure> {
        Err(Failure::machine("no random numbers"))
    }

    /// A token for the first fence alone.
    fn one_token() -> Result<String, Failure> {
        static GIVEN: AtomicUsize = AtomicUsize::new(0);
        match GIVEN.fetch_add(1, Ordering::Relaxed) {
            0 => Ok("token".to_owned()),
            _ => no_token(),
        }
    }

    #[test]
    fn without_a_token_nothing_of_others_is_shown() {
        let shown = Arc::new(Mutex::new(vec![]));
        assert!(Actions::with_tokens(Box::new(Shown(shown.clone())), None, no_token).is_err());
        let mut actions =
            Actions::with_tokens(Box::new(Shown(shown.clone())), None, one_token).expect("the first fence");
        let says = |text: &str| RunEvent::Said { text: text.to_owned() };
        actions.on(&says("fenced"));
        actions.on(&RunEvent::Phase { phase: crate::report::Phase::Agent });
        actions.on(&says("::error::unfenced"));
        actions.on(&RunEvent::Finished { outcome: Outcome::default(), record: "/r".into() });
        actions.on(&says("::error::after the end"));
        let shown = shown.lock().expect("a list");
        assert!(shown.len() == 1 && shown[0].contains("fenced"), "{shown:?}");
        assert!(rendered(&Outputs::default(), no_token).is_err());
    }

    fn failed(suite: Suite, failure: &str, output: &str) -> RunEvent {
        RunEvent::Case {
            case: Case {
                failure: Some(failure.to_owned()),
                output: output.to_owned(),
                ..Case::passed(suite, "a, b", Duration::ZERO)
            },
        }
    }

    #[test]
    fn failures_are_annotated_where_they_are() {
        let lines = annotations(&[
            failed(Suite::Gate, "aws-access-token at deploy.toml:2", ""),
            failed(
                Suite::Verify,
                "ended with 1",
                "  File \"/workspace/app/test_a.py\", line 12, in test\nsrc/b.rs:3:9: error: no\nlocalhost:443 refused\n",
            ),
            failed(Suite::Bottle, "no engine\nat all", ""),
        ]);
        assert_eq!(
            lines,
            [
                "::error file=deploy.toml,line=2,title=gate%3A a%2C b::aws-access-token at deploy.toml:2\n",
                "::error file=test_a.py,line=12,title=verify%3A a%2C b::File \"/workspace/app/test_a.py\", line 12, in test\n",
                "::error file=src/b.rs,line=3,title=verify%3A a%2C b::src/b.rs:3:9: error: no\n",
                "::error title=bottle%3A a%2C b::no engine%0Aat all\n",
            ]
        );
    }

    #[test]
    fn a_place_is_in_the_repository_or_none() {
        for text in [
            "/etc/passwd:1",
            "../a.rs:1",
            "/workspace/app/../../x.rs:1",
            "http://x:80",
            "12:30",
            "a.rs:x",
            "File \"/usr/lib/a.py\", line 3",
        ] {
            assert_eq!(place(text), None, "{text}");
        }
    }

    #[test]
    fn an_output_can_t_make_another() {
        let outcome = Outcome { branch: Some("x\nEOF\nconclusion=success".to_owned()), ..Outcome::default() };
        let outputs = Outputs { conclusion: "failure", outcome: Some(outcome), ..Outputs::default() };
        let text = rendered(&outputs, || Ok("EOF".to_owned())).expect("delimiters");
        assert!(text.contains("branch<<EOF\nx EOF conclusion=success\nEOF\n"), "{text}");
        assert_eq!(text.matches("<<EOF\n").count(), 11);
    }

    #[test]
    fn an_answer_is_an_output_as_it_is_or_a_file_where_it_is_long() {
        let said = serde_json::json!({"a": "EOF\n::error::x\nEOF\nconclusion<<EOF\u{85}\u{2028}%0A"});
        let answer = bottle_policy::outputs::answer_text(&said);
        let with =
            |answer: String| Outputs { answer: Some((answer, "/r/answer.json".to_owned())), ..Outputs::default() };
        let text = rendered(&with(answer.clone()), || Ok("EOF".to_owned())).expect("delimiters");
        assert!(text.contains(&format!("structured-output<<EOF\n{answer}\nEOF\n")), "{text}");
        let value =
            text.split("structured-output<<EOF\n").nth(1).and_then(|rest| rest.lines().next()).expect("a value");
        assert_eq!(serde_json::from_str::<serde_json::Value>(value).expect("JSON"), said);
        let long = format!("\"{}\"", "x".repeat(LONGEST_ANSWER_OUTPUT));
        let text = rendered(&with(long), || Ok("EOF".to_owned())).expect("delimiters");
        assert!(text.contains("structured-output<<EOF\n\nEOF\nstructured-output-file<<EOF\n/r/answer.json\nEOF\n"));
    }

    #[test]
    fn old_commands_are_broken() {
        assert_eq!(plain("a\r\n::error::x ##[add-mask]y"), "a  ::error::x ## [add-mask]y");
    }
}
