//! Who may ask, and how answers that are none are taken.

use std::time::{Duration, Instant};

use bottle_plan::manifest::{Permission, Who};
use serde_json::json;

use crate::exit::Code;
use crate::forge::testing::*;
use crate::permission::{EventActor, may_ask};

async fn ask(double: &Double, who: &Who, login: &str, id: u64, pull: Option<u64>) -> Result<(), String> {
    let asker = EventActor { login: login.to_owned(), id };
    may_ask(forge(double).as_ref(), who, &asker, pull).await.map_err(|denial| {
        let failure = denial.into_failure();
        assert_eq!(failure.code, Code::Refused, "{failure}");
        format!("{failure}; {}", failure.hint.as_deref().unwrap_or_default())
    })
}

#[tokio::test]
async fn the_permission_decides_by_number_on_every_forge() {
    for kind in BOTH {
        let double = Double::start(kind, json!({}));
        let write = Who::default();
        let admin = Who { permission: Permission::Admin, bots: vec![] };
        let read = Who { permission: Permission::Read, bots: vec![] };
        for (who, login, id, says) in [
            (&write, "octo-maintainer", 5_550_108, None),
            (&write, "octo-admin", 5_550_109, None),
            (&write, "octo-reader", 5_550_107, Some("has read on this repository, and write is needed")),
            (&read, "octo-reader", 5_550_107, None),
            (&admin, "octo-maintainer", 5_550_108, Some("has write on this repository, and admin is needed")),
            (&admin, "octo-admin", 5_550_109, None),
            // The login changed hands after the event.
            (&write, "octo-maintainer", 666, Some("is now the user with the id 5550108, and the event came from 666")),
            (&write, "octo-gone", 1, Some("knows no permission of octo-gone")),
            (&write, "..", 1, Some("can't be checked")),
            (&write, "octo-maintainer/../octo-admin", 5_550_109, Some("knows no permission")),
        ] {
            let answer = ask(&double, who, login, id, None).await;
            match says {
                None => assert_eq!(answer, Ok(()), "{kind} {login}"),
                Some(says) => assert!(answer.clone().unwrap_err().contains(says), "{kind} {login}: {answer:?}"),
            }
        }
        double.assert_valid();
    }
}

#[tokio::test]
async fn bots_are_listed_by_number_and_forks_need_a_writer() {
    let pulls = json!([
        {"number": 8, "title": "t", "body": "", "head": "x", "base": "main", "fork": true},
        {"number": 9, "title": "t", "body": "", "head": "y", "base": "main"},
    ]);
    for kind in BOTH {
        let double = Double::start(kind, json!({"pulls": pulls}));
        let who = Who { permission: Permission::Read, bots: vec![42] };
        for (login, id, pull, may) in [
            ("helper[bot]", 42, None, true),
            ("helper[bot]", 43, None, false),
            ("helper[bot]", 42, Some(9), true),
            ("helper[bot]", 42, Some(8), false),
            ("octo-reader", 5_550_107, Some(9), true),
            ("octo-reader", 5_550_107, Some(8), false),
            ("octo-maintainer", 5_550_108, Some(8), true),
            ("octo-maintainer", 5_550_108, Some(404), false),
        ] {
            let answer = ask(&double, &who, login, id, pull).await;
            assert_eq!(answer.is_ok(), may, "{kind} {login} {id} {pull:?}: {answer:?}");
        }
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_forge_that_can_t_be_asked_is_a_refusal() {
    for (fault, times, says) in [
        (json!({"status": 403, "body": {"message": "Resource not accessible by integration"}}), 9, "can't be checked"),
        (json!({"status": 500}), 99, "tried 5 times"),
        (json!({"drop": "before"}), 99, "tried 5 times"),
        (json!({"status": 200, "body": {"permission": 7}}), 9, "not what a forge sends"),
        (json!({"status": 200, "body": {"permission": "write", "user": null}}), 9, "is now the user with the id 0"),
        (json!({"status": 302, "headers": {"Location": "/api/v3/user"}}), 9, "has moved"),
        (
            json!({"status": 429, "headers": {"Retry-After": "3600"}}),
            9,
            "rate limit is reached; it says to wait 3600 s",
        ),
    ] {
        let mut fault = fault;
        fault["method"] = json!("GET");
        fault["path"] = json!("permission$");
        fault["times"] = json!(times);
        let double = Double::start("github", json!({"faults": [fault]}));
        let answer = ask(&double, &Who::default(), "octo-maintainer", 5_550_108, None).await.unwrap_err();
        assert!(answer.contains(says), "{answer}");
        assert!(!answer.contains(&double.token), "{answer}");
    }
}

#[tokio::test]
async fn gitea_s_own_job_token_is_not_enough() {
    let double = Double::start("gitea", json!({"admin_token": false}));
    let answer = ask(&double, &Who::default(), "octo-maintainer", 5_550_108, None).await.unwrap_err();
    assert!(answer.contains("403") && answer.contains("GITEA_TOKEN"), "{answer}");
}

#[tokio::test]
async fn what_passes_is_waited_for() {
    for (fault, least) in [
        (json!({"status": 500, "times": 2}), 120),
        (json!({"drop": "before", "times": 1}), 40),
        (json!({"status": 429, "headers": {"Retry-After": "1"}}), 1000),
        (
            json!({"status": 403, "headers": {"Retry-After": "1"}, "body": {"message": "You have exceeded a secondary rate limit"}}),
            1000,
        ),
        (json!({"status": 403, "headers": {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}}), 1000),
    ] {
        let mut fault = fault;
        fault["method"] = json!("GET");
        fault["path"] = json!("permission$");
        let double = Double::start("github", json!({"faults": [fault]}));
        let started = Instant::now();
        assert_eq!(ask(&double, &Who::default(), "octo-maintainer", 5_550_108, None).await, Ok(()));
        assert!(started.elapsed() >= Duration::from_millis(least), "{:?}", started.elapsed());
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_no_token() {
    let (double, other) = (Double::start("github", json!({})), Double::start("github", json!({})));
    let error = forge_with(&double, &double.token, &other.ca()).user_access("octo-maintainer").await.unwrap_err();
    for says in ["nobody vouches for the certificate of 127.0.0.1 (SHA-256 ", "UnknownIssuer", "SSL_CERT_FILE"] {
        assert!(told(&error).contains(says), "{says}: {}", told(&error));
    }
    assert!(double.log().is_empty(), "a request got through");
    let error = forge_with(&double, "another", &double.ca()).user_access("octo-maintainer").await.unwrap_err();
    assert!(told(&error).contains("401") && told(&error).contains("does not take the token"), "{}", told(&error));
}
