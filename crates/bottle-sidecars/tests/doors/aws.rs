//! Requests to AWS through the doors: botocore signs each of them once more (`aws/upstream.py`), moto is an S3 for boto3, and
//! `aws.toml` has the cheats.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{ChildStdout, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bottle_testkit::{Running, SplitMix64, bridge, python};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use pretty_assertions::assert_eq;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::world::{Body, World, refusal, request};

const REGION: &str = "eu-central-1";

fn secret() -> String {
    ["Zq3vT8", "/xkLw0+", "Rm5pHy7", "cJ2nD"].concat()
}

fn token() -> String {
    ["session-", "Vb6fQ1", "+uXe9/", "Ga4tKs8wPz", "=="].concat()
}

/// `LIMIT` makes room for what is not hashed.
const ROUTES: &str = r#"version: 1
routes:
  - host: localhost
    port: PORT
    methods: [GET, HEAD, PUT, POST, DELETE, PATCH]
    paths: ["/verify/s3/**", "/verify/s3/*//*", "/verify/s3/*%2F*"]
    max_bytes: 64MiB
    auth: { aws: { service: s3, region: eu-central-1, from: AWS } }
  - host: localhost
    port: PORT
    methods: [GET, HEAD, PUT, POST, DELETE, PATCH]
    paths: ["/verify/parts/**", "/bucket", "/bucket/**"]
    auth: { aws: { service: s3, region: eu-central-1, access_key_id: AWS_ID, secret_access_key: AWS_KEY } }
  - host: localhost
    port: PORT
    methods: [GET, HEAD, PUT, POST, DELETE, PATCH]
    paths: ["/verify/other/**", "/verify/other/*//*"]
    max_bytes: 64MiB
    auth: { aws: { service: execute-api, region: eu-central-1, from: AWS } }
"#;

struct AwsWorld {
    world: World,
    _upstream: Running,
    lines: BufReader<ChildStdout>,
    port: u16,
}

fn script(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doors/aws")).join(name)
}

impl AwsWorld {
    async fn start() -> Self {
        Self::with_status(&json!({"generation": 0, "credentials": {}})).await
    }

    /// One whose credentials end as this says.
    async fn with_status(status: &Value) -> Self {
        let mut world = World::usual().await;
        let write = |path: &str, text: &str| std::fs::write(world.path(path), text).expect("a file");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        write("origin.pem", &made.cert.pem());
        write("aws.key", &made.signing_key.serialize_pem());
        let keys = json!({"KEYWITHTOKEN": [secret(), token()], "KEYWITHOUT": [secret(), null]});
        let child = python()
            .arg(script("upstream.py"))
            .args([world.path("origin.pem"), world.path("aws.key")])
            .arg(keys.to_string())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("python");
        let mut upstream = Running::new(child);
        let mut lines = BufReader::new(upstream.stdout());
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("a port");
        let whole = json!({
            "Version": 1, "AccessKeyId": "KEYWITHTOKEN", "SecretAccessKey": secret(), "SessionToken": token()
        });
        write("secrets/AWS", &whole.to_string());
        write("secrets/AWS_ID", "KEYWITHOUT\n");
        write("secrets/AWS_KEY", &secret());
        write("secrets/.status.json", &status.to_string());
        write("config/routes.yaml", &ROUTES.replace("PORT", &line));
        // The doors read their trust and their policy at the start.
        world.end(rustix::process::Signal::TERM);
        world.end(rustix::process::Signal::TERM);
        world.daemon("pipelock", "pipelock.yaml", "internal/pipelock.sock").await;
        world.daemon("egress", "routes.yaml", "doors/egress.sock").await;
        Self { world, _upstream: upstream, lines, port }
    }

    /// What upstream says of the next request that came to its end.
    fn seen(&mut self) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).expect("a line") > 0, "upstream has ended");
            let seen: Value = serde_json::from_str(&line).expect("JSON");
            if seen.get("cut").is_none() {
                return seen;
            }
        }
    }

    async fn send(&self, alpn: &str, request: Request<Body>) -> http::Response<hyper::body::Incoming> {
        self.world.send_to("localhost", self.port, alpn, request).await
    }
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

const SEGMENTS: [&str; 18] = [
    "a",
    "a%20b",
    "a:b",
    "(x)",
    "~t",
    "%C3%A4",
    "a+b",
    "=",
    "@;,",
    "$&'",
    "%7Eq",
    "%25",
    "Z-._~",
    "a*b!",
    "%e2%82%ac",
    "v1:0",
    "%2B",
    "index.html",
];
const QUERIES: [&str; 16] = [
    "",
    "acl",
    "a=",
    "a=b",
    "b=a&a=b&a=a",
    "x=%20+%2B",
    "q=a/b?c",
    "A=1&a=2&a-b=3&a=0&a.b",
    "&&x",
    "k=v=w",
    "%C3%A4=%E2%82%AC",
    "list-type=2&max-keys=10&prefix=photos%2F",
    "a=%61&%62=c",
    "uploads=&partNumber=1",
    "x=!*'();:@$,",
    "Action=List&Version=2011-06-15",
];
const HEADERS: [(&str, &str); 17] = [
    ("x-amz-meta-note", "two   spaces"),
    ("x-amz-meta-tab", "a\t\t b"),
    ("x-amz-meta-twice", "one"),
    ("x-amz-meta-twice", "two  2"),
    ("x-amz-meta-empty", ""),
    ("x-amz-meta-umlaut", "ä €"),
    ("x-amz-acl", "private"),
    ("x-amz-target", "Service_20120810.List"),
    ("content-type", "application/x-amz-json-1.0; charset=utf-8"),
    ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
    ("range", "bytes=0-9"),
    ("accept", "a,  b"),
    ("user-agent", "someone/1.0  (x)"),
    (
        "authorization",
        "AWS4-HMAC-SHA256 Credential=x/20300101/us-west-2/iam/aws4_request, SignedHeaders=host, Signature=0",
    ),
    ("x-amz-date", "20300101T000000Z"),
    ("x-amz-security-token", "somebody-elses"),
    ("x-amzn-trace-id", "Root=1-2"),
];

/// A payload in frames as a client makes them, and the headers that go with it.
fn framed(payload: &[u8], size: usize, kind: &str) -> (Vec<u8>, Vec<(&'static str, String)>) {
    let (is_signed, has_trailer) = (kind.contains("HMAC"), kind.ends_with("TRAILER"));
    let signature = if is_signed { format!(";chunk-signature={}", "0f".repeat(32)) } else { String::new() };
    let mut out = vec![];
    for chunk in payload.chunks(size) {
        write!(out, "{:x}{signature}\r\n", chunk.len()).expect("written");
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    write!(out, "0{signature}\r\n").expect("written");
    let mut headers = vec![
        ("x-amz-content-sha256", kind.to_owned()),
        ("x-amz-decoded-content-length", payload.len().to_string()),
        ("content-encoding", "aws-chunked".to_owned()),
    ];
    if has_trailer {
        use base64::Engine as _;
        let mut crc = flate2::Crc::new();
        crc.update(payload);
        let crc = base64::engine::general_purpose::STANDARD.encode(crc.sum().to_be_bytes());
        write!(out, "x-amz-checksum-crc32:{crc}\r\n").expect("written");
        if is_signed {
            write!(out, "x-amz-trailer-signature:{}\r\n", "0f".repeat(32)).expect("written");
        }
        headers.push(("x-amz-trailer", "x-amz-checksum-crc32".to_owned()));
    }
    out.extend_from_slice(b"\r\n");
    (out, headers)
}

/// One request, what its payload is, and how upstream is to see its body signed.
fn generated(random: &mut SplitMix64) -> (Request<Body>, Vec<u8>, String) {
    let room = *random.pick(&["s3", "parts", "other"]);
    let mut path = format!("/verify/{room}");
    for _ in 0..=random.below(3) {
        path += &format!("/{}", random.pick(&SEGMENTS));
    }
    path += match (room, random.below(8)) {
        ("s3", 0) => "/",
        ("other", 0) => "/",
        _ => "",
    };
    if room != "parts" && random.below(10) == 0 {
        path = format!("/verify/{room}/{}//{}", random.pick(&SEGMENTS), random.pick(&SEGMENTS));
    } else if room == "s3" && random.below(10) == 0 {
        path = format!("/verify/s3/{}%2F{}", random.pick(&SEGMENTS), random.pick(&SEGMENTS));
    }
    let query = *random.pick(&QUERIES);
    let target = if query.is_empty() { path } else { format!("{path}?{query}") };
    let has_body = random.below(3) > 0;
    let method = *random.pick(if has_body { &["PUT", "POST", "PATCH"][..] } else { &["GET", "HEAD", "DELETE"][..] });
    let size = if has_body { *random.pick(&[0, 1, 100, 5000, 65_536, 70_000, 140_000]) } else { 0 };
    let payload: Vec<u8> = (0..size).map(|_| *random.pick(b"abcdefgh \n")).collect();
    let kinds = [
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    ];
    let is_chunked = has_body && room != "other" && random.below(2) == 0;
    let (body, mut headers, kind) = if is_chunked {
        let kind = *random.pick(&kinds);
        let (body, headers) = framed(&payload, *random.pick(&[8192, 65_536, 100_000]), kind);
        (body, headers, kind.replace("UNSIGNED-PAYLOAD", "AWS4-HMAC-SHA256-PAYLOAD"))
    } else {
        let kind = if room == "other" { String::new() } else { hash(&payload) };
        (payload.clone(), vec![], kind)
    };
    for (name, value) in HEADERS {
        if random.below(3) == 0 {
            headers.push((name, value.to_owned()));
        }
    }
    let mut asked = request(method, &target, body);
    for (name, value) in headers {
        asked.headers_mut().append(name, HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    (asked, payload, kind)
}

#[tokio::test(flavor = "multi_thread")]
async fn botocore_signs_two_hundred_requests_as_the_door_does() {
    let mut aws = AwsWorld::start().await;
    let mut random = SplitMix64(20);
    let mut chunked = 0;
    for number in 0..200 {
        let (asked, payload, kind) = generated(&mut random);
        let what = format!("{number}: {} {} {:?}", asked.method(), asked.uri(), asked.headers());
        let other = asked.uri().path().starts_with("/verify/other");
        let status = aws.send(if number % 2 == 0 { "http/1.1" } else { "h2" }, asked).await.status();
        assert_eq!(
            status,
            StatusCode::OK,
            "{what}: {}",
            if status == StatusCode::FORBIDDEN { aws.seen() } else { Value::Null }
        );
        let seen = aws.seen();
        assert_eq!(seen.get("wrong"), None, "{what}");
        assert_eq!((&seen["sha256"], &seen["kind"]), (&json!(hash(&payload)), &json!(kind)), "{what}");
        assert_eq!(
            (&seen["service"], &seen["region"]),
            (&json!(if other { "execute-api" } else { "s3" }), &json!(REGION))
        );
        chunked += usize::from(kind.starts_with("STREAMING"));
    }
    assert!(chunked > 20, "{chunked}");
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default = "get")]
    method: String,
    path: String,
    #[serde(default)]
    headers: Vec<[String; 2]>,
    #[serde(default)]
    body: String,
    reason: Option<String>,
    kind: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

/// A body with signatures of chunks that are well-formed.
fn with_signatures(body: &str) -> String {
    body.replace("SIG", &format!(";chunk-signature={}", "0f".repeat(32)))
}

/// A case's text with what only this run knows.
fn filled(text: &str) -> String {
    let secret = secret();
    text.replace("FIRST", &secret[..8])
        .replace("SECOND", &secret[8..])
        .replace("REST", &format!("{:x}", secret.len() - 8))
        .replace("LENGTH", &secret.len().to_string())
        .replace("SECRET", &secret)
        .replace("TOKEN", &token())
}

#[tokio::test(flavor = "multi_thread")]
async fn cheats_are_refused_or_signed_over() {
    let mut aws = AwsWorld::start().await;
    let cases: Cases = toml::from_str(include_str!("aws.toml")).expect("cases");
    for case in &cases.case {
        let body = filled(&with_signatures(&case.body.replace('\n', "\r\n")));
        let mut asked = request(&case.method, &case.path, body.clone());
        for [name, value] in &case.headers {
            let name: http::HeaderName = name.parse().expect("a name");
            asked.headers_mut().append(name, filled(value).parse().expect("a value"));
        }
        let answer = aws.send("http/1.1", asked).await;
        match (&case.reason, &case.kind) {
            (Some(reason), None) => {
                let (status, said) = refusal(answer).await;
                assert_eq!(said["error"], json!(reason), "{}: {status} {said}", case.name);
                assert!(!said.to_string().contains(&token()) && !said.to_string().contains(&secret()), "{}", case.name);
            }
            (None, Some(kind)) => {
                assert_eq!(answer.status(), StatusCode::OK, "{}", case.name);
                let seen = aws.seen();
                let kind = if kind == "hash" { hash(body.as_bytes()) } else { kind.clone() };
                assert_eq!((&seen["kind"], &seen["region"]), (&json!(kind), &json!(REGION)), "{}: {seen}", case.name);
                let names = seen["headers"].to_string();
                assert!(!names.contains("region-set") && !names.contains("s3session"), "{}: {names}", case.name);
            }
            _ => panic!("{}: either a reason or a kind", case.name),
        }
    }
    // Nothing of a refused request came to upstream as a whole: the next that it tells of is this one.
    assert_eq!(aws.send("h2", request("GET", "/verify/s3/last", "")).await.status(), StatusCode::OK);
    assert_eq!(aws.seen()["target"], "/verify/s3/last");
    no_secret_in_files(&aws.world);
}

/// No file that the doors have written has a key, as it is or in base64.
fn no_secret_in_files(world: &World) {
    use base64::Engine as _;
    let mut searched = 0;
    let mut dirs = vec![world.path("state"), world.path("doors"), world.path("internal")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                dirs.push(entry);
            } else if let Ok(bytes) = std::fs::read(&entry) {
                searched += 1;
                for value in [secret(), token()] {
                    let coded = base64::engine::general_purpose::STANDARD.encode(&value);
                    for form in [value.as_str(), &coded[4..coded.len() - 4]] {
                        let is_there = memchr::memmem::find(&bytes, form.as_bytes()).is_some();
                        assert!(!is_there, "{} has {form}", entry.display());
                    }
                }
            }
        }
    }
    assert!(searched > 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_token_that_is_shown_in_an_answer_is_overwritten() {
    let mut aws = AwsWorld::start().await;
    let answer = aws.send("http/1.1", request("GET", "/verify/s3/shown", "")).await;
    let body = answer.into_body().collect().await.expect("a body").to_bytes();
    let text = String::from_utf8(body.to_vec()).expect("text");
    assert!(!text.contains(&token()) && text.contains(&"*".repeat(token().len())), "{text}");
    assert!(aws.seen()["headers"].to_string().contains("x-amz-security-token"));
    let lines = aws.world.log("pipelock.jsonl", 1).await;
    assert_eq!(lines[0].credential.as_deref(), Some("AWS"));
}

fn stream(bytes: usize, length: bool, path: &str) -> Request<Body> {
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    let frames = (0..bytes >> 20).map(move |_| Ok(Frame::data(chunk.clone())));
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let mut asked = Request::builder().method("PUT").uri(path);
    if length {
        asked = asked.header("content-length", bytes);
    }
    asked.body(body).expect("a request")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_goes_unsigned_to_s3_and_nowhere_else() {
    let mut aws = AwsWorld::start().await;
    let long = 33 << 20;
    let answer = aws.send("http/1.1", stream(long, true, "/verify/s3/long")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = aws.seen();
    assert_eq!((&seen["kind"], &seen["sha256"]), (&json!("UNSIGNED-PAYLOAD"), &json!(hash(&vec![b'x'; long]))));
    for (length, path) in [(true, "/verify/other/long"), (false, "/verify/s3/long"), (false, "/verify/other/long")] {
        let (status, said) = refusal(aws.send("http/1.1", stream(long, length, path)).await).await;
        assert_eq!((status, &said["error"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("unsigned")), "{path}: {said}");
    }
    // One of unknown length that is short is hashed, and its length said.
    let answer = aws.send("http/1.1", stream(1 << 20, false, "/verify/s3/short")).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let seen = aws.seen();
    assert_eq!((&seen["target"], &seen["kind"]), (&json!("/verify/s3/short"), &json!(hash(&vec![b'x'; 1 << 20]))));
    assert!(seen["headers"].to_string().contains("content-length"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_end_while_a_body_comes_sign_nothing() {
    let ends = SystemTime::now() + Duration::from_secs(6);
    let ends_at = u64::try_from(ends.duration_since(UNIX_EPOCH).expect("since 1970").as_millis()).expect("a time");
    let status = json!({"generation": 0, "credentials": {"AWS": {"ends_at": ends_at, "failure": null}}});
    let aws = AwsWorld::with_status(&status).await;
    assert_eq!(aws.send("http/1.1", request("PUT", "/verify/s3/a", "abc")).await.status(), StatusCode::OK);
    let late = async move {
        let left = ends.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::time::sleep(left + Duration::from_millis(100)).await;
        Ok(Frame::data(Bytes::from("abc")))
    };
    let body = StreamBody::new(futures_util::stream::once(late)).boxed_unsync();
    let asked = Request::builder().method("PUT").uri("/verify/s3/a").body(body).expect("a request");
    let (status, said) = refusal(aws.send("http/1.1", asked).await).await;
    assert_eq!((status, &said["error"]), (StatusCode::SERVICE_UNAVAILABLE, &json!("credential")), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_https_own_belong_to_no_signature_and_go_no_further() {
    let mut aws = AwsWorld::start().await;
    for alpn in ["http/1.1", "h2"] {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-amz-acl", HeaderValue::from_static("public-read"));
        let frames = [Ok(Frame::data(Bytes::from("abc"))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let asked = Request::builder().method("PUT").uri("/verify/s3/a").header("trailer", "x-amz-acl").body(body);
        assert_eq!(aws.send(alpn, asked.expect("a request")).await.status(), StatusCode::OK);
        let seen = aws.seen();
        assert_eq!(
            (&seen["kind"], seen["headers"].to_string().contains("acl")),
            (&json!(hash(b"abc")), false),
            "{seen}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_with_keys_that_are_none_puts_and_gets_objects_of_motos_s3() {
    let aws = AwsWorld::start().await;
    let proxy = format!("http://127.0.0.1:{}", bridge(&aws.world.path("doors/egress.sock")));
    let output = tokio::task::block_in_place(|| {
        python()
            .arg(script("guest.py"))
            .args([format!("https://localhost:{}", aws.port), proxy])
            .env_clear()
            .env("HOME", aws.world.path("config"))
            .env("SSL_CERT_FILE", aws.world.path("state/ca/egress.crt"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .output()
            .expect("the guest")
    });
    let told = String::from_utf8_lossy(&output.stderr);
    let log = std::fs::read_to_string(aws.world.path("state/log/pipelock.jsonl")).expect("a log");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "plain True two   spaces\nodd name/(ä)+~ True two   spaces\nempty True two   spaces\nstream True\nrange b'ine'\n\
         list ['empty', 'odd name/(ä)+~', 'plain', 'stream']\nparts 10485760\ndeleted\npresigned 403 unsigned\n",
        "{told}{log}"
    );
    no_secret_in_files(&aws.world);
}
