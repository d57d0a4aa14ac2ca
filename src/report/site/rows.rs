//! What the page counts of a run.

use std::collections::BTreeMap;

use crate::report::model::visible::beginning;
use crate::report::show::{RunState, RunView, is_refusal};

/// Bytes of a text on the page.
const MAX_BYTES: usize = 200;
/// Rules that are counted of one run.
const MAX_RULES: usize = 200;

/// A run on the page. Every text is visible, and cut.
#[derive(Debug)]
pub(in crate::report) struct RunRow {
    pub(in crate::report) slug: String,
    pub(in crate::report) title: String,
    pub(in crate::report) agent: String,
    pub(in crate::report) state: RunState,
    /// The exit code of a run that has ended.
    pub(in crate::report) code: Option<u8>,
    pub(in crate::report) outcome: String,
    /// RFC 3339, UTC; empty: it is not known.
    pub(in crate::report) started: String,
    pub(in crate::report) seconds: f64,
    pub(in crate::report) tokens: u64,
    /// US dollars that were paid.
    pub(in crate::report) cost: f64,
    /// US dollars that replayed calls would have cost.
    pub(in crate::report) replayed: f64,
    /// How often each rule refused something.
    pub(in crate::report) refused: BTreeMap<String, u64>,
    /// Each phase with its seconds.
    pub(in crate::report) phases: Vec<(&'static str, f64)>,
    /// The address of its own page.
    pub(in crate::report) link: Option<String>,
}

impl RunRow {
    pub(in crate::report) fn new(view: &RunView, link: Option<String>) -> Self {
        let summary = view.summary();
        let outcome = summary.outcome.as_ref();
        let spent = &summary.spent;
        // Without a line of the budget, what Claude Code has counted.
        let told =
            crate::report::outcome(view.events.iter().map(|(_, event)| event)).and_then(|outcome| outcome.cost_usd);
        let cost = if spent.calls > 0 { spent.paid_usd } else { told.unwrap_or_default() };
        // A record of others' may say anything; what is no amount counts for nothing.
        let amount = |usd: f64| if usd.is_finite() && usd >= 0.0 { usd } else { 0.0 };
        Self {
            slug: short(&summary.slug),
            title: short(&summary.title),
            agent: short(summary.agent.as_deref().unwrap_or("unknown")),
            state: summary.state,
            code: outcome.map(|outcome| outcome.code),
            outcome: outcome.map(|outcome| short(&outcome.summary)).unwrap_or_default(),
            started: summary.started.clone().unwrap_or_default(),
            seconds: summary.seconds,
            tokens: spent.tokens,
            cost: amount(cost),
            replayed: amount(spent.cost_usd - spent.paid_usd),
            refused: refused(view),
            phases: summary.phases.iter().map(|phase| (phase.name, phase.seconds)).collect(),
            link,
        }
    }

    pub(in crate::report) fn is_done(&self) -> bool {
        self.code == Some(0)
    }

    /// The day on which it began.
    pub(in crate::report) fn day(&self) -> &str {
        beginning(&self.started, 10)
    }
}

/// The rules by which something was refused: `request/no_route`, `push/aws-access-token`.
fn refused(view: &RunView) -> BTreeMap<String, u64> {
    let requests = view.requests().into_iter().filter(|request| is_refusal(request.verdict));
    let requests = requests.map(|request| {
        let rule = if request.rule.is_empty() { &request.reason } else { &request.rule };
        format!("request/{}", short(rule))
    });
    let pushes = view.data.pushes.iter().filter(|push| !push.verdict.has_passed());
    let pushes = pushes.flat_map(|push| match push.findings.is_empty() {
        true => vec!["push/refused".to_owned()],
        false => push.findings.iter().map(|finding| format!("push/{}", short(&finding.rule))).collect(),
    });
    let mut rules = BTreeMap::new();
    for rule in requests.chain(pushes) {
        // What is beyond is of a record that no run of ours has written.
        let key = if rules.len() < MAX_RULES || rules.contains_key(&rule) { rule } else { "others".to_owned() };
        *rules.entry(key).or_insert(0_u64) += 1;
    }
    rules
}

/// A text on one line, or its beginning.
fn short(text: &str) -> String {
    let shown = beginning(text, MAX_BYTES).replace(['\n', '\t'], " ");
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}
