//! A collector of traces that takes OTLP/JSON.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

/// The answer of one that takes what comes.
pub(crate) const TAKEN: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";

/// Answers each request with this; gives its address, and the spans that came.
pub(crate) fn collector(answer: &'static str) -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let came = Arc::new(Mutex::new(vec![]));
    let kept = Arc::clone(&came);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.expect("a connection");
            let (mut bytes, mut piece) = (vec![], [0; 4096]);
            let trace = loop {
                let read = connection.read(&mut piece).expect("the request");
                bytes.extend_from_slice(&piece[..read]);
                let body = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|end| &bytes[end + 4..]);
                // What is JSON to its end is all of it.
                if let Some(Ok(trace)) = body.map(serde_json::from_slice::<Value>) {
                    break trace;
                }
                assert_ne!(read, 0, "the request breaks off");
            };
            kept.lock().expect("no thread has panicked").extend(spans(&trace));
            connection.write_all(answer.as_bytes()).expect("an answer");
        }
    });
    (address, came)
}

/// The spans of a trace.
pub(crate) fn spans(trace: &Value) -> Vec<Value> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let scopes = list(&trace["resourceSpans"]).into_iter().flat_map(|resource| list(&resource["scopeSpans"]));
    scopes.flat_map(|scope| list(&scope["spans"])).collect()
}
