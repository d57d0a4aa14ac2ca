//! Upstream's LFS server: where it is, what it says about objects, and their bytes both ways (git-lfs, `docs/api`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;
use bottle_policy::gate::{Transport, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use hyper::Response;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::dirs::{GateDirs, shell_word};
use super::super::process::{self, ProcessLimits, last_words, printable};
use super::super::transport;
use super::LfsError;
use super::http::{LfsBody, LfsClient, file, full, next_bytes};
use super::pointer::{LfsOid, LfsPointer};

/// The media type of the API.
pub(super) const LFS_JSON: &str = "application/vnd.git-lfs+json";
/// git-lfs asks for no more at once.
const BATCH_OBJECTS: usize = 100;
/// Longest answer about a batch.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// A download may lead on so often.
const MAX_REDIRECTS: usize = 3;
const LOGIN_LIMITS: ProcessLimits = ProcessLimits::seconds(60, 60);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LfsOperation {
    Download,
    Upload,
}

impl LfsOperation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }
}

/// A request about many objects.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BatchRequest {
    pub(super) operation: LfsOperation,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) transfers: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hash_algo: Option<String>,
    pub(super) objects: Vec<LfsPointer>,
}

/// The answer to it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BatchAnswer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) transfer: Option<String>,
    pub(super) objects: Vec<ObjectAnswer>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hash_algo: Option<String>,
}

/// What an answer says of one object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ObjectAnswer {
    pub(super) oid: LfsOid,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) actions: Option<LfsActions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<LfsObjectError>,
}

impl ObjectAnswer {
    /// Tells whether it is the answer to a download of an object that is there.
    pub(super) fn is_there(&self) -> bool {
        self.error.is_none() && self.actions.as_ref().is_some_and(|actions| actions.download.is_some())
    }
}

/// What is to be done with an object.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct LfsActions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) download: Option<LfsAction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upload: Option<LfsAction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) verify: Option<LfsAction>,
}

/// An address and the headers for it; upstream's hold credentials, and none of them goes to the guest.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct LfsAction {
    #[serde(default)]
    pub(super) href: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) header: BTreeMap<String, String>,
}

impl std::fmt::Debug for LfsAction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LfsAction(***)")
    }
}

/// Why there is nothing to be done with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LfsObjectError {
    pub(super) code: u16,
    #[serde(default)]
    pub(super) message: String,
}

/// What a server says when it refuses.
#[derive(Debug, Deserialize)]
struct ServerMessage {
    message: String,
}

/// Upstream's LFS server, with what it wants to see of the gate.
pub(super) struct LfsServer {
    client: LfsClient,
    /// The address of the API, with no slash at its end.
    endpoint: String,
    /// Headers for the API.
    headers: HeaderMap,
    /// The credential for upstream's own authority.
    authorization: Option<HeaderValue>,
}

impl LfsServer {
    /// Finds the server and logs in: by the token over https, by `git-lfs-authenticate` over ssh. It waits for ssh.
    pub(super) fn open(gate: &GateDirs, upstream: &Upstream, operation: LfsOperation) -> Result<Self, LfsError> {
        transport::usable(&gate.dirs, upstream).map_err(LfsError::Refused)?;
        let proxy = transport::proxy(gate).map_err(|error| LfsError::Refused(error.to_string()))?;
        let client = LfsClient::new(&upstream.url, &gate.policy.allow_private, &gate.policy.internal, proxy);
        match upstream.url.transport {
            Transport::Https | Transport::Http => {
                let authorization = basic(gate, upstream)?;
                let url = format!(
                    "{}://{}/{}",
                    upstream.url.transport.scheme(),
                    upstream.url.authority(),
                    upstream.url.repository()
                );
                let endpoint = format!("{url}.git/info/lfs");
                Ok(Self { client, endpoint, headers: HeaderMap::new(), authorization })
            }
            Transport::Ssh => {
                let LfsAction { href, header } = authenticate(gate, upstream, operation)?;
                let own = || format!("https://{}/{}.git/info/lfs", upstream.url.host, upstream.url.repository());
                let endpoint = if href.is_empty() { own() } else { href.trim_end_matches('/').to_owned() };
                Ok(Self { client, endpoint, headers: headers(&header)?, authorization: None })
            }
        }
    }

    /// Asks about objects; gives an answer for each of them, in their order.
    pub(super) async fn batch(
        &self,
        operation: LfsOperation,
        objects: &[LfsPointer],
    ) -> Result<Vec<ObjectAnswer>, LfsError> {
        let mut answers = vec![];
        for part in objects.chunks(BATCH_OBJECTS) {
            let asked = BatchRequest {
                operation,
                transfers: Some(vec!["basic".to_owned()]),
                hash_algo: Some("sha256".to_owned()),
                objects: part.to_vec(),
            };
            let text = serde_json::to_vec(&asked).map_err(|error| LfsError::Refused(error.to_string()))?;
            let uri = self.client.address(&format!("{}/objects/batch", self.endpoint))?;
            let response =
                self.request(Method::POST, uri, self.headers.clone(), LFS_JSON, text.len() as u64, full(text));
            let answer = read(good(response.await?).await?).await?;
            let answer: BatchAnswer = serde_json::from_slice(&answer)
                .map_err(|_| LfsError::Refused("upstream's LFS server gave an answer that is none".to_owned()))?;
            if answer.transfer.as_deref().is_some_and(|transfer| transfer != "basic")
                || answer.hash_algo.as_deref().is_some_and(|algorithm| algorithm != "sha256")
            {
                let why = "upstream's LFS server chose a transfer or a hash that it was not asked for";
                return Err(LfsError::Refused(why.to_owned()));
            }
            for pointer in part {
                answers.push(answer_about(pointer, &answer.objects)?);
            }
        }
        Ok(answers)
    }

    /// Downloads an object into a file, and checks that it is the one.
    pub(super) async fn download(&self, pointer: &LfsPointer, into: &mut File) -> Result<(), LfsError> {
        let answers = self.batch(LfsOperation::Download, std::slice::from_ref(pointer)).await?;
        let action = answers.into_iter().next().and_then(|answer| answer.actions?.download);
        let action = action.ok_or_else(|| LfsError::Missing(missing(pointer)))?;
        let (mut uri, mut headers) = (self.client.address(&action.href)?, headers(&action.header)?);
        for _ in 0..=MAX_REDIRECTS {
            let response = self.request(Method::GET, uri.clone(), headers.clone(), "", 0, full("")).await?;
            if !response.status().is_redirection() {
                return receive(good(response).await?, pointer, into).await;
            }
            let next = redirected(&self.client, &uri, &response)?;
            if next.authority() != uri.authority() || next.scheme() != uri.scheme() {
                // They were for the first one alone.
                headers.clear();
            }
            uri = next;
        }
        Err(LfsError::Refused(format!("upstream led on more than {MAX_REDIRECTS} times for one object")))
    }

    /// Uploads an object that upstream has asked for.
    pub(super) async fn upload(&self, pointer: &LfsPointer, path: &Path, actions: &LfsActions) -> Result<(), LfsError> {
        let Some(action) = &actions.upload else { return Ok(()) };
        let content = File::open(path).map_err(|error| LfsError::Refused(format!("an object is gone: {error}")))?;
        let (uri, fields) = (self.client.address(&action.href)?, headers(&action.header)?);
        let response =
            self.request(Method::PUT, uri, fields, "application/octet-stream", pointer.size, file(content)).await?;
        good(response).await?;
        if let Some(verify) = &actions.verify {
            let text = serde_json::to_vec(pointer).map_err(|error| LfsError::Refused(error.to_string()))?;
            let (uri, fields) = (self.client.address(&verify.href)?, headers(&verify.header)?);
            let response = self.request(Method::POST, uri, fields, LFS_JSON, text.len() as u64, full(text)).await?;
            good(response).await?;
        }
        Ok(())
    }

    /// Sends a request; upstream's token goes with it to upstream's own authority alone.
    async fn request(
        &self,
        method: Method,
        uri: Uri,
        mut headers: HeaderMap,
        content_type: &str,
        length: u64,
        body: LfsBody,
    ) -> Result<Response<Incoming>, LfsError> {
        if let Some(value) = self.authorization.as_ref().filter(|_| self.client.is_upstreams(&uri)) {
            headers.entry(header::AUTHORIZATION).or_insert_with(|| value.clone());
        }
        if method != Method::GET {
            headers.insert(header::CONTENT_LENGTH, length.into());
            if let Ok(value) = HeaderValue::from_str(content_type) {
                headers.entry(header::CONTENT_TYPE).or_insert(value);
            }
        }
        if content_type != "application/octet-stream" {
            headers.entry(header::ACCEPT).or_insert(HeaderValue::from_static(if method == Method::GET {
                "*/*"
            } else {
                LFS_JSON
            }));
        }
        let mut request = Request::new(body);
        (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
        self.client.send(request).await
    }
}

/// What there is to say of an object that upstream does not have.
pub(super) fn missing(pointer: &LfsPointer) -> String {
    format!("upstream does not have the LFS object {}", pointer.oid.short())
}

/// The headers of an action. What is about the connection or the length is the gate's own.
fn headers(fields: &BTreeMap<String, String>) -> Result<HeaderMap, LfsError> {
    const OWN: [&str; 7] = ["connection", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"];
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        if OWN.contains(&name.to_ascii_lowercase().as_str()) {
            continue;
        }
        let field = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value));
        let (Ok(name), Ok(mut value)) = field else {
            return Err(LfsError::Refused("upstream asks for a header that can't be sent".to_owned()));
        };
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// The upstream's token as its own host takes it.
fn basic(gate: &GateDirs, upstream: &Upstream) -> Result<Option<HeaderValue>, LfsError> {
    let Some(token) = &upstream.token else { return Ok(None) };
    let value = gate.dirs.secret(token).map_err(|error| LfsError::Refused(error.to_string()))?;
    let pair = [b"x-access-token:", value.expose().as_slice()].concat();
    let text = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
    let mut value = HeaderValue::from_str(&text).map_err(|error| LfsError::Refused(error.to_string()))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Asks an ssh upstream where its LFS server is, and for a login there.
fn authenticate(gate: &GateDirs, upstream: &Upstream, operation: LfsOperation) -> Result<LfsAction, LfsError> {
    let url = &upstream.url;
    let words = format!("git-lfs-authenticate {} {}", shell_word(Path::new(&url.path)), operation.as_str());
    let login = transport::ssh(gate, upstream, &words);
    let output = process::run(login, None, LOGIN_LIMITS).map_err(|error| LfsError::Transient(error.to_string()))?;
    match output.status.code() {
        Some(0) => serde_json::from_slice(&output.stdout)
            .map_err(|_| LfsError::Refused("upstream's git-lfs-authenticate gave an answer that is none".to_owned())),
        // ssh(1): 255 is ssh's own.
        Some(255) | None => {
            Err(LfsError::Transient(format!("upstream could not be reached: {}", last_words(&output.stderr))))
        }
        Some(_) => Err(LfsError::Refused(format!(
            "upstream has no Git LFS for this repository: git-lfs-authenticate failed: {}",
            last_words(&output.stderr)
        ))),
    }
}

/// What upstream said of one object; an answer about another size is none.
fn answer_about(pointer: &LfsPointer, answers: &[ObjectAnswer]) -> Result<ObjectAnswer, LfsError> {
    let answer = answers.iter().find(|answer| answer.oid == pointer.oid);
    let short = pointer.oid.short();
    let answer = answer.ok_or_else(|| LfsError::Refused(format!("upstream said nothing of the LFS object {short}")))?;
    if answer.error.is_none() && answer.size != pointer.size {
        let (size, other) = (pointer.size, answer.size);
        let why = format!("the LFS object {short} is {size} bytes by its pointer, and {other} by upstream's answer");
        return Err(LfsError::Refused(why));
    }
    Ok(answer.clone())
}

fn redirected(client: &LfsClient, from: &Uri, response: &Response<Incoming>) -> Result<Uri, LfsError> {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| LfsError::Refused("upstream led on to nowhere".to_owned()))?;
    if location.starts_with('/') && !location.starts_with("//") {
        let scheme = from.scheme_str().unwrap_or("https");
        let authority = from.authority().map_or("", |authority| authority.as_str());
        return client.address(&format!("{scheme}://{authority}{location}"));
    }
    client.address(location)
}

/// A response that is no refusal.
async fn good(response: Response<Incoming>) -> Result<Response<Incoming>, LfsError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let text = read(response).await.unwrap_or_default();
    let message = serde_json::from_slice::<ServerMessage>(&text).map(|one| printable(&one.message)).unwrap_or_default();
    let message: String = message.chars().take(200).collect();
    let colon = if message.is_empty() { "" } else { ": " };
    let why = format!("upstream's LFS server answered {}{colon}{message}", status.as_u16());
    Err(match status {
        StatusCode::NOT_FOUND | StatusCode::GONE => LfsError::Missing(why),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => LfsError::Transient(why),
        status if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED => LfsError::Transient(why),
        status if status.is_redirection() => LfsError::Refused(format!("{why}: only a download is followed elsewhere")),
        _ => LfsError::Refused(why),
    })
}

async fn read(response: Response<Incoming>) -> Result<Vec<u8>, LfsError> {
    let (mut body, mut text) = (response.into_body(), vec![]);
    while let Some(bytes) = next_bytes(&mut body).await? {
        text.extend_from_slice(&bytes);
        if text.len() > MAX_ANSWER_BYTES {
            return Err(LfsError::Refused("upstream's LFS server gave an answer that is too long".to_owned()));
        }
    }
    Ok(text)
}

async fn receive(response: Response<Incoming>, pointer: &LfsPointer, into: &mut File) -> Result<(), LfsError> {
    let mut body = response.into_body();
    let mut intake = Intake::new(pointer, into);
    while let Some(bytes) = next_bytes(&mut body).await? {
        intake.take(&bytes)?;
    }
    intake.finish()
}

/// Bytes on their way into a file, which have to be an object's.
pub(super) struct Intake<'a> {
    pointer: &'a LfsPointer,
    file: &'a mut File,
    hash: Sha256,
    count: u64,
}

impl<'a> Intake<'a> {
    pub(super) fn new(pointer: &'a LfsPointer, file: &'a mut File) -> Self {
        Self { pointer, file, hash: Sha256::new(), count: 0 }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), LfsError> {
        self.count = self.count.saturating_add(bytes.len() as u64);
        let LfsPointer { oid, size } = self.pointer;
        if self.count > *size {
            return Err(LfsError::Refused(format!("the LFS object {} is larger than its {size} bytes", oid.short())));
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(|error| LfsError::Transient(format!("failed to keep an object: {error}")))
    }

    /// Tells whether these were the bytes.
    pub(super) fn finish(self) -> Result<(), LfsError> {
        let LfsPointer { oid, size } = self.pointer;
        if self.count != *size {
            let (short, count) = (oid.short(), self.count);
            return Err(LfsError::Refused(format!("the LFS object {short} is {count} bytes, and not its {size}")));
        }
        if hex::encode(self.hash.finalize()) != oid.as_str() {
            let why = format!("what came as the LFS object {} has another SHA-256: it was changed", oid.short());
            return Err(LfsError::Refused(why));
        }
        Ok(())
    }
}
