//! A run's audit log as events of the Open Cybersecurity Schema Framework, for a SIEM: what came to the doors, and what became of it.
//!
//! Classes and numbers are those of OCSF 1.8.0 with its profile for security controls; what it has no name for is in `unmapped`. The
//! same record gives the same events.

use bottle_types::door::Door;
use bottle_types::record_file::RecordFile;
use bottle_wire::access::AccessVerdict;
use bottle_wire::push_report::PushVerdict;
use serde_json::{Value, json};

use crate::report::model::data::{AskedFor, Push, Request};
use crate::report::model::visible::visible;
use crate::report::show::{RunView, has_passed, is_refusal, word};
use crate::report::{ProposalStatus, RunEvent, outcome};

const VERSION: &str = "1.8.0";

/// A class of events: its number and that of its category.
#[derive(Debug, Clone, Copy)]
struct Class(u64, u64);

const DETECTION_FINDING: Class = Class(2004, 2);
const HTTP_ACTIVITY: Class = Class(4002, 4);
const APPLICATION_LIFECYCLE: Class = Class(6002, 6);
const API_ACTIVITY: Class = Class(6003, 6);

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    Informational = 1,
    Low = 2,
    Medium = 3,
    High = 4,
}

/// What a door did: `action_id` and `disposition_id`.
#[derive(Debug, Clone, Copy)]
struct Deed(u64, u64);

const ALLOWED: Deed = Deed(1, 1);
const BLOCKED: Deed = Deed(2, 2);
/// It was held for a person.
const DELAYED: Deed = Deed(2, 14);
/// It was let through, and failed on the way.
const FAILED: Deed = Deed(1, 27);
/// A dry run: it would have passed, and was only kept.
const LOGGED: Deed = Deed(3, 17);

const SUCCESS: u64 = 1;
const FAILURE: u64 = 2;

impl RunView {
    /// The events of the run's audit log, by their times.
    pub(crate) fn ocsf(&self) -> Vec<Value> {
        let slug = self.slug();
        let log = Log { view: self, slug: &slug };
        let mut events = vec![log.start()];
        for (at, request) in self.requests().into_iter().enumerate() {
            events.extend(log.request(at, request));
        }
        for (at, push) in self.data.pushes.iter().enumerate() {
            events.extend(log.push(at, push));
        }
        self.data.proposals.iter().for_each(|proposal| events.extend(log.proposal(proposal)));
        events.extend(log.stop());
        // The sort is stable: a finding stays behind what it is about.
        events.sort_by_key(|event| event["time"].as_i64());
        events
    }

    fn slug(&self) -> String {
        let slug = self.events.iter().find_map(|(_, event)| match event {
            RunEvent::Started { slug, .. } => Some(visible(slug).into_owned()),
            _ => None,
        });
        slug.unwrap_or_default()
    }
}

/// The log as it grows.
struct Log<'a> {
    view: &'a RunView,
    slug: &'a str,
}

impl Log<'_> {
    /// What every event has. `uid` is its own name within the run.
    fn event(
        &self,
        class: Class,
        activity: u64,
        time: Option<i64>,
        severity: Severity,
        (file, uid): (RecordFile, &str),
    ) -> Value {
        json!({
            "class_uid": class.0,
            "category_uid": class.1,
            "activity_id": activity,
            "type_uid": class.0 * 100 + activity,
            // A line without a time is as old as the run.
            "time": time.unwrap_or(self.view.data.from),
            "severity_id": severity as u64,
            "metadata": {
                "version": VERSION,
                "profiles": ["security_control"],
                "product": {"name": "claude-bottle", "vendor_name": "claude-bottle", "version": env!("CARGO_PKG_VERSION")},
                "uid": format!("{}/{uid}", self.slug),
                "correlation_uid": self.slug,
                "log_name": file.name(),
            },
        })
    }

    /// The guest, which has no address.
    fn guest(&self) -> Value {
        json!({"name": "guest", "uid": self.slug})
    }

    fn agent(&self) -> Value {
        let agent = self.view.plan.as_ref().map_or("agent", |plan| plan.agent.name.as_str());
        json!({"app_name": agent, "app_uid": self.slug})
    }

    fn start(&self) -> Value {
        let uid = (RecordFile::Events, "start");
        let mut event = self.event(APPLICATION_LIFECYCLE, 3, Some(self.view.data.from), Severity::Informational, uid);
        event["app"] = self.app();
        event["status_id"] = SUCCESS.into();
        if !self.view.data.left_out.is_empty() {
            event["unmapped"] = json!({"left_out": self.view.data.left_out});
        }
        event
    }

    /// The end of the run; none: it has no end.
    fn stop(&self) -> Option<Value> {
        let outcome = outcome(self.view.events.iter().map(|(_, event)| event))?;
        let code = u8::from(outcome.code);
        let severity = if code == 0 { Severity::Informational } else { Severity::Low };
        let uid = (RecordFile::Events, "stop");
        let mut event = self.event(APPLICATION_LIFECYCLE, 4, Some(self.view.data.to), severity, uid);
        event["app"] = self.app();
        event["status_id"] = if code == 0 { SUCCESS } else { FAILURE }.into();
        event["status_code"] = code.to_string().into();
        event["duration"] = self.view.data.to.saturating_sub(self.view.data.from).max(0).into();
        let spent = self.view.data.calls.iter().fold((0_u64, 0.0), |(tokens, cost), call| {
            let all = [call.input, call.cache_write, call.cache_read, call.output];
            (all.into_iter().fold(tokens, u64::saturating_add), cost + call.cost.unwrap_or_default())
        });
        event["unmapped"] = json!({"tokens": spent.0, "cost_usd": spent.1});
        if let Some(commit) = &outcome.commit {
            event["unmapped"]["commit"] = commit.to_string().into();
        }
        if let Some(branch) = &outcome.branch {
            event["unmapped"]["branch"] = visible(branch).into();
        }
        Some(event)
    }

    fn app(&self) -> Value {
        json!({"name": "bottle", "uid": self.slug, "version": env!("CARGO_PKG_VERSION")})
    }

    /// A request, and a finding where a door refused it.
    fn request(&self, at: usize, request: &Request) -> Vec<Value> {
        let activity = activity(&request.method);
        let is_found = !request.rule.is_empty();
        let (deed, severity) = match request.verdict {
            AccessVerdict::Allow | AccessVerdict::Replay => (ALLOWED, Severity::Informational),
            AccessVerdict::Error => (FAILED, Severity::Low),
            AccessVerdict::Deny | AccessVerdict::Block if is_found => (BLOCKED, Severity::High),
            AccessVerdict::Deny | AccessVerdict::Block => (BLOCKED, Severity::Medium),
        };
        // Ids of requests are the doors' own, and are not always there.
        let uid = format!("request/{at}");
        let mut event = self.event(HTTP_ACTIVITY, activity, request.at, severity, (RecordFile::Egress, &uid));
        act(&mut event, deed);
        if activity == 99 {
            event["activity_name"] = request.method.as_str().into();
        }
        event["status_id"] = if has_passed(request.verdict) { SUCCESS } else { FAILURE }.into();
        if !request.reason.is_empty() {
            event["status_detail"] = request.reason.as_str().into();
        }
        event["src_endpoint"] = self.guest();
        event["dst_endpoint"] = json!({"hostname": request.host, "port": request.port});
        event["http_request"] = http_request(request);
        if request.status > 0 {
            event["status_code"] = request.status.to_string().into();
            event["http_response"] =
                json!({"code": request.status, "body_length": request.received, "latency": request.first});
        }
        event["traffic"] = json!({
            "bytes_out": request.sent,
            "bytes_in": request.received,
            "bytes": request.sent.saturating_add(request.received),
        });
        event["duration"] = request.ms.into();
        if let Some(route) = request.route {
            event["firewall_rule"] = json!({"uid": format!("routes[{route}]"), "type": "route"});
        }
        let mut unmapped = json!({"door": request.door, "verdict": word(request.verdict)});
        let texts =
            [("credential", &request.credential), ("proposal", &request.proposal), ("finding", &request.finding)];
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            unmapped[name] = text.as_str().into();
        }
        if request.not_inspected {
            unmapped["not_inspected"] = true.into();
        }
        event["unmapped"] = unmapped;
        if !is_refusal(request.verdict) {
            return vec![event];
        }
        event["is_alert"] = is_found.into();
        let rule = if is_found { &request.rule } else { &request.reason };
        let what = format!("{} {}:{}{}", request.method, request.host, request.port, request.path);
        let finding = self.finding(&event, severity, (RecordFile::Egress, &uid), &Refusal {
            rule: format!("request/{rule}"),
            title: format!("{} refused a request: {rule}", request.door),
            text: format!("{} refused {what}: {}", request.door, request.reason),
            is_found,
            evidence: json!([{"http_request": http_request(request), "dst_endpoint": event["dst_endpoint"], "src_endpoint": self.guest()}]),
        });
        vec![event, finding]
    }

    /// A push, and a finding for each thing for which it was refused.
    fn push(&self, at: usize, push: &Push) -> Vec<Value> {
        let is_zero = |id: &str| !id.is_empty() && id.bytes().all(|digit| digit == b'0');
        let activity = match (is_zero(&push.old), is_zero(&push.new)) {
            (_, true) => 4,
            (true, _) => 1,
            _ => 3,
        };
        let (deed, severity) = match push.verdict {
            PushVerdict::Accepted => (ALLOWED, Severity::Informational),
            PushVerdict::WouldPush => (LOGGED, Severity::Informational),
            PushVerdict::Held => (DELAYED, Severity::Medium),
            PushVerdict::Refused if push.findings.is_empty() => (BLOCKED, Severity::Medium),
            PushVerdict::Refused => (BLOCKED, Severity::High),
        };
        let uid = format!("push/{at}");
        let mut event = self.event(API_ACTIVITY, activity, push.to, severity, (RecordFile::Pushes, &uid));
        act(&mut event, deed);
        event["status_id"] = if push.verdict.has_passed() { SUCCESS } else { FAILURE }.into();
        event["actor"] = self.agent();
        event["src_endpoint"] = self.guest();
        event["api"] = json!({"operation": "git push", "service": {"name": Door::GitGate.name()}});
        let resource = json!([{"name": push.r#ref, "namespace": push.repo, "type": "git ref", "uid": push.new}]);
        event["resources"] = resource.clone();
        event["duration"] = push.to.zip(push.from).map_or(0, |(to, from)| to.saturating_sub(from)).into();
        let reasons: Vec<&str> = push.reasons.iter().map(|reason| reason.head.as_str()).collect();
        event["unmapped"] = json!({"verdict": push.verdict, "old": push.old, "commits": push.commits, "bytes": push.bytes, "reasons": reasons});
        if push.verdict.has_passed() {
            return vec![event];
        }
        event["is_alert"] = (!push.findings.is_empty()).into();
        let mut events = vec![event];
        let to = format!("{} of {}", push.r#ref, push.repo);
        let end = if push.verdict == PushVerdict::Held { "held" } else { "refused" };
        if push.findings.is_empty() {
            let refusal = Refusal {
                rule: "push/refused".to_owned(),
                title: format!("git-gate {end} a push"),
                text: format!("git-gate {end} the push to {to}: {}", reasons.join("; ")),
                is_found: false,
                evidence: json!([{"resources": resource}]),
            };
            events.push(self.finding(&events[0], severity, (RecordFile::Pushes, &uid), &refusal));
        }
        for (nth, found) in push.findings.iter().enumerate() {
            let name = found.path.rsplit('/').next().unwrap_or(&found.path);
            let line = found.line.map(|line| format!(":{line}")).unwrap_or_default();
            let refusal = Refusal {
                rule: format!("push/{}", found.rule),
                title: format!("git-gate found {} in a push", found.rule),
                text: format!("git-gate {end} the push to {to}: {} at {}{line}", found.rule, found.path),
                is_found: true,
                evidence: json!([{
                    "resources": resource,
                    "file": {"name": name, "path": found.path, "type_id": 1},
                    "data": {"line": found.line, "commit": found.commit},
                }]),
            };
            events.push(self.finding(&events[0], severity, (RecordFile::Pushes, &format!("{uid}/{nth}")), &refusal));
        }
        events
    }

    /// The finding of a refusal, which is about an event.
    fn finding(&self, about: &Value, severity: Severity, (file, uid): (RecordFile, &str), refusal: &Refusal) -> Value {
        let uid = format!("finding/{uid}");
        let mut event = self.event(DETECTION_FINDING, 1, about["time"].as_i64(), severity, (file, &uid));
        for name in ["action_id", "disposition_id"] {
            event[name] = about[name].clone();
        }
        event["is_alert"] = refusal.is_found.into();
        event["message"] = refusal.text.as_str().into();
        event["status_id"] = 1.into();
        event["finding_info"] = json!({
            "uid": event["metadata"]["uid"],
            "title": refusal.title,
            "desc": refusal.text,
            "created_time": about["time"],
            "data_sources": [file.name()],
            "analytic": {"type_id": 1, "uid": refusal.rule, "name": refusal.rule},
            "related_events": [{"uid": about["metadata"]["uid"], "type_uid": about["type_uid"]}],
        });
        event["evidences"] = refusal.evidence.clone();
        event
    }

    /// What the agent asked for, and what was decided.
    fn proposal(&self, proposal: &AskedFor) -> Vec<Value> {
        let api = |operation: &str| json!({"operation": operation, "service": {"name": Door::Supervise.name()}});
        let resource = json!([{"name": proposal.what, "type": "proposal", "uid": proposal.id}]);
        let uid = format!("proposal/{}", proposal.id);
        let at = (RecordFile::Proposals, uid.as_str());
        let mut asked = self.event(API_ACTIVITY, 1, Some(proposal.from), Severity::Informational, at);
        act(&mut asked, DELAYED);
        asked["status_id"] = SUCCESS.into();
        asked["actor"] = self.agent();
        asked["src_endpoint"] = self.guest();
        asked["api"] = api("propose");
        asked["resources"] = resource.clone();
        let deed = match proposal.status {
            ProposalStatus::Asked | ProposalStatus::Ended => return vec![asked],
            ProposalStatus::Approved | ProposalStatus::Modified | ProposalStatus::Answered => ALLOWED,
            ProposalStatus::Denied | ProposalStatus::TimedOut => BLOCKED,
            ProposalStatus::Failed => FAILED,
        };
        let uid = format!("decision/{}", proposal.id);
        let at = (RecordFile::Proposals, uid.as_str());
        let mut decided = self.event(API_ACTIVITY, 3, proposal.to.or(Some(proposal.from)), Severity::Low, at);
        act(&mut decided, deed);
        decided["status_id"] = if deed.0 == FAILED.0 && deed.1 == FAILED.1 { FAILURE } else { SUCCESS }.into();
        decided["status_detail"] = proposal.status.name().into();
        decided["actor"] = match proposal.by.as_str() {
            "" => json!({"app_name": Door::Supervise.name()}),
            by => json!({"user": {"name": by, "type_id": 1}}),
        };
        decided["src_endpoint"] = json!({"name": Door::Supervise.name(), "uid": self.slug});
        decided["api"] = api("decide");
        decided["resources"] = resource;
        vec![asked, decided]
    }
}

/// A refusal, as a finding says it.
struct Refusal {
    rule: String,
    title: String,
    text: String,
    /// True if something was found; false if only no rule allows it.
    is_found: bool,
    evidence: Value,
}

fn act(event: &mut Value, Deed(action, disposition): Deed) {
    event["action_id"] = action.into();
    event["disposition_id"] = disposition.into();
}

/// The number of a method.
fn activity(method: &str) -> u64 {
    const METHODS: [&str; 9] = ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "POST", "PUT", "TRACE", "PATCH"];
    METHODS.iter().position(|known| *known == method).map_or(99, |at| at as u64 + 1)
}

fn http_request(request: &Request) -> Value {
    let mut value = json!({
        "body_length": request.sent,
        "url": {"hostname": request.host, "port": request.port, "path": request.path},
    });
    if !request.id.is_empty() {
        value["uid"] = request.id.as_str().into();
    }
    // The schema knows these alone; another is in the activity's name.
    if activity(&request.method) != 99 {
        value["http_method"] = request.method.as_str().into();
    }
    value
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use bottle_testkit::needed;

    use super::*;
    use crate::report::model::samples::{self, hostile_contents};

    fn events(sample: &samples::Sample) -> Vec<Value> {
        sample.view();
        RunView::open_logs(sample.dir.path()).expect("a record").ocsf()
    }

    fn of_class(events: &[Value], class: Class) -> Vec<&Value> {
        events.iter().filter(|event| event["class_uid"] == class.0).collect()
    }

    /// What `ocsf-json-schema`, which has the published schema, says of the events; a line a fault.
    fn faults(events: &[Value]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/report/export/ocsf_check.py");
        #[expect(clippy::disallowed_methods, reason = "a test has another program read the events")]
        let mut command = Command::new(needed("BOTTLE_TEST_PYTHON"));
        let mut python =
            command.args([script, VERSION]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python");
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        let mut input = python.stdin.take().expect("its input");
        let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()).expect("it reads"));
        let output = python.wait_with_output().expect("an end");
        writer.join().expect("it is written");
        let said = bottle_testkit::said(&output);
        assert!(output.status.success(), "{said}");
        let (told, faults) = said.split_once('\n').expect("a line");
        assert_eq!(told, format!("{} events", events.len()), "{said}");
        faults.to_owned()
    }

    #[test]
    fn every_record_becomes_events_as_the_schema_has_them() {
        let mut all = vec![];
        for sample in samples::all().into_iter().chain([samples::hostile(&hostile_contents())]) {
            let events = events(&sample);
            assert_eq!(events, super::tests::events(&sample), "the same record gives the same events");
            let mut uids: Vec<&str> =
                events.iter().map(|one| one["metadata"]["uid"].as_str().expect("a uid")).collect();
            uids.sort_unstable();
            uids.dedup();
            assert_eq!(uids.len(), events.len(), "every event has a name of its own");
            assert_eq!(crate::report::show::alive(&serde_json::to_string(&events).expect("JSON")), None);
            all.extend(events);
        }
        assert_eq!(faults(&all), "");
        // The schema does judge: each of these is wrong in one place.
        let denied = events(&samples::denied_route());
        let wrong: Vec<Value> = [
            ("/time", json!("2026-11-28T14:12:32Z")),
            ("/activity_id", json!(12)),
            ("/http_request/url/port", json!(70_000)),
            ("/http_request/body", json!("x")),
            ("/metadata/product", json!({})),
            ("/finding_info/analytic", json!({"name": "x"})),
        ]
        .into_iter()
        .map(|(at, value)| {
            let (parent, name) = at.rsplit_once('/').expect("a path");
            let mut event = denied
                .iter()
                .find(|one| one.pointer(parent).is_some_and(Value::is_object) && one["class_uid"] != 6002)
                .expect(at)
                .clone();
            event.pointer_mut(parent).expect(at)[name] = value;
            event
        })
        .collect();
        assert_eq!(faults(&wrong).lines().count(), wrong.len());
    }

    #[test]
    fn a_refusal_is_a_finding_about_its_event() {
        let events = events(&samples::refused_push());
        let findings = of_class(&events, DETECTION_FINDING);
        assert_eq!(findings.len(), 1);
        let finding = findings[0];
        assert_eq!(finding["finding_info"]["analytic"]["uid"], "push/aws-access-token");
        assert_eq!((&finding["is_alert"], &finding["severity_id"]), (&json!(true), &json!(4)));
        assert_eq!(finding["evidences"][0]["file"]["path"], "deploy.toml");
        assert_eq!(finding["evidences"][0]["data"]["line"], 2);
        let push = of_class(&events, API_ACTIVITY)[0];
        assert_eq!(finding["finding_info"]["related_events"][0]["uid"], push["metadata"]["uid"]);
        assert_eq!(
            (&push["action_id"], &push["disposition_id"], &push["activity_id"]),
            (&json!(2), &json!(2), &json!(1))
        );
        let denied = self::events(&samples::denied_route());
        let rules: Vec<_> = of_class(&denied, DETECTION_FINDING)
            .iter()
            .map(|one| one["finding_info"]["analytic"]["uid"].clone())
            .collect();
        assert_eq!(rules, ["request/no_route", "request/no_route", "request/dlp"]);
    }

    #[test]
    fn each_request_is_one_event_and_the_run_has_a_beginning_and_an_end() {
        let sample = samples::success();
        let events = events(&sample);
        let requests = sample.view().requests().len();
        assert!(requests > 9);
        assert_eq!(of_class(&events, HTTP_ACTIVITY).len(), requests);
        let life: Vec<_> =
            of_class(&events, APPLICATION_LIFECYCLE).iter().map(|one| one["activity_id"].clone()).collect();
        assert_eq!(life, [3, 4]);
        let times: Vec<_> = events.iter().map(|event| event["time"].as_i64().expect("a time")).collect();
        assert!(times.is_sorted());
        assert!(events.iter().all(|event| event["metadata"]["correlation_uid"] == "issue-7-words-653db91b"));
        // One that died has no end.
        let mut crash = samples::crash();
        crash.events.pop();
        assert_eq!(of_class(&self::events(&crash), APPLICATION_LIFECYCLE).len(), 1);
    }

    #[test]
    fn a_decision_names_who_made_it() {
        let events = events(&samples::approval());
        let decided: Vec<_> =
            of_class(&events, API_ACTIVITY).into_iter().filter(|one| one["api"]["operation"] == "decide").collect();
        let shown: Vec<_> = decided
            .iter()
            .map(|one| (&one["actor"]["user"]["name"], &one["status_detail"], &one["action_id"]))
            .collect();
        let by = json!("octo-maintainer");
        assert_eq!(shown, [(&by, &json!("approved"), &json!(1)), (&by, &json!("denied"), &json!(2))]);
    }

    #[test]
    fn nothing_that_was_said_is_exported() {
        let text = serde_json::to_string(&events(&samples::approval())).expect("JSON");
        for said in
            ["the list is there and nowhere else", "reading is enough", "Read the price list", "I need the list"]
        {
            assert!(!text.contains(said), "{said}");
        }
    }
}
