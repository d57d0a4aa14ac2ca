//! The sections of the page.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::Site;
use super::rows::RunRow;
use crate::report::show::{RunState, span, thousands};

/// Rows of a table but that of the runs.
const MAX_ROWS: usize = 200;
/// Days in the chart: the newest.
const MAX_BARS: usize = 60;
/// The chart's height and that of the space above it, in its own units.
const CHART: (usize, usize) = (120, 2);
/// A bar's width with the space behind it.
const BAR: usize = 14;

const SECTIONS: [(&str, &str); 6] = [
    ("agents", "Agents"),
    ("cost", "Cost"),
    ("refusals", "Refusals"),
    ("phases", "Phases"),
    ("runs", "Runs"),
    ("left-out", "Not here"),
];

pub(super) fn body(site: &Site) -> Markup {
    let runs = &site.runs;
    let is_whole = site.broken.is_empty() && site.left_out.is_empty();
    let shown = SECTIONS.iter().filter(|(id, _)| *id != "left-out" || !is_whole);
    html! {
        a class="skip" href="#agents" { "Skip to the agents" }
        header {
            h1 { "Runs of claude-bottle" }
            p class="under" { (totals(runs)) }
        }
        nav aria-label="Sections" { ul { @for (id, title) in shown { li { a href={ "#" (id) } { (title) } } } } }
        main {
            (agents(runs))
            (cost(runs))
            (refusals(runs))
            (phases(runs))
            (list(runs))
            @if !is_whole { (left_out(site)) }
        }
        footer {
            p { "Made by bottle-runner " (env!("CARGO_PKG_VERSION")) ". This page loads nothing and sends nothing. Characters that can't be seen are written as " code { "\\u{…}" } "." }
        }
    }
}

fn section(id: &str, title: &str, content: &Markup) -> Markup {
    let heading = format!("{id}-title");
    html! {
        section id=(id) tabindex="-1" aria-labelledby=(heading) {
            h2 id=(heading) { (title) }
            (content)
        }
    }
}

/// A table in a region that scrolls by itself; the last columns are numbers.
fn table(label: &str, columns: &[(&str, bool)], rows: &[Vec<Markup>]) -> Markup {
    html! {
        // Its section has the words alone for its name, and no two regions may have one.
        div class="wide" role="region" tabindex="0" aria-label={ "Table: " (label) } {
            table {
                thead { tr { @for (name, is_number) in columns { th scope="col" class=[is_number.then_some("number")] { (name) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (at, (cell, (_, is_number))) in row.iter().zip(columns).enumerate() {
                                @if at == 0 { th scope="row" { (cell) } } @else { td class=[is_number.then_some("number")] { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn text(text: impl maud::Render) -> Markup {
    html! { (text) }
}

fn dollars(cost: f64) -> String {
    format!("{cost:.2}")
}

fn totals(runs: &[RunRow]) -> String {
    let cost = runs.iter().map(|run| run.cost).sum::<f64>();
    let days = runs.iter().map(RunRow::day).filter(|day| !day.is_empty());
    let days = match (days.clone().min(), days.max()) {
        (Some(first), Some(last)) if first != last => format!(" · {first} to {last}"),
        (Some(day), _) => format!(" · {day}"),
        _ => String::new(),
    };
    let replayed = runs.iter().map(|run| run.replayed).sum::<f64>();
    let replayed = match replayed > 0.0 {
        true => format!(" paid, {} more by the list for what was replayed", dollars(replayed)),
        false => String::new(),
    };
    format!(
        "{} runs · {} done · {} US dollars{replayed}{days}",
        thousands(runs.len() as u64),
        rate(runs.iter()),
        dollars(cost)
    )
}

/// The share of the runs that have ended, or died, that are done.
fn rate<'r>(runs: impl Iterator<Item = &'r RunRow>) -> String {
    let ended: Vec<&RunRow> = runs.filter(|run| run.state != RunState::Running).collect();
    match ended.len() {
        0 => "none".to_owned(),
        all => format!("{} %", ended.iter().filter(|run| run.is_done()).count() * 100 / all),
    }
}

/// The value that half of them are below.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn agents(runs: &[RunRow]) -> Markup {
    let mut agents: BTreeMap<&str, Vec<&RunRow>> = BTreeMap::new();
    runs.iter().for_each(|run| agents.entry(&run.agent).or_default().push(run));
    let mut agents: Vec<_> = agents.into_iter().collect();
    agents.sort_by_key(|(_, runs)| std::cmp::Reverse(runs.len()));
    let row = |(agent, runs): &(&str, Vec<&RunRow>)| {
        let refused = runs.iter().flat_map(|run| run.refused.values()).sum::<u64>();
        vec![
            text(agent),
            text(thousands(runs.len() as u64)),
            text(rate(runs.iter().copied())),
            text(dollars(runs.iter().map(|run| run.cost).sum())),
            text(dollars(median(runs.iter().map(|run| run.cost).collect()))),
            text(span(median(runs.iter().map(|run| run.seconds).collect()))),
            text(thousands(refused)),
        ]
    };
    let rows: Vec<_> = agents.iter().take(MAX_ROWS).map(row).collect();
    let columns = [
        ("Agent", false),
        ("Runs", true),
        ("Done", true),
        ("US dollars", true),
        ("in a run, median", true),
        ("Time, median", true),
        ("Refusals", true),
    ];
    section("agents", "Runs by agent", &table("Runs by agent", &columns, &rows))
}

fn cost(runs: &[RunRow]) -> Markup {
    let mut days: BTreeMap<&str, (u64, f64, u64)> = BTreeMap::new();
    for run in runs.iter().filter(|run| !run.day().is_empty()) {
        let day = days.entry(run.day()).or_default();
        *day = (day.0 + 1, day.1 + run.cost, day.2.saturating_add(run.tokens));
    }
    let newest: Vec<_> = days.iter().rev().take(MAX_BARS).map(|(day, sums)| (*day, *sums)).collect();
    let row = |(day, (runs, cost, tokens)): (&&str, &(u64, f64, u64))| {
        vec![text(day), text(thousands(*runs)), text(dollars(*cost)), text(thousands(*tokens))]
    };
    let rows: Vec<_> = days.iter().rev().take(MAX_ROWS).map(row).collect();
    let columns = [("Day", false), ("Runs", true), ("US dollars", true), ("Tokens", true)];
    let content = html! {
        (chart(&newest))
        (table("Cost by day", &columns, &rows))
        @if days.len() > MAX_ROWS { p class="note" { (days.len() - MAX_ROWS) " earlier days are left out." } }
    };
    section("cost", "Cost by day, UTC", &content)
}

/// A bar for each day, the oldest on the left. The table below it has the numbers.
fn chart(days: &[(&str, (u64, f64, u64))]) -> Markup {
    let most = days.iter().map(|(_, (_, cost, _))| *cost).fold(0.0, f64::max);
    if most <= 0.0 {
        return html! {};
    }
    let (height, label) = CHART;
    let width = days.len() * BAR;
    let bars: Vec<_> = days
        .iter()
        .rev()
        .enumerate()
        .map(|(at, (day, (_, cost, _)))| {
            // A day that cost anything is seen.
            let tall = (cost / most * height as f64).max(if *cost > 0.0 { 1.0 } else { 0.0 }) as usize;
            (at * BAR, height + label - tall.min(height), tall.min(height), format!("{day}: {}", dollars(*cost)))
        })
        .collect();
    html! {
        figure class="chart" {
            // Outside of the picture: there it would grow and shrink with the bars.
            figcaption class="chart-title" { "The highest bar: " (dollars(most)) " US dollars" }
            svg viewBox={ "0 0 " (width.max(400)) " " (height + label) } role="img" aria-label="US dollars by day; the table below has the numbers" {
                line class="rule" x1="0" x2=(width.max(400)) y1=(label) y2=(label) {}
                @for (x, y, tall, words) in bars { rect class="s0" x=(x) y=(y) width=(BAR - 2) height=(tall) { title { (words) } } }
            }
        }
    }
}

fn refusals(runs: &[RunRow]) -> Markup {
    let mut rules: BTreeMap<&str, (u64, Vec<&RunRow>)> = BTreeMap::new();
    for run in runs {
        for (rule, count) in &run.refused {
            let row = rules.entry(rule).or_default();
            row.0 += count;
            row.1.push(run);
        }
    }
    let mut rules: Vec<_> = rules.into_iter().collect();
    rules.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let row = |(rule, (count, runs)): &(&str, (u64, Vec<&RunRow>))| {
        // The runs are the newest first.
        let last = runs.first().map(|run| name(run));
        vec![
            html! { code { (rule) } },
            text(thousands(*count)),
            text(thousands(runs.len() as u64)),
            html! { @if let Some(last) = last { (last) } },
        ]
    };
    let rows: Vec<_> = rules.iter().take(MAX_ROWS).map(row).collect();
    let columns = [("Rule", false), ("Refused", true), ("in runs", true), ("Last in", false)];
    let content = html! {
        @if rows.is_empty() { p { "Nothing was refused." } } @else { (table("Refusals by rule", &columns, &rows)) }
        @if rules.len() > MAX_ROWS { p class="note" { (rules.len() - MAX_ROWS) " rules are left out." } }
    };
    section("refusals", "Refusals by rule", &content)
}

fn phases(runs: &[RunRow]) -> Markup {
    let mut phases: BTreeMap<&str, Vec<(f64, &RunRow)>> = BTreeMap::new();
    for run in runs {
        for (name, seconds) in &run.phases {
            phases.entry(name).or_default().push((*seconds, run));
        }
    }
    let mut rows: Vec<(f64, Vec<Markup>)> = phases
        .into_iter()
        .filter_map(|(phase, mut times)| {
            times.sort_by(|one, other| one.0.total_cmp(&other.0));
            let at = |hundredth: usize| times[(times.len() - 1) * hundredth / 100].0;
            let (slowest, run) = times.last()?;
            let median = at(50);
            let row = vec![
                text(phase),
                text(thousands(times.len() as u64)),
                text(span(median)),
                text(span(at(95))),
                text(span(*slowest)),
                name(run),
            ];
            Some((median, row))
        })
        .collect();
    rows.sort_by(|one, other| other.0.total_cmp(&one.0));
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    let columns = [
        ("Phase", false),
        ("Runs", true),
        ("Median", true),
        ("95 of 100 within", true),
        ("Slowest", true),
        ("was", false),
    ];
    let content = html! {
        @if rows.is_empty() { p { "These records are of versions that did not write their phases." } } @else { (table("Time by phase", &columns, &rows)) }
    };
    section("phases", "Time by phase, the slowest first", &content)
}

/// A run's name, which leads to its own page where that lies beside this one.
fn name(run: &RunRow) -> Markup {
    html! { span class="nowrap" { @if let Some(link) = &run.link { a href=(link) { (run.slug) } } @else { (run.slug) } } }
}

fn list(runs: &[RunRow]) -> Markup {
    let row = |run: &RunRow| {
        let (class, words) = match (run.state, run.code) {
            (RunState::Running, _) => ("quiet", "running".to_owned()),
            (_, Some(0)) => ("good", "✓ done".to_owned()),
            (_, Some(code)) => ("bad", format!("✗ exit code {code}")),
            (_, None) => ("bad", "✗ died".to_owned()),
        };
        let began = run.started.get(..16).unwrap_or(&run.started).replace('T', " ");
        vec![
            html! { (name(run)) },
            html! { span class="nowrap" { (began) } },
            html! { span class={ (class) " nowrap" } { (words) } },
            html! { span class="task" { strong { (run.title) } @if !run.is_done() && !run.outcome.is_empty() { br; span class="quiet" { (run.outcome) } } } },
            html! { span class="nowrap" { (run.agent) } },
            text(span(run.seconds)),
            text(dollars(run.cost)),
            text(thousands(run.refused.values().sum())),
        ]
    };
    let rows: Vec<_> = runs.iter().map(row).collect();
    let columns = [
        ("Run", false),
        ("Began, UTC", false),
        ("Result", false),
        ("Task", false),
        ("Agent", false),
        ("Time", true),
        ("US dollars", true),
        ("Refusals", true),
    ];
    section("runs", "Runs, the newest first", &table("Runs", &columns, &rows))
}

fn left_out(site: &Site) -> Markup {
    let broken = site.broken.iter().take(MAX_ROWS).map(|(name, why)| format!("{name} could not be read: {why}"));
    let lines: Vec<String> = site.left_out.iter().cloned().chain(broken).collect();
    let more = site.broken.len().saturating_sub(MAX_ROWS);
    let content = html! {
        ul { @for line in &lines { li { (line) } } }
        @if more > 0 { p class="note" { (more) " more could not be read." } }
    };
    section("left-out", "Not on this page", &content)
}
