//! Who the agent will be: this process is started the same way.

use super::{Case, Finding, all, case, read};

pub(super) fn cases() -> Vec<Case<'static>> {
    let status = |check: fn(&str) -> Finding| move || check(&read("/proc/self/status")?);
    vec![
        case(
            "proc.caps",
            status(|text| {
                all(["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]
                    .map(|name| is(text, name, |value| value.bytes().all(|digit| digit == b'0'))))
            }),
        ),
        case("proc.nonewprivs", status(|text| is(text, "NoNewPrivs", |value| value == "1"))),
        case("proc.seccomp", status(|text| is(text, "Seccomp", |value| value == "2"))),
        case(
            "proc.user",
            status(|text| {
                is(text, "Uid", |value| {
                    value.split_ascii_whitespace().all(|id| id.parse().is_ok_and(|id: u32| id != 0))
                })
            }),
        ),
    ]
}

/// Whether a line of /proc/self/status has the value it must have.
fn is(text: &str, name: &str, good: impl Fn(&str) -> bool) -> Finding {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    match value {
        Some(value) if !value.is_empty() && good(value) => Ok(format!("{name} {}", value.replace('\t', " "))),
        Some(value) => Err(format!("{name} is {}", value.replace('\t', " "))),
        None => Err(format!("{name} is not in /proc/self/status")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_line_is_not_ok() {
        let zero = |value: &str| value.bytes().all(|digit| digit == b'0');
        assert!(is("CapEff:\t0000\n", "CapEff", zero).is_ok());
        assert!(is("CapEff:\t0400\n", "CapEff", zero).is_err());
        assert!(is("CapEff:\t\n", "CapEff", zero).is_err());
        assert!(is("CapBnd:\t0000\n", "CapEff", zero).is_err());
    }
}
