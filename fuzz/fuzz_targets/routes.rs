//! Any routes and any request: what is let through is what its route says by a simple reading of it, and the rule that a
//! refusal names is one that lets the request through.
#![no_main]

use bottle_policy::conditions::Details;
use bottle_types::host::{HostName, HostPattern};
use bottle_policy::matcher::{Matcher, Target};
use bottle_types::path::NormalPath;
use bottle_policy::route::{Route, RoutesPolicy, Scheme};
use bottle_types::yaml;
use libfuzzer_sys::fuzz_target;

const METHODS: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "NO", "X-Y_Z", "get", "TRACE"];

/// Whether a path fits a glob of plain characters, `*` and `**` between slashes.
fn fits(glob: &[u8], path: &[u8]) -> bool {
    match (glob, path) {
        ([], []) => true,
        // Between slashes: any number of whole segments, or what is left.
        ([b'/', b'*', b'*'], [b'/', ..]) => true,
        ([b'/', b'*', b'*', b'/', after @ ..], [b'/', rest @ ..]) => {
            let slashed = [&[b'/'][..], after].concat();
            fits(&slashed, path) || rest.iter().enumerate().any(|(at, byte)| *byte == b'/' && fits(&slashed, &rest[at..]))
        }
        ([b'*', after @ ..], _) => {
            fits(after, path) || path.split_first().is_some_and(|(first, rest)| *first != b'/' && fits(glob, rest))
        }
        ([first, after @ ..], [byte, rest @ ..]) => first == byte && fits(after, rest),
        _ => false,
    }
}

/// Whether [`fits`] can tell.
fn is_simple(glob: &str) -> bool {
    let plain = glob.bytes().all(|b| b.is_ascii_alphanumeric() || b"/*._-~".contains(&b));
    plain && glob.split('/').all(|part| part == "**" || !part.contains("**"))
}

fn path_again(path: &NormalPath) -> String {
    let coded = |byte: u8| match byte {
        b'/' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    path.as_str().bytes().map(coded).collect()
}

fuzz_target!(|input: (Vec<(&str, Vec<u8>, Vec<&str>, u16, bool)>, (&str, u8, &str, u16, bool))| {
    let (routes, (host, method, path, port, plain)) = input;
    let scheme = |plain: bool| if plain { Scheme::Http } else { Scheme::Https };
    let word = |index: &u8| METHODS[usize::from(*index) % METHODS.len()].to_owned();
    let mut policy = RoutesPolicy { version: 1, ..RoutesPolicy::default() };
    for (host, methods, paths, port, plain) in routes {
        let Ok(host) = HostPattern::parse(host) else { return };
        // As it is written in a file, with what is not given left to its default.
        let written = serde_json::json!({
            "host": host, "methods": methods.iter().map(word).collect::<Vec<_>>(), "paths": paths, "port": port,
            "scheme": scheme(plain),
        });
        let Ok(route) = serde_json::from_value::<Route>(written) else { return };
        policy.routes.push(route);
    }
    let Ok(matcher) = Matcher::new(&policy) else { return };
    let Ok(host) = HostName::parse(host) else { return };
    let method = word(&method);
    let details = Details::default();
    let target = Target { scheme: scheme(plain), host: &host, port, method: &method, path, details };
    match matcher.decide(target) {
        Ok(index) => {
            let route = &policy.routes[index];
            let normal = NormalPath::parse(path).expect("a path that was let through");
            assert!(route.host.matches(&host) && route.port() == port && route.scheme == target.scheme);
            assert!(route.methods.contains(&method) && matcher.knows(target.scheme, &host, port));
            if route.paths.iter().all(|glob| is_simple(glob)) && normal.as_str().is_ascii() {
                let fits = route.paths.iter().any(|glob| fits(glob.as_bytes(), normal.as_str().as_bytes()));
                assert!(fits, "{:?} is let through by {:?}", normal, route.paths);
            }
        }
        Err(denied) => {
            let Ok(normal) = NormalPath::parse(path) else {
                assert_eq!(denied.error, "bad_path");
                return;
            };
            assert_eq!(NormalPath::parse(&path_again(&normal)).as_ref(), Ok(&normal), "written again");
            for route in &policy.routes {
                let about = route.host.matches(&host) && route.port() == port && route.scheme == target.scheme;
                let simple = |glob: &&String| is_simple(glob) && normal.as_str().is_ascii();
                if about && route.methods.contains(&method) {
                    for glob in route.paths.iter().filter(simple) {
                        assert!(!fits(glob.as_bytes(), normal.as_str().as_bytes()), "{glob} does not let {normal:?} through");
                    }
                }
            }
            // What can't be a rule is not named as one.
            if !method.bytes().all(|b| b.is_ascii_uppercase() || b"-_".contains(&b)) || method == "TRACE" {
                return;
            }
            let (_, rule) = denied.message.split_once("claude-bottle.yml: - ").expect("a rule");
            let route: Route = yaml::from_str(rule).unwrap_or_else(|error| panic!("{error}: {rule}"));
            let policy = RoutesPolicy { version: 1, routes: vec![route], ..RoutesPolicy::default() };
            let matcher = Matcher::new(&policy).unwrap_or_else(|error| panic!("{error}: {rule}"));
            assert_eq!(matcher.decide(target), Ok(0), "{rule}");
        }
    }
});
