//! Schemas of answers: what a manifest may say, and what is refused before an agent starts.

use std::time::{Duration, Instant};

use bottle_policy::outputs::{
    AnswerSchema, LONGEST_SCHEMA, Output, OutputJudge, OutputPolicy, OutputRules, answer_text,
};
use bottle_scan::known::KnownSecrets;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// As the file has it.
    schema: String,
    refused: Option<String>,
}

#[test]
fn a_schema_that_can_t_be_kept_is_refused() {
    let cases: Cases = toml::from_str(include_str!("schemas.toml")).expect("the cases");
    let mut wrong = vec![];
    for Case { name, schema, refused } in &cases.case {
        let read = AnswerSchema::read(schema).map_err(|error| error.to_string());
        let as_expected = match (&read, refused) {
            (Ok(_), None) => true,
            (Err(said), Some(refused)) => said.contains(refused),
            _ => false,
        };
        if !as_expected {
            wrong.push(format!("{name}: {read:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A schema in which each definition names the next one twice.
fn doubling(definitions: usize) -> Value {
    let mut defs = serde_json::Map::new();
    for number in 0..definitions {
        let next = json!({"$ref": format!("#/$defs/d{}", number + 1)});
        defs.insert(format!("d{number}"), json!({"allOf": [next, next]}));
    }
    defs.insert(format!("d{definitions}"), json!({"type": "string"}));
    json!({"$ref": "#/$defs/d0", "$defs": defs})
}

/// A schema of so many schemas in each other.
fn nested(depth: usize) -> Value {
    (1..depth).fold(json!({}), |inner, _| json!({"items": inner}))
}

#[test]
fn a_schema_that_would_cost_too_much_is_refused() {
    for (schema, refused) in [
        (doubling(6), None),
        (doubling(10), Some("more than 2000 schemas")),
        (doubling(14), Some("more than 2000 schemas")),
        (doubling(60), Some("more than 32 schemas stand in each other")),
        (nested(32), None),
        (nested(33), Some("more than 32 schemas stand in each other")),
        (json!({"items": nested(31), "title": "x"}), None),
        (json!({"description": "x".repeat(LONGEST_SCHEMA)}), Some("longer than 32768 bytes")),
        (json!({"pattern": "x{1000}{1000}{1000}"}), Some("at /pattern")),
        (json!({"pattern": "(x+x+)+y"}), None),
    ] {
        let text = schema.to_string();
        let read = AnswerSchema::read(&text).map_err(|error| error.to_string());
        let is = read.as_ref().err().map(String::as_str);
        match refused {
            None => assert_eq!(is, None, "{}", &text[..text.len().min(200)]),
            Some(refused) => assert!(is.is_some_and(|said| said.contains(refused)), "{is:?}"),
        }
    }
}

/// What a large answer may cost, in an unoptimised build of the validator on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn no_answer_costs_more_than_it_is_long() {
    let ids: Vec<Value> = (0..20_000).map(|n| json!({"n": n})).collect();
    for (schema, note) in [
        // Each with each other, if it were counted so.
        (r#"{"type": "array", "uniqueItems": true}"#, json!(ids)),
        // What backtracks without end.
        (r#"{"type": "string", "pattern": "^(a+)+$"}"#, json!("a".repeat(200_000) + "!")),
        (r#"{"type": "string", "pattern": "(x+x+)+y"}"#, json!("x".repeat(200_000))),
        (r#"{"items": {"anyOf": [{"type": "string"}, {"required": ["a"]}, {"minProperties": 2}]}}"#, json!(ids)),
        (r#"{"items": {"multipleOf": 1e-300}}"#, json!(vec![1.7e308; 20_000])),
    ] {
        let rules = OutputRules { json: Some(AnswerSchema::read(schema).expect("a schema")), ..OutputRules::default() };
        let judge = OutputJudge::new(OutputPolicy { rules, ..OutputPolicy::default() }).expect("a policy");
        let known = KnownSecrets::new(&[]).expect("none");
        let start = Instant::now();
        let judged = judge.judge(&known, &[], &Output::Json { answer: note });
        assert!(start.elapsed() < PATIENCE, "{schema}: {:?}", start.elapsed());
        // Its faults are told in a few words, however many it has.
        assert!(judged.is_ok() || judged.is_err_and(|why| why.to_string().len() < 1000), "{schema}");
    }
}

#[test]
fn an_answer_s_text_is_one_line_that_means_the_same() {
    for answer in [
        json!({"a": [1, -2.5, true, null, "\r\n::error::x\u{85}\u{2028}\u{202e}\u{200b}\u{e0041}\u{7f}é"]}),
        json!("\\\u{200b}\\u200b"),
        json!({"\u{200b}": "<!-- -->"}),
    ] {
        let text = answer_text(&answer);
        assert!(!text.contains(|c: char| c.is_control() || "\u{2028}\u{202e}\u{200b}\u{e0041}".contains(c)), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), answer);
    }
}
