//! What runs beside the agent: names, ports and variables that are nobody else's.

use std::collections::BTreeMap;

use bottle_types::door::Door;
use bottle_types::units::ByteSize;

use super::{
    At, Checked, check_command, check_cpus, check_image, check_variable_name, check_words, is_one_word, secrets,
};
use crate::manifest::{BottleEntry, Service};
use crate::plan::RESERVED_VARIABLES;

/// More is not an agent with a database, but a data centre.
const MAX_SERVICES: usize = 8;
/// More are no service that an agent works with.
const MAX_PORTS: usize = 8;
/// What takes a port below needs a right that nothing in a bottle has.
const LOWEST_PORT: u16 = 1024;

/// What one bottle's services have taken: each by whom.
#[derive(Default)]
struct Taken<'a> {
    ports: BTreeMap<u16, &'a str>,
    variables: BTreeMap<&'a str, &'a str>,
}

pub(super) fn check(bottle: &BottleEntry, at: &At) -> Checked {
    if bottle.services.len() > MAX_SERVICES {
        return Err(at.wrong(&format!("more than {MAX_SERVICES} services")));
    }
    let mut taken = Taken::default();
    for (name, service) in &bottle.services {
        let at = at.key(name.as_str());
        if name.as_str() == "localhost" || Door::ALL.iter().any(|door| door.name() == name.as_str()) {
            return Err(at.wrong(&format!("the agent finds another at `{name}`")).hint("choose another name"));
        }
        check_program(service, &at)?;
        check_ports(name.as_str(), service, &at.key("ports"), &mut taken)?;
        check_variables(name.as_str(), service, bottle, &at, &mut taken)?;
        if let Some(health) = &service.health {
            check_command(health, &at.key("health"))?;
        }
        if !(1..=3600).contains(&service.time.0) {
            return Err(at.key("time").wrong("expected between a second and an hour"));
        }
        check_share(service, &at.key("resources"))?;
    }
    Ok(())
}

/// What is run, and by whom.
fn check_program(service: &Service, at: &At) -> Checked {
    if service.image.is_none() && service.program.is_empty() {
        let hint = "add `image:` for Docker, `program:` for bubblewrap, or both";
        return Err(at.wrong("nothing is run").hint(hint));
    }
    if service.program.first().is_some_and(|program| program.trim().is_empty()) {
        return Err(at.key("program").item(0).wrong("expected a program's name or path"));
    }
    if let Some(image) = &service.image {
        check_image(image, &at.key("image"))?;
    }
    for (key, given) in [("command", !service.command.is_empty()), ("user", service.user.is_some())] {
        if given && service.image.is_none() {
            return Err(at.key(key).wrong("has no effect without `image`"));
        }
    }
    for (key, words) in [("command", &service.command), ("program", &service.program)] {
        for (index, word) in words.iter().enumerate() {
            check_words(word, &at.key(key).item(index))?;
        }
    }
    if let Some(user) = service.user.as_ref().filter(|user| !is_one_word(user)) {
        let problem = format!("`{user}` is not a user");
        return Err(at.key("user").wrong(&problem).hint("write a name or numbers, such as `postgres` or `999:999`"));
    }
    Ok(())
}

fn check_ports<'a>(name: &'a str, service: &Service, at: &At, taken: &mut Taken<'a>) -> Checked {
    if service.ports.is_empty() {
        return Err(at.wrong("nothing of it could be reached").hint("add `ports: [5432]`"));
    }
    if service.ports.len() > MAX_PORTS {
        return Err(at.wrong(&format!("more than {MAX_PORTS} ports")));
    }
    for (index, port) in service.ports.iter().copied().enumerate() {
        let at = at.item(index);
        let other = "have the service listen at another port";
        if port < LOWEST_PORT {
            let problem = format!("{port} is below {LOWEST_PORT}, and nothing in a bottle may listen there");
            return Err(at.wrong(&problem).hint(other));
        }
        if let Some(door) = Door::ALL.into_iter().find(|door| door.port() == port) {
            return Err(at.wrong(&format!("{port} is the port of the door {}", door.name())).hint(other));
        }
        if let Some(first) = taken.ports.insert(port, name) {
            let problem = format!("{port} is a port of the service `{first}` already, and the agent has one loopback");
            return Err(at.wrong(&problem).hint(other));
        }
    }
    Ok(())
}

fn check_variables<'a>(
    name: &'a str,
    service: &'a Service,
    bottle: &BottleEntry,
    at: &At,
    taken: &mut Taken<'a>,
) -> Checked {
    for (variable, value) in &service.env {
        let at = at.key("env").key(variable);
        check_variable_name(variable, &at)?;
        if value.contains('\0') {
            return Err(at.wrong("a variable can't hold a NUL"));
        }
        if secrets::looks_like_one(variable, value) {
            let hint =
                format!("revoke it if it is one; `generate: {{ {variable}: {variable} }}` makes one for each run");
            return Err(at.wrong("the value looks like a secret, and whoever can read this file has it").hint(hint));
        }
    }
    for (variable, agents) in &service.generate {
        let at = at.key("generate").key(variable);
        check_variable_name(variable, &at)?;
        check_variable_name(agents, &at)?;
        if service.env.contains_key(variable) {
            return Err(at.wrong("`env` has a value for it already").hint("keep one of the two"));
        }
        if RESERVED_VARIABLES.contains(&agents.as_str()) || bottle.env.contains_key(agents) {
            let problem = format!("the agent has a variable `{agents}` already");
            return Err(at.wrong(&problem).hint("choose another name"));
        }
        if let Some(first) = taken.variables.insert(agents, name) {
            let problem = format!("`{agents}` has the password of the service `{first}` already");
            return Err(at.wrong(&problem).hint("choose another name"));
        }
    }
    Ok(())
}

fn check_share(service: &Service, at: &At) -> Checked {
    check_cpus(&service.resources, at)?;
    if service.resources.memory < ByteSize(32 << 20) {
        return Err(at.key("memory").wrong("too little for any service").hint("give at least 32MiB"));
    }
    if service.resources.pids < 8 {
        return Err(at.key("pids").wrong("too few for any service").hint("give at least 8"));
    }
    Ok(())
}
