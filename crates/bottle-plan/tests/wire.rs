//! `plan.json` is rendered from the live types and held against `plan-v<VERSION>.json`, as `bottle-wire` holds the rest of the
//! wire; the policies within a plan are held there.

use std::path::Path;

use bottle_plan::plan::{BottlePlan, Policies};
use bottle_testkit::shape::{hold, shapes};
use bottle_wire::VERSION;

#[test]
fn the_plan_is_as_the_version_of_the_wire_says() {
    let policies = shapes(|generator| drop(generator.subschema_for::<Policies>()));
    // The policies first: of a name that both have, theirs is the one without a digit.
    let mut plan = shapes(|generator| {
        generator.subschema_for::<Policies>();
        generator.subschema_for::<BottlePlan>();
    });
    plan.retain(|name, _| name == "Policies" || !policies.contains_key(name));
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    hold(dir, "plan", VERSION, &plan).unwrap_or_else(|error| panic!("{error}"));
}
