//! The wire is rendered from the live types and held against `wire-v<VERSION>.json`; a version that is committed is frozen.

use std::path::Path;

use bottle_policy::budget::Entry;
use bottle_policy::bundle::Bundle;
use bottle_policy::gate::GatePolicy;
use bottle_policy::pipelock::PipelockPolicy;
use bottle_policy::route::RoutesPolicy;
use bottle_policy::supervise::SupervisePolicy;
use bottle_testkit::shape::{Held, Shapes, compare, hold, shapes};
use bottle_wire::VERSION;
use bottle_wire::access::Access;
use bottle_wire::cassette::Cassette;
use bottle_wire::control::{Applied, Call, CredentialUpdate, CredentialsTaken, Decided, Holding, Listing, Update};
use bottle_wire::proposal::record::Record;
use bottle_wire::push_report::PushedRef;
use bottle_wire::receipt::Receipt;
use bottle_wire::run_record::Metadata;
use bottle_wire::signing_report::SigningLine;
use schemars::{JsonSchema, SchemaGenerator};

/// Every type that is a file, a line of one, or a message; what it is made of follows.
fn wire() -> Shapes {
    fn add<T: JsonSchema>(generator: &mut SchemaGenerator) {
        generator.subschema_for::<T>();
    }
    shapes(|generator| {
        // Control sockets.
        add::<Call>(generator);
        add::<Update>(generator);
        add::<Listing>(generator);
        add::<Decided>(generator);
        add::<Applied>(generator);
        add::<Holding>(generator);
        add::<CredentialUpdate>(generator);
        add::<CredentialsTaken>(generator);
        // Policy files.
        add::<RoutesPolicy>(generator);
        add::<PipelockPolicy>(generator);
        add::<GatePolicy>(generator);
        add::<SupervisePolicy>(generator);
        add::<Bundle>(generator);
        // The run record: proposals.jsonl, egress.jsonl, gate.jsonl, signing.jsonl, outputs.jsonl, budget.jsonl, cassette.jsonl, metadata.json.
        add::<Record>(generator);
        add::<Access>(generator);
        add::<PushedRef>(generator);
        add::<SigningLine>(generator);
        add::<Receipt>(generator);
        add::<Entry>(generator);
        add::<Cassette>(generator);
        add::<Metadata>(generator);
    })
}

#[test]
fn the_wire_is_as_its_version_says() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    hold(dir, "wire", VERSION, &wire()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn each_type_has_a_name_of_its_own() {
    // Of two types with one name, schemars calls the second `Name2`; then the order of fields would decide which is which.
    let twice: Vec<String> = wire().into_keys().filter(|name| name.ends_with(|c: char| c.is_ascii_digit())).collect();
    assert!(twice.is_empty(), "give one of each pair a #[schemars(rename = …)]: {twice:?}");
}

/// A type called `Line` with these fields.
macro_rules! line {
    ($module:ident, $($field:tt)*) => {
        mod $module {
            #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
            #[serde(deny_unknown_fields)]
            pub(crate) struct Line { $($field)* }
        }
    };
}
line!(before, pub id: String,);
line!(more, pub id: String, #[serde(default)] pub seen: bool,);
line!(wider, pub id: Option<String>,);
line!(defaulted, #[serde(default)] pub id: String,);
line!(skipped, #[serde(default, skip_serializing_if = "String::is_empty")] pub id: String,);
line!(renamed, #[serde(rename = "number")] pub id: String,);
mod lax {
    #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    pub(crate) struct Line {
        pub id: String,
    }
}

fn line<T: JsonSchema>() -> Shapes {
    shapes(|generator| drop(generator.subschema_for::<T>()))
}

#[test]
fn a_changed_type_fails_by_its_name_and_says_what_follows() {
    let committed = serde_json::to_string(&line::<before::Line>()).expect("JSON");
    let held = |shapes: &Shapes| compare("wire-v1.json", 1, Some(&committed), shapes);
    assert_eq!(held(&line::<before::Line>()), Ok(Held::Same));
    let changed = [
        line::<more::Line>(),
        line::<wider::Line>(),
        line::<defaulted::Line>(),
        line::<skipped::Line>(),
        line::<renamed::Line>(),
        line::<lax::Line>(),
    ];
    for (at, shapes) in changed.iter().enumerate() {
        let error = held(shapes).expect_err("a change");
        assert!(error.starts_with("Line has changed:\n"), "{at}: {error}");
        assert!(error.contains("needs VERSION 2 in bottle-wire and new files"), "{at}: {error}");
        assert!(error.ends_with("and version 1 must still be read"), "{at}: {error}");
    }
    // Each of them is another change.
    for (at, one) in changed.iter().enumerate() {
        assert!(!changed[at + 1..].contains(one), "{at}");
    }
    assert!(held(&Shapes::new()).expect_err("a type less").starts_with("Line is gone\n"));
    let mut two = line::<before::Line>();
    two.insert("Other".to_owned(), "string".into());
    assert!(held(&two).expect_err("a type more").starts_with("Other is new\n"));
    assert_eq!(compare("wire-v2.json", 2, None, &two), Ok(Held::New));
}
