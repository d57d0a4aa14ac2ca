//! One decoder for all: whatever the doors read, the gate reads, and the other way round. `forms.toml` has the forms.

use bottle_scan::dlp::{Rules, Scope, Search};
use bottle_scan::known::KnownSecrets;
use bottle_scan::texts::Unpacker;
use bottle_types::secret::{Secret, SecretName};
use serde::Deserialize;

use super::make::{Secrets, render};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forms {
    pub(super) form: Vec<Form>,
    honest: Vec<Honest>,
}

/// A text that is nobody's secret.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Honest {
    name: String,
    text: String,
}

/// One form, or a few on each other, in a text.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Form {
    pub(super) name: String,
    /// With `<<S>>` for the secret.
    text: String,
    /// By design not read, and why: neither decoder finds it.
    pub(super) left_out: Option<String>,
}

/// Both readers, and what they look for.
pub(super) struct Readers<'a> {
    rules: &'a Rules,
    known: &'a KnownSecrets,
}

impl<'a> Readers<'a> {
    pub(super) fn with(rules: &'a Rules, known: &'a KnownSecrets) -> Self {
        Self { rules, known }
    }

    /// What a door finds in a body.
    pub(super) fn door(&self, bytes: &[u8]) -> Option<String> {
        let search = Search { known: self.known, rules: Some((self.rules, Scope::All)) };
        search.find(bytes).map(|finding| finding.rule.to_string())
    }

    /// What the gate finds in a file, but for what gitleaks does.
    pub(super) fn gate(&self, bytes: &[u8]) -> Option<String> {
        let find = |bytes: &[u8]| {
            let known = self.known.find(bytes).map(|(name, _)| format!("known-secret:{name}"));
            known.or_else(|| self.rules.find(bytes, Scope::All).map(|finding| finding.rule.to_string()))
        };
        let mut found = find(bytes);
        let unpacked = Unpacker::new(256 << 20).unpack(bytes, &mut |derived| {
            if found.is_none() {
                found = find(&derived.bytes);
            }
        });
        found.or_else(|| unpacked.err().map(|error| format!("unreadable:{error}")))
    }
}

/// What the suites hide.
fn looked_for() -> (Rules, KnownSecrets) {
    let name = SecretName::parse("ESCAPE_KEY").expect("a name");
    let known = KnownSecrets::new(&[(name, Secret::new(Secrets::real().known.into_bytes()))]).expect("a secret");
    (Rules::builtin().expect("rules"), known)
}

/// The text with this secret in the form.
pub(super) fn made(form: &Form, secret: &str) -> Vec<u8> {
    render(&form.text.replace("<<S>>", "<<T>>"), &Secrets { token: secret.to_owned(), ..Secrets::real() })
}

#[test]
fn what_one_decoder_reads_the_other_reads_too() {
    let (rules, known) = looked_for();
    let readers = Readers::with(&rules, &known);
    let all: Forms = toml::from_str(include_str!("forms.toml")).expect("forms");
    let (real, harmless) = (Secrets::real(), Secrets::harmless());
    let (mut wrong, mut table) = (vec![], vec![]);
    for form in &all.form {
        let mut row = vec![];
        for (kind, secret, rule) in
            [("token", &real.token, "github-pat"), ("known", &real.known, "known-secret:ESCAPE_KEY")]
        {
            let text = made(form, secret);
            for (reader, found) in [("door", readers.door(&text)), ("gate", readers.gate(&text))] {
                let expected = form.left_out.is_none().then_some(rule);
                row.push(if found.as_deref() == Some(rule) { "yes" } else { "no" });
                if found.as_deref() != expected {
                    wrong.push(format!("{}: {reader}, {kind}: {found:?}", form.name));
                }
            }
        }
        table.push(format!("{:32} {}", form.name, row.join(" ")));
        for harmless in [&harmless.token, &harmless.known] {
            let text = made(form, harmless);
            for (reader, found) in [("door", readers.door(&text)), ("gate", readers.gate(&text))] {
                if let Some(found) = found {
                    wrong.push(format!("{}: {reader}: the harmless one is found: {found}", form.name));
                }
            }
        }
    }
    let table = table.join("\n");
    assert!(wrong.is_empty(), "{} are wrong:\n{}\n{table}", wrong.len(), wrong.join("\n"));
}

#[test]
fn honest_texts_are_no_findings_for_either_decoder() {
    let (rules, known) = looked_for();
    let readers = Readers::with(&rules, &known);
    let all: Forms = toml::from_str(include_str!("forms.toml")).expect("forms");
    assert!(all.form.len() >= 150 && all.honest.len() >= 60, "{}, {}", all.form.len(), all.honest.len());
    let mut wrong = vec![];
    for honest in &all.honest {
        let text = honest.text.as_bytes();
        for (reader, found) in [("door", readers.door(text)), ("gate", readers.gate(text))] {
            wrong.extend(found.map(|found| format!("{}: {reader}: {found}", honest.name)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const IN_A_WORD: [&str; 3] = ["base64-at-one", "base64-at-two", "base64-twice-shifted"];

/// The doors' suite before the gate's decoder: whatever is found in a body, the gate finds, too.
#[test]
fn what_the_doors_find_in_a_body_the_gate_finds_in_a_file() {
    let (rules, known) = looked_for();
    let readers = Readers::with(&rules, &known);
    let suite: super::make::Suite = toml::from_str(include_str!("cases.toml")).expect("cases");
    let (real, harmless) = (Secrets::real(), Secrets::harmless());
    let mut wrong = vec![];
    for case in suite.case.iter().filter(|case| !case.body.is_empty() && case.expect.is_empty()) {
        let made = case.make(&real, false);
        // In base64 the doors find a token behind a letter, too; as it is, neither finds one in the middle of a word.
        if IN_A_WORD.contains(&case.name.as_str()) {
            continue;
        }
        if readers.door(&made.body).is_some() && readers.gate(&made.body).is_none() {
            wrong.push(format!("{}: nothing was found", case.name));
        }
    }
    // What is honest on the model's route alone may be a finding elsewhere.
    for case in suite.honest.iter().filter(|case| !case.model) {
        let found = readers.gate(&case.make(&harmless, true).body);
        wrong.extend(found.map(|found| format!("honest {}: {found}", case.name)));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
