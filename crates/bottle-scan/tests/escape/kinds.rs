//! Kinds of data that `pipelock.detect` turns on: `kinds.toml` has what each finds and what it does not.

use std::collections::BTreeSet;

use bottle_scan::dlp::{DataKind, Rules, Scope, Search};
use bottle_scan::known::KnownSecrets;
use bottle_scan::texts::Unpacker;
use serde::Deserialize;

use super::make::{Secrets, render};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kinds {
    kind: Vec<KindCases>,
}

/// What is found of a kind, and what is not.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KindCases {
    name: DataKind,
    found: Vec<FoundCase>,
    honest: Vec<String>,
}

/// A text with one number in it, and the rule that says so.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundCase {
    text: String,
    rule: String,
}

/// Forms in which a text may leave; the first is the text as it is.
const FORMS: [&str; 7] = ["", "b64", "b64url", "hex", "hex|b64", "numbers", "gzip"];

/// The text in a form, with others around it: fewer than twenty digits of base64 or hex are not looked into.
fn put(text: &str, form: &str) -> Vec<u8> {
    let text = text.replace('|', "");
    match form {
        "" => text.into_bytes(),
        form => render(
            &format!("before <<{form}:<<K>>>> after"),
            &Secrets { known: format!("It says: {text} "), ..Secrets::real() },
        ),
    }
}

struct Readers {
    rules: Rules,
    known: KnownSecrets,
}

impl Readers {
    fn new(kinds: &[DataKind]) -> Self {
        let kinds: BTreeSet<_> = kinds.iter().copied().collect();
        Self { rules: Rules::with(&[], &kinds, &[]).expect("rules"), known: KnownSecrets::new(&[]).expect("nothing") }
    }

    fn door(&self, bytes: &[u8], scope: Scope) -> Option<String> {
        Search { known: &self.known, rules: Some((&self.rules, scope)) }
            .find(bytes)
            .map(|finding| finding.rule.to_string())
    }

    fn gate(&self, bytes: &[u8]) -> Option<String> {
        let find = |bytes: &[u8]| self.rules.find_all(bytes, Scope::All, 1).first().map(|(rule, _)| (*rule).to_owned());
        let mut found = find(bytes);
        let unpacked = Unpacker::new(64 << 20).unpack(bytes, &mut |derived| {
            found = found.take().or_else(|| find(&derived.bytes));
        });
        found.or_else(|| unpacked.err().map(|error| error.to_string()))
    }
}

fn cases() -> Vec<KindCases> {
    let kinds: Kinds = toml::from_str(include_str!("kinds.toml")).expect("cases");
    let named: Vec<DataKind> = kinds.kind.iter().map(|kind| kind.name).collect();
    assert_eq!(named, DataKind::ALL);
    kinds.kind
}

#[test]
fn each_kind_finds_its_numbers_in_every_form_and_no_honest_text() {
    let (all, mut wrong) = (Readers::new(&DataKind::ALL), vec![]);
    for KindCases { name, found, honest } in cases() {
        let alone = Readers::new(&[name]);
        assert!(found.len() >= 5 && honest.len() >= 5, "{}: {}, {}", name.name(), found.len(), honest.len());
        for FoundCase { text, rule } in found {
            for form in FORMS {
                let bytes = put(&text, form);
                for (reader, seen) in [("door", alone.door(&bytes, Scope::All)), ("gate", alone.gate(&bytes))] {
                    if seen.as_deref() != Some(rule.as_str()) {
                        wrong.push(format!("{text:?} {form:?}: {reader}: {seen:?}"));
                    }
                }
            }
        }
        for text in honest {
            for form in FORMS {
                let bytes = put(&text, form);
                for (reader, seen) in [("door", all.door(&bytes, Scope::All)), ("gate", all.gate(&bytes))] {
                    wrong.extend(seen.map(|rule| format!("honest {text:?} {form:?}: {reader}: {rule}")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_kind_that_is_off_is_not_looked_for_and_none_is_on_the_model_s_route() {
    let (none, all) = (Readers::new(&[]), Readers::new(&DataKind::ALL));
    let mut wrong = vec![];
    for KindCases { name, found, .. } in cases() {
        let others: Vec<DataKind> = DataKind::ALL.into_iter().filter(|other| *other != name).collect();
        let others = Readers::new(&others);
        for FoundCase { text, rule } in found {
            let bytes = put(&text, "");
            let seen = [none.door(&bytes, Scope::All), others.door(&bytes, Scope::All), all.door(&bytes, Scope::Model)];
            if seen.iter().any(Option::is_some) {
                wrong.push(format!("{text:?}, {rule}: {seen:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_cut_changes_a_verdict_about_data() {
    use bottle_scan::dlp::{Mode, Stream};
    let all = Readers::new(&DataKind::ALL);
    let search = Search { known: &all.known, rules: Some((&all.rules, Scope::All)) };
    let run = |bytes: &[u8], chunks: usize| -> Result<Vec<u8>, String> {
        let (mut stream, mut out) = (Stream::default(), vec![]);
        for chunk in bytes.chunks(chunks) {
            out.extend(stream.push(search, chunk, Mode::Block).map_err(|finding| finding.rule.to_string())?);
        }
        out.extend(stream.finish(search, Mode::Block).map_err(|finding| finding.rule.to_string())?);
        Ok(out)
    };
    let mut wrong = vec![];
    for KindCases { found, honest, .. } in cases() {
        let found = found.into_iter().map(|case| (case.text, Some(case.rule)));
        for (text, rule) in found.chain(honest.into_iter().map(|text| (text, None))) {
            // Around the end of the first block, where a number is cut.
            for (form, before) in [("", 32_755), ("", 32_700), ("b64", 32_740), ("hex", 32_650)] {
                let filler: Vec<u8> = b"A line of a file, and more.\n".iter().cycle().take(before).copied().collect();
                let bytes = [&filler, &b"\n"[..], &put(&text, form), &b"\n".repeat(3000)].concat();
                for chunks in [bytes.len(), 33_000] {
                    let seen = run(&bytes, chunks);
                    let right = seen.as_ref().err() == rule.as_ref() && (rule.is_some() || seen == Ok(bytes.clone()));
                    if !right {
                        wrong.push(format!("{text:?} {form:?} behind {before} in {chunks}: {:?}", seen.err()));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

/// What is overwritten is the number, and nothing beside it.
#[test]
fn a_number_is_redacted_to_its_last_digit() {
    use bottle_scan::dlp::{Mode, Stream};
    let all = Readers::new(&DataKind::ALL);
    let search = Search { known: &all.known, rules: Some((&all.rules, Scope::All)) };
    for (text, redacted) in [
        ("card 4242 4242 4242 4242 12/30", "card ******************* 12/30"),
        ("to DE89 3704 0044 0532 0130 00 today", "to *************************** today"),
        ("SSN: 536-22-1234, and so on", "SSN: ***********, and so on"),
        ("test test test test test test test test test test test junk mail", &format!("{} mail", "*".repeat(59))),
    ] {
        let mut stream = Stream::default();
        let mut out = stream.push(search, text.as_bytes(), Mode::Redact).expect("goes on");
        out.extend(stream.finish(search, Mode::Redact).expect("goes on"));
        assert_eq!(String::from_utf8_lossy(&out), redacted);
    }
}
