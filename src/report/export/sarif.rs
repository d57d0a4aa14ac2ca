//! What the doors of a run refused, as SARIF 2.1.0 for a forge's code scanning.

use std::collections::{HashMap, HashSet};

use bottle_plan::manifest::FILE_NAMES;
use bottle_policy::outputs::{
    FindingLevel, LONGEST_MESSAGE, LONGEST_RULE, SarifReport, SarifResult, SarifRule, is_inside,
};
use bottle_wire::push_report::PushVerdict;
use serde_json::Value;

use crate::report::model::data::{Push, Request};
use crate::report::model::visible::{beginning, visible};
use crate::report::show::{RunView, is_refusal};

/// GitHub shows no more results of a file.
const MAX_RESULTS: usize = 5000;
/// Bytes of a name in a message.
const NAME_BYTES: usize = 200;
/// What a rule's id begins with: where it was refused.
const OF_PUSH: &str = "push/";
const OF_REQUEST: &str = "request/";
/// The rule of a push that was refused for what it is, not for something that is in it.
const REFUSED: &str = "push/refused";

impl RunView {
    /// What the gate and the outgoing doors refused, each thing once: rule, file and line, never what was found.
    pub(crate) fn sarif(&self) -> Value {
        let mut results = self.push_results();
        results.extend(self.request_results());
        // The sort is stable: within a level, the order is that of the record.
        results.sort_by_key(|result| match result.level {
            FindingLevel::Error => 0,
            FindingLevel::Warning => 1,
            FindingLevel::Note => 2,
        });
        let mut left_out = self.data.left_out.clone();
        if results.len() > MAX_RESULTS {
            let more = results.len() - MAX_RESULTS;
            left_out.push(format!("{more} results are left out: gate.jsonl and egress.jsonl have them."));
            results.truncate(MAX_RESULTS);
        }
        let agent = self.plan.as_ref().map_or("unknown", |plan| plan.agent.name.as_str());
        // Beside the findings of the agent itself, whose category has one word less.
        let report = SarifReport { category: format!("claude-bottle/{agent}/refused/"), results, left_out };
        report.to_json(env!("CARGO_PKG_VERSION"), |id| self.sarif_rule(id))
    }

    fn push_results(&self) -> Vec<SarifResult> {
        let pushes = &self.data.pushes;
        let mut seen = HashSet::new();
        let mut results = vec![];
        for (at, push) in pushes.iter().enumerate().filter(|(_, push)| !push.verdict.has_passed()) {
            // A later push that passed has made it good.
            let is_same = |other: &&Push| (&other.repo, &other.r#ref) == (&push.repo, &push.r#ref);
            let is_mended = pushes[at + 1..].iter().filter(is_same).any(|other| other.verdict.has_passed());
            for result in results_of(push, is_mended) {
                if seen.insert((result.rule.clone(), result.path.clone(), result.lines, result.about.clone())) {
                    results.push(result);
                }
            }
        }
        results
    }

    /// Requests that are alike are one result.
    fn request_results(&self) -> Vec<SarifResult> {
        let mut known: HashMap<(String, String), usize> = HashMap::new();
        let mut rows: Vec<(&Request, String, String, u64)> = vec![];
        for request in self.requests().into_iter().filter(|request| is_refusal(request.verdict)) {
            let why = if request.rule.is_empty() { &request.reason } else { &request.rule };
            let key = (rule(OF_REQUEST, why), about(request));
            match known.get(&key) {
                Some(at) => rows[*at].3 += 1,
                None => {
                    known.insert(key.clone(), rows.len());
                    rows.push((request, key.0, key.1, 1));
                }
            }
        }
        let result = |(request, rule, about, count): (&Request, String, String, u64)| {
            let found =
                if request.finding.is_empty() { String::new() } else { format!(" ({})", short(&request.finding)) };
            let times = if count > 1 { format!(", {count} times") } else { String::new() };
            let meaning = self.data.reasons.get(request.reason.as_str()).copied().unwrap_or_default();
            let text = format!("{} refused {about}{times}: {}{found}. {meaning}", request.door, short(&request.reason));
            SarifResult {
                rule,
                // Something that was found; else only a way that is not there.
                level: if request.rule.is_empty() { FindingLevel::Note } else { FindingLevel::Error },
                message: message(&text),
                // No file of the repository has a request in it. The manifest is what says which may pass.
                path: FILE_NAMES[0].to_owned(),
                lines: None,
                about: Some(about),
            }
        };
        rows.into_iter().map(result).collect()
    }

    fn sarif_rule(&self, id: &str) -> SarifRule {
        let suggest = "`bottle-runner suggest RECORD` prints the change of the manifest that would let it pass.";
        if id == REFUSED {
            return SarifRule {
                description: "The gate refused a push that the manifest does not allow.".to_owned(),
                help: suggest.to_owned(),
                is_security: true,
            };
        }
        if let Some(rule) = id.strip_prefix(OF_PUSH) {
            return SarifRule {
                description: format!("The gate found {rule} in a push. Upstream does not have it."),
                help:
                    "What was found is in the guest's work alone. If it is no secret, the manifest can exempt it; if \
                       it is one, the guest has seen it: replace it."
                        .to_owned(),
                is_security: true,
            };
        }
        let word = id.strip_prefix(OF_REQUEST).unwrap_or(id);
        match self.data.reasons.get(word) {
            Some(meaning) => {
                SarifRule { description: (*meaning).to_owned(), help: suggest.to_owned(), is_security: false }
            }
            None => SarifRule {
                description: format!("A door found {word} in a request. It did not leave."),
                help: "If it is a secret, the guest has seen it: replace it, and look at what the agent was told."
                    .to_owned(),
                is_security: true,
            },
        }
    }
}

/// A result for each finding of a push, or one where the gate gave reasons alone.
fn results_of(push: &Push, is_mended: bool) -> Vec<SarifResult> {
    let level = |level| if is_mended { FindingLevel::Note } else { level };
    let mended = if is_mended { " A later push of the same ref passed." } else { "" };
    let to = format!("{} of {}", short(&push.r#ref), short(&push.repo));
    let end = if push.verdict == PushVerdict::Held { "was held for a person" } else { "was refused" };
    if push.findings.is_empty() {
        let reasons: Vec<String> = push.reasons.iter().map(|reason| short(&reason.head)).collect();
        return vec![SarifResult {
            rule: REFUSED.to_owned(),
            level: level(FindingLevel::Warning),
            message: message(&format!("The push to {to} {end}: {}.{mended}", reasons.join("; "))),
            path: FILE_NAMES[0].to_owned(),
            lines: None,
            about: Some(to),
        }];
    }
    let result = |finding: &crate::report::model::data::FindingRow| {
        let line = finding.line.filter(|line| *line > 0);
        let shown = line.map(|line| format!(":{line}")).unwrap_or_default();
        let commit = match beginning(&finding.commit, 12) {
            "" => String::new(),
            commit => format!(" in commit {commit}"),
        };
        let place = short(&finding.path);
        let text = format!("The push to {to} {end}: {} at {place}{shown}{commit}.{mended}", short(&finding.rule));
        // A message of a commit, a name of a file or a ref is in no file.
        let is_file = is_inside(&finding.path) && !is_named(&finding.path);
        SarifResult {
            rule: rule(OF_PUSH, &finding.rule),
            level: level(FindingLevel::Error),
            message: message(&text),
            path: if is_file { finding.path.clone() } else { FILE_NAMES[0].to_owned() },
            lines: line.filter(|_| is_file).map(|line| (line, line)),
            about: (!is_file).then(|| format!("{to}: {place}")),
        }
    };
    push.findings.iter().map(result).collect()
}

/// True for what stands in a finding in place of a path.
fn is_named(path: &str) -> bool {
    matches!(path, "ref name" | "file name" | "commit message or header" | "tag message or header")
        || path.starts_with("blob ")
        || path.starts_with('(')
}

/// What a request was for.
fn about(request: &Request) -> String {
    format!("{} {}:{}{}", short(&request.method), short(&request.host), request.port, short(&request.path))
}

fn rule(of: &str, id: &str) -> String {
    format!("{of}{}", beginning(id, LONGEST_RULE))
}

/// A name on one line, or its beginning.
fn short(text: &str) -> String {
    let shown = beginning(text, NAME_BYTES).replace(['\n', '\t'], " ");
    if shown.len() < text.len() { format!("{shown}…") } else { shown }
}

/// The text of a message, in which nothing is a link: SARIF has those in brackets.
fn message(text: &str) -> String {
    let text = visible(text.trim_end());
    let mut message = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '[' | ']') {
            message.push('\\');
        }
        message.push(c);
    }
    match beginning(&message, LONGEST_MESSAGE) {
        whole if whole.len() == message.len() => message,
        // An escape that is cut in two would be another.
        cut => format!("{}…", cut.trim_end_matches('\\')),
    }
}

#[cfg(test)]
mod tests {
    use bottle_types::record_file::RecordFile;
    use jsonschema::Draft;
    use serde_json::json;

    use super::*;
    use crate::report::model::samples::{self, hostile_contents};

    fn built(sample: &samples::Sample) -> Value {
        sample.view();
        RunView::open_logs(sample.dir.path()).expect("a record").sarif()
    }

    /// The faults of a SARIF file by those parts of the published schema that ours has.
    fn faults(sarif: &Value) -> Vec<String> {
        let schema = include_str!("../../../crates/bottle-policy/tests/outputs/sarif-schema.json");
        let schema: Value = serde_json::from_str(schema).expect("a schema");
        let options = jsonschema::options().with_draft(Draft::Draft7).should_validate_formats(true);
        options.build(&schema).expect("a schema").iter_errors(sarif).map(|error| error.to_string()).collect()
    }

    #[test]
    fn every_record_becomes_sarif_as_it_is_published() {
        for sample in samples::all().into_iter().chain([samples::hostile(&hostile_contents())]) {
            let sarif = built(&sample);
            assert_eq!(faults(&sarif), Vec::<String>::new());
            assert_eq!(sarif, built(&sample), "the same record gives the same file");
            let results = sarif["runs"][0]["results"].as_array().expect("results");
            for result in results {
                let text = result["message"]["text"].as_str().expect("a text");
                assert!(text.len() <= LONGEST_MESSAGE + 3 && !text.contains("]("), "{text}");
                assert_eq!(crate::report::show::alive(text), None);
            }
        }
        // The schema does judge.
        let mut sarif = built(&samples::denied_route());
        sarif["runs"][0]["results"][0]["locations"][0]["logicalLocations"] = json!([{"kind": 1}]);
        assert_ne!(faults(&sarif), Vec::<String>::new());
    }

    #[test]
    fn a_refused_push_has_its_rule_file_and_line() {
        let sarif = built(&samples::refused_push());
        let run = &sarif["runs"][0];
        assert_eq!(run["automationDetails"]["id"], "claude-bottle/implementer/refused/");
        assert_eq!(run["results"].as_array().map(Vec::len), Some(1));
        let result = &run["results"][0];
        assert_eq!((&result["ruleId"], &result["level"]), (&json!("push/aws-access-token"), &json!("error")));
        let text = "The push to refs/heads/bottle/issue-7 of origin was refused: aws-access-token at deploy.toml:2 in commit 950ee9816232.";
        assert_eq!(result["message"]["text"], text);
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "deploy.toml");
        assert_eq!(place["region"], json!({"startLine": 2, "endLine": 2}));
        assert_eq!(run["tool"]["driver"]["rules"][0]["properties"], json!({"tags": ["security"]}));
        // The real record's first push was refused, and its second passed.
        let sarif = built(&samples::success());
        let results = sarif["runs"][0]["results"].as_array().expect("results");
        assert!(!results.is_empty() && results.iter().all(|result| result["level"] == "note"), "{results:#?}");
        assert!(
            results[0]["message"]["text"].as_str().expect("a text").ends_with("A later push of the same ref passed.")
        );
    }

    #[test]
    fn requests_that_are_alike_are_one_result_at_the_manifest() {
        let mut sample = samples::Sample::new("t");
        for _ in 0..3 {
            sample.request("GET", "pypi.org", "/simple/parser/", "deny", Some("no_route"));
        }
        sample.request("GET", "pypi.org", "/", "allow", None);
        let sample = sample.end(crate::exit::Code::Done, "done");
        let line = json!({"time": "2026-11-28T14:13:00Z", "id": "p1", "door": "pipelock", "method": "POST", "host": "paste.example", "port": 443, "path": "/new",
            "verdict": "block", "reason": "dlp", "finding": {"rule": "known-secret:API_KEY", "at": "body", "offset": 7}, "status": 403, "bytes_out": 5, "bytes_in": 0, "ms": 3});
        sample.append(RecordFile::Egress, format!("{line}\n{{\"half\": \n").as_bytes());
        let sarif = built(&sample);
        assert_eq!(faults(&sarif), Vec::<String>::new());
        let results = sarif["runs"][0]["results"].as_array().expect("results");
        let shown: Vec<_> =
            results.iter().map(|one| (&one["ruleId"], &one["level"], &one["message"]["text"])).collect();
        assert_eq!(
            shown,
            [
                (
                    &json!("request/known-secret:API_KEY"),
                    &json!("error"),
                    &json!(
                        "pipelock refused POST paste.example:443/new: dlp (known-secret:API_KEY in body). A secret was found in the request, or a part of it can't be looked into."
                    )
                ),
                (
                    &json!("request/no_route"),
                    &json!("note"),
                    &json!(
                        "egress refused GET pypi.org:443/simple/parser/, 3 times: no_route. No route allows the request."
                    )
                ),
            ]
        );
        let place = &results[1]["locations"][0];
        assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], "claude-bottle.yml");
        assert_eq!(place["logicalLocations"][0]["fullyQualifiedName"], "GET pypi.org:443/simple/parser/");
        let said = &sarif["runs"][0]["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"];
        assert_eq!(said, "1 lines that are not understood are left out: egress.jsonl has them.");
    }

    #[test]
    fn what_was_found_in_no_file_has_the_manifests_place() {
        for (path, uri) in [
            ("commit message or header", "claude-bottle.yml"),
            ("ref name", "claude-bottle.yml"),
            ("blob 950ee9816232", "claude-bottle.yml"),
            ("(withheld: it looks like a secret)", "claude-bottle.yml"),
            ("../x", "claude-bottle.yml"),
            ("src/a b.rs", "src/a%20b.rs"),
        ] {
            let mut sample = samples::Sample::new("t");
            sample.push("refs/heads/bottle/x", "held", &json!([{"rule": "jwt", "path": path, "line": 4}]), &[]);
            let sarif = built(&sample.end(crate::exit::Code::Gate, "refused"));
            let place = &sarif["runs"][0]["results"][0]["locations"][0];
            assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], uri, "{path}");
            assert_eq!(place["physicalLocation"]["region"].is_null(), uri == "claude-bottle.yml");
            assert_eq!(place["logicalLocations"].is_array(), uri == "claude-bottle.yml");
        }
    }

    #[test]
    fn no_more_results_than_a_forge_shows() {
        let mut sample = samples::Sample::new("t");
        for at in 0..MAX_RESULTS + 7 {
            sample.request("GET", "a.example", &format!("/{at}"), "deny", Some("no_route"));
        }
        let sarif = built(&sample.end(crate::exit::Code::Done, "done"));
        let run = &sarif["runs"][0];
        assert_eq!(run["results"].as_array().map(Vec::len), Some(MAX_RESULTS));
        let said = &run["invocations"][0]["toolExecutionNotifications"][0]["message"]["text"];
        assert_eq!(said, "7 results are left out: gate.jsonl and egress.jsonl have them.");
    }
}
