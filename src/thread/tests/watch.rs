//! New comments while a run goes on, and their writers' rights.

use crate::forge::Author;
use serde_json::Value;
use std::time::Duration;

use bottle_plan::manifest::Who;
use serde_json::json;
use tokio::time::timeout;

use crate::forge::testing::*;
use crate::thread::{CommentWatch, NewComment, News};

const BEFORE: &str = "2026-03-02T09:00:00Z";
const START: &str = "2026-03-02T09:20:35Z";
const AFTER: &str = "2026-03-02T09:30:00Z";
const PAUSE: Duration = Duration::from_millis(60);

fn watch(double: &Double) -> CommentWatch {
    let who = Who { bots: vec![42], ..Who::default() };
    CommentWatch::from(forge(double), who, 7, START).every(PAUSE)
}

fn comment(id: u64, author: &str, body: &str, written: &str, changed: &str) -> Value {
    json!({"id": id, "number": 7, "author": author, "body": body, "created_at": written, "updated_at": changed})
}

async fn next(watch: &mut CommentWatch) -> News {
    timeout(Duration::from_secs(20), watch.next()).await.expect("news")
}

async fn heard(watch: &mut CommentWatch) -> NewComment {
    match next(watch).await {
        News::Comment(heard) => heard,
        News::Trouble(why) => panic!("{why}"),
    }
}

/// Nothing more comes within some looks.
async fn silence(watch: &mut CommentWatch) {
    let more = timeout(PAUSE * 5, watch.next()).await;
    assert!(more.is_err(), "{more:?}");
}

fn users() -> Value {
    json!({
        "octo-maintainer": {"id": 5_550_108, "permission": "write"},
        "octo-reader": {"id": 5_550_107, "permission": "read"},
        "helper[bot]": {"id": 42, "type": "Bot"},
        "other[bot]": {"id": 43, "type": "Bot"},
    })
}

#[tokio::test]
async fn each_new_comment_is_heard_once() {
    for kind in BOTH {
        let comments = json!([
            comment(1, "octo-maintainer", "early", BEFORE, BEFORE),
            comment(2, "octo-maintainer", "early, changed late", BEFORE, AFTER),
            comment(3, "octo-maintainer", "late", AFTER, AFTER),
            comment(4, "octo-reader", "late, changed", AFTER, "2026-03-02T09:31:00Z"),
            comment(5, "octo-maintainer", "<!-- claude-bottle: status -->\nours", AFTER, AFTER),
            comment(6, "other[bot]", "a bot's", AFTER, AFTER),
            comment(7, "helper[bot]", "a listed bot's", AFTER, AFTER),
            {"id": 8, "number": 8, "author": "octo-maintainer", "body": "elsewhere", "created_at": AFTER, "updated_at": AFTER},
        ]);
        let double = Double::start(
            kind,
            json!({"comments": comments, "users": users(), "issues": [{"number": 7, "title": "t"}, {"number": 8, "title": "t"}]}),
        );
        let mut watch = watch(&double);
        for (id, login, number, edited) in [
            (3, "octo-maintainer", 5_550_108, false),
            (4, "octo-reader", 5_550_107, true),
            (7, "helper[bot]", 42, false),
        ] {
            let heard = heard(&mut watch).await;
            assert_eq!((heard.id, heard.author.login.as_str(), heard.author.id), (id, login, number), "{kind}");
            assert_eq!(heard.edited, edited, "{kind} {heard:?}");
        }
        silence(&mut watch).await;
        double.say(&json!({"id": 20, "number": 7, "author": "octo-maintainer", "body": "while it runs"}));
        let news = heard(&mut watch).await;
        assert_eq!((news.id, news.body.as_str(), news.edited), (20, "while it runs", false), "{kind}");
        // What was heard is not heard again, and no longer stands.
        assert!(watch.stands(&news).await, "{kind}");
        double.say(&json!({"id": 20, "number": 7, "author": "octo-maintainer", "body": "changed", "updated_at": "2099-01-01T00:00:00Z"}));
        silence(&mut watch).await;
        assert!(!watch.stands(&news).await, "{kind}");
        double.assert_valid();
        if kind == "github" {
            let unchanged = double.log().iter().filter(|line| line["status"] == 304).count();
            assert!(unchanged >= 4, "looks that find nothing new are not counted: {unchanged}");
        }
    }
}

#[tokio::test]
async fn a_comment_without_a_time_is_new_where_it_was_not_there_before() {
    let double = Double::start(
        "gitea",
        json!({"comments": [{"id": 1, "number": 7, "author": "octo-maintainer", "body": "old"}]}),
    );
    let mut watch = watch(&double);
    silence(&mut watch).await;
    double.say(&json!({"id": 2, "number": 7, "author": "octo-maintainer", "body": "new", "created_at": "x", "updated_at": "2099-01-01T00:00:00Z"}));
    let heard = heard(&mut watch).await;
    assert!(heard.id == 2 && heard.edited, "{heard:?}");
}

#[tokio::test]
async fn who_may_is_asked_of_the_forge() {
    for kind in BOTH {
        let double = Double::start(kind, json!({"users": users()}));
        let watch = watch(&double);
        let me = if kind == "github" { ("github-actions[bot]", 41_898_282) } else { ("bottle", 77) };
        for (login, id, is_bot, edited, asks) in [
            ("octo-maintainer", 5_550_108, false, false, true),
            ("octo-maintainer", 5_550_108, false, true, true),
            ("octo-maintainer", 666, false, false, false),
            ("octo-reader", 5_550_107, false, false, false),
            ("helper[bot]", 42, true, false, true),
            ("other[bot]", 43, true, false, false),
            ("", 0, true, false, false),
            (me.0, me.1, kind == "github", false, false),
        ] {
            let author = Author { id, login: login.to_owned(), is_bot };
            let heard = NewComment { id: 1, body: String::new(), author, written: None, changed: None, edited };
            assert_eq!(watch.may_ask(&heard).await.is_ok(), asks, "{kind} {login} {id}");
        }
        double.assert_valid();
    }
}

#[tokio::test]
async fn a_forge_that_fails_is_said_once_and_asked_again() {
    for fault in [json!({"status": 500}), json!({"drop": "before"}), json!({"status": 403}), json!({"status": 404})] {
        let mut fault = fault;
        fault["method"] = json!("GET");
        fault["path"] = json!("/issues/7/comments$");
        // What is refused is not tried again within one look; what fails is, five times.
        fault["times"] = json!(if fault["status"] == 403 || fault["status"] == 404 { 2 } else { 11 });
        let double = Double::start("github", json!({"faults": [fault]}));
        let mut watch = watch(&double);
        let News::Trouble(why) = next(&mut watch).await else { panic!("trouble") };
        assert!(why.contains("comments on issue #7 can't be read for now: failed to read the comments"), "{why}");
        double.say(&json!({"id": 20, "number": 7, "author": "octo-maintainer", "body": "stop"}));
        assert_eq!(heard(&mut watch).await.id, 20);
    }
    let limit =
        json!({"method": "GET", "path": "/comments$", "status": 429, "headers": {"Retry-After": "151"}, "times": 9});
    let double = Double::start("github", json!({"faults": [limit]}));
    let mut watch = watch(&double);
    assert!(matches!(next(&mut watch).await, News::Trouble(_)));
    silence(&mut watch).await;
    assert_eq!(double.log().len(), 1, "what the forge says to wait is waited");
}
