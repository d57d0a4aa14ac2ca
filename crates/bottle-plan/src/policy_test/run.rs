//! The cases against a manifest.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::cases::PushCase;
use super::{CaseEntry, PolicyTests};
use crate::explain::{ExplainError, Explainer, Explanation, PushAsked, RuleRef};
use crate::facts::HostFacts;
use crate::manifest::ManifestSource;
use crate::name::Name;
use crate::prose;

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CaseOutcome {
    /// Its name.
    pub name: String,
    /// Where it stands in its file: line and column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<(u64, u64)>,
    /// In which way it differs; none: it passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The answer; none where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<Explanation>,
}

/// What came of all cases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestReport {
    /// In the order of the file.
    pub cases: Vec<CaseOutcome>,
    /// The manifest's rules on which no case's verdict hangs.
    pub untouched: Vec<RuleRef>,
    /// How many rules are written in the manifest.
    pub rules: usize,
}

impl TestReport {
    /// How many cases differ.
    pub fn failed(&self) -> usize {
        self.cases.iter().filter(|case| case.failure.is_some()).count()
    }
}

/// The answers about one agent's bottle; made once for each agent that a case names.
type Explainers = BTreeMap<Option<Name>, Result<Explainer, ExplainError>>;

impl PolicyTests {
    /// Holds a manifest against the cases. `payloads` are the events' files by their paths. An error: nothing can be
    /// said about the manifest at all.
    pub fn run(
        &self,
        source: &ManifestSource,
        facts: &HostFacts,
        payloads: &BTreeMap<String, String>,
    ) -> Result<TestReport, ExplainError> {
        let mut explainers: Explainers = BTreeMap::new();
        for case in &self.cases {
            let make = || Explainer::new(source, case.agent.clone(), facts);
            explainers.entry(case.agent.clone()).or_insert_with(make);
        }
        let mut outcomes = vec![];
        for (index, case) in self.cases.iter().enumerate() {
            let told = match explainers.get(&case.agent) {
                Some(Ok(explainer)) => told(explainer, case, payloads),
                // A manifest that no agent can run by fails as a whole; an agent that is not there, its case alone.
                Some(Err(error)) if case.agent.is_none() => return Err(error.clone()),
                Some(Err(error)) => Err(error.to_string()),
                None => Err("the case was not asked about".to_owned()),
            };
            outcomes.push(outcome(case, self.place(index), told));
        }
        let touched: BTreeSet<&str> = outcomes
            .iter()
            .filter_map(|outcome| outcome.told.as_ref())
            .flat_map(|told| told.rules())
            .map(|rule| rule.path.as_str())
            .collect();
        let written = match explainers.values().flatten().next() {
            Some(explainer) => explainer.written_rules(),
            None => Explainer::new(source, None, facts)?.written_rules(),
        };
        let rules = written.len();
        let untouched = written.into_iter().filter(|rule| !touched.contains(rule.path.as_str())).collect();
        Ok(TestReport { cases: outcomes, untouched, rules })
    }
}

fn told(explainer: &Explainer, case: &CaseEntry, payloads: &BTreeMap<String, String>) -> Result<Explanation, String> {
    match case {
        CaseEntry { request: Some(request), .. } => {
            let asked = request.asked().map_err(|error| error.to_string())?;
            Ok(explainer.request(&asked))
        }
        CaseEntry { push: Some(push), .. } => {
            let PushCase { r#ref, repo, paths, message, author } = push.clone();
            let asked = PushAsked { repo, paths, message, author, ..PushAsked::new(&r#ref) };
            explainer.push(&asked).map_err(|error| error.to_string())
        }
        CaseEntry { event: Some(event), .. } => {
            let payload = payloads.get(&event.file).ok_or_else(|| format!("{} was not read", event.file))?;
            explainer.event(payload, event.name.as_deref()).map_err(|error| error.to_string())
        }
        _ => Err("the case asks about nothing".to_owned()),
    }
}

fn outcome(case: &CaseEntry, at: Option<(u64, u64)>, told: Result<Explanation, String>) -> CaseOutcome {
    let (told, failure) = match told {
        Ok(told) => {
            let failure = difference(case, &told);
            (Some(told), failure)
        }
        Err(error) => (None, Some(error)),
    };
    let own = case.name.as_deref().map(|name| prose::name(name, 200)).filter(|name| !name.is_empty());
    let name = own.or_else(|| told.as_ref().map(|told| told.asked.clone())).unwrap_or_else(|| "a case".to_owned());
    CaseOutcome { name, at, failure, told }
}

/// In which way the answer is not the case's.
fn difference(case: &CaseEntry, told: &Explanation) -> Option<String> {
    let because = || told.why.join("; ");
    let decides = told.rule.as_ref().map_or_else(|| "no rule".to_owned(), ToString::to_string);
    if told.verdict != case.verdict {
        let (wanted, is) = (case.verdict.word(), told.verdict.word());
        return Some(format!("expected {wanted}, and it is {is} by {decides}: {}", because()));
    }
    let wanted = case.rule.as_ref()?;
    let is_it = |path: &str| path == wanted || path.ends_with(&format!(".{wanted}"));
    let fine = told.rule.as_ref().is_some_and(|rule| is_it(&rule.path));
    (!fine).then(|| format!("expected {wanted} to decide, and {decides} does: {}", because()))
}
