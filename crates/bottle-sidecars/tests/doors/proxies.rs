//! A company's proxy between pipelock and the internet: the cases of `proxies.toml`, each with a proxy that answers what the case says.
//!
//! The doors have a hosts file of their own, in which names are at public, private and metadata addresses; the proxy leads every tunnel
//! to the origin, whatever was asked for. `tests/it/proxy.rs` has squid and tinyproxy in its place.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use pretty_assertions::assert_eq;
use rustls_pki_types::PrivateKeyDer;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::origin::Origin;
use crate::world::{Setup, World, get};

const HOSTS: &str = "127.0.0.1 localhost proxy.example loopback.example
93.184.215.14 upstream.example mixed.example
10.1.2.3 private.example mixed.example
169.254.169.254 metadata.example
";
const PASSWORD: &str = "a-password-of-the-proxy";
const ALLOWED: &str = "127.0.0.0/8, 10.9.0.0/16";

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// What the guest asks for.
    #[serde(default = "Case::usual_host")]
    host: String,
    /// Instead of the origin's port.
    #[serde(default)]
    port: Option<String>,
    /// Keys of the policy's `proxy`; {proxy} is the port of this case's.
    #[serde(default = "Case::usual_proxy")]
    proxy: String,
    /// What the proxy answers.
    #[serde(default)]
    answer: String,
    /// What it does then.
    #[serde(default)]
    then: Then,
    /// Whether TLS is spoken with it: `trusted` or `unknown`.
    #[serde(default)]
    tls: Option<String>,
    /// The first line that it got each time; PORT is the origin's.
    #[serde(default)]
    asked: Vec<String>,
    /// Whether the password was sent.
    #[serde(default)]
    login: bool,
    /// The reason and the message of the refusal; none: the origin's answer comes.
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    message: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Then {
    /// It leads to the origin.
    #[default]
    Tunnel,
    /// It leads to a server with a certificate that nobody trusts.
    Elsewhere,
    Close,
    Hang,
    /// Its answer comes a byte every second.
    Drip,
    /// It says a header without end.
    Flood,
}

impl Case {
    fn usual_host() -> String {
        "upstream.example".to_owned()
    }

    fn usual_proxy() -> String {
        "url: \"http://127.0.0.1:{proxy}\"".to_owned()
    }
}

/// A proxy that remembers the heads of its requests.
struct Double {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
    pem: String,
}

impl Double {
    async fn start(case: &Case, origin: u16, elsewhere: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a certificate");
        let tls = case.tls.is_some().then(|| tokio_rustls::TlsAcceptor::from(Arc::new(config)));
        let (answer, then, seen) = (case.answer.clone(), case.then, Arc::clone(&heads));
        let to = if matches!(then, Then::Elsewhere) { elsewhere } else { origin };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, tls) = (answer.clone(), Arc::clone(&seen), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &answer, then, to, &seen).await,
                        Some(tls) => {
                            let Ok(stream) = tls.accept(stream).await else { return };
                            serve(stream, &answer, then, to, &seen).await;
                        }
                    }
                });
            }
        });
        Self { port, heads, pem: made.cert.pem() }
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    answer: &str,
    then: Then,
    to: u16,
    heads: &Mutex<Vec<String>>,
) {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    heads.lock().expect("a lock").push(String::from_utf8(head).expect("text"));
    match then {
        Then::Drip => {
            for byte in answer.bytes().cycle() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
        Then::Flood => {
            let _ = stream.write_all(answer.as_bytes()).await;
            while stream.write_all(b"x: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n").await.is_ok() {
            }
        }
        Then::Tunnel | Then::Elsewhere | Then::Close | Then::Hang => {
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
    match then {
        Then::Tunnel | Then::Elsewhere => {
            let mut origin = TcpStream::connect(("127.0.0.1", to)).await.expect("the origin");
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut origin).await;
        }
        Then::Hang => tokio::time::sleep(Duration::from_secs(120)).await,
        Then::Close | Then::Drip | Then::Flood => {}
    }
}

/// Asks once, and says what is not as the case has it.
async fn wrong(case: Case) -> Vec<String> {
    let (origin, elsewhere) = (Origin::start().await, Origin::start().await);
    let origins = origin.port;
    let double = Double::start(&case, origins, elsewhere.port).await;
    let (proxys, port) = (double.port.to_string(), origins.to_string());
    let filled = |text: &str| text.replace("{proxy}", &proxys).replace("PORT", &port);
    let asks = case.port.as_deref().map_or(origins, |port| filled(port).parse().expect("a port"));
    let routes = format!("\n  - {{ host: \"{}\", port: {asks}, methods: [GET] }}\n", case.host);
    let pipelock = format!("proxy: {{ {} }}\n", filled(&case.proxy));
    let world = World::start(Setup {
        routes: Box::leak(routes.into_boxed_str()),
        pipelock: Box::leak(pipelock.into_boxed_str()),
        allowed: ALLOWED,
        origin: Some(origin),
        hosts: Some(HOSTS),
        secret: Some(("COMPANY_PASSWORD", PASSWORD.to_owned())),
        trusted: if case.tls.as_deref() == Some("trusted") { double.pem.clone() } else { String::new() },
        ..Setup::default()
    })
    .await;
    let response = world.send_to(&case.host, asks, "http/1.1", get("/open/x")).await;
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let body = String::from_utf8(body.to_vec()).expect("text");
    let mut wrong = vec![];
    let mut expect = |what: &str, is: &str, wanted: &str| {
        if is != wanted {
            wrong.push(format!("{}: {what} is\n  {is}\nand not\n  {wanted}", case.name));
        }
    };
    match &case.error {
        None => expect("the answer", &body, "fine"),
        Some(error) => {
            let refusal: serde_json::Value = serde_json::from_str(&body).unwrap_or_default();
            expect("the reason", refusal["error"].as_str().unwrap_or(&body), error);
            let message = refusal["message"].as_str().unwrap_or(&body);
            // A certificate's fingerprint is another each time, and a resolver has its own words.
            match case.message.strip_suffix("ANYTHING") {
                Some(begin) if message.starts_with(&filled(begin)) => {}
                _ => expect("the message", message, &filled(&case.message)),
            }
        }
    }
    let heads = double.heads.lock().expect("a lock").clone();
    let first: Vec<&str> = heads.iter().map(|head| head.lines().next().unwrap_or_default()).collect();
    let wanted: Vec<String> = case.asked.iter().map(|line| filled(line)).collect();
    expect("what the proxy was asked", &first.join("\n"), &wanted.join("\n"));
    let basic = format!("proxy-authorization: Basic {}", STANDARD.encode(format!("bottle:{PASSWORD}")));
    let sent = heads.iter().any(|head| head.contains(&basic));
    expect("the login", &sent.to_string(), &case.login.to_string());
    let logs = std::fs::read_to_string(world.path("state/log/pipelock.jsonl")).unwrap_or_default();
    expect("the password in sight", &format!("{}", (body + &logs).contains(PASSWORD)), "false");
    wrong
}

#[tokio::test]
async fn a_companys_proxy_leads_to_the_judged_address_or_nowhere() {
    let cases = toml::from_str::<Cases>(include_str!("proxies.toml")).expect("cases").case;
    assert!(cases.len() > 15);
    let wrong = futures_util::future::join_all(cases.into_iter().map(wrong)).await;
    assert_eq!(wrong.concat().join("\n"), "");
}

#[tokio::test]
async fn the_proxys_password_is_a_known_secret() {
    let world = World::start(Setup {
        pipelock: "proxy: { url: \"http://127.0.0.1:9\", login: { user: bottle, password: COMPANY_PASSWORD } }\n",
        secret: Some(("COMPANY_PASSWORD", PASSWORD.to_owned())),
        ..Setup::default()
    })
    .await;
    let bodies = [PASSWORD.to_owned(), STANDARD.encode(format!("bottle:{PASSWORD}"))];
    for body in bodies {
        let asked = crate::world::request("POST", "/open/x", body);
        let (status, refusal) = crate::world::refusal(world.send(asked).await).await;
        assert_eq!((status.as_u16(), &refusal["error"]), (403, &"dlp".into()), "{refusal}");
    }
}
