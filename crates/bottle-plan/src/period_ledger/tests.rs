//! Periods, exact sums, ledgers that somebody broke, and runs in any order.

use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-11-30T12:00:00Z";

fn budget(cost_usd: f64, tokens: u64) -> BudgetEntry {
    BudgetEntry { period: Period::Day, cost_usd: Some(cost_usd), tokens: Some(tokens), requests: None }
}

fn run(number: u32, cost_usd: f64, tokens: u64) -> RunReservation {
    let slug = Slug::parse(&format!("run-{number}")).expect("a name");
    RunReservation::new(&slug, NOW, "https://git.example.org/a/b/runs/7", Amounts::spent(cost_usd, tokens, 9))
        .expect("a reservation")
}

fn today(read: Option<PeriodLedger>) -> PeriodLedger {
    PeriodLedger::at(read, Period::Day, NOW).expect("a ledger")
}

#[test]
fn a_moment_is_in_one_period_of_each_kind() {
    for (now, day, week, month) in [
        (NOW, ["2026-11-30", "2026-12-01"], ["2026-W49", "2026-12-07"], ["2026-11", "2026-12-01"]),
        ("2026-12-06T23:59:59Z", ["2026-12-06", "2026-12-07"], ["2026-W49", "2026-12-07"], ["2026-12", "2027-01-01"]),
        ("2027-01-03T00:00:00Z", ["2027-01-03", "2027-01-04"], ["2026-W53", "2027-01-04"], ["2027-01", "2027-02-01"]),
        (
            "2024-02-29T00:30:00+01:00",
            ["2024-02-28", "2024-02-29"],
            ["2024-W09", "2024-03-04"],
            ["2024-02", "2024-03-01"],
        ),
    ] {
        for (kind, [name, next]) in [(Period::Day, day), (Period::Week, week), (Period::Month, month)] {
            let span = PeriodSpan::at(kind, now).expect("a period");
            assert_eq!((span.to_string().as_str(), span.next_begins().as_str()), (name, next), "{now}");
            assert_eq!(PeriodSpan::try_from(name.to_owned()), Ok(span), "{name}");
        }
    }
    for text in [
        "",
        "2026",
        "2026-W54",
        "2025-W53",
        "2026-W00",
        "2026-13",
        "2026-1",
        "2026-02-30",
        "2026-11-3",
        "02026-11",
        "2026-w49",
        "2026-11-30-",
        "+026-11",
    ] {
        assert!(PeriodSpan::try_from(text.to_owned()).is_err(), "{text}");
    }
}

#[test]
fn what_is_left_is_exact() {
    let (budget, mut ledger) = (budget(1.0, 100), today(None));
    // As floating-point numbers three times 0.1 and 0.7 are more than 1.
    for number in 1..=3 {
        assert_eq!(ledger.reserve(&budget, run(number, 0.1, 10)), Ok(Ok(())));
    }
    let over = ledger.reserve(&budget, run(4, 0.700_001, 10)).expect("a place").expect_err("too much");
    assert_eq!(
        over.to_string(),
        "0.7 of 1 US dollars of 2026-11-30 are left (0 spent, 0.3 reserved), and this run may spend 0.700001"
    );
    assert_eq!(ledger.reserve(&budget, run(4, 0.7, 10)), Ok(Ok(())));
    // One that asks again has it already.
    assert_eq!(ledger.reserve(&budget, run(4, 0.7, 10)), Ok(Ok(())));
    assert_eq!(ledger.reserved(), Amounts::spent(1.0, 40, 36));
    ledger.settle(&run(4, 0.7, 10), Amounts::spent(0.25, 70, 3));
    assert_eq!((ledger.spent(), ledger.reserved()), (Amounts::spent(0.25, 70, 3), Amounts::spent(0.3, 30, 27)));
    let over = ledger.reserve(&budget, run(5, 0.1, 1)).expect("a place").expect_err("too much");
    assert_eq!(
        over.to_string(),
        "0 of 100 tokens of 2026-11-30 are left (70 spent, 30 reserved), and this run may spend 1"
    );
    assert_eq!(
        ledger.standing(&budget),
        "2026-11-30: 0.25 of 1 US dollars spent and 0.3 reserved, 70 of 100 tokens spent and 30 reserved"
    );
    assert_eq!(
        ledger.holders(&budget)[0],
        "run-1 since 2026-11-30T12:00:00Z (0.1 US dollars, 10 tokens, https://git.example.org/a/b/runs/7)"
    );
    assert_eq!(PeriodLedger::read(ledger.text().as_bytes()), Ok(ledger));
}

#[test]
fn a_run_of_the_same_name_at_another_time_is_another() {
    let (budget, mut ledger) = (budget(1.0, 100), today(None));
    let again = RunReservation { since: Moment::parse("2026-11-30T12:00:01Z").expect("a moment"), ..run(1, 0.6, 1) };
    assert_eq!(ledger.reserve(&budget, run(1, 0.6, 1)), Ok(Ok(())));
    assert!(ledger.reserve(&budget, again.clone()).expect("a place").is_err());
    ledger.settle(&again, Amounts::spent(0.1, 1, 1));
    assert!(ledger.has(&run(1, 0.6, 1)) && !ledger.has(&again));
}

#[test]
fn a_period_that_has_ended_is_dropped_and_one_that_has_not_begun_is_refused() {
    let mut old = today(None);
    assert_eq!(old.reserve(&budget(1.0, 100), run(1, 1.0, 100)), Ok(Ok(())));
    let at = |kind, now| PeriodLedger::at(Some(old.clone()), kind, now);
    assert_eq!(at(Period::Day, "2026-11-30T23:59:59Z"), Ok(old.clone()));
    let next = at(Period::Day, "2026-12-01T00:00:00Z").expect("a new one");
    assert_eq!((next.period().to_string().as_str(), next.reserved()), ("2026-12-01", Amounts::default()));
    // Another machine is a little ahead: its period counts.
    assert_eq!(at(Period::Day, "2026-11-29T23:55:00Z"), Ok(old.clone()));
    assert!(matches!(at(Period::Day, "2026-11-29T23:00:00Z"), Err(LedgerError::NotBegun(_))));
    // Of another kind: refused as long as it goes on, and dropped then.
    assert!(matches!(at(Period::Month, NOW), Err(LedgerError::OtherKind { .. })));
    assert!(matches!(at(Period::Week, "2026-11-30T23:59:59Z"), Err(LedgerError::OtherKind { .. })));
    assert_eq!(at(Period::Month, "2026-12-01T00:00:00Z").map(|new| new.reserved()), Ok(Amounts::default()));
    assert!(PeriodLedger::at(None, Period::Day, "").is_err());
}

#[test]
fn a_ledger_that_somebody_broke_is_no_empty_one() {
    let good = r#"{"version":1,"period":"2026-11-30","spent":{"cost_usd":1.5,"tokens":10,"requests":2,"runs":1},"reserved":[{"run":"run-1","since":"2026-11-30T12:00:00Z","url":"https://git.example.org/1","cost_usd":1,"tokens":5,"requests":0}]}"#;
    assert!(PeriodLedger::read(good.as_bytes()).is_ok());
    for (from, to, why) in [
        ("{", "", "it is not read: "),
        (good, "", "it is not read: EOF while parsing"),
        (good, "[]", "it is not read: invalid "),
        (good, "null", "it is not read: invalid type: null"),
        ("\"version\":1", "\"version\":2", "its version is 2, and this program reads version 1"),
        ("\"version\":1", "\"version\":\"1\"", "its version is \"1\""),
        ("\"version\":1,", "", "it is not read: missing field `version`"),
        ("1.5", "-1.5", "it is not read: -1.5 is no amount of US dollars"),
        ("1.5", "NaN", "it is not read: "),
        ("1.5", "1e999", "it is not read: number out of range"),
        ("1.5", "1e12", "it is not read: 1000000000000 is no amount of US dollars"),
        ("1.5", "\"1.5\"", "it is not read: invalid type: string"),
        ("\"tokens\":10", "\"tokens\":-10", "it is not read: invalid value: integer `-10`"),
        ("\"tokens\":10", "\"tokens\":1.5", "it is not read: invalid type: floating point"),
        ("\"runs\":1", "\"runs\":1,\"more\":1", "it is not read: unknown field `more`"),
        (",\"runs\":1", "", "it is not read: missing field `runs`"),
        ("\"spent\":{", "\"spent\":{},\"spent\":{", "it is not read: missing field"),
        ("2026-11-30\",", "2026-11-31\",", "it is not read: `2026-11-31` is no day, week or month"),
        ("run-1", "run 1", "it is not read: "),
        ("run-1", "\\u001b[31m", "it is not read: "),
        ("T12:00:00Z", "", "it is not read: not a time of RFC 3339"),
        (
            "https://git.example.org/1",
            "https://git.example.org/1\\n::error::",
            "it is not read: not the address of a job",
        ),
        ("\"requests\":0", "\"requests\":0,\"note\":\"mine\"", "it is not read: unknown field `note`"),
        ("}]}", "}]} x", "it is not read: trailing characters"),
    ] {
        let text = good.replacen(from, to, 1);
        let error = PeriodLedger::read(text.as_bytes()).expect_err(&text).to_string();
        assert!(error.starts_with(why), "{text}\n{error}");
    }
    let large = good.replace("}]}", &format!("}}]{}}}", " ".repeat(10 << 20)));
    assert_eq!(PeriodLedger::read(large.as_bytes()), Err(LedgerError::TooLarge(large.len() as u64)));
    let deep = "[".repeat(100_000);
    assert!(matches!(PeriodLedger::read(deep.as_bytes()), Err(LedgerError::Form(_))));
    assert!(PeriodLedger::read(b"\xff\xfe{}").is_err());
}

#[test]
fn there_is_an_end_to_reservations_and_they_all_fit_in_a_ledger() {
    let (budget, mut ledger) = (budget(1e9, 1 << 53), today(None));
    let longest = |number: usize| {
        let slug = Slug::parse(&format!("{number:0>40}")).expect("a name");
        RunReservation::new(&slug, NOW, &"a".repeat(9000), Amounts::spent(1.123_456, 1 << 40, 1 << 40)).expect("one")
    };
    for number in 0..MAX_RESERVATIONS {
        assert_eq!(ledger.reserve(&budget, longest(number)), Ok(Ok(())));
    }
    assert_eq!(ledger.reserve(&budget, longest(MAX_RESERVATIONS)), Err(LedgerError::Full));
    let text = ledger.text();
    assert!(text.len() < MAX_BYTES, "{}", text.len());
    assert_eq!(PeriodLedger::read(text.as_bytes()), Ok(ledger.clone()));
    // Sums stay sums: what can't be counted is more than any budget.
    ledger.settle(&longest(0), Amounts::spent(f64::NAN, u64::MAX, u64::MAX));
    ledger.settle(&longest(1), Amounts::spent(f64::INFINITY, u64::MAX, 1));
    assert!(ledger.reserve(&budget, run(1, 0.000_001, 1)).expect("a place").is_err());
    assert_eq!(PeriodLedger::read(ledger.text().as_bytes()), Ok(ledger));
}

/// A forge's place for one file, which takes a text only over the one that it has.
#[derive(Default)]
struct Shelf {
    text: Option<String>,
    version: u32,
}

impl Shelf {
    fn read(&self) -> (Option<PeriodLedger>, u32) {
        (self.text.as_ref().map(|text| PeriodLedger::read(text.as_bytes()).expect("a ledger")), self.version)
    }

    fn store(&mut self, text: String, over: u32) -> bool {
        let is_current = over == self.version;
        if is_current {
            (self.text, self.version) = (Some(text), self.version + 1);
        }
        is_current
    }
}

/// Where a run stands.
#[derive(Clone)]
enum Step {
    ToRead,
    /// With what was read, which may be old by now.
    ToReserve(Option<PeriodLedger>, u32),
    Works,
    /// Reads again before it settles.
    ToSettle(Option<PeriodLedger>, u32),
    /// It has ended, got nothing or was killed.
    Ended,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever runs do in whatever order, and whichever is killed: what was really spent, and what is counted, is within the budget.
    #[test]
    fn no_order_of_runs_spends_more_than_the_budget(
        amount in 1_u32..40,
        limits in prop::collection::vec((1_u32..12, 0_u32..12), 2..7),
        order in prop::collection::vec((0_usize..7, 0_u8..20), 0..80),
    ) {
        let budget = budget(f64::from(amount) / 10.0, 1_000_000);
        let mut shelf = Shelf::default();
        let mut steps = vec![Step::ToRead; limits.len()];
        let mut really_spent = vec![0_u32; limits.len()];
        for (at, luck) in order {
            let Some(&(limit, wish)) = limits.get(at) else { continue };
            let own = run(at as u32, f64::from(limit) / 10.0, 1);
            steps[at] = match (steps[at].clone(), luck) {
                (Step::Works, 0) => Step::Ended,
                (Step::ToRead, _) => { let (read, version) = shelf.read(); Step::ToReserve(read, version) }
                (Step::ToReserve(read, version), _) => {
                    let mut ledger = today(read);
                    match ledger.reserve(&budget, own).expect("a place") {
                        Err(_) => Step::Ended,
                        Ok(()) if shelf.store(ledger.text(), version) => {
                            really_spent[at] = wish.min(limit);
                            Step::Works
                        }
                        Ok(()) => Step::ToRead,
                    }
                }
                (Step::Works, _) => { let (read, version) = shelf.read(); Step::ToSettle(read, version) }
                (Step::ToSettle(read, version), _) => {
                    let mut ledger = today(read);
                    ledger.settle(&own, Amounts::spent(f64::from(really_spent[at]) / 10.0, 1, 1));
                    if shelf.store(ledger.text(), version) { Step::Ended } else { Step::Works }
                }
                (Step::Ended, _) => Step::Ended,
            };
            let ledger = today(shelf.read().0);
            let counted = ledger.spent().plus(ledger.reserved()).cost_usd;
            prop_assert!(counted <= Amounts::spent(f64::from(amount) / 10.0, 0, 0).cost_usd, "{counted:?} of {amount}");
            prop_assert!(really_spent.iter().sum::<u32>() <= amount, "{really_spent:?} of {amount}");
        }
    }
}
