//! HTTP to a forge: verified TLS, bounds on time and size, and retries that can't do a thing twice.
//!
//! A read, or a write that comes out the same however often it is done, is repeated after everything that may pass: 5xx, 429,
//! a secondary rate limit, a dropped connection. A write that makes something new is repeated only where the forge surely
//! did not do it; otherwise the caller has to look ([`ForgeError::may_be_done`]).

use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use bottle_types::address::without_userinfo;
use bottle_types::secret::Secret;
use bottle_types::units::ByteSize;
use reqwest::header::{ACCEPT, AUTHORIZATION, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH, LOCATION};
use reqwest::{Client, ClientBuilder, Method, StatusCode, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Operation;
use super::answer::{explain, message, rate_limit, retry_after};
use super::assets::{Asset, AssetError, AssetResolver, Assets};
use super::etag_cache::EtagCache;
use super::tls::Unverified;
use crate::host;

/// How often a call is tried at most.
const MAX_TRIES: u32 = 5;
/// How long a call waits for better times, all its waits together.
const MAX_TOTAL_WAIT: Duration = Duration::from_secs(150);
/// The first wait; each further one is twice as long. The tests' forge is near, and never too busy.
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(if cfg!(test) { 40 } else { 500 });
/// The largest answer that is read, in bytes.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Why the forge did not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ForgeError {
    #[error("failed to {}: {place}: {status}: {message}", operation.what)]
    Answer { operation: Operation, place: String, status: StatusCode, message: String },
    #[error("failed to {}: {place}: the forge's rate limit is reached; it says to wait {} s", operation.what, wait.as_secs())]
    Limited { operation: Operation, place: String, wait: Duration },
    #[error("failed to {}: {place}: {problem} (tried {tries} times)", operation.what)]
    Lost { operation: Operation, place: String, problem: String, tries: u32 },
    #[error("failed to {}: {place}: the forge's token has ended, and was not renewed", operation.what)]
    Ended { operation: Operation, place: String },
    #[error("failed to {}: {place}: {problem}", operation.what)]
    Untrusted { operation: Operation, place: String, problem: String },
    #[error("failed to {}: {place}: the answer is not what a forge sends: {problem}", operation.what)]
    Nonsense { operation: Operation, place: String, problem: String },
}

impl ForgeError {
    /// The status of a clear answer.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Answer { status, .. } => Some(status.as_u16()),
            _ => None,
        }
    }

    /// Whether a server has answered, in whatever words.
    pub(crate) fn has_answered(&self) -> bool {
        matches!(self, Self::Answer { .. } | Self::Nonsense { .. })
    }

    /// Whether the forge may have done it all the same.
    pub(crate) fn may_be_done(&self) -> bool {
        matches!(self, Self::Lost { .. } | Self::Nonsense { .. })
    }

    /// What to try.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Limited { .. } => "run it again later, or with fewer runs at once".to_owned(),
            Self::Lost { .. } => {
                "check that the forge is up and can be reached from this runner, through the proxy that HTTPS_PROXY names where it needs one, then run \
                 it again"
                    .to_owned()
            }
            Self::Untrusted { .. } => "if it is the forge's own, add the authority that has signed it to this machine's list \
                                       (`update-ca-certificates`), or name a file that has it as well: SSL_CERT_FILE; the doors and \
                                       the gate take the same file"
                .to_owned(),
            Self::Ended { .. } => "the run's warnings say why; look at the source under `credentials` in claude-bottle.yml".to_owned(),
            Self::Nonsense { .. } => "check that GITHUB_API_URL is the address of the forge's API".to_owned(),
            Self::Answer { operation, status, .. } => match status.as_u16() {
                401 => {
                    "the forge does not take the token: give the step one that is valid, as GITHUB_TOKEN or GITEA_TOKEN"
                        .to_owned()
                }
                403 => format!("the token may not: it needs {}", operation.needs),
                404 | 410 => format!("it is not there, or not for this token, which needs {}", operation.needs),
                409 => "something else has changed it meanwhile; run it again".to_owned(),
                422 => "the forge does not take it as it is; its words say which part".to_owned(),
                423 => "the repository is archived: nothing can be changed in it".to_owned(),
                301 | 302 | 307 | 308 => "the repository has moved: run it again under its new name".to_owned(),
                _ => "look at the forge's own log, then run it again".to_owned(),
            },
        }
    }
}

/// What differs between forges' HTTP.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ApiDialect {
    /// Before the token in `Authorization`.
    pub(crate) scheme: &'static str,
    pub(crate) accept: &'static str,
    /// A header with the API's version.
    pub(crate) version: Option<(&'static str, &'static str)>,
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct ApiCall<'a> {
    pub(crate) operation: Operation,
    pub(crate) method: Method,
    /// The path's parts below the API's address, not yet encoded.
    pub(crate) path: Vec<&'a str>,
    pub(crate) query: Vec<(&'static str, String)>,
    pub(crate) body: Option<Value>,
    /// Another kind of answer than JSON.
    pub(crate) accept: Option<&'static str>,
    /// Whether the answer may be at another address, to which the token does not go.
    pub(crate) elsewhere: bool,
    /// Whether it goes to GitHub's GraphQL instead of a path of its REST API.
    pub(crate) graphql: bool,
}

impl<'a> ApiCall<'a> {
    pub(crate) fn get(operation: Operation, path: Vec<&'a str>) -> Self {
        Self {
            operation,
            method: Method::GET,
            path,
            query: vec![],
            body: None,
            accept: None,
            elsewhere: false,
            graphql: false,
        }
    }

    pub(crate) fn write(operation: Operation, method: Method, path: Vec<&'a str>, body: Value) -> Self {
        Self { method, body: Some(body), ..Self::get(operation, path) }
    }

    pub(crate) fn delete(operation: Operation, path: Vec<&'a str>) -> Self {
        Self { method: Method::DELETE, ..Self::get(operation, path) }
    }

    pub(crate) fn accept(mut self, kind: &'static str) -> Self {
        self.accept = Some(kind);
        self
    }

    pub(crate) fn or_elsewhere(mut self) -> Self {
        self.elsewhere = true;
        self
    }

    pub(crate) fn query(mut self, name: &'static str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }
}

/// A forge's API at one address.
pub(crate) struct Http {
    client: Client,
    /// For addresses that the forge refers to: without its token.
    elsewhere: Client,
    /// For files that people attached: likewise, and github.com's stores at public addresses alone.
    attached: Client,
    base: Url,
    known: EtagCache,
    /// Before the token in `Authorization`.
    scheme: &'static str,
    token: RwLock<Option<TokenHeader>>,
}

/// The header with the token.
struct TokenHeader {
    value: HeaderValue,
    /// From when on it is not sent any more, in milliseconds since 1970.
    ends_at: Option<u64>,
}

impl TokenHeader {
    fn new(scheme: &str, token: &Secret<String>, ends_at: Option<u64>) -> Result<Self, String> {
        let mut value = HeaderValue::from_str(&format!("{scheme} {}", token.expose().trim()))
            .map_err(|_| "the token has characters that no header takes".to_owned())?;
        value.set_sensitive(true);
        Ok(Self { value, ends_at })
    }
}

/// How one try ended.
enum Attempt {
    Done(HeaderMap, Vec<u8>),
    /// Worth another try after this long; `done` says whether the forge may have done it.
    Again {
        wait: Option<Duration>,
        limited: bool,
        may_be_done: bool,
        problem: String,
    },
    Failed(ForgeError),
}

impl Http {
    /// Readies a client that trusts the authorities in this file alone. Without TLS no token is sent.
    pub(crate) fn new(
        base: &str,
        token: Option<&Secret<String>>,
        dialect: ApiDialect,
        roots: Option<&Path>,
    ) -> Result<Self, String> {
        let local =
            Url::parse(base).is_ok_and(|base| matches!(base.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")));
        if base.starts_with("http://") && token.is_some() && !local {
            let base = without_userinfo(base);
            return Err(format!("the forge's API address {base} is not https: the token could be read on its way"));
        }
        Self::open(base, token, dialect, roots)
    }

    /// The same, also without TLS: for a forge of which the manifest says so.
    pub(crate) fn open(
        base: &str,
        token: Option<&Secret<String>>,
        dialect: ApiDialect,
        roots: Option<&Path>,
    ) -> Result<Self, String> {
        // It is said in errors and in a plan's notes, and the token goes in a header.
        let base = &without_userinfo(base);
        let base = Url::parse(base).map_err(|error| format!("the forge's API address {base} is not one: {error}"))?;
        if !matches!(base.scheme(), "https" | "http") {
            return Err(format!("the forge's API address {base} is neither https nor http"));
        }
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(dialect.accept));
        if let Some((name, value)) = dialect.version {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let scheme = dialect.scheme;
        let token = RwLock::new(token.map(|token| TokenHeader::new(scheme, token, None)).transpose()?);
        let tls = super::tls::client(roots)?;
        let builder = |headers: HeaderMap| {
            Client::builder()
                .user_agent(concat!("claude-bottle/", env!("CARGO_PKG_VERSION")))
                .default_headers(headers)
                .tls_backend_preconfigured(tls.clone())
                // A redirect could carry the token to another place, and a repeated POST turns into a GET.
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(Duration::from_secs(10))
                .timeout(Duration::from_secs(30))
        };
        let ready = |builder: ClientBuilder| {
            builder.build().map_err(|error| format!("failed to ready a client for the forge: {}", explain(&error)))
        };
        let (client, elsewhere) = (ready(builder(headers))?, ready(builder(HeaderMap::new()))?);
        let attached = ready(builder(HeaderMap::new()).dns_resolver(AssetResolver))?;
        Ok(Self { client, elsewhere, attached, base, known: EtagCache::default(), scheme, token })
    }

    /// Goes on with another token. Who had none gets none: without TLS nobody may read one.
    pub(crate) fn set_token(&self, token: &Secret<String>, ends_at: Option<u64>) -> Result<(), String> {
        let mut now = self.token.write().unwrap_or_else(PoisonError::into_inner);
        if now.is_some() {
            *now = Some(TokenHeader::new(self.scheme, token, ends_at)?);
        }
        Ok(())
    }

    /// The header of the token, if there is one; an error where it has ended.
    fn authorization(&self, call: &ApiCall<'_>, place: &str) -> Result<Option<HeaderValue>, ForgeError> {
        let now = self.token.read().unwrap_or_else(PoisonError::into_inner);
        match now.as_ref() {
            Some(token) if token.ends_at.is_some_and(|ends_at| host::unix_millis() >= ends_at) => {
                Err(ForgeError::Ended { operation: call.operation, place: place.to_owned() })
            }
            token => Ok(token.map(|token| token.value.clone())),
        }
    }

    /// Fetches a file that somebody attached, of at most so many bytes.
    pub(super) async fn fetch(&self, assets: &Assets, asset: &Asset, most: ByteSize) -> Result<Vec<u8>, AssetError> {
        let token = {
            let now = self.token.read().unwrap_or_else(PoisonError::into_inner);
            let still_good = |token: &&TokenHeader| token.ends_at.is_none_or(|ends_at| host::unix_millis() < ends_at);
            now.as_ref().filter(still_good).map(|token| token.value.clone())
        };
        assets.fetch(&self.attached, token, (asset, most)).await
    }

    /// Makes the call and reads its answer.
    pub(crate) async fn send<T: DeserializeOwned>(&self, call: ApiCall<'_>) -> Result<T, ForgeError> {
        self.send_for_headers(call).await.map(|(_, value)| value)
    }

    /// Makes the call and takes its answer as text.
    pub(crate) async fn send_for_text(&self, call: ApiCall<'_>) -> Result<String, ForgeError> {
        Ok(String::from_utf8_lossy(&self.bytes(call).await?).into_owned())
    }

    /// Makes the call and reads its answer; with the answer's headers.
    pub(crate) async fn send_for_headers<T: DeserializeOwned>(
        &self,
        call: ApiCall<'_>,
    ) -> Result<(HeaderMap, T), ForgeError> {
        let place = format!("{} {}", call.method, self.url(&call)?);
        let operation = call.operation;
        let (headers, body) = self.answer(call).await?;
        let value = serde_json::from_slice(&body);
        let nonsense = |error: serde_json::Error| ForgeError::Nonsense { operation, place, problem: error.to_string() };
        Ok((headers, value.map_err(nonsense)?))
    }

    async fn bytes(&self, call: ApiCall<'_>) -> Result<Vec<u8>, ForgeError> {
        self.answer(call).await.map(|(_, body)| body)
    }

    /// Makes the call until it is done, refused, or not worth another try.
    async fn answer(&self, call: ApiCall<'_>) -> Result<(HeaderMap, Vec<u8>), ForgeError> {
        let url = self.url(&call)?;
        let place = format!("{} {url}", call.method);
        let makes_new = call.method == Method::POST;
        let mut waited = Duration::ZERO;
        for tries in 1.. {
            let (wait, limited, may_be_done, problem) = match self.once(&call, url.clone(), &place).await {
                Attempt::Done(headers, body) => return Ok((headers, body)),
                Attempt::Failed(error) => return Err(error),
                Attempt::Again { wait, limited, may_be_done, problem } => (wait, limited, may_be_done, problem),
            };
            let wait = wait.unwrap_or(FIRST_WAIT * 2_u32.pow(tries - 1));
            let (operation, place) = (call.operation, place.clone());
            if tries >= MAX_TRIES || waited + wait > MAX_TOTAL_WAIT || (makes_new && may_be_done) {
                return Err(match limited {
                    true => ForgeError::Limited { operation, place, wait },
                    false => ForgeError::Lost { operation, place, problem, tries },
                });
            }
            tracing::debug!("{place}: {problem}; again in {wait:?}");
            tokio::time::sleep(wait).await;
            waited += wait;
        }
        unreachable!("the loop ends by its bound")
    }

    /// Sends the request once and reads the answer.
    async fn once(&self, call: &ApiCall<'_>, url: Url, place: &str) -> Attempt {
        let address = url.to_string();
        let cacheable = call.method == Method::GET && call.accept.is_none();
        let known = if cacheable { self.known.get(&address) } else { None };
        let tag = known.as_ref().map(|(tag, _)| tag);
        let nonsense = |problem: String| {
            let (operation, place) = (call.operation, place.to_owned());
            Attempt::Failed(ForgeError::Nonsense { operation, place, problem })
        };
        let authorization = match self.authorization(call, place) {
            Ok(authorization) => authorization,
            Err(error) => return Attempt::Failed(error),
        };
        let mut response = match self.response(call, url, tag, authorization).await {
            Ok(Some(response)) => response,
            Ok(None) => return nonsense("it refers to no https address".to_owned()),
            Err(error) => return lost(call, place, &error),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match body(&mut response).await {
            Ok(Some(body)) => body,
            Ok(None) => return nonsense(format!("it is larger than {MAX_ANSWER_BYTES} bytes")),
            Err(error) => return lost(call, place, &error),
        };
        if let (StatusCode::NOT_MODIFIED, Some((_, body))) = (status, known) {
            return Attempt::Done(headers, body);
        }
        if status.is_success() {
            if let Some(tag) = headers.get(ETAG).filter(|_| cacheable) {
                self.known.keep(&address, tag.clone(), &body);
            }
            return Attempt::Done(headers, body);
        }
        let message = message(&body);
        again(status, &headers, &message).unwrap_or_else(|| {
            let (operation, place) = (call.operation, place.to_owned());
            Attempt::Failed(ForgeError::Answer { operation, place, status, message })
        })
    }

    /// Sends the request, and follows one redirection where the call may go elsewhere; none where that leads to no https
    /// address.
    async fn response(
        &self,
        call: &ApiCall<'_>,
        url: Url,
        tag: Option<&HeaderValue>,
        authorization: Option<HeaderValue>,
    ) -> Result<Option<reqwest::Response>, reqwest::Error> {
        let mut request = self.client.request(call.method.clone(), url);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        if let Some(body) = &call.body {
            request = request.header(reqwest::header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        if let Some(kind) = call.accept {
            request = request.header(ACCEPT, kind);
        }
        let response = request.send().await?;
        if !(call.elsewhere && response.status().is_redirection() && response.headers().contains_key(LOCATION)) {
            return Ok(Some(response));
        }
        let there = response.headers().get(LOCATION).and_then(|there| Url::parse(there.to_str().ok()?).ok());
        match there.filter(|there| there.scheme() == "https") {
            Some(there) => self.elsewhere.get(there).send().await.map(Some),
            None => Ok(None),
        }
    }

    fn url(&self, call: &ApiCall<'_>) -> Result<Url, ForgeError> {
        let mut url = self.base.clone();
        let bad = |problem: &str| ForgeError::Nonsense {
            operation: call.operation,
            place: self.base.to_string(),
            problem: problem.to_owned(),
        };
        // A part that means another directory would lead to another call.
        if call.path.iter().any(|part| matches!(*part, "" | "." | "..")) {
            return Err(bad("a part of the path is empty or leads elsewhere"));
        }
        if call.graphql {
            // Enterprise servers have it beside the REST API, github.com below the same address.
            let beside = url.path().trim_end_matches('/').strip_suffix("/v3").unwrap_or(url.path()).to_owned();
            url.set_path(&format!("{}/graphql", beside.trim_end_matches('/')));
            return Ok(url);
        }
        url.path_segments_mut().map_err(|()| bad("the address has no path"))?.pop_if_empty().extend(&call.path);
        if !call.query.is_empty() {
            url.query_pairs_mut().extend_pairs(call.query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        Ok(url)
    }
}

/// An attempt that got no whole answer; what was sent may have been done, unless there was no connection. A certificate that
/// nobody vouches for will not be another one the next time.
fn lost(call: &ApiCall<'_>, place: &str, error: &reqwest::Error) -> Attempt {
    if let Some(unverified) = Unverified::cause_of(error) {
        let (operation, place, problem) = (call.operation, place.to_owned(), unverified.to_string());
        return Attempt::Failed(ForgeError::Untrusted { operation, place, problem });
    }
    Attempt::Again { wait: None, limited: false, may_be_done: !error.is_connect(), problem: explain(error) }
}

/// The whole body; none where it is larger than an answer may be.
async fn body(response: &mut reqwest::Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = vec![];
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// An attempt that is worth another: a rate limit, or a server's own error.
fn again(status: StatusCode, headers: &HeaderMap, message: &str) -> Option<Attempt> {
    let problem = format!("{status}: {message}");
    if let Some(wait) = rate_limit(status, headers, message) {
        return Some(Attempt::Again { wait: Some(wait), limited: true, may_be_done: false, problem });
    }
    if !status.is_server_error() {
        return None;
    }
    // A server that names a time was not at work; any other may have been.
    let wait = retry_after(headers);
    let busy = status == StatusCode::SERVICE_UNAVAILABLE && wait.is_some();
    Some(Attempt::Again { wait, limited: false, may_be_done: !busy, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_goes_over_an_open_line() {
        let dialect = ApiDialect { scheme: "Bearer", accept: "application/json", version: None };
        let token = Secret::new("a token".to_owned());
        let error = Http::new("http://git.example.org/api/v1", Some(&token), dialect, None).err().expect("an error");
        assert!(error.contains("not https"), "{error}");
    }
}
