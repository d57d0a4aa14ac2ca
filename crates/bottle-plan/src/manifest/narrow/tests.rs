//! `cases.toml`: tries to allow more than a policy, and manifests that are narrower.

use serde::Deserialize;
use serde_json::Value;

use super::rules::{RULES, Rule, rule};
use crate::manifest::{ManifestError, ManifestSource, PolicyText};

/// Each key of a schema, as `rules` writes it. Below a key that is compared as a whole nothing is looked at.
fn keys(root: &Value, schema: &Value, pattern: &str, found: &mut Vec<String>) {
    let schema = match schema["$ref"].as_str() {
        Some(name) => &root["$defs"][name.trim_start_matches("#/$defs/")],
        None => schema,
    };
    if let Some(of) = schema["anyOf"].as_array() {
        return of.iter().for_each(|schema| keys(root, schema, pattern, found));
    }
    let is_whole = !matches!(
        rule(pattern),
        Rule::Keys
            | Rule::KeysAsThere
            | Rule::Granted
            | Rule::Names
            | Rule::NamesInPlace
            | Rule::NamesAndOwn
            | Rule::Outputs
            | Rule::Servers
            | Rule::Repositories
    );
    if is_whole && !pattern.is_empty() {
        return;
    }
    let mut child = |key: &str, schema: &Value| {
        let child = if pattern.is_empty() { key.to_owned() } else { format!("{pattern}.{key}") };
        found.push(child.clone());
        keys(root, schema, &child, found);
    };
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        child(key, schema);
    }
    for of_names in ["additionalProperties", "items"] {
        if schema[of_names].is_object() {
            child("*", &schema[of_names]);
        }
    }
    for schema in schema["patternProperties"].as_object().into_iter().flat_map(|patterns| patterns.values()) {
        child("*", schema);
    }
}

#[test]
fn each_key_of_the_schema_has_its_rule_and_each_rule_its_key() {
    let schema = crate::manifest::schema();
    let mut found = vec![];
    keys(&schema, &schema, "", &mut found);
    found.sort();
    found.dedup();
    let mut ruled: Vec<String> = RULES.iter().map(|(pattern, _)| (*pattern).to_owned()).collect();
    ruled.sort();
    let missing: Vec<&String> = found.iter().filter(|key| !ruled.contains(key)).collect();
    let stale: Vec<&String> = ruled.iter().filter(|key| !found.contains(key)).collect();
    assert_eq!(
        (missing, stale),
        (vec![], vec![]),
        "a new key needs a rule in rules.rs and its row in docs/reference/extends.md"
    );
}

/// One pair of a policy and a manifest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// The key whose rule it is about, as `rules` writes it.
    key: Option<String>,
    top: Option<[String; 2]>,
    bottle: Option<[String; 2]>,
    git: Option<[String; 2]>,
    agent: Option<[String; 2]>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    wider: Vec<Case>,
    narrower: Vec<Case>,
}

fn cases() -> Cases {
    toml::from_str(include_str!("cases.toml")).expect("cases")
}

impl Case {
    /// The policy's text and the manifest's.
    fn texts(&self) -> [String; 2] {
        let bottle = |text: &String| format!("version: 1\nbottles: {{ default: {{ {text} }} }}\n");
        let entry = "name: origin, upstream: \"https://git.example.org/a/b\", token_from: T";
        match (&self.top, &self.bottle, &self.git, &self.agent) {
            (Some([policy, own]), None, None, None) => {
                let own = own
                    .strip_prefix("VERSION ")
                    .map_or_else(|| format!("version: 1\n{own}"), |n| format!("version: {n}"));
                [format!("version: 1\n{policy}"), own]
            }
            (None, Some(texts), None, None) => texts.each_ref().map(bottle),
            (None, None, Some(texts), None) => texts.each_ref().map(|text| match text.strip_prefix("RAW") {
                Some(raw) => bottle(&raw.to_owned()),
                None if text.starts_with("git:") => bottle(text),
                None => {
                    let more = if text.is_empty() { String::new() } else { format!(", {text}") };
                    bottle(&format!("git: [{{ {entry}{more} }}]"))
                }
            }),
            (None, None, None, Some([policy, own])) => {
                let agent = |text: &str| format!("agents: {{ a: {{ {text} }} }}\n");
                [
                    format!("version: 1\nbottles: {{ default: {{}} }}\n{}", agent(policy)),
                    format!("version: 1\n{}", agent(own)),
                ]
            }
            _ => panic!("{}: one of `top`, `bottle`, `git` and `agent`", self.name),
        }
    }
}

fn held([policy, own]: &[String; 2]) -> Result<(), ManifestError> {
    let policy = PolicyText { name: "policy.yml".to_owned(), text: policy.clone() };
    ManifestSource::new("claude-bottle.yml", own).under(Some(policy)).parse().map(drop)
}

#[test]
fn no_try_to_allow_more_works() {
    let mut wrong = vec![];
    for case in cases().wider {
        let texts = case.texts();
        if let Err(error) = crate::manifest::parse(&texts[0], "policy.yml") {
            wrong.push(format!("{}\tthe policy is none: {error}", case.name));
            continue;
        }
        let error = held(&texts).map_or_else(|error| error.to_string(), |()| "it is taken".to_owned());
        if Some(&error) != case.error.as_ref() {
            wrong.push(format!("{}\t{error}", case.name));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn each_error_names_both_places() {
    for case in cases().wider {
        let error = case.error.expect("an error");
        let key = case.key.expect("a key");
        assert!(error.starts_with("claude-bottle.yml:"), "{error}");
        // A format that is not known is said before anything is compared.
        assert!(error.contains(" (the policy: policy.yml:") || key == "version", "{error}");
    }
}

#[test]
fn each_rule_has_its_try() {
    let keys: Vec<String> = cases().wider.into_iter().filter_map(|case| case.key).collect();
    let is_tried = |pattern: &str, rule: Rule| match rule {
        // Nothing can be wider there.
        Rule::Own | Rule::Keys | Rule::NamesAndOwn => true,
        _ => keys.iter().any(|key| key == pattern),
    };
    let untried: Vec<&str> =
        RULES.iter().filter(|(pattern, rule)| !is_tried(pattern, *rule)).map(|(pattern, _)| *pattern).collect();
    assert_eq!(untried, [""; 0]);
    let unknown: Vec<&String> = keys.iter().filter(|key| !RULES.iter().any(|(pattern, _)| pattern == *key)).collect();
    assert_eq!(unknown, [""; 0]);
}

#[test]
fn what_is_narrower_is_taken() {
    let refused = cases().narrower.into_iter().filter_map(|case| {
        let error = held(&case.texts()).err()?;
        Some(format!("{}: {error}", case.name))
    });
    assert_eq!(refused.collect::<Vec<String>>(), [""; 0]);
}

#[test]
fn yaml_s_aliases_and_merge_keys_are_no_way_round() {
    let policy = "version: 1\nbottles:\n  a: { resources: { memory: 2GiB } }\n  b: { resources: { memory: 2GiB } }\nagents: { one: { bottle: a } }\n";
    let own = |first: &str, second: &str| {
        let text = format!("version: 1\nbottles:\n  a: &a {{ resources: {{ memory: {first} }} }}\n  b: {second}\n");
        let policy = PolicyText { name: "policy.yml".to_owned(), text: policy.to_owned() };
        ManifestSource::new("m.yml", &text).under(Some(policy)).parse()
    };
    for second in ["*a", "{ <<: *a }"] {
        // Read as what it stands for, or not at all; never passed over.
        if let Ok(manifest) = own("1GiB", second) {
            let sizes: Vec<u64> = manifest.bottles.values().map(|bottle| bottle.resources.memory.0 >> 30).collect();
            assert_eq!(sizes, [1, 1], "{second}");
        }
        assert!(own("3GiB", second).is_err(), "{second}");
    }
    assert!(own("1GiB", "*a").is_ok());
}

#[test]
fn a_manifest_with_a_policy_is_not_read_without_it() {
    let id = "1".repeat(40);
    let text =
        format!("version: 1\nextends: {{ repository: \"https://git.example.org/team/policy\", commit: \"{id}\" }}\n");
    let source = ManifestSource::new("claude-bottle.yml", &text);
    let policy =
        |name: &str| PolicyText { name: name.to_owned(), text: "version: 1\nbottles: { default: {} }\n".to_owned() };
    let extends = source.extends().expect("a key").expect("a policy");
    assert!(source.clone().parse().is_err());
    assert!(source.clone().under(Some(policy("policy.yml"))).parse().is_err());
    assert!(source.clone().extending(policy("another")).parse().is_err());
    assert!(source.extending(policy(&extends.name())).parse().is_ok());
}
