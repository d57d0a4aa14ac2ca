//! A GitHub App in place of a token.
#![expect(clippy::disallowed_methods, reason = "the test makes a key with openssl")]

use std::process::Command;

use bottle_types::secret::Secret;
use serde_json::json;

use crate::forge::app::{TOKEN, signed_in};
use crate::forge::testing::*;
use crate::host::Environment;
use crate::secrets::{Exchange, Renewed, Secrets, ValueLife};

fn openssl(args: &[&str]) {
    let output = Command::new("openssl").args(args).output().expect("openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn environment(double: &Double, key: &str) -> Environment {
    let mut environment = Environment::default();
    for (name, value) in [
        ("GITHUB_REPOSITORY", "octo-org/textstats".to_owned()),
        ("GITHUB_SERVER_URL", format!("https://{}", double.authority)),
        ("SSL_CERT_FILE", double.ca().display().to_string()),
        ("GITHUB_TOKEN", "the job's own".to_owned()),
        ("BOTTLE_APP_ID", "12".to_owned()),
        ("BOTTLE_APP_KEY", key.to_owned()),
    ] {
        environment.set(name, value);
    }
    environment
}

#[tokio::test]
async fn its_key_makes_a_token_for_this_repository() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (key, public) = (file("key.pem"), file("public.pem"));
    openssl(&["genrsa", "-traditional", "-out", &key, "2048"]);
    openssl(&["rsa", "-in", &key, "-pubout", "-out", &public]);
    let may = json!({"security_events": "write", "checks": "read", "administration": "write"});
    let app = json!({"id": "12", "installation": 345, "public_key": public, "permissions": may});
    let double = Double::start("github", json!({"app": app}));
    let text = std::fs::read_to_string(&key).expect("the key");
    let (signed, _) = signed_in(environment(&double, &text)).await.expect("a token");
    assert_eq!(signed.get("GITHUB_TOKEN"), Some(double.token.as_str()));
    assert!(signed.get("BOTTLE_APP_KEY").is_none() && signed.get("BOTTLE_APP_ID").is_none(), "the key goes no further");
    let asked = double.log().into_iter().find(|line| line["method"] == "POST").expect("a call");
    assert_eq!(asked["body"]["repositories"], json!(["textstats"]));
    let permissions = &asked["body"]["permissions"];
    assert_eq!(permissions["security_events"], "write");
    assert!(permissions["checks"].is_null() && permissions["administration"].is_null(), "{permissions}");
    // What it writes is known for its own, although it is no user.
    let forge = forge(&double);
    forge.comment(7, "<!-- claude-bottle: status -->\nx").await.expect("a comment");
    let ours = crate::thread::comments::ours_of(forge.as_ref(), 7).await.expect("comments");
    assert_eq!(ours.len(), 1);
    assert_eq!(forge.myself().await.expect("an answer").expect("somebody").login, "my-app[bot]");
    double.assert_valid();

    // Another key is not the App's.
    let other = file("other.pem");
    openssl(&["genrsa", "-out", &other, "2048"]);
    let text = std::fs::read_to_string(&other).expect("the key");
    let failure = signed_in(environment(&double, &text)).await.map(drop).expect_err("no token");
    assert!(failure.what.contains("401"), "{failure}");
}

#[tokio::test]
async fn a_key_that_is_none_is_said_and_not_shown() {
    let double = Double::start("github", json!({}));
    let wrong = format!("-----BEGIN {} KEY-----\nAAAA\n-----END {} KEY-----\n", "RSA PRIVATE", "RSA PRIVATE");
    for key in ["secret-word", wrong.as_str()] {
        let failure = signed_in(environment(&double, key)).await.map(drop).expect_err("no token");
        assert!(failure.what.contains("the App's key can't be"), "{failure}");
        assert!(!failure.what.contains("secret-word") && !failure.what.contains("AAAA"), "{failure}");
    }
    assert!(double.log().is_empty(), "nobody was asked");
}

#[tokio::test]
async fn its_tokens_are_renewed_before_their_end_and_taken_back_after_the_last() {
    let dir = tempfile::TempDir::new().expect("a directory");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (key, public) = (file("key.pem"), file("public.pem"));
    openssl(&["genrsa", "-traditional", "-out", &key, "2048"]);
    openssl(&["rsa", "-in", &key, "-pubout", "-out", &public]);
    // Tokens of ten seconds in a run of half a minute, as those of an hour in one of three.
    let app = json!({"id": "12", "installation": 345, "public_key": public, "lifetime": 10});
    let double = Double::start("github", json!({"app": app}));
    let text = std::fs::read_to_string(&key).expect("the key");
    let (environment, app) = signed_in(environment(&double, &text)).await.expect("a token");
    let app = app.expect("an App");
    let secrets = Secrets::read(&plan(None), &environment, None, crate::exchange::of_plan).await.expect("a token");
    let exchange: std::sync::Arc<dyn Exchange> = app.clone();
    secrets.exchanged(TOKEN, app.life(), &exchange);
    let first = environment.get(TOKEN).expect("a token").to_owned();
    let forge = forge_with(&double, &first, &double.ca());
    let made = std::sync::Mutex::new(vec![first]);
    let renewed = |renewed: Renewed| match renewed {
        Renewed::Value { value, life, .. } => {
            let token = String::from_utf8(value.expose().clone()).expect("text");
            forge.set_token(&Secret::new(token.clone()), life.map(ValueLife::last_use)).expect("a header");
            made.lock().expect("tokens").push(token);
        }
        Renewed::Failed { why, .. } => panic!("{why}"),
    };
    let work = async {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while std::time::Instant::now() < until {
            forge.issue(7).await.expect("an answer");
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
        }
    };
    let hangups = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).expect("a handler");
    tokio::select! {
        never = secrets.keep_fresh(hangups, renewed) => match never {},
        () = work => {}
    }
    let log = double.log();
    assert!(log.len() > 40 && log.iter().all(|line| line["token"] == "good"), "a dead token was sent");
    let made = made.into_inner().expect("tokens");
    assert!(made.len() >= 4, "{}", made.len());
    for token in &made {
        assert_eq!(secrets.mask(token), "***");
        assert!(!log.iter().any(|line| line["body"].to_string().contains(token)));
    }
    app.revoke().await.expect("taken back");
    let revoked = double.writes().iter().filter(|call| *call == "DELETE /installation/token").count();
    assert!(revoked >= 1, "{:?}", double.writes());
    assert_eq!(
        double.state()["minted"]
            .as_object()
            .map_or(0, |minted| minted.keys().filter(|one| Some(*one) == made.last()).count()),
        0
    );
    let error = forge.issue(7).await.expect_err("it is dead");
    assert_eq!(error.status(), Some(401));
    double.assert_valid();
}
