//! What to write into the manifest so that the next run need not ask: the same file with what was asked for in it.
//!
//! What is offered says exactly what the manifest said before and what was asked for; see [`super::edit`].

use bottle_policy::route::Route;
use bottle_policy::supervise::Request;

use super::edit::{Addition, Part, add, allows_hosts};
use super::parse;

/// The manifest's text with what was asked for; none: nothing of it can be written there, or not without a person.
pub fn offer(text: &str, bottle: &str, requests: &[&Request]) -> Option<String> {
    let mut edited = text.to_owned();
    for request in requests {
        if let Some(next) = with(&edited, bottle, request) {
            edited = next;
        }
    }
    (edited != text).then_some(edited)
}

/// With one request more.
fn with(text: &str, bottle: &str, request: &Request) -> Option<String> {
    let addition = match request {
        Request::RequestRoute { host, .. } if allows_hosts(&parse(text, "").ok()?, bottle) => {
            Addition::Host(host.clone())
        }
        Request::RequestRoute { host, port, scheme, methods, paths, .. } => Addition::Route(
            Part::Agent,
            Box::new(Route {
                port: *port,
                scheme: *scheme,
                methods: methods.clone(),
                paths: paths.clone(),
                ..Route::plain(host.clone(), &[], &[])
            }),
        ),
        Request::RequestPush { upstream, r#ref, .. } => {
            Addition::Ref { upstream: upstream.clone(), name: r#ref.as_str().to_owned() }
        }
        // The manifest has no place for these, or a person has to weigh them.
        _ => return None,
    };
    add(text, bottle, &addition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bottle_policy::route::Scheme;
    use bottle_policy::supervise::RouteWords;

    fn route(host: &str, methods: &[&str], paths: &[&str]) -> Request {
        let own = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let (methods, paths) = (own(methods), own(paths));
        let words = RouteWords {
            host,
            port: None,
            scheme: Scheme::Https,
            methods: &methods,
            paths: &paths,
            why: "x",
            duration: None,
        };
        Request::route(&words).expect("a request")
    }

    /// The lines that an offer adds.
    fn added(text: &str, requests: &[&Request]) -> Vec<String> {
        let edited = offer(text, "default", requests).unwrap_or_default();
        let before: Vec<&str> = text.lines().collect();
        edited.lines().filter(|line| !before.contains(line)).map(str::to_owned).collect()
    }

    const BLOCK: &str = "# ours\nversion: 1\nbottles:\n  default:\n    egress:\n      routes:\n        - host: a.example\n          \
                         paths: [/v1/*]  # all\n\n        # more\n    supervise: { approval: deny }\n";

    #[test]
    fn a_route_goes_behind_the_last_one() {
        let all = route("*.b.example", &[], &[]);
        let some = route("c.example", &["POST"], &["/v1/**", "/x"]);
        assert_eq!(
            added(BLOCK, &[&all, &some]),
            [
                "        - { host: \"*.b.example\" }",
                "        - { host: c.example, methods: [POST], paths: [\"/v1/**\", /x] }"
            ]
        );
        let flow =
            "version: 1\nbottles: { default: { egress: { routes: [ { host: a.example, paths: [\"/]\"] } ] } } }\n";
        assert_eq!(
            added(flow, &[&some]),
            ["bottles: { default: { egress: { routes: [ { host: a.example, paths: [\"/]\"] }, { host: c.example, \
              methods: [POST], paths: [\"/v1/**\", /x] } ] } } }"]
        );
        let json = r#"{"version": 1, "bottles": {"default": {"egress": {"routes": [{"host": "a.example"}]}}}}"#;
        let edited = offer(json, "default", &[&all]).expect("an offer");
        assert!(edited.contains(r#"[{"host": "a.example"}, {"host":"*.b.example"}]"#), "{edited}");
        assert!(serde_json::from_str::<serde_json::Value>(&edited).is_ok(), "{edited}");
    }

    #[test]
    fn a_bottle_without_routes_gets_a_host() {
        let text = "version: 1\nbottles:\n  default:\n    pipelock:\n      api_allowlist:\n      - a.example\n";
        assert_eq!(added(text, &[&route("b.example", &[], &[])]), ["      - \"b.example\""]);
    }

    #[test]
    fn a_ref_goes_to_its_repository() {
        let push = Request::push(None, "refs/heads/release", "x", None).expect("a request");
        let git = "  default:\n    git:\n      - name: origin\n        upstream: https://git.example/a/b\n        token_from: T\n";
        let text = format!("version: 1\nbottles:\n{git}        push: {{ refs: [\"refs/heads/bottle/**\"] }}\n");
        assert_eq!(
            added(&text, &[&push]),
            ["        push: { refs: [\"refs/heads/bottle/**\", \"refs/heads/release\"] }"]
        );
        let text = format!("version: 1\nbottles:\n{git}");
        assert_eq!(
            added(&text, &[&push]),
            ["        push:", "          refs: [\"refs/heads/bottle/**\", \"refs/heads/release\"]"]
        );
    }

    #[test]
    fn what_can_t_be_written_there_is_not_offered() {
        let question = Request::ask("May I?").expect("a request");
        assert_eq!(offer(BLOCK, "default", &[&question]), None);
        assert_eq!(offer(BLOCK, "other", &[&route("b.example", &[], &[])]), None);
        let host = offer("version: 1\nbottles:\n  default: {}\n", "default", &[&route("b.example", &[], &[])]);
        assert_eq!(
            host.as_deref(),
            Some("version: 1\nbottles:\n  default: { pipelock: { api_allowlist: [\"b.example\"] } }\n")
        );
    }
}
