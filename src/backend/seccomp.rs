//! The run's seccomp profile, which Docker takes as it is, as the programs that the kernel takes: by bwrap, or by the link.

use std::sync::OnceLock;

use bottle_plan::render::SECCOMP;
use seccompiler::{BpfProgram, TargetArch};
use serde_json::{Value, json};

/// One program: its rules, and what comes of a call that one of them matches, or none.
struct Filter {
    rules: Vec<Value>,
    matched: Value,
    other: Value,
}

/// How many programs there are.
pub(super) const PROGRAMS: usize = 2;

/// The programs, each as the bytes of an array of `sock_filter`. All of them judge every call, and the strictest counts.
pub(super) fn programs() -> Result<&'static [Vec<u8>], String> {
    static PROGRAMS: OnceLock<Result<Vec<Vec<u8>>, String>> = OnceLock::new();
    PROGRAMS.get_or_init(make).as_deref().map_err(Clone::clone)
}

fn make() -> Result<Vec<Vec<u8>>, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    filters()?.into_iter().map(|filter| compile(filter, arch).map(|program| bytes(&program))).collect()
}

/// What the profile allows, and what it refuses with an error of its own.
fn filters() -> Result<Vec<Filter>, String> {
    let profile: Value = serde_json::from_str(SECCOMP).map_err(|error| error.to_string())?;
    let refused = json!({"errno": profile["defaultErrnoRet"]});
    let mut allowed = Filter { rules: vec![], matched: json!("allow"), other: refused };
    let mut special = vec![];
    for rule in profile["syscalls"].as_array().into_iter().flatten() {
        // The names of another processor's rules are not in this one's table.
        let own_arch = match rule["includes"]["arches"].as_array() {
            Some(arches) => arches.iter().any(|arch| arch == "amd64") == cfg!(target_arch = "x86_64"),
            None => true,
        };
        let names = rule["names"].as_array().into_iter().flatten().filter(|_| own_arch);
        let args: Vec<Value> =
            rule["args"].as_array().into_iter().flatten().map(condition).collect::<Result<_, _>>()?;
        let rules = names.map(|name| match args.is_empty() {
            true => json!({"syscall": name}),
            false => json!({"syscall": name, "args": args}),
        });
        let rules: Vec<Value> = rules.collect();
        match rule["action"].as_str() {
            Some("SCMP_ACT_ALLOW") => allowed.rules.extend(rules),
            Some("SCMP_ACT_ERRNO") => {
                // The program of what is allowed lets it pass, for the one that knows its error.
                allowed.rules.extend(rules.iter().cloned());
                special.push(Filter { rules, matched: json!({"errno": rule["errnoRet"]}), other: json!("allow") });
            }
            other => return Err(format!("the profile has the unknown action {other:?}")),
        }
    }
    special.insert(0, allowed);
    Ok(special)
}

fn condition(arg: &Value) -> Result<Value, String> {
    let (op, value) = match arg["op"].as_str() {
        Some("SCMP_CMP_EQ") => (json!("eq"), &arg["value"]),
        // libseccomp's first value is the mask.
        Some("SCMP_CMP_MASKED_EQ") => (json!({"masked_eq": arg["value"]}), &arg["valueTwo"]),
        other => return Err(format!("the profile has the unknown comparison {other:?}")),
    };
    Ok(json!({"index": arg["index"], "type": "qword", "op": op, "val": value}))
}

/// Names that this processor never had are left out: what is not named is refused. The compiler says which one it does not know.
fn compile(mut filter: Filter, arch: TargetArch) -> Result<BpfProgram, String> {
    loop {
        let error = match compile_rules(&filter, arch) {
            Err(error) => error,
            done => return done,
        };
        let before = filter.rules.len();
        let unknown = error.split_once("Invalid syscall name: ").and_then(|(_, rest)| rest.split(' ').next());
        filter.rules.retain(|rule| rule["syscall"].as_str() != unknown);
        if filter.rules.len() == before {
            return Err(error);
        }
    }
}

fn compile_rules(filter: &Filter, arch: TargetArch) -> Result<BpfProgram, String> {
    let text = json!({"guest": {
        "mismatch_action": filter.other, "match_action": filter.matched, "filter": filter.rules,
    }});
    let mut programs =
        seccompiler::compile_from_json(text.to_string().as_bytes(), arch).map_err(|error| error.to_string())?;
    programs.remove("guest").ok_or_else(|| "no program".to_owned())
}

fn bytes(program: &BpfProgram) -> Vec<u8> {
    let mut bytes = vec![];
    for step in program {
        bytes.extend(step.code.to_ne_bytes());
        bytes.extend([step.jt, step.jf]);
        bytes.extend(step.k.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_not_there_are_left_out() {
        let rule = |name: &str| json!({"syscall": name});
        let (matched, other) = (json!("allow"), json!({"errno": 1}));
        let filter = |names: &[&str]| Filter {
            rules: names.iter().map(|name| rule(name)).collect(),
            matched: matched.clone(),
            other: other.clone(),
        };
        let arch = TargetArch::x86_64;
        let with = compile(filter(&["read", "neverthere", "write", "noreither"]), arch).expect("a program");
        assert_eq!(bytes(&with), bytes(&compile(filter(&["read", "write"]), arch).expect("a program")));
        let mut odd = filter(&["read"]);
        odd.matched = json!("perhaps");
        assert!(compile(odd, arch).is_err());
    }

    #[test]
    fn the_profile_becomes_two_programs() {
        let programs = programs().expect("programs");
        assert_eq!(programs.len(), PROGRAMS, "what is allowed, and clone3 with its own error");
        assert!(programs.iter().all(|program| program.len() % 8 == 0 && program.len() / 8 <= 4096));
        let filters = filters().expect("filters");
        let sockets = filters[0].rules.iter().filter(|rule| rule["syscall"] == "socket").count();
        assert_eq!(sockets, 6, "no rule allows socket() without looking at its family");
        assert!(filters[0].rules.iter().all(|rule| rule["syscall"] != "unshare" && rule["syscall"] != "mount"));
    }
}
