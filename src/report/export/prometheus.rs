//! Many runs in numbers, in Prometheus' text format, for the textfile collector of node_exporter.
//!
//! They are gauges and summaries of the records that are there now: a record that is removed is counted no more, which no counter may do.
//! The labels are bounded whatever the records say.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bottle_types::record_file::RecordFile;
use bottle_wire::push_report::PushVerdict;
use bottle_wire::run_record::Metadata;

use crate::exit::Code;
use crate::report::actions::conclusion;
use crate::report::model::millis;
use crate::report::show::{RunState, RunView, Spending, word};
use crate::report::site::{self, RunRow};
use crate::state;

/// Agents and rules that have series of their own: those with the most; the others are summed up as `other`.
const MAX_AGENTS: usize = 50;
const MAX_RULES: usize = 100;
const OTHER: &str = "other";
/// The shares of the summaries, in hundredths.
const QUANTILES: [(usize, &str); 3] = [(50, "0.5"), (95, "0.95"), (100, "1")];

/// The sums of many records.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Runs by agent and outcome.
    agents: BTreeMap<String, AgentSums>,
    /// Seconds of each phase.
    phases: BTreeMap<&'static str, Vec<f64>>,
    rules: BTreeMap<String, u64>,
    requests: BTreeMap<&'static str, u64>,
    pushes: BTreeMap<&'static str, u64>,
    proposals: BTreeMap<&'static str, u64>,
    unreadable: u64,
}

#[derive(Debug, Default)]
struct AgentSums {
    outcomes: BTreeMap<&'static str, u64>,
    cost: f64,
    tokens: [u64; 4],
    calls: u64,
    unpriced: u64,
    /// Of the runs that have ended.
    seconds: Vec<f64>,
    /// When the newest began, in seconds of Unix time.
    last: f64,
}

impl AgentSums {
    fn runs(&self) -> u64 {
        self.outcomes.values().sum()
    }

    fn add(&mut self, other: Self) {
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        self.cost += other.cost;
        for (sum, more) in self.tokens.iter_mut().zip(other.tokens) {
            *sum = sum.saturating_add(more);
        }
        self.calls = self.calls.saturating_add(other.calls);
        self.unpriced = self.unpriced.saturating_add(other.unpriced);
        self.seconds.extend(other.seconds);
        self.last = self.last.max(other.last);
    }
}

impl Metrics {
    /// Reads the records in and below the directories, each once.
    ///
    /// # Errors
    /// With the directory that can't be read.
    pub(crate) fn read(roots: &[PathBuf]) -> Result<Self, (PathBuf, std::io::Error)> {
        let mut metrics = Self::default();
        let mut seen = HashSet::new();
        for root in roots {
            let failed = |error| (root.clone(), error);
            for below in site::records(root).map_err(failed)? {
                let dir = root.join(below);
                if seen.insert(dir.canonicalize().map_err(failed)?) {
                    metrics.add(&dir);
                }
            }
        }
        Ok(metrics)
    }

    fn add(&mut self, dir: &Path) {
        let Ok(view) = RunView::open_logs(dir) else {
            self.unreadable += 1;
            return;
        };
        let row = RunRow::new(&view, None);
        let Spending { input, cache_write, cache_read, output, calls, unpriced, .. } = view.summary().spent;
        let started = state::value::<Metadata>(dir, RecordFile::Metadata).ok().and_then(|data| millis(&data.started));
        let sums = AgentSums {
            outcomes: BTreeMap::from([(outcome(&row), 1)]),
            cost: row.cost,
            tokens: [input, cache_write, cache_read, output],
            calls,
            unpriced,
            seconds: if row.state == RunState::Ended { vec![row.seconds] } else { vec![] },
            last: started.unwrap_or_default() as f64 / 1000.0,
        };
        self.agents.entry(row.agent).or_default().add(sums);
        for (phase, seconds) in row.phases {
            self.phases.entry(phase).or_default().push(seconds);
        }
        for (rule, count) in row.refused {
            *self.rules.entry(rule).or_default() += count;
        }
        for request in view.requests() {
            *self.requests.entry(word(request.verdict)).or_default() += 1;
        }
        for push in &view.data.pushes {
            let verdict = match push.verdict {
                PushVerdict::Accepted => "accepted",
                PushVerdict::Refused => "refused",
                PushVerdict::Held => "held",
                PushVerdict::WouldPush => "would-push",
            };
            *self.pushes.entry(verdict).or_default() += 1;
        }
        for proposal in &view.data.proposals {
            *self.proposals.entry(proposal.status.name()).or_default() += 1;
        }
    }

    /// The metrics, as Prometheus reads them.
    pub(crate) fn text(mut self) -> String {
        let mut text = Exposition::default();
        text.family("records_unreadable", "gauge", "Run records that could not be read.");
        text.sample("", &[], self.unreadable as f64);
        let agents = bounded(std::mem::take(&mut self.agents), MAX_AGENTS, AgentSums::runs, AgentSums::add);
        text.agents(&agents);
        text.family("phase_seconds", "summary", "Time of a phase of a run.");
        for (phase, seconds) in &self.phases {
            text.summary(&[("phase", phase)], seconds);
        }
        let rules = bounded(self.rules, MAX_RULES, |count| *count, |sum, more| *sum = sum.saturating_add(more));
        text.counts("refusals", "Refusals of the doors, by the rule that refused.", "rule", &rules);
        text.counts("requests", "Requests, by what the doors did.", "verdict", &self.requests);
        text.counts("pushes", "Pushed refs, by what the gate did.", "verdict", &self.pushes);
        text.counts("proposals", "Proposals of agents, by how they stand.", "status", &self.proposals);
        text.text
    }
}

/// The word for how a run ended, the action's `conclusion`; or for one that has no end.
fn outcome(row: &RunRow) -> &'static str {
    match (row.code.map(Code::try_from), row.state) {
        (Some(Ok(code)), _) => conclusion(code),
        (_, RunState::Running) => "running",
        _ => "died",
    }
}

/// Those with the most, and the sum of the others under [`OTHER`].
fn bounded<T: Default>(
    all: BTreeMap<String, T>,
    most: usize,
    size: impl Fn(&T) -> u64,
    add: impl Fn(&mut T, T),
) -> BTreeMap<String, T> {
    let mut sorted: Vec<(String, T)> = all.into_iter().collect();
    sorted.sort_by_key(|(_, value)| std::cmp::Reverse(size(value)));
    let mut kept = BTreeMap::new();
    for (at, (name, value)) in sorted.into_iter().enumerate() {
        let name = if at < most { name } else { OTHER.to_owned() };
        add(kept.entry(name).or_default(), value);
    }
    kept
}

/// The text, family by family.
#[derive(Default)]
struct Exposition {
    text: String,
    /// The family that samples belong to.
    name: &'static str,
}

impl Exposition {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        let _ = write!(self.text, "# HELP claude_bottle_{name} {help}\n# TYPE claude_bottle_{name} {kind}\n");
    }

    /// A sample of the family, whose name may have an end of its own.
    fn sample(&mut self, end: &str, labels: &[(&str, &str)], value: f64) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let value = if value.is_finite() { value.to_string() } else { "+Inf".to_owned() };
        let _ = writeln!(self.text, "claude_bottle_{}{end}{labels} {value}", self.name);
    }

    fn counts<S: AsRef<str>>(&mut self, name: &'static str, help: &str, label: &str, counts: &BTreeMap<S, u64>) {
        self.family(name, "gauge", help);
        for (value, count) in counts {
            self.sample("", &[(label, value.as_ref())], *count as f64);
        }
    }

    fn summary(&mut self, labels: &[(&str, &str)], values: &[f64]) {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        for (hundredths, quantile) in QUANTILES {
            if let Some(value) = sorted.get(sorted.len().saturating_sub(1) * hundredths / 100) {
                self.sample("", &[labels, &[("quantile", quantile)]].concat(), *value);
            }
        }
        self.sample("_sum", labels, sorted.iter().sum());
        self.sample("_count", labels, sorted.len() as f64);
    }

    fn agents(&mut self, agents: &BTreeMap<String, AgentSums>) {
        self.family("runs", "gauge", "Runs, by agent and by how they ended.");
        for (agent, sums) in agents {
            for (outcome, count) in &sums.outcomes {
                self.sample("", &[("agent", agent), ("outcome", outcome)], *count as f64);
            }
        }
        self.family("cost_usd", "gauge", "US dollars that the runs cost.");
        for (agent, sums) in agents {
            self.sample("", &[("agent", agent)], sums.cost);
        }
        self.family("tokens", "gauge", "Tokens of the model, by kind.");
        for (agent, sums) in agents {
            for (kind, count) in ["input", "cache_write", "cache_read", "output"].into_iter().zip(sums.tokens) {
                self.sample("", &[("agent", agent), ("kind", kind)], count as f64);
            }
        }
        self.family("model_calls", "gauge", "Calls to the model, by whether it has a price.");
        for (agent, sums) in agents {
            self.sample("", &[("agent", agent), ("priced", "true")], sums.calls.saturating_sub(sums.unpriced) as f64);
            self.sample("", &[("agent", agent), ("priced", "false")], sums.unpriced as f64);
        }
        self.family("run_seconds", "summary", "Time of a run that has ended.");
        for (agent, sums) in agents {
            self.summary(&[("agent", agent)], &sums.seconds);
        }
        self.family("last_run_timestamp_seconds", "gauge", "When the newest run began.");
        for (agent, sums) in agents {
            self.sample("", &[("agent", agent)], sums.last);
        }
    }
}

/// A label's value as the format has it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::Stdio;

    use super::*;
    use crate::report::model::samples::{self, Sample, hostile_contents};

    /// A sample as the reader has it: its name, its labels, its value.
    type ReadSample = (String, Vec<(String, String)>, f64);

    /// Samples of each text by their names with their labels, as Prometheus' own client for Python reads them; it ends at what it does not read.
    fn all_parsed(texts: &[String]) -> Vec<BTreeMap<String, f64>> {
        let script = "import json, sys\n\
            from prometheus_client.parser import text_string_to_metric_families as families\n\
            def read(text):\n\
            \x20   found = list(families(text))\n\
            \x20   assert all(f.type in ('gauge', 'summary') and f.documentation for f in found), found\n\
            \x20   assert len({f.name for f in found}) == len(found)\n\
            \x20   return [[s.name, sorted(s.labels.items()), s.value] for f in found for s in f.samples]\n\
            print(json.dumps([read(text) for text in json.load(sys.stdin)]))";
        let mut python = bottle_testkit::python();
        let python = python.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut python = python.spawn().expect("Python");
        let mut input = python.stdin.take().expect("its input");
        let json = serde_json::to_vec(texts).expect("JSON");
        let writer = std::thread::spawn(move || input.write_all(&json).expect("it reads"));
        let output = python.wait_with_output().expect("an end");
        writer.join().expect("it is written");
        assert!(output.status.success(), "{texts:?}\n{}", bottle_testkit::said(&output));
        let read: Vec<Vec<ReadSample>> = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(read.len(), texts.len());
        read.into_iter().zip(texts).map(|(samples, text)| named(samples, text)).collect()
    }

    fn named(samples: Vec<ReadSample>, text: &str) -> BTreeMap<String, f64> {
        let count = samples.len();
        let name = |(name, labels, value): ReadSample| {
            let labels: Vec<String> = labels.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
            (format!("{} {}", name.trim_start_matches("claude_bottle_"), labels.join(",")), value)
        };
        let samples: BTreeMap<String, f64> = samples.into_iter().map(name).collect();
        assert_eq!(samples.len(), count, "no series is there twice");
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), count, "each line is a sample");
        samples
    }

    fn parsed(text: &str) -> BTreeMap<String, f64> {
        all_parsed(&[text.to_owned()]).remove(0)
    }

    fn metrics(samples: &[Sample]) -> BTreeMap<String, f64> {
        samples.iter().for_each(|sample| drop(sample.view()));
        let dirs: Vec<PathBuf> = samples.iter().map(|sample| sample.dir.path().to_owned()).collect();
        parsed(&Metrics::read(&dirs).expect("the records").text())
    }

    #[test]
    fn the_numbers_are_those_of_the_records() {
        let mut dead = samples::crash();
        dead.events.truncate(3);
        let runs =
            [samples::refused_push(), samples::denied_route(), samples::denied_route(), samples::approval(), dead];
        let found = metrics(&runs);
        for (name, value) in [
            ("runs agent=implementer,outcome=success", 1.0),
            ("runs agent=implementer,outcome=failure", 2.0),
            ("runs agent=implementer,outcome=gate-refused", 1.0),
            ("runs agent=implementer,outcome=died", 1.0),
            ("run_seconds_count agent=implementer", 4.0),
            ("model_calls agent=implementer,priced=false", 0.0),
            ("refusals rule=request/no_route", 4.0),
            ("refusals rule=request/dlp", 2.0),
            ("refusals rule=push/aws-access-token", 1.0),
            ("requests verdict=deny", 4.0),
            ("requests verdict=block", 2.0),
            ("pushes verdict=refused", 1.0),
            ("pushes verdict=accepted", 1.0),
            ("proposals status=approved", 1.0),
            ("proposals status=denied", 1.0),
            ("phase_seconds_count phase=agent", 4.0),
            ("records_unreadable ", 0.0),
        ] {
            assert_eq!(found.get(name), Some(&value), "{name}: {found:#?}");
        }
        let spent: Vec<Spending> = runs.iter().map(|run| run.view().summary().spent).collect();
        let sum = |value: fn(&Spending) -> f64| spent.iter().map(value).sum::<f64>();
        let close =
            |name: &str, value: f64| assert!((found[name] - value).abs() < 1e-9 && value > 0.0, "{name}: {value}");
        close("cost_usd agent=implementer", sum(|spent| spent.cost_usd));
        close("tokens agent=implementer,kind=input", sum(|spent| spent.input as f64));
        close("tokens agent=implementer,kind=cache_read", sum(|spent| spent.cache_read as f64));
        close("tokens agent=implementer,kind=output", sum(|spent| spent.output as f64));
        close("model_calls agent=implementer,priced=true", sum(|spent| spent.calls as f64));
        let longest = runs[..4].iter().map(|run| run.view().summary().seconds).fold(0.0, f64::max);
        close("run_seconds agent=implementer,quantile=1", longest);
        assert!(found["last_run_timestamp_seconds agent=implementer"] > 1.7e9);
    }

    #[test]
    fn nothing_of_a_hostile_record_is_more_than_a_label_and_labels_are_bounded() {
        let text_of = |content: &String| {
            let sample = samples::hostile(std::slice::from_ref(content));
            sample.view();
            let text = Metrics::read(&[sample.dir.path().to_owned()]).expect("the record").text();
            assert_eq!(crate::report::show::alive(&text), None, "{content:.80}");
            text
        };
        let contents = hostile_contents();
        let texts: Vec<String> = contents.iter().map(text_of).collect();
        for (found, content) in all_parsed(&texts).iter().zip(&contents) {
            assert!(found.contains_key("runs agent=implementer,outcome=failure"), "{content:.80}: {found:?}");
        }
        // More rules than there are series for them.
        let runs: Vec<Sample> = (0..3)
            .map(|run| {
                let mut sample = Sample::new("Many");
                for at in 0..90 {
                    let reason = format!("rule \"{run}\\{at}\n");
                    sample.request("GET", "a.example", "/", "deny", Some(&reason));
                }
                sample.request("GET", "a.example", "/", "deny", Some("often"));
                sample.request("GET", "a.example", "/", "deny", Some("often"));
                sample.end(Code::Task, "no")
            })
            .collect();
        let found = metrics(&runs);
        let rules: Vec<_> = found.iter().filter(|(name, _)| name.starts_with("refusals ")).collect();
        assert_eq!(rules.len(), MAX_RULES + 1);
        assert_eq!(rules.iter().map(|(_, count)| **count).sum::<f64>(), 3.0 * 92.0);
        assert_eq!(found["refusals rule=request/often"], 6.0);
        assert_eq!(found["refusals rule=other"], 271.0 - MAX_RULES as f64);
    }

    #[test]
    fn agents_beyond_the_bound_are_summed_up() {
        let one = |runs: u64| AgentSums { outcomes: BTreeMap::from([("success", runs)]), ..AgentSums::default() };
        let agents =
            (0..60).map(|at| (format!("agent-{at:02}"), one(at))).chain([(OTHER.to_owned(), one(100))]).collect();
        let kept = bounded(agents, MAX_AGENTS, AgentSums::runs, AgentSums::add);
        assert_eq!(kept.len(), MAX_AGENTS);
        // The real agent of that name is among those with the most, and the rest is added to it.
        assert_eq!(kept[OTHER].runs(), 100 + (0..=10).sum::<u64>());
        assert_eq!(kept.values().map(AgentSums::runs).sum::<u64>(), 100 + (0..60).sum::<u64>());
    }

    #[test]
    fn broken_records_are_counted_and_a_record_that_is_named_twice_is_one() {
        let (good, broken) = (samples::approval(), samples::approval());
        good.view();
        broken.view();
        std::fs::write(broken.dir.path().join(RecordFile::Metadata), "{").expect("a file");
        let dirs = [good.dir.path().to_owned(), good.dir.path().join("."), broken.dir.path().to_owned()];
        let found = parsed(&Metrics::read(&dirs).expect("the records").text());
        assert_eq!((found["runs agent=implementer,outcome=success"], found["records_unreadable "]), (1.0, 1.0));
        let empty = tempfile::tempdir().expect("a directory");
        let found = parsed(&Metrics::read(&[empty.path().to_owned()]).expect("a directory").text());
        assert_eq!(found, BTreeMap::from([("records_unreadable ".to_owned(), 0.0)]));
        assert!(Metrics::read(&[empty.path().join("none")]).is_err());
    }

    #[test]
    fn a_label_is_escaped() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
        let mut text = Exposition::default();
        text.counts("refusals", "x", "rule", &BTreeMap::from([("a\"} 1\nb\\n{c=\"", 1)]));
        assert_eq!(parsed(&text.text), BTreeMap::from([("refusals rule=a\"} 1\nb\\n{c=\"".to_owned(), 1.0)]));
    }
}
