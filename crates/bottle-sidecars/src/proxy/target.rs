//! The target of a request, and the check that all that names it agrees.

use bottle_policy::conditions::Details;
use bottle_policy::matcher::Target;
use bottle_policy::route::Scheme;
use bottle_types::canary::SELF_TEST_HOST;
use bottle_types::host::HostName;
use http::header::HOST;
use http::{Request, Uri};

/// The target of a request, and the request's id.
#[derive(Debug, Clone)]
pub(crate) struct RequestTarget {
    pub(crate) scheme: Scheme,
    pub(crate) host: HostName,
    pub(crate) port: u16,
    pub(crate) id: String,
    /// The connection is to become a WebSocket.
    pub(crate) websocket: bool,
}

impl RequestTarget {
    /// Tells whether it is the self-test's own place, which leads nowhere: what is sent there is judged as anything else.
    pub(crate) fn is_self_test(&self) -> bool {
        let is_plain = self.scheme == Scheme::Http && self.port == default_port(Scheme::Http) && !self.websocket;
        is_plain && self.host.as_str() == SELF_TEST_HOST
    }
}

/// The port of a scheme.
pub(crate) fn default_port(scheme: Scheme) -> u16 {
    scheme.port()
}

/// The text of a `Host` header for this place.
pub(crate) fn authority(scheme: Scheme, host: &HostName, port: u16) -> String {
    if port == default_port(scheme) { host.to_string() } else { format!("{host}:{port}") }
}

/// Reads `host` or `host:port`: a name, never an address, without user information.
pub(crate) fn parse(text: &str) -> Result<(HostName, Option<u16>), String> {
    if text.contains('@') {
        return Err(format!("`{text}` has user information, which no proxy passes on"));
    }
    let bracketed_end = text.rfind(']').unwrap_or(0);
    let (name, port) = match text[bracketed_end..].rsplit_once(':') {
        Some((_, port)) => {
            let valid = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            let number = if valid { port.parse().ok() } else { None };
            let number: u16 = number.ok_or_else(|| format!("`{text}` has no valid port"))?;
            (&text[..text.len() - port.len() - 1], Some(number))
        }
        None => (text, None),
    };
    let host = HostName::parse(name).map_err(|error| error.to_string())?;
    Ok((host, port))
}

/// Reads the target of CONNECT.
pub(crate) fn parse_connect(uri: &Uri) -> Result<(HostName, u16), String> {
    let authority = uri.authority().ok_or("CONNECT names no host")?;
    match parse(authority.as_str())? {
        (host, Some(port)) => Ok((host, port)),
        (host, None) => Err(format!("CONNECT {host} names no port")),
    }
}

/// The parts of a request that rules look at; its headers are [`super::headers::pairs`].
pub(crate) fn for_rules<'a, B>(
    target: &'a RequestTarget,
    request: &'a Request<B>,
    headers: &'a [(&'a str, &'a [u8])],
) -> Target<'a> {
    Target {
        scheme: target.scheme,
        host: &target.host,
        port: target.port,
        method: request.method().as_str(),
        path: request.uri().path(),
        details: Details { query: request.uri().query().unwrap_or_default(), headers, websocket: target.websocket },
    }
}

/// Checks that the request's own words (`Host`, `:authority`, an absolute target) all name this place, and one of them does.
pub(crate) fn agrees<B>(request: &Request<B>, scheme: Scheme, host: &HostName, port: u16) -> Result<(), String> {
    let mut named = vec![];
    if let Some(authority) = request.uri().authority() {
        named.push(authority.as_str());
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    if let Some(value) = hosts.next() {
        named.push(value.to_str().map_err(|_| "the Host header is not text")?);
    }
    if hosts.next().is_some() {
        return Err("there is more than one Host header".to_owned());
    }
    if named.is_empty() {
        return Err("the request names no host".to_owned());
    }
    let wanted = if scheme == Scheme::Https { "https" } else { "http" };
    if request.uri().scheme_str().is_some_and(|given| given != wanted) {
        return Err(format!("the request's target is not {wanted}"));
    }
    for text in named {
        let (name, given) = parse(text)?;
        if name != *host || given.unwrap_or(default_port(scheme)) != port {
            return Err(format!("the request is for {text}, the connection for {}", authority(scheme, host, port)));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ports_are_read() {
        for (text, expected) in [
            ("Example.com", Some(("example.com", None))),
            ("example.com:8443", Some(("example.com", Some(8443)))),
            ("example.com.:443", Some(("example.com", Some(443)))),
            ("127.0.0.1:443", None),
            ("[::1]:443", None),
            ("[::1]", None),
            ("a@example.com", None),
            ("example.com:", None),
            ("example.com:99999", None),
            ("example.com:+80", None),
            ("", None),
        ] {
            let parsed = parse(text).ok();
            assert_eq!(parsed.as_ref().map(|(host, port)| (host.as_str(), *port)), expected, "{text}");
        }
    }

    #[test]
    fn everything_that_names_the_host_agrees() {
        let host = HostName::parse("a.example").expect("a host");
        for (uri, hosts, fine) in [
            ("/", vec!["a.example"], true),
            ("/", vec!["A.example:443"], true),
            ("https://a.example/", vec![], true),
            ("https://a.example/", vec!["a.example"], true),
            ("/", vec![], false),
            ("/", vec!["b.example"], false),
            ("/", vec!["a.example:444"], false),
            ("/", vec!["a.example", "a.example"], false),
            ("https://a.example/", vec!["b.example"], false),
            ("https://b.example/", vec!["a.example"], false),
            ("http://a.example/", vec!["a.example"], false),
        ] {
            let mut request = Request::builder().uri(uri);
            for host in &hosts {
                request = request.header(HOST, *host);
            }
            let request = request.body(()).expect("a request");
            assert_eq!(agrees(&request, Scheme::Https, &host, 443).is_ok(), fine, "{uri} {hosts:?}");
        }
    }
}
