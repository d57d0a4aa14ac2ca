//! Any bytes inside of a tunnel, in any pieces: the same requests as in one piece, those let through are for the tunnel's host
//! whoever reads them, and nothing of one hop or of the doors' own is left in their headers.
#![no_main]

use std::convert::Infallible;
use std::sync::{Arc, LazyLock, Mutex};

use bottle_types::host::HostName;
use bottle_types::path::NormalPath;
use bottle_policy::route::Scheme;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;

#[path = "../../crates/bottle-sidecars/src/proxy/headers.rs"]
#[expect(dead_code, reason = "the doors use all of it, this target a part")]
mod headers;
mod pieces;
#[path = "../../crates/bottle-sidecars/src/proxy/target.rs"]
#[expect(dead_code, reason = "the doors use all of it, this target a part")]
mod target;

use pieces::{Pieces, RUNTIME};

static HOST: LazyLock<HostName> = LazyLock::new(|| HostName::parse("api.example.com").expect("a host"));

/// What the front makes of a request: its line, its headers as they would go on, its body.
type Seen = (String, Result<Vec<(String, Vec<u8>)>, String>, Option<Vec<u8>>);

async fn take(mut request: http::Request<Incoming>) -> Seen {
    let line = format!("{} {}", request.method(), request.uri());
    let agreed = target::agrees(&request, Scheme::Https, &HOST, 443).map(|()| {
        let named: Vec<Vec<u8>> = request.headers().get_all("host").iter().map(|v| v.as_bytes().to_vec()).collect();
        let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes().to_vec());
        assert!(named.len() <= 1, "several hosts agree");
        for name in named.into_iter().chain(authority) {
            let name = name.to_ascii_lowercase();
            let name = name.strip_suffix(b":443").unwrap_or(&name);
            let name = name.strip_suffix(b".").unwrap_or(name);
            // Other spellings of the same name are not ASCII.
            assert!(!name.is_ascii() || name == HOST.as_str().as_bytes(), "{:?} agrees", String::from_utf8_lossy(name));
        }
        let headers = request.headers_mut();
        headers.remove("host");
        headers::strip_hop(headers);
        headers::strip_door_headers(headers);
        for name in ["connection", "transfer-encoding", "upgrade", "te", "keep-alive", "proxy-authorization"] {
            assert!(!headers.contains_key(name), "{name} goes on");
        }
        assert!(headers.keys().all(|name| !name.as_str().starts_with("x-bottle-")), "a door's own header goes on");
        if let Ok(path) = NormalPath::parse(request.uri().path()) {
            assert!(!path.as_str().split('/').any(|part| matches!(part, "." | "..")), "dots in {path:?}");
        }
        request.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
    });
    let body = Limited::new(request.into_body(), 1 << 20).collect().await.ok();
    (line, agreed, body.map(|body| body.to_bytes().to_vec()))
}

fn seen(bytes: &[u8], sizes: &[u8]) -> Vec<Seen> {
    let all = Arc::new(Mutex::new(vec![]));
    let into = Arc::clone(&all);
    let service = service_fn(move |request: http::Request<Incoming>| {
        let into = Arc::clone(&into);
        async move {
            let seen = take(request).await;
            into.lock().expect("a lock").push(seen);
            Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
        }
    });
    let stream = TokioIo::new(Pieces::new(bytes, sizes));
    let _ = RUNTIME.block_on(
        hyper::server::conn::http1::Builder::new().max_buf_size(256 << 10).serve_connection(stream, service),
    );
    std::mem::take(&mut *all.lock().expect("a lock"))
}

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (sizes, bytes) = input;
    assert_eq!(seen(bytes, &[]), seen(bytes, &sizes));
    // A proxy's own words for a place, from any text.
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok((host, port)) = target::parse(text)
    {
        let again = target::authority(Scheme::Https, &host, port.unwrap_or(443));
        assert_eq!(target::parse(&again), Ok((host, port.filter(|port| *port != 443))));
    }
});
