//! Two runs beside each other: what is different.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::page::{Page, padded};
use super::summary::{RefusedRow, RunSummary, word};
use super::{span, thousands};

/// Columns of a row's name and of each run's number.
const NAME: usize = 44;
const NUMBER: usize = 16;

/// Two runs, as `diff --json` prints them.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    runs: [Side; 2],
    numbers: Vec<NumberRow>,
    phases: Vec<NumberRow>,
    tools: Vec<NumberRow>,
    /// By host, route and verdict.
    requests: Vec<NumberRow>,
    /// Lines that `Edit` and `Write` added and removed, by file.
    files: Vec<FileChange>,
    /// Refused in the first run alone, and in the second alone.
    refused: [Vec<RefusedRow>; 2],
}

/// One of the runs.
#[derive(Debug, Serialize)]
struct Side {
    slug: String,
    title: String,
    outcome: String,
    branch: Option<String>,
    commit: Option<String>,
    #[serde(skip)]
    mark: (&'static str, &'static str),
}

/// A number of both runs; 0 where a run has none.
#[derive(Debug, Serialize)]
struct NumberRow {
    name: String,
    values: [f64; 2],
    #[serde(skip)]
    unit: Unit,
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    Count,
    Seconds,
    Dollars,
}

#[derive(Debug, Serialize)]
struct FileChange {
    path: String,
    /// Lines added and removed by each run; none: the run did not change the file.
    values: [Option<[usize; 2]>; 2],
}

impl Comparison {
    /// Compares two runs.
    pub(crate) fn new(one: &RunSummary, other: &RunSummary) -> Self {
        let runs = [one, other];
        let number = |name: &str, unit, value: &dyn Fn(&RunSummary) -> f64| NumberRow {
            name: name.to_owned(),
            values: runs.map(value),
            unit,
        };
        let numbers = vec![
            number("time", Unit::Seconds, &|run| run.seconds),
            number("turns", Unit::Count, &|run| run.turns as f64),
            number("calls to the model", Unit::Count, &|run| run.spent.calls as f64),
            number("tokens", Unit::Count, &|run| run.spent.tokens as f64),
            number("input", Unit::Count, &|run| run.spent.input as f64),
            number("cache write", Unit::Count, &|run| run.spent.cache_write as f64),
            number("cache read", Unit::Count, &|run| run.spent.cache_read as f64),
            number("output", Unit::Count, &|run| run.spent.output as f64),
            number("US dollars", Unit::Dollars, &|run| run.spent.cost_usd),
        ];
        let phases =
            table(runs.map(|run| run.phases.iter().map(|row| (row.name.to_owned(), row.seconds))), Unit::Seconds);
        let tools =
            table(runs.map(|run| run.tools.iter().map(|row| (row.name.clone(), row.calls as f64))), Unit::Count);
        let requests = table(
            runs.map(|run| {
                run.requests.iter().map(|row| {
                    let route = row.route.map_or_else(|| "no route".to_owned(), |route| format!("route {route}"));
                    (format!("{} {route} {}", row.host, word(row.verdict)), row.count as f64)
                })
            }),
            Unit::Count,
        );
        Self { runs: runs.map(side), numbers, phases, tools, requests, files: files(runs), refused: refused(runs) }
    }

    /// Prints what is different; of what is the same, the numbers of the whole runs alone.
    pub(crate) fn print(&self, page: &mut Page) {
        for (name, run) in ["a", "b"].iter().zip(&self.runs) {
            page.line(&[("1", name), ("", "  "), (run.mark.1, run.mark.0), ("", " "), ("1", &run.title)]);
            let commit = run.commit.as_deref().map(|id| format!(" at {}", &id[..id.len().min(12)])).unwrap_or_default();
            let branch = run.branch.as_ref().map(|branch| format!(" · {branch}{commit}")).unwrap_or_default();
            page.line(&[("2", "     "), ("2", &run.slug), ("", " · "), ("", &run.outcome), ("", &branch)]);
        }
        page.line(&[]);
        page.line(&[("2", &padded("", NAME)), ("2", &format!("{:>NUMBER$}{:>NUMBER$}{:>NUMBER$}", "a", "b", "b − a"))]);
        self.numbers.iter().for_each(|row| row.print(page));
        for (title, rows) in [
            ("Phases", &self.phases),
            ("Calls by tool", &self.tools),
            ("Requests by host, route and verdict", &self.requests),
        ] {
            different(page, title, rows);
        }
        self.print_files(page);
        for (name, rows) in ["a", "b"].iter().zip(&self.refused) {
            if rows.is_empty() {
                continue;
            }
            page.heading(&format!("Refused in {name} alone"));
            for row in rows {
                page.line(&[("35", "⊘ "), ("", &padded(&row.door, 10)), ("", &row.what)]);
            }
        }
    }

    fn print_files(&self, page: &mut Page) {
        let differ: Vec<&FileChange> = self.files.iter().filter(|file| file.values[0] != file.values[1]).collect();
        if differ.is_empty() {
            return;
        }
        page.heading("Files");
        for file in differ {
            let [one, other] = file.values.map(|value| match value {
                Some([added, removed]) => format!("+{added} −{removed}"),
                None => "-".to_owned(),
            });
            page.line(&[("", &padded(&file.path, NAME)), ("", &format!("{one:>NUMBER$}{other:>NUMBER$}"))]);
        }
    }
}

impl NumberRow {
    fn print(&self, page: &mut Page) {
        let [one, other] = self.values;
        let [first, second] = self.values.map(|value| self.shown(value));
        let more = other - one;
        let (sign, colour) = match more.partial_cmp(&0.0) {
            Some(std::cmp::Ordering::Greater) => ("+", "33"),
            Some(std::cmp::Ordering::Less) => ("−", "36"),
            _ => ("", "2"),
        };
        let more = if sign.is_empty() { "=".to_owned() } else { format!("{sign}{}", self.shown(more.abs())) };
        page.line(&[
            ("", &padded(&self.name, NAME)),
            ("", &format!("{first:>NUMBER$}{second:>NUMBER$}")),
            (colour, &format!("{more:>NUMBER$}")),
        ]);
    }

    fn shown(&self, value: f64) -> String {
        match self.unit {
            Unit::Count => thousands(value as u64),
            Unit::Seconds => span(value),
            Unit::Dollars => format!("{value:.4}"),
        }
    }
}

/// The rows whose numbers differ, under their heading.
fn different(page: &mut Page, title: &str, rows: &[NumberRow]) {
    let mut differ = rows.iter().filter(|row| (row.values[0] - row.values[1]).abs() > f64::EPSILON).peekable();
    if differ.peek().is_some() {
        page.heading(title);
    }
    differ.for_each(|row| row.print(page));
}

fn side(run: &RunSummary) -> Side {
    let outcome = run.outcome.as_ref();
    Side {
        slug: run.slug.clone(),
        title: run.title.clone(),
        outcome: run.end(),
        branch: outcome.and_then(|outcome| outcome.branch.clone()),
        commit: outcome.and_then(|outcome| outcome.commit.clone()),
        mark: run.mark(),
    }
}

/// The names of both runs, each with both numbers; a name that comes again adds to its number.
fn table(runs: [impl Iterator<Item = (String, f64)>; 2], unit: Unit) -> Vec<NumberRow> {
    let mut rows: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    for (at, run) in runs.into_iter().enumerate() {
        for (name, value) in run {
            rows.entry(name).or_default()[at] += value;
        }
    }
    rows.into_iter().map(|(name, values)| NumberRow { name, values, unit }).collect()
}

fn files(runs: [&RunSummary; 2]) -> Vec<FileChange> {
    let mut rows: BTreeMap<&str, [Option<[usize; 2]>; 2]> = BTreeMap::new();
    for (at, run) in runs.into_iter().enumerate() {
        for file in &run.files {
            rows.entry(&file.path).or_default()[at] = Some([file.added, file.removed]);
        }
    }
    rows.into_iter().map(|(path, values)| FileChange { path: path.to_owned(), values }).collect()
}

/// What was refused in one of the runs and not in the other.
fn refused(runs: [&RunSummary; 2]) -> [Vec<RefusedRow>; 2] {
    let sets = runs.map(|run| run.refused.iter().collect::<BTreeSet<_>>());
    let alone = |one: &BTreeSet<&RefusedRow>, other: &BTreeSet<&RefusedRow>| {
        one.difference(other).map(|row| (*row).clone()).collect()
    };
    [alone(&sets[0], &sets[1]), alone(&sets[1], &sets[0])]
}
