use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use tokio::io::DuplexStream;

use super::*;
use crate::proxy::response::{boxed, full};

/// Longer than it takes until a connection rests.
const LONGER_THAN_IDLE: Duration = Duration::from_millis(700);

/// Gives the request's body back; for `/open` an answer without an end.
async fn echo(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == "/open" {
        let never = http_body_util::StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, BoxError>>());
        return Ok(Response::new(boxed(never)));
    }
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
    Ok(Response::new(full(body.unwrap_or_default())))
}

/// Waits for so many answers with this body.
async fn finished_answers(client: &mut DuplexStream, count: usize, body: &str) {
    let (mut got, nothing_begun) = (vec![], format!("\r\n\r\n{body}"));
    while String::from_utf8_lossy(&got).matches(&nothing_begun).count() < count {
        let read =
            tokio::time::timeout(LONGER_THAN_IDLE, client.read_buf(&mut got)).await.expect("in time").expect("read");
        assert!(read > 0, "{}", String::from_utf8_lossy(&got));
    }
    let got = String::from_utf8_lossy(&got);
    assert_eq!(got.matches("HTTP/1.1 200 OK\r\n").count(), count, "{got}");
}

/// Tells whether a connection over which this was sent rests in the end.
async fn is_parked(sent: &str) -> bool {
    let (mut client, stream) = tokio::io::duplex(64 << 10);
    client.write_all(sent.as_bytes()).await.expect("sent");
    let conn = Arc::new(ConnState(Mutex::default()));
    let note: NoteUnreadable = Arc::new(|head| panic!("{head:?}"));
    let watched = WatchedStream { stream: Some(stream), first: None, conn: Arc::clone(&conn), note, pending: vec![] };
    let done = tokio::time::timeout(LONGER_THAN_IDLE, serve_until_idle(watched, &conn, &echo)).await;
    let is_parked = conn.lock().parked.is_some();
    assert_eq!(done.is_ok(), is_parked, "{sent:?}: it ended");
    is_parked
}

#[tokio::test]
async fn only_a_connection_of_which_nothing_is_held_rests() {
    let get = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n";
    for sent in [
        String::new(),
        get.to_owned(),
        "GET /x HTTP/1.1\nHost: x\n\n".to_owned(),
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\r\n\r\n".to_owned(),
    ] {
        assert!(is_parked(&sent).await, "{sent:?} did not rest");
    }
    for sent in [
        // Part of a head, part of a body.
        "G".to_owned(),
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell".to_owned(),
        // More than one request: whole, in part, or a line end too many.
        get.repeat(2),
        format!("{get}GET /y HT"),
        format!("{get}\r"),
        format!("\r\n\r\n{get}"),
        "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloP".to_owned(),
        // The length is not said beforehand.
        "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n".to_owned(),
        // The answer goes on.
        "GET /open HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
    ] {
        assert!(!is_parked(&sent).await, "{sent:?} rested");
    }
}

#[tokio::test]
async fn requests_go_on_after_a_rest_however_they_are_cut() {
    let (mut client, stream) = tokio::io::duplex(64 << 10);
    let served = tokio::spawn(serve(stream, echo, Arc::new(|head| panic!("{head:?}"))));
    let post = "POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for sent in [post, chunked, post] {
        for cut in [1, 20, sent.len() - 3, sent.len()] {
            client.write_all(&sent.as_bytes()[..cut]).await.expect("sent");
            tokio::time::sleep(IDLE_AFTER * 3).await;
            client.write_all(&sent.as_bytes()[cut..]).await.expect("sent");
            finished_answers(&mut client, 1, "hello").await;
            tokio::time::sleep(IDLE_AFTER * 3).await;
        }
        // Two at once, and part of a third.
        client.write_all(format!("{post}{post}{}", &post[..30]).as_bytes()).await.expect("sent");
        finished_answers(&mut client, 2, "hello").await;
        tokio::time::sleep(IDLE_AFTER * 3).await;
        client.write_all(&post.as_bytes()[30..]).await.expect("sent");
        finished_answers(&mut client, 1, "hello").await;
    }
    drop(client);
    tokio::time::timeout(LONGER_THAN_IDLE, served).await.expect("it ends with the client").expect("no panic");
}

/// A body of an answer that looks like hyper's own answer, and what follows it, are passed on as they are.
#[tokio::test]
async fn a_head_that_can_t_be_read_is_answered_with_a_reason_and_noted_once() {
    let get = "GET /x HTTP/1.1\r\nHost: x\r\n\r\n";
    let bare = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let post = format!("POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{bare}", bare.len());
    let many = format!("GET /x HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(MAX_HEADERS));
    let chunked = "POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    for (before, bad, told) in [
        ("", "GET /a<b HTTP/1.1\r\nHost: x\r\n\r\n", "send %3C"),
        (get, "GET /a`b HTTP/1.1\r\nHost: x\r\n\r\n", "send %60"),
        (post.as_str(), "GET /x HTTP/1.1\r\nHost : x\r\n\r\n", "can't be read"),
        (chunked, "GET /a>b HTTP/1.1\r\nHost: x\r\n\r\n", "can't be read"),
        ("", many.as_str(), "more than 1000 headers"),
        ("", "HEAD /a>b HTTP/1.1\r\nHost: x\r\n\r\n", "send %3E"),
    ] {
        let (mut client, stream) = tokio::io::duplex(1 << 20);
        let noted = Arc::new(Mutex::new(vec![]));
        let notes = Arc::clone(&noted);
        let note: NoteUnreadable = Arc::new(move |head| notes.lock().expect("a lock").push(head.method().to_owned()));
        let served = tokio::spawn(serve(stream, echo, note));
        if !before.is_empty() {
            client.write_all(before.as_bytes()).await.expect("sent");
            finished_answers(&mut client, 1, "").await;
        }
        client.write_all(bad.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("an answer, and the end");
        drop(client);
        assert!(answer.contains(told) && answer.contains("proxy-status: bottle"), "{bad}: {answer}");
        assert_eq!(noted.lock().expect("a lock").len(), 1, "{bad}");
        served.await.expect("no panic");
    }
}
