//! Requests, what they change, and the record of it: by example, and by random histories.

use bottle_policy::gate::GatePolicy;
use bottle_policy::supervise::{Approval, AutoRule, Request, RouteWords};
use bottle_wire::proposal::change::{ChangeError, Texts};
use bottle_wire::proposal::ledger::Ledger;
use bottle_wire::proposal::record::{Cause, Chain, Event};
use bottle_wire::proposal::verify::{VerifyError, verify};
use bottle_wire::proposal::{By, Change, Decide, PolicyFile, Proposal, ProposalId, State, Verdict, check, sha256};
use proptest::prelude::*;

const RUN: &str = "run-1";
const ROUTES: &str = "version: 1
routes:
  - { host: api.anthropic.com, methods: [POST], paths: [/v1/messages], auth: { header: x-api-key, from: KEY }, model: true }
  - { host: docs.example, methods: [GET, HEAD] }
budget: { tokens: 1000, cost_usd: 2.5, time: 30m }
";
const PIPELOCK: &str = "version: 1\n";
const GATE: &str = "version: 1
upstreams:
  - name: origin
    url: https://git.example.com/team/app.git
    token: TOKEN
    push: { refs: [\"refs/heads/bottle/**\"] }
";

fn texts() -> Texts {
    let texts = [(PolicyFile::Routes, ROUTES), (PolicyFile::Pipelock, PIPELOCK), (PolicyFile::Gate, GATE)];
    texts.map(|(file, text)| (file, text.to_owned())).into()
}

fn route(host: &str, methods: &[&str]) -> Request {
    let methods: Vec<String> = methods.iter().map(|&method| method.to_owned()).collect();
    Request::route(&RouteWords { host, methods: &methods, why: "x", ..RouteWords::default() }).expect("a route")
}

fn held() -> Request {
    let json = r#"{"host": "a.example", "method": "POST", "path": "/x", "request": "0123456789abcdef",
        "findings": [{"rule": "github-pat", "at": "body", "offset": 7}]}"#;
    Request::HeldRequest(serde_json::from_str(json).expect("a held request"))
}

fn finding() -> Request {
    Request::finding("jwt", "a[1].txt", &"0".repeat(64), "x", Some("30m")).expect("a finding")
}

/// A held push to an object whose id has this digit.
fn held_push(digit: char) -> Request {
    let id = |digit: char| String::from(digit).repeat(40);
    let json = format!(
        r#"{{"upstream": "origin", "refs": [{{"ref": "refs/heads/bottle/x", "old": "{}", "new": "{}"}}],
            "why": ["deploy/a is held (deploy/**)"], "files": ["deploy/a | +1 -0"]}}"#,
        id('0'),
        id(digit)
    );
    Request::HeldPush(serde_json::from_str(&json).expect("a held push"))
}

fn push(name: &str) -> Request {
    Request::push(None, name, "x", None).expect("a push")
}

fn changed(request: &Request) -> Result<String, ChangeError> {
    Change::of(&texts(), request).map(|change| change.expect("a change").after)
}

#[test]
fn a_route_comes_last_and_takes_no_credential() {
    let after = changed(&route("new.example", &["GET"])).expect("a change");
    let policy: bottle_policy::route::RoutesPolicy = bottle_types::yaml::from_str(&after).expect("a policy");
    let last = policy.routes.last().expect("a route");
    assert_eq!((last.host.to_string().as_str(), last.auth.is_none(), last.model), ("new.example", true, false));
    assert_eq!(policy.routes.len(), 3);
    assert!(policy.routes[0].auth.is_some() && policy.budget.tokens == Some(1000));
}

#[test]
fn what_a_bottle_can_not_do_is_not_asked() {
    let budget = |tokens, requests| Request::budget(tokens, requests, None, None, "x").expect("a budget");
    for (request, reason) in [
        (route("docs.example", &["GET"]), "allows it already"),
        (route("api.anthropic.com", &["GET"]), "is the model's"),
        (route("*.anthropic.com", &["GET"]), "is the model's"),
        (push("refs/heads/bottle/x"), "allows it already"),
        (push("refs/heads/0123456789012345678901234567890123456789"), "ambiguous"),
        (
            Request::push(Some("other"), "refs/heads/x", "x", None).expect("a push"),
            "is not one of this bottle's repositories",
        ),
        // A ref is a name and not a glob.
        (push("refs/heads/a{b,c}"), "not a ref name"),
        (budget(None, Some(5)), "no limit of requests"),
        (Request::exemption("a.example", "known-secret", "x", None).expect("a rule"), "there is no DLP rule"),
    ] {
        let error = changed(&request).expect_err("no change").to_string();
        assert!(error.contains(reason), "{request:?}: {error}");
    }
    assert!(changed(&budget(Some(5), None)).expect("a change").contains("1005"));
    assert!(changed(&push("refs/tags/v1")).expect("a change").contains("refs/tags/v1"));
    for request in [Request::ask("why?").expect("a question"), held()] {
        assert_eq!(Change::of(&texts(), &request), Ok(None));
    }
}

#[test]
fn the_route_by_which_a_forge_is_read_stays_the_only_one_there() {
    let forge = "routes:\n  - { host: api.github.com, methods: [GET, POST], \
                 forge: { api: github, repositories: [o/r], read: [issues], trust: [] } }\n";
    let mut texts = texts();
    texts.insert(PolicyFile::Routes, ROUTES.replacen("routes:\n", forge, 1));
    for host in ["api.github.com", "*.github.com"] {
        let error = Change::of(&texts, &route(host, &["DELETE"])).expect_err("no change").to_string();
        assert!(error.contains("api.github.com is the forge's, and its route stays as it is"), "{error}");
    }
    assert!(Change::of(&texts, &route("new.example", &["GET"])).is_ok_and(|change| change.is_some()));
}

/// A decision on a proposal as it was shown.
fn decision(proposal: &Proposal, verdict: Verdict) -> Decide {
    Decide::on(proposal, verdict, By::Local { user: "ann".to_owned() })
}

#[test]
fn a_yes_to_a_finding_or_a_held_push_is_for_exactly_it() {
    let policy = |request: &Request| -> GatePolicy {
        bottle_types::yaml::from_str(&changed(request).expect("a change")).expect("a policy")
    };
    let exempt = policy(&finding()).exemptions;
    assert_eq!(
        (exempt.len(), exempt[0].path.as_str(), exempt[0].sha256.clone()),
        (1, "a[[]1[]].txt", Some("0".repeat(64)))
    );
    let approved = policy(&held_push('a')).approved;
    assert_eq!(
        (approved.len(), approved[0].refs[0].new.clone()),
        (1, bottle_types::git::ObjectId::parse(&"a".repeat(40)).expect("an id"))
    );
    let mut run = Run::new();
    for (request, other) in [
        (finding(), Request::exemption("a.example", "github-pat", "x", None).expect("a rule")),
        (held_push('a'), held_push('b')),
    ] {
        let id = run.ask(request).expect("asked");
        let standing = run.ledger.get(id).expect("one").clone();
        let modified = Verdict::Modified { request: Box::new(other) };
        let decide = decision(&standing.proposal, modified);
        let error =
            check(&standing.proposal, &standing.state, &decide, Approval::Local).expect_err("refused").to_string();
        assert!(error.contains("as it is or not at all"), "{error}");
    }
    let host = run.ask(Request::exemption("a.example", "github-pat", "x", None).expect("a rule")).expect("asked");
    let standing = run.ledger.get(host).expect("one").clone();
    let decide = decision(&standing.proposal, Verdict::Modified { request: Box::new(finding()) });
    let error = check(&standing.proposal, &standing.state, &decide, Approval::Local).expect_err("refused").to_string();
    assert!(error.contains("another kind of request"), "{error}");
}

#[test]
fn a_bottle_without_routes_allows_whole_hosts() {
    let mut texts = texts();
    texts.insert(PolicyFile::Pipelock, "version: 1\nguest_proxy: true\n".to_owned());
    let change = Change::of(&texts, &route("a.example", &["GET"])).expect("a change").expect("a change");
    assert_eq!(change.file, PolicyFile::Pipelock);
    assert!(change.after.contains("api_allowlist") && change.after.contains("a.example"));
    let plain = RouteWords { host: "a.example", port: Some(8080), why: "x", ..RouteWords::default() };
    assert!(Change::of(&texts, &Request::route(&plain).expect("a route")).is_err());
}

#[test]
fn a_rule_grants_what_it_says_and_no_more() {
    let rule: AutoRule = bottle_types::yaml::from_str("host: '*.docs.example'\n").expect("a rule");
    assert!(rule.grants(&route("a.docs.example", &["GET"])));
    assert!(rule.grants(&route("*.docs.example", &["GET", "HEAD"])));
    for request in [
        route("docs.example", &["GET"]),
        route("*.example", &["GET"]),
        route("adocs.example", &["GET"]),
        route("a.docs.example", &["GET", "POST"]),
        push("refs/heads/x"),
    ] {
        assert!(!rule.grants(&request), "{request:?}");
    }
    let port = RouteWords { host: "a.docs.example", port: Some(8443), why: "x", ..RouteWords::default() };
    assert!(!rule.grants(&Request::route(&port).expect("a route")));
}

/// A record as supervise writes it.
struct Run {
    ledger: Ledger,
    chain: Chain,
    text: String,
}

impl Run {
    fn new() -> Self {
        let mut run = Self { ledger: Ledger::new(RUN), chain: Chain::new(RUN), text: String::new() };
        run.add(Event::Began { policies: texts() }).expect("a beginning");
        run
    }

    fn add(&mut self, event: Event) -> Result<(), String> {
        let (record, line, chain) = self.chain.append("2026-11-24T10:00:00Z".to_owned(), event);
        self.ledger.add(&record)?;
        self.chain = chain;
        self.text.push_str(&line);
        Ok(())
    }

    fn ask(&mut self, request: Request) -> Option<ProposalId> {
        let id = self.ledger.next_id();
        let event = self.ledger.ask("n".repeat(32), request, "2026-11-24T10:15:00Z".to_owned()).ok()?;
        self.add(event).expect("a proposal");
        Some(id)
    }

    fn decide(&mut self, id: ProposalId, verdict: Verdict) {
        let proposal = self.ledger.get(id).expect("a proposal").proposal.clone();
        let by = By::Local { user: "ann".to_owned() };
        self.add(Event::Decided { id, hash: proposal.hash, policy_hash: proposal.policy_hash, verdict, by })
            .expect("a decision");
        if !matches!(self.ledger.get(id).expect("a proposal").state, State::Applying { .. }) {
            return;
        }
        let file = proposal.change.expect("a change").file;
        let next = self.ledger.with(id).expect("a policy");
        self.apply(file, Cause::Granted(id), &next.texts()[&file].clone());
    }

    fn end(&mut self, id: ProposalId) {
        let file = self.ledger.get(id).expect("a proposal").proposal.change.as_ref().expect("a change").file;
        let next = self.ledger.in_force().without(id).expect("a policy");
        self.apply(file, Cause::Ended(id), &next.texts()[&file].clone());
    }

    fn apply(&mut self, file: PolicyFile, cause: Cause, text: &str) {
        let (before, after) = (self.ledger.hash(file), sha256(text));
        self.add(Event::Applied { cause, file, before, after, until: None }).expect("it is in force");
        for (_, renewed) in self.ledger.outdated() {
            if let Ok(event) = renewed {
                self.add(event).expect("renewed");
            }
        }
    }

    fn last(&self) -> Texts {
        self.ledger.in_force().texts().clone()
    }
}

#[test]
fn what_ends_leaves_what_others_got() {
    let mut run = Run::new();
    let first = run.ask(route("a.example", &["GET"])).expect("asked");
    run.decide(first, Verdict::Approve);
    let second = run.ask(route("*.b.example", &["GET"])).expect("asked");
    run.decide(second, Verdict::Approve);
    run.end(first);
    let routes = &run.last()[&PolicyFile::Routes];
    assert!(!routes.contains("a.example") && routes.contains("*.b.example"), "{routes}");
    run.end(second);
    let plain: bottle_policy::route::RoutesPolicy = bottle_types::yaml::from_str(ROUTES).expect("a policy");
    let last: bottle_policy::route::RoutesPolicy =
        bottle_types::yaml::from_str(&run.last()[&PolicyFile::Routes]).expect("a policy");
    assert_eq!(plain, last);
    assert_eq!(verify(RUN, &run.text, &texts(), &run.last()).map(|told| told.applied), Ok(4));
}

#[test]
fn events_that_do_not_follow_are_refused() {
    let mut run = Run::new();
    let id = run.ask(route("a.example", &["GET"])).expect("asked");
    let proposal = run.ledger.get(id).expect("a proposal").proposal.clone();
    let file = PolicyFile::Routes;
    let after = proposal.change.clone().expect("a change").after;
    let (hash, policy_hash) = (proposal.hash.clone(), proposal.policy_hash.clone());
    let decided = |verdict: Verdict, by: By| Event::Decided {
        id,
        hash: hash.clone(),
        policy_hash: policy_hash.clone(),
        verdict,
        by,
    };
    let applied = |after: &str| Event::Applied {
        cause: Cause::Granted(id),
        file,
        before: policy_hash.clone(),
        after: sha256(after),
        until: None,
    };
    for event in [
        Event::Began { policies: texts() },
        applied(&after),
        decided(Verdict::Approve, By::Timeout),
        decided(Verdict::Approve, By::Nobody),
        Event::Decided {
            id,
            hash: sha256("x"),
            policy_hash: policy_hash.clone(),
            verdict: Verdict::Approve,
            by: By::Local { user: "ann".to_owned() },
        },
        Event::Noted { id, line: "x".to_owned() },
        Event::RolledBack { cause: Cause::Granted(id), file, kept: policy_hash.clone(), reason: "x".to_owned() },
        Event::Applied {
            cause: Cause::Ended(id),
            file,
            before: policy_hash.clone(),
            after: sha256(&after),
            until: None,
        },
    ] {
        assert!(run.add(event.clone()).is_err(), "{event:?}");
    }
    run.add(decided(Verdict::Approve, By::Local { user: "ann".to_owned() })).expect("a decision");
    assert!(run.add(applied(&format!("{after}# more\n"))).is_err(), "something else than was approved");
    assert!(run.add(decided(Verdict::Approve, By::Local { user: "ann".to_owned() })).is_err(), "twice");
    // In the middle of it, either policy may be what is there.
    for text in [ROUTES.to_owned(), after.clone()] {
        let last = Texts::from([(file, text)]);
        assert!(verify(RUN, &run.text, &texts(), &last).is_ok());
    }
    run.add(applied(&after)).expect("it is in force");
    assert!(run.add(applied(&after)).is_err(), "twice");
    let last = Texts::from([(file, ROUTES.to_owned())]);
    assert!(matches!(verify(RUN, &run.text, &texts(), &last), Err(VerifyError::Last { .. })));
    let first = Texts::from([(file, after)]);
    assert!(matches!(verify(RUN, &run.text, &first, &run.last()), Err(VerifyError::First(_))));
}

#[derive(Debug, Clone)]
enum Step {
    Ask(u8),
    Approve(u8),
    Deny(u8),
    Modify(u8, u8),
    End(u8),
    Note,
    Hand(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..16u8).prop_map(Step::Ask),
        3 => (0..16u8).prop_map(Step::Approve),
        1 => (0..16u8).prop_map(Step::Deny),
        1 => (0..16u8, 0..16u8).prop_map(|(at, other)| Step::Modify(at, other)),
        1 => (0..16u8).prop_map(Step::End),
        1 => Just(Step::Note),
        1 => (0..3u8).prop_map(Step::Hand),
    ];
    proptest::collection::vec(step, 1..30)
}

fn wanted(number: u8) -> Request {
    match number {
        0..=5 => route(
            &format!("h{}.example", number % 4),
            if number.is_multiple_of(2) { &["GET"] } else { &["GET", "POST"] },
        ),
        6 => route("*.example", &["GET"]),
        7 => push("refs/heads/main"),
        8 => push("refs/tags/v1"),
        9 => Request::budget(Some(5), None, None, Some(0.5), "x").expect("a budget"),
        10 => Request::exemption("a.example", "github-pat", "x", None).expect("a rule"),
        11 => held(),
        12 => finding(),
        13 => held_push('a'),
        14 => held_push('b'),
        _ => Request::ask("why?").expect("a question"),
    }
}

/// Does what can be done of the steps.
fn play(steps: &[Step]) -> Run {
    let mut run = Run::new();
    for step in steps {
        let ids = |run: &Run, wanted: fn(&State) -> bool| -> Vec<ProposalId> {
            run.ledger.standings().filter(|one| wanted(&one.state)).map(|one| one.proposal.id).collect()
        };
        let nth = |ids: Vec<ProposalId>, at: u8| ids.get(usize::from(at) % ids.len().max(1)).copied();
        match *step {
            Step::Ask(number) => drop(run.ask(wanted(number))),
            Step::Approve(at) => {
                let Some(id) = nth(ids(&run, State::is_open), at) else { continue };
                // A proposal that has become pointless can't be approved.
                let pointless = run.ledger.outdated().iter().any(|(other, _)| *other == id);
                let question = matches!(run.ledger.get(id).expect("one").proposal.request, Request::Ask { .. });
                let yes = if question { Verdict::Answer { text: "so".to_owned() } } else { Verdict::Approve };
                run.decide(id, if pointless { Verdict::Deny { why: "late".to_owned() } } else { yes });
            }
            Step::Deny(at) => {
                if let Some(id) = nth(ids(&run, State::is_open), at) {
                    run.decide(id, Verdict::Deny { why: "no".to_owned() });
                }
            }
            Step::Modify(at, other) => {
                let Some(id) = nth(ids(&run, State::is_open), at) else { continue };
                let standing = run.ledger.get(id).expect("one");
                let request = wanted(other);
                let change = Change::of(run.ledger.in_force().texts(), &request).ok().flatten();
                let own = standing.proposal.change.as_ref().map(|change| change.file);
                let pointless = run.ledger.outdated().iter().any(|(other, _)| *other == id);
                if std::mem::discriminant(&request) == std::mem::discriminant(&standing.proposal.request)
                    && !request.is_as_it_is()
                    && !pointless
                    && own.is_some()
                    && change.map(|change| change.file) == own
                {
                    run.decide(id, Verdict::Modified { request: Box::new(request) });
                }
            }
            Step::End(at) => {
                if let Some(id) = nth(ids(&run, |state| matches!(state, State::InForce { .. })), at) {
                    run.end(id);
                }
            }
            Step::Note => {
                let id = run.ledger.next_id();
                run.add(Event::Noted { id, line: "half way".to_owned() }).expect("a note");
            }
            Step::Hand(at) => {
                let text = format!("{ROUTES}# {at}\n");
                let cause = Cause::Hand { user: "ann".to_owned(), text: text.clone() };
                run.apply(PolicyFile::Routes, cause, &text);
            }
        }
    }
    run
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// What was really done holds, and reads back to the same state.
    #[test]
    fn every_history_holds(steps in steps()) {
        let run = play(&steps);
        let told = verify(RUN, &run.text, &texts(), &run.last()).expect("the record holds");
        prop_assert_eq!(told.asked, run.ledger.standings().count());
    }

    /// A line taken out, moved or changed shows; so does a policy that is another.
    #[test]
    fn no_history_can_be_changed(steps in steps(), at in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>()) {
        let run = play(&steps);
        let lines: Vec<&str> = run.text.split_inclusive('\n').collect();
        let at = at.index(lines.len());
        if at + 1 < lines.len() {
            let without: String = lines.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, line)| *line).collect();
            prop_assert!(verify(RUN, &without, &texts(), &run.last()).is_err());
        }
        let mut bytes = run.text.clone().into_bytes();
        let byte = byte.index(bytes.len());
        bytes[byte] = if bytes[byte] == b'0' { b'1' } else { b'0' };
        if let Ok(changed) = String::from_utf8(bytes) {
            // The last line has none behind it that carries its hash: what it says is all that binds it.
            let is_last = byte >= run.text.len() - lines[lines.len() - 1].len();
            prop_assert!(is_last || verify(RUN, &changed, &texts(), &run.last()).is_err());
        }
        let mut last = run.last();
        last.insert(PolicyFile::Gate, format!("{}# more\n", last[&PolicyFile::Gate]));
        prop_assert!(verify(RUN, &run.text, &texts(), &last).is_err());
    }
}
