//! The LFS API as the guest sees it: batches whose every address is the gate's, downloads that were checked, uploads that wait
//! for their push. A request is a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Seek as _;
use std::sync::Arc;
use std::time::Duration;

use bottle_policy::gate::Upstream;
use bottle_types::units::ByteSize;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;

use super::super::changes::Repo;
use super::super::dirs::{GateDirs, write_file};
use super::super::process::{CONNECTION_TIMEOUT, printable};
use super::LfsError;
use super::http::{LfsBody, file, full, next_bytes};
use super::pointer::{LfsOid, LfsPointer, of_mirror};
use super::server::{
    BatchAnswer, BatchRequest, Intake, LFS_JSON, LfsAction, LfsActions, LfsObjectError, LfsOperation, LfsServer,
    ObjectAnswer, missing,
};
use super::store::{FoundObject, LFS, LfsStore, shelf};

/// For a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A batch of a thousand objects fits in.
const MAX_REQUEST_BYTES: usize = 1 << 20;
const MAX_OBJECTS: usize = 1000;
/// As much of a path goes into the log.
const MAX_LOGGED_PATH: usize = 160;
const NO_POINTER: &str = "no pointer of this repository names it";

/// Serves one request.
pub(in super::super) async fn serve(gate: &GateDirs, stream: UnixStream) {
    let gate = Arc::new(gate.clone());
    let service = service_fn(move |request| {
        let gate = Arc::clone(&gate);
        async move { Ok::<_, Infallible>(answer(&gate, request).await) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    // The next request is another connection: one that waits would take a seat from the others.
    server.keep_alive(false).half_close(true).timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let served = server.serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("an LFS request ended early: {error}"),
        Err(_) => tracing::warn!("an LFS request was open for {} s: ended", CONNECTION_TIMEOUT.as_secs()),
    }
}

/// What a request is about.
enum LfsRequest {
    Batch,
    Object(LfsPointer),
}

async fn answer(gate: &Arc<GateDirs>, request: Request<Incoming>) -> Response<LfsBody> {
    let path: String = request.uri().path().chars().take(MAX_LOGGED_PATH).collect();
    let what = format!("{} {}", request.method(), printable(&path));
    let answered = respond(gate, request).await;
    answered.unwrap_or_else(|LfsRefusal { status, why }| {
        let why = match gate.dirs.known_secrets(&gate.policy.known_secrets()) {
            Ok(known) => known.mask_str(&why),
            Err(_) => "it failed, and what was said of it can't be shown".to_owned(),
        };
        tracing::info!("lfs {what}: {}: {why}", status.as_u16());
        let message = serde_json::json!({ "message": format!("git-gate: {why}") });
        json(status, message.to_string())
    })
}

async fn respond(gate: &Arc<GateDirs>, request: Request<Incoming>) -> Result<Response<LfsBody>, LfsRefusal> {
    let not_here = || LfsRefusal::new(StatusCode::NOT_FOUND, "no such repository, or no such request");
    let (name, rest) =
        request.uri().path().trim_start_matches('/').split_once(".git/info/lfs/").ok_or_else(not_here)?;
    let mut upstreams = gate.policy.upstreams.iter();
    let upstream = upstreams.find(|upstream| upstream.name.as_str() == name).ok_or_else(not_here)?.clone();
    if rest == "locks" || rest.starts_with("locks/") {
        return Err(LfsRefusal::new(StatusCode::NOT_IMPLEMENTED, "the gate knows no locks of LFS files"));
    }
    let asked = match rest.strip_prefix("objects/").ok_or_else(not_here)? {
        "batch" => LfsRequest::Batch,
        oid => {
            let oid = LfsOid::parse(oid).ok_or_else(not_here)?;
            let size = request.uri().query().and_then(|query| query.strip_prefix("size="));
            let size = size.and_then(|size| size.parse().ok()).ok_or_else(not_here)?;
            LfsRequest::Object(LfsPointer { oid, size })
        }
    };
    let guest = GuestRequest { gate: Arc::clone(gate), upstream };
    match (request.method().clone(), asked) {
        (Method::POST, LfsRequest::Batch) => guest.batch(request).await,
        (Method::GET, LfsRequest::Object(pointer)) => guest.download(pointer).await,
        (Method::PUT, LfsRequest::Object(pointer)) => guest.upload(pointer, request.into_body()).await,
        _ => Err(not_here()),
    }
}

/// Why a request is refused.
struct LfsRefusal {
    status: StatusCode,
    why: String,
}

impl LfsRefusal {
    fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    fn here(error: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

impl From<LfsError> for LfsRefusal {
    fn from(error: LfsError) -> Self {
        let status = match error {
            LfsError::Missing(_) => StatusCode::NOT_FOUND,
            LfsError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            // The client tries again after these.
            LfsError::Transient(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

fn json(status: StatusCode, text: String) -> Response<LfsBody> {
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LFS_JSON));
    response
}

/// Runs what waits for files or processes beside the event loop.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LfsRefusal> {
    tokio::task::spawn_blocking(work).await.map_err(LfsRefusal::here)
}

/// A request about one repository.
struct GuestRequest {
    gate: Arc<GateDirs>,
    upstream: Upstream,
}

impl GuestRequest {
    fn store(&self) -> LfsStore {
        LfsStore::new(&self.gate, &self.upstream.name)
    }

    /// Answers a batch: every address is the gate's, at the name by which the guest has come.
    async fn batch(&self, request: Request<Incoming>) -> Result<Response<LfsBody>, LfsRefusal> {
        let base = base(&request)?;
        let BatchRequest { operation, objects, .. } = read_batch(request).await?;
        tracing::info!("lfs {}: {operation:?} of {} objects", self.upstream.name, objects.len());
        let known = self.known(&objects).await?;
        let answers = match operation {
            LfsOperation::Download => self.may_come(&objects, &known, &base).await?,
            LfsOperation::Upload => self.may_go(&objects, &known, &base).await?,
        };
        let answer =
            BatchAnswer { transfer: Some("basic".to_owned()), objects: answers, hash_algo: Some("sha256".to_owned()) };
        Ok(json(StatusCode::OK, serde_json::to_string(&answer).map_err(LfsRefusal::here)?))
    }

    /// The pointers among these that the mirror has.
    async fn known(&self, wanted: &[LfsPointer]) -> Result<BTreeSet<LfsPointer>, LfsRefusal> {
        let (gate, upstream) = (Arc::clone(&self.gate), self.upstream.clone());
        let wanted: BTreeSet<LfsPointer> = wanted.iter().cloned().collect();
        let known = beside(move || {
            let path = gate.private_path(LFS).join(upstream.name.as_str()).join("pointers");
            let kept = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            let kept: BTreeSet<LfsPointer> = kept.unwrap_or_default();
            if wanted.is_subset(&kept) {
                return Ok(wanted);
            }
            // It may have come since.
            let all = of_mirror(&Repo { gate: &gate, upstream: &upstream, quarantine: vec![] })?;
            let text = serde_json::to_vec(&all).map_err(|error| error.to_string())?;
            let dir = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            dir.map_err(|error| error.to_string())?;
            write_file(&path, &text, 0o600).map_err(|error| error.to_string())?;
            Ok::<_, String>(all.intersection(&wanted).cloned().collect())
        });
        known.await?.map_err(LfsRefusal::here)
    }

    /// What may come of these: what a pointer names, in its limits, and upstream has.
    async fn may_come(
        &self,
        objects: &[LfsPointer],
        known: &BTreeSet<LfsPointer>,
        base: &str,
    ) -> Result<Vec<ObjectAnswer>, LfsRefusal> {
        let most = self.upstream.max_lfs_bytes;
        let small: BTreeSet<LfsPointer> = known.iter().filter(|pointer| pointer.size <= most.0).cloned().collect();
        // The client takes a refusal here for the last word; one of the download itself it tries again and again.
        let there = self.at_upstream(&small).await?;
        let answer = |pointer: &LfsPointer| {
            if !known.contains(pointer) {
                return refused(pointer, 404, NO_POINTER.to_owned());
            }
            if pointer.size > most.0 {
                let size = ByteSize(pointer.size);
                let why = format!("it is {size} bytes large, and `max_lfs_bytes` in the manifest allows {most}");
                return refused(pointer, 413, why);
            }
            if !there.contains(pointer) {
                return refused(pointer, 404, missing(pointer));
            }
            let actions = LfsActions { download: Some(self.action(pointer, base)), ..LfsActions::default() };
            ObjectAnswer { oid: pointer.oid.clone(), size: pointer.size, actions: Some(actions), error: None }
        };
        Ok(objects.iter().map(answer).collect())
    }

    /// What to send of these: all that upstream does not have.
    async fn may_go(
        &self,
        objects: &[LfsPointer],
        known: &BTreeSet<LfsPointer>,
        base: &str,
    ) -> Result<Vec<ObjectAnswer>, LfsRefusal> {
        let push = &self.upstream.push;
        if push.refs.is_empty() && !push.tags {
            return Err(LfsRefusal::new(StatusCode::FORBIDDEN, "nothing may be pushed to this repository"));
        }
        let upstreams = self.at_upstream(known).await?;
        let mut answers = vec![];
        for pointer in objects {
            let (size, most) = (ByteSize(pointer.size), push.max_blob_bytes);
            let is_there = matches!(self.store().find(pointer).map_err(LfsRefusal::here)?, FoundObject::Here(_));
            let done = ObjectAnswer { oid: pointer.oid.clone(), size: pointer.size, actions: None, error: None };
            answers.push(if is_there || upstreams.contains(pointer) {
                done
            } else if pointer.size > most.0 {
                refused(
                    pointer,
                    413,
                    format!("it is {size} bytes large, and {most} is allowed; leave it out of the commit"),
                )
            } else {
                let actions = LfsActions { upload: Some(self.action(pointer, base)), ..LfsActions::default() };
                ObjectAnswer { actions: Some(actions), ..done }
            });
        }
        Ok(answers)
    }

    /// Those of the mirror's own pointers whose objects upstream has. It is not asked for what only the guest names.
    async fn at_upstream(&self, known: &BTreeSet<LfsPointer>) -> Result<BTreeSet<LfsPointer>, LfsRefusal> {
        if known.is_empty() || self.gate.policy.dry_run {
            return Ok(known.clone());
        }
        let asked: Vec<LfsPointer> = known.iter().cloned().collect();
        let answers = self.server().await?.batch(LfsOperation::Download, &asked).await?;
        Ok(asked
            .into_iter()
            .zip(&answers)
            .filter(|(_, answer)| answer.is_there())
            .map(|(pointer, _)| pointer)
            .collect())
    }

    async fn server(&self) -> Result<LfsServer, LfsRefusal> {
        let (gate, upstream) = (Arc::clone(&self.gate), self.upstream.clone());
        Ok(beside(move || LfsServer::open(&gate, &upstream, LfsOperation::Download)).await??)
    }

    fn action(&self, pointer: &LfsPointer, base: &str) -> LfsAction {
        let LfsPointer { oid, size } = pointer;
        let href = format!("{base}/{}.git/info/lfs/objects/{oid}?size={size}", self.upstream.name);
        LfsAction { href, header: BTreeMap::new() }
    }

    /// Gives the guest an object, once all of it is here and was checked.
    async fn download(&self, pointer: LfsPointer) -> Result<Response<LfsBody>, LfsRefusal> {
        if self.known(std::slice::from_ref(&pointer)).await?.is_empty() || pointer.size > self.upstream.max_lfs_bytes.0
        {
            return Err(LfsRefusal::new(StatusCode::NOT_FOUND, NO_POINTER));
        }
        let kept = shelf(&self.gate, &self.upstream).join(pointer.oid.as_str());
        let content = match std::fs::File::open(&kept) {
            Ok(kept) if self.gate.policy.dry_run => kept,
            _ => {
                let mut content = tempfile::tempfile_in(&self.gate.tmp).map_err(LfsRefusal::here)?;
                self.server().await?.download(&pointer, &mut content).await?;
                content.rewind().map_err(LfsRefusal::here)?;
                content
            }
        };
        let mut response = Response::new(file(content));
        response.headers_mut().insert(header::CONTENT_LENGTH, pointer.size.into());
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        Ok(response)
    }

    /// Takes an object from the guest, to wait for its push.
    async fn upload(&self, pointer: LfsPointer, mut body: Incoming) -> Result<Response<LfsBody>, LfsRefusal> {
        let push = &self.upstream.push;
        let most = push.max_push_bytes;
        let has_room = || match self.store().has_room(pointer.size, most).map_err(LfsRefusal::here)? {
            true => Ok(()),
            false => {
                let why = format!("with what waits for its push it is more than {most}, or too many; push it in parts");
                Err(LfsRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, why))
            }
        };
        if pointer.size > push.max_blob_bytes.0 {
            let why = format!("it is {} bytes large, and {} is allowed", ByteSize(pointer.size), push.max_blob_bytes);
            return Err(LfsRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, why));
        }
        has_room()?;
        let mut content = tempfile::NamedTempFile::new_in(&self.gate.tmp).map_err(LfsRefusal::here)?;
        let mut intake = Intake::new(&pointer, content.as_file_mut());
        while let Some(bytes) = next_bytes(&mut body).await? {
            intake.take(&bytes)?;
        }
        intake.finish()?;
        // Others may have come meanwhile.
        has_room()?;
        self.store().take(content, &pointer.oid).map_err(LfsRefusal::here)?;
        Ok(Response::new(full("")))
    }
}

/// Reads a batch that can be answered.
async fn read_batch(request: Request<Incoming>) -> Result<BatchRequest, LfsRefusal> {
    let too_many = || LfsRefusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too many objects in one batch");
    let (mut body, mut text) = (request.into_body(), vec![]);
    while let Some(bytes) = next_bytes(&mut body).await? {
        text.extend_from_slice(&bytes);
        if text.len() > MAX_REQUEST_BYTES {
            return Err(too_many());
        }
    }
    let batch: BatchRequest = serde_json::from_slice(&text)
        .map_err(|error| LfsRefusal::new(StatusCode::UNPROCESSABLE_ENTITY, format!("not a batch: {error}")))?;
    if batch.objects.len() > MAX_OBJECTS {
        return Err(too_many());
    }
    if batch.hash_algo.as_ref().is_some_and(|algorithm| algorithm != "sha256") {
        return Err(LfsRefusal::new(StatusCode::CONFLICT, "objects are named by SHA-256 here"));
    }
    let knows_basic = |transfers: &Vec<String>| transfers.is_empty() || transfers.iter().any(|one| one == "basic");
    if !batch.transfers.as_ref().is_none_or(knows_basic) {
        return Err(LfsRefusal::new(StatusCode::UNPROCESSABLE_ENTITY, "only the transfer `basic` is known here"));
    }
    Ok(batch)
}

fn refused(pointer: &LfsPointer, code: u16, message: String) -> ObjectAnswer {
    let error = LfsObjectError { code, message: format!("git-gate: {message}") };
    ObjectAnswer { oid: pointer.oid.clone(), size: pointer.size, actions: None, error: Some(error) }
}

/// The gate's address as the guest has written it.
fn base(request: &Request<Incoming>) -> Result<String, LfsRefusal> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let is_plain = |host: &&str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    let host = host.filter(is_plain);
    let host = host.ok_or_else(|| LfsRefusal::new(StatusCode::BAD_REQUEST, "a request without a host"))?;
    Ok(format!("http://{host}"))
}
