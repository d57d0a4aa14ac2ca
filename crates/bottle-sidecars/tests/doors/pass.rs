//! TLS that is not ended at the doors, with bytes in it: a client that pins its server's certificate, at port 443 of a name. Both
//! are had in a network of the test's own: it runs itself again in bubblewrap.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bottle_wire::access::{Access, AccessVerdict};
use http::StatusCode;
use pretty_assertions::assert_eq;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};

use crate::make::Secrets;
use crate::world::{Setup, World, get, name, refusal};

const INSIDE: &str = "BOTTLE_TEST_OWN_NETWORK";
const HOST: &str = "pinned.example";
const NAMES: &str = "127.0.0.1 localhost pinned.example other.example\n";
const ROUTES: &str = "\n  - { host: localhost, port: PORT, paths: [\"/open/**\"] }\npassthrough: [pinned.example]\n";
const PIPELOCK: &str = "tls_interception: { passthrough_domains: [pinned.example] }\n";

/// Runs this test again where names and low ports are its own; `true` for whoever is there already.
pub(crate) fn inside(test: &str, names: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let hosts = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(hosts.path(), names).expect("a file");
    let output = Command::new("bwrap")
        .args(["--dev-bind", "/", "/", "--ro-bind"])
        .arg(hosts.path())
        .args(["/etc/hosts", "--unshare-user", "--uid", "0", "--gid", "0", "--unshare-net"])
        .args(["--cap-add", "CAP_NET_BIND_SERVICE", "--die-with-parent", "--setenv", INSIDE, "1"])
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .output()
        .expect("bubblewrap");
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("1 passed"), "{said}{told}");
    false
}

/// A server that says everything back, and the one certificate by which it is known.
struct Pinned {
    certificate: CertificateDer<'static>,
    taken: Arc<AtomicUsize>,
}

impl Pinned {
    async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).expect("a certificate");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let config = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a certificate");
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:443").await.expect("port 443 of the test's own network");
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let (mut from, mut to) = tokio::io::split(stream);
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                    let _ = to.shutdown().await;
                });
            }
        });
        Self { certificate, taken }
    }

    /// TLS that knows this server's certificate and no other.
    fn connector(&self) -> tokio_rustls::TlsConnector {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        tokio_rustls::TlsConnector::from(Arc::new(config))
    }

    fn hello(&self, host: &str) -> Vec<u8> {
        let mut client =
            rustls::ClientConnection::new(Arc::clone(self.connector().config()), name(host)).expect("a client");
        let mut bytes = vec![];
        client.write_tls(&mut bytes).expect("a hello");
        bytes
    }

    fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// Bytes both ways, more than any buffer, among them what would be blocked if anybody looked.
async fn talk(world: &World, pinned: &Pinned) -> usize {
    let (stream, answer) = world.connect(&format!("{HOST}:443")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let tls = pinned.connector().connect(name(HOST), stream).await.expect("TLS with the server itself");
    let seen = tls.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
    assert_eq!(seen.as_ref(), Some(&pinned.certificate));
    let said = Secrets::real().known.into_bytes().repeat(50_000);
    let (mut from, mut to) = tokio::io::split(tls);
    let (sent, mut heard) = (said.clone(), vec![]);
    let (wrote, read) = tokio::join!(
        async {
            to.write_all(&sent).await?;
            to.shutdown().await
        },
        from.read_to_end(&mut heard)
    );
    wrote.expect("sent");
    read.expect("heard");
    assert!(heard == said, "{} bytes of {}", heard.len(), said.len());
    said.len()
}

/// What comes back of a tunnel in which this is said first.
async fn first(world: &World, place: &str, bytes: &[u8]) -> Vec<u8> {
    let (mut stream, answer): (UnixStream, String) = world.connect(place).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    stream.write_all(bytes).await.expect("sent");
    let mut rest = vec![];
    let closed = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
    let _ = closed.expect("a tunnel that is closed, not kept");
    rest
}

fn whole(line: &Access, bytes: usize) {
    let about = (line.method.as_str(), line.host.as_str(), line.port, line.verdict);
    assert_eq!(about, ("CONNECT", HOST, 443, AccessVerdict::Allow));
    assert!(line.not_inspected && line.bytes_out > bytes as u64 && line.bytes_in > bytes as u64, "{line:?}");
    assert_eq!((line.finding.as_ref(), line.credential.as_ref(), line.path.as_str()), (None, None, ""));
}

#[tokio::test]
async fn a_pinned_host_is_talked_to_and_no_other_rides_on_it() {
    if !inside("pass::a_pinned_host_is_talked_to_and_no_other_rides_on_it", NAMES) {
        return;
    }
    let pinned = Pinned::start().await;
    let world = World::start(Setup { routes: ROUTES, pipelock: PIPELOCK, ..Setup::default() }).await;
    let bytes = talk(&world, &pinned).await;
    for file in ["egress.jsonl", "pipelock.jsonl"] {
        whole(&world.log(file, 1).await[0], bytes);
    }
    assert_eq!(pinned.taken(), 1);
    for (place, said, reason, not_inspected) in [
        ("pinned.example:443", pinned.hello("other.example"), "sni", true),
        ("pinned.example:443", b"GET / HTTP/1.1\r\nHost: pinned.example\r\n\r\n".to_vec(), "not_tls", true),
        ("pinned.example:443", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "not_tls", true),
        // At the same address, but not passed through: its TLS is ended here, and says for whom it is.
        ("other.example:443", pinned.hello(HOST), "sni", false),
    ] {
        let before = world.log("egress.jsonl", 1).await.len();
        let heard = first(&world, place, &said).await;
        // A word of TLS about what is wrong, at most, and nothing of the server's.
        assert!(heard.is_empty() || heard[0] == 0x15, "{place} {reason}: {heard:02x?}");
        let line = world.log("egress.jsonl", before + 1).await.remove(before);
        assert_eq!(
            (line.verdict, line.reason.as_deref(), line.not_inspected),
            (AccessVerdict::Deny, Some(reason), not_inspected),
            "{place}"
        );
    }
    // Whoever is not passed through gets our certificate, which knows no other host's, and a refusal.
    let (status, body) = refusal(world.send_to("other.example", 443, "http/1.1", get("/")).await).await;
    assert_eq!((status, &body["error"]), (StatusCode::FORBIDDEN, &"no_route".into()));
    let (_, answer) = world.connect("pinned.example:8443").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(pinned.taken(), 1, "something reached the server");
}

#[tokio::test]
async fn pipelock_alone_passes_it_through_too() {
    if !inside("pass::pipelock_alone_passes_it_through_too", NAMES) {
        return;
    }
    let pinned = Pinned::start().await;
    let world =
        World::start(Setup { guest_proxy: true, routes: " []\n", pipelock: PIPELOCK, ..Setup::default() }).await;
    let bytes = talk(&world, &pinned).await;
    whole(&world.log("pipelock.jsonl", 1).await[0], bytes);
    first(&world, "pinned.example:443", &pinned.hello("other.example")).await;
    let line = world.log("pipelock.jsonl", 2).await.remove(1);
    assert_eq!((line.verdict, line.reason.as_deref()), (AccessVerdict::Deny, Some("sni")));
    assert_eq!(pinned.taken(), 1);
}
