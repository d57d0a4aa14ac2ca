//! What Java trusts, and through which proxy it goes: it reads neither the system's store nor the variables that other programs do.
//!
//! The format is that of `keytool -importcert -storetype JKS` (sun.security.provider.JavaKeyStore), which every Java reads.

use std::collections::BTreeMap;

/// The variable whose options every Java takes, before those of its command line.
const VARIABLE: &str = "JAVA_TOOL_OPTIONS";
/// Java's own default, which keytool asks for. It protects nothing: the store has no secret.
const PASSWORD: &str = "changeit";
const ALIAS: &str = "claude-bottle";

/// A trust store with one authority, as of this time, in milliseconds since 1970.
pub(super) fn trust_store(certificate: &[u8], milliseconds: u64) -> Vec<u8> {
    let mut store = vec![];
    // Magic, version, one entry, which is a trusted certificate.
    [0xFEED_FEED_u32, 2, 1, 2].iter().for_each(|number| store.extend(number.to_be_bytes()));
    text(&mut store, ALIAS);
    store.extend(milliseconds.to_be_bytes());
    text(&mut store, "X.509");
    store.extend(u32::try_from(certificate.len()).unwrap_or(u32::MAX).to_be_bytes());
    store.extend(certificate);
    let mut digest = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    PASSWORD.encode_utf16().for_each(|unit| digest.update(&unit.to_be_bytes()));
    digest.update(b"Mighty Aphrodite");
    digest.update(&store);
    store.extend(digest.finish().as_ref());
    store
}

fn text(store: &mut Vec<u8>, text: &str) {
    store.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    store.extend(text.as_bytes());
}

/// The store's file, beside the authority's own.
pub(super) fn beside(certificate: &str) -> String {
    format!("{}.jks", certificate.trim_end_matches(".crt"))
}

/// The variable by which Java takes the store beside this file, and the proxy of the guest's own variables, after what the manifest gives it.
pub(super) fn variable(env: &BTreeMap<String, String>, certificate: &str) -> (String, String) {
    let store = format!("-Djavax.net.ssl.trustStore={} -Djavax.net.ssl.trustStoreType=JKS", beside(certificate));
    let options = [env.get(VARIABLE).cloned(), Some(store), proxy(env)];
    (VARIABLE.to_owned(), options.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

/// The proxy as Java's properties have it (java.net, "Networking Properties").
fn proxy(env: &BTreeMap<String, String>) -> Option<String> {
    let (host, port) = env.get("HTTPS_PROXY")?.strip_prefix("http://")?.rsplit_once(':')?;
    let direct = env.get("NO_PROXY").map(String::as_str).unwrap_or_default().split(',');
    let direct: Vec<String> =
        direct.map(|host| if host.contains(':') { format!("[{host}]") } else { host.to_owned() }).collect();
    let of = |scheme: &str| format!("-D{scheme}.proxyHost={host} -D{scheme}.proxyPort={port}");
    Some(format!("{} {} -Dhttp.nonProxyHosts={}", of("http"), of("https"), direct.join("|")))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn java_is_told_of_the_proxy() {
        let env = [("HTTPS_PROXY", "http://127.0.0.1:8080"), ("NO_PROXY", "localhost,::1,db"), (VARIABLE, "-Da=b")];
        let env = env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        assert_eq!(
            variable(&env, "/tmp/ca.crt").1,
            "-Da=b -Djavax.net.ssl.trustStore=/tmp/ca.jks -Djavax.net.ssl.trustStoreType=JKS \
             -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort=8080 -Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort=8080 \
             -Dhttp.nonProxyHosts=localhost|[::1]|db"
        );
    }

    #[test]
    fn the_store_is_what_keytool_makes() {
        // keytool -importcert -noprompt -storetype JKS -alias claude-bottle -storepass changeit, of Java 17.
        let made = include_str!("../../tests/fixtures/keytool.jks.base64").replace('\n', "");
        let made = base64::engine::general_purpose::STANDARD.decode(made).expect("base64");
        let (milliseconds, certificate) = (&made[31..39], &made[50..made.len() - 20]);
        let milliseconds = u64::from_be_bytes(milliseconds.try_into().expect("eight bytes"));
        assert_eq!(trust_store(certificate, milliseconds), made);
    }
}
