//! What was asked for in a conversation, each once: a command may reach the runner more than once, as by a label and by the mention
//! in the same issue, or as two kinds of event for one comment.
//!
//! A hidden line of our own comment lists what was taken up. The same job's run may do it again: people start jobs again. A run that
//! chooses its issue leaves alone what any other has taken up.

use bottle_plan::moment::Moment;
use bottle_plan::plan::BottlePlan;
use bottle_plan::task::Source;
use bottle_wire::proposal::sha256;

/// Begins the line.
const BEGIN: &str = "<!-- claude-bottle: asked ";
const END: &str = " -->";
/// Older ones are forgotten.
const MAX_ASKS: usize = 20;
/// Stands for the end of a run that has none yet.
const RUNNING: &str = "-";

/// Something that is asked for, by the agent that shall do it: a comment, or the issue or pull request itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    key: String,
    /// The forge's number of the run of the workflow.
    job: String,
    /// When it was asked for.
    at: Option<Moment>,
    /// A comment is there once; a label can be given again when the work is done.
    is_comment: bool,
    /// Chosen among others: what any other run has taken up is left to it, whatever that was asked for.
    is_choice: bool,
}

/// The asks that were taken up in a conversation, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asks(Vec<TakenAsk>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct TakenAsk {
    key: String,
    job: String,
    /// RFC 3339; none while the run goes on.
    ended: Option<String>,
}

/// A job's number, as the list has it.
fn job_word(run_id: &str) -> String {
    run_id.chars().filter(char::is_ascii_alphanumeric).collect()
}

impl Ask {
    /// The ask of a job's plan; none where the task is about no issue and no pull request.
    pub(crate) fn from_plan(plan: &BottlePlan) -> Option<Self> {
        let thread = plan.task.thread()?;
        let agent = plan.agent.name.as_str();
        let asked_at = plan.task.asked_at.as_deref().unwrap_or_default();
        let (parts, is_comment) = match &plan.task.source {
            // Asked for again by `retry` it has another time.
            Source::Comment { form, comment_id, .. } => (format!("{form:?} {comment_id} {asked_at} {agent}"), true),
            // Each commit is reviewed once.
            Source::Proposed(_) => {
                let head = plan.task.pull_request.as_ref().map(|pull| pull.head.to_string());
                (format!("proposed {} {agent}", head.unwrap_or_default()), true)
            }
            // What is changed in between is something else.
            _ => (format!("thread {agent} {} {}", thread.title, thread.body), false),
        };
        let job = job_word(&plan.ci.as_ref()?.run_id);
        let key = sha256(&parts)[..16].to_owned();
        Some(Self { key, job, at: Moment::parse(asked_at), is_comment, is_choice: false })
    }

    /// The same of an issue that this run has chosen.
    pub(crate) fn chosen(self) -> Self {
        Self { is_choice: true, ..self }
    }

    /// The choice of an issue whose label was given at this time, by the run of a workflow with this number.
    pub(crate) fn choice(run_id: &str, given_at: &str) -> Self {
        let job = job_word(run_id);
        Self { key: String::new(), job, at: Moment::parse(given_at), is_comment: false, is_choice: true }
    }
}

impl Ask {
    /// The same for every try of one job to do what was asked for.
    pub(super) fn id(&self) -> String {
        format!("{}-{}", self.key, self.job)
    }
}

impl Asks {
    /// The list in a comment of ours, below the line of the lease.
    pub(super) fn read(body: &str) -> Self {
        let line = body.lines().nth(2).unwrap_or_default().trim();
        let entries = line.strip_prefix(BEGIN).and_then(|line| line.strip_suffix(END)).unwrap_or_default();
        let entry = |text: &str| {
            let mut parts = text.splitn(3, '/').map(str::to_owned);
            let (key, job, ended) = (parts.next()?, parts.next()?, parts.next()?);
            Some(TakenAsk { key, job, ended: Some(ended).filter(|ended| ended != RUNNING) })
        };
        Self(entries.split(' ').filter_map(entry).collect())
    }

    /// The line; empty where there is nothing to list. `ended` is the time at which the last one's run ended.
    pub(super) fn line(&self, ended: Option<&str>) -> String {
        let last = self.0.len().saturating_sub(1);
        let entry = |(number, taken): (usize, &TakenAsk)| {
            let ended = taken.ended.as_deref().or(ended.filter(|_| number == last)).unwrap_or(RUNNING);
            format!("{}/{}/{ended}", taken.key, taken.job)
        };
        let entries: Vec<String> = self.0.iter().enumerate().map(entry).collect();
        if entries.is_empty() { String::new() } else { format!("{BEGIN}{}{END}\n", entries.join(" ")) }
    }

    /// Whether another job has taken this up; `live` where the run that wrote the list goes on.
    pub(super) fn have(&self, ask: &Ask, live: bool) -> bool {
        if ask.is_choice {
            return self.have_any(ask);
        }
        self.0.iter().filter(|taken| taken.key == ask.key && taken.job != ask.job).any(|taken| match &taken.ended {
            None => live,
            Some(_) if ask.is_comment => true,
            // Asked for again after the end it is wanted again.
            Some(ended) => Moment::parse(ended).is_some_and(|ended| ask.at.is_some_and(|at| at <= ended)),
        })
    }

    /// Whether another job has taken up anything since the label was given, or may have. A run that died has taken it up, too.
    fn have_any(&self, ask: &Ask) -> bool {
        let was_before = |ended: &String| {
            let (ended, at) = (Moment::parse(ended), ask.at);
            ended.is_some_and(|ended| at.is_some_and(|at| ended < at))
        };
        let others = |taken: &&TakenAsk| taken.job != ask.job && !taken.ended.as_ref().is_some_and(was_before);
        // A list of nothing is an older version's, whose run is not known.
        self.0.is_empty() || self.0.iter().any(|taken| others(&taken))
    }

    /// With one more, which is being done. A run that has not said its end is dead, and its ask may be taken up again.
    pub(super) fn with(mut self, ask: Option<&Ask>) -> Self {
        self.0.retain(|taken| taken.ended.is_some());
        if let Some(ask) = ask {
            self.0.retain(|taken| (&taken.key, &taken.job) != (&ask.key, &ask.job));
            self.0.push(TakenAsk { key: ask.key.clone(), job: ask.job.clone(), ended: None });
        }
        let surplus = self.0.len().saturating_sub(MAX_ASKS);
        self.0.drain(..surplus);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDED: &str = "2026-03-02T09:20:00Z";

    fn ask(job: &str, at: &str, is_comment: bool) -> Ask {
        Ask { key: "00112233".to_owned(), job: job.to_owned(), at: Moment::parse(at), is_comment, is_choice: false }
    }

    fn body(line: &str) -> String {
        format!("<!-- claude-bottle: status -->\n<!-- lease -->\n{line}### x")
    }

    #[test]
    fn one_ask_is_done_once() {
        let first = ask("77", "2026-03-02T09:10:00Z", true);
        let asks = Asks::default().with(Some(&first));
        for (name, ended, live, job, at, is_comment, have) in [
            ("the same comment while the first run goes on", None, true, "78", "2026-03-02T09:10:00Z", true, true),
            ("the same comment after it", Some(ENDED), false, "78", "2026-03-02T09:10:00Z", true, true),
            ("the same job once more", Some(ENDED), false, "77", "2026-03-02T09:10:00Z", true, false),
            ("the first run is dead", None, false, "78", "2026-03-02T09:10:00Z", true, false),
            ("a label from before its end", Some(ENDED), false, "78", "2026-03-02T09:19:00Z", false, true),
            ("a label from after its end", Some(ENDED), false, "78", "2026-03-02T09:21:00Z", false, false),
            ("a label of unknown time", Some(ENDED), false, "78", "yesterday", false, false),
        ] {
            let read = Asks::read(&body(&asks.line(ended)));
            assert_eq!(read.have(&ask(job, at, is_comment), live), have, "{name}");
        }
        assert!(!asks.have(&Ask { key: "other".to_owned(), ..ask("78", ENDED, true) }, true));
    }

    #[test]
    fn a_choice_is_left_to_whoever_has_taken_up_anything_there() {
        let first = Ask { key: "other".to_owned(), ..ask("77", "2026-03-02T09:10:00Z", true) };
        let asks = Asks::default().with(Some(&first));
        for (name, ended, job, given, have) in [
            ("at work", None, "78", "2026-03-02T09:10:00Z", true),
            ("dead, as far as it said", None, "78", "2026-03-02T10:10:00Z", true),
            ("done", Some(ENDED), "78", "2026-03-02T09:10:00Z", true),
            ("done in the second in which the label was given", Some(ENDED), "78", ENDED, true),
            ("the label was given again", Some(ENDED), "78", "2026-03-02T09:20:01Z", false),
            ("at an unknown time", Some(ENDED), "78", "yesterday", true),
            ("ended at an unknown time", Some("yesterday"), "78", "2026-03-02T09:20:01Z", true),
            ("the same job once more", Some(ENDED), "77", "2026-03-02T09:10:00Z", false),
        ] {
            let read = Asks::read(&body(&asks.line(ended)));
            assert_eq!(read.have(&Ask::choice(job, given), ended.is_none()), have, "{name}");
        }
        assert!(Asks::default().have(&Ask::choice("78", ENDED), false), "a run that lists nothing");
    }

    #[test]
    fn the_list_is_short_and_has_no_dead_runs() {
        let mut asks = Asks::default();
        for number in 0..50 {
            let next = Ask { key: format!("{number:08}"), ..ask("77", ENDED, true) };
            asks = Asks::read(&body(&asks.with(Some(&next)).line(Some(ENDED))));
        }
        assert_eq!(asks.0.len(), MAX_ASKS);
        assert_eq!(asks.0.last().map(|taken| taken.key.as_str()), Some("00000049"));
        let dead = Asks::read(&body(&asks.clone().with(Some(&ask("78", ENDED, true))).line(None)));
        assert_eq!(dead.with(None).0, asks.0[1..], "the dead run took the oldest one's place, and leaves it");
        for text in [
            "",
            "x",
            "a\nb\nc",
            &body("<!-- claude-bottle: asked x -->\n"),
            &body("<!-- claude-bottle: asked a/b -->\n"),
        ] {
            assert_eq!(Asks::read(text), Asks::default(), "{text}");
        }
    }
}
