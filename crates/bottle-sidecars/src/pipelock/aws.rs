//! Requests to AWS: their bodies made ready, and the signature made over what is sent.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use time::OffsetDateTime;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::policy::{Added, CompiledRoute};
use crate::proxy::response::{Body, BoxError, boxed};
use crate::proxy::trailers::MapTrailers;
use crate::sigv4::chunked::{ChunkedUpload, Framed, MAX_TRAILERS, framed_bytes};
use crate::sigv4::{
    CanonicalError, IDENTIFYING, Signer, UNSIGNED_PAYLOAD, X_AMZ_CONTENT_SHA256, X_AMZ_DECODED_CONTENT_LENGTH,
    X_AMZ_TRAILER, sent_uri, sha256_hex,
};

/// A longer body is not kept to be hashed; the model's API takes none that is longer.
pub(super) const MAX_HASHED_BYTES: u64 = 32 << 20;
/// All bodies that are kept at once, in KiB; whoever wants to keep one more waits.
static KEPT_KIB: Semaphore = Semaphore::const_new(64 << 10);
/// The coding that stands for S3's frames.
const AWS_CHUNKED: &str = "aws-chunked";

/// Why a request is not signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsigned {
    #[error("{0}")]
    Form(#[from] CanonicalError),
    #[error("it is presigned by somebody else; leave the signature out of its query")]
    Presigned,
    #[error("it is an upload by a form, which says in its fields who sends it; put the object instead")]
    PostForm,
    #[error(
        "it has a body in signed pieces, which `{0}` in x-amz-content-sha256 says, and of those only S3's aws-chunked uploads are known"
    )]
    Streaming(String),
    #[error("it has the content coding aws-chunked, and x-amz-content-sha256 does not say STREAMING-…")]
    NotStreaming,
    #[error("it has no usable {0}")]
    Header(HeaderName),
    #[error(
        "its body is longer than {MAX_HASHED_BYTES} bytes, and a service other than S3 takes none that is not hashed first"
    )]
    TooLong,
    #[error(
        "its body of unknown length is longer than {MAX_HASHED_BYTES} bytes; say its length, and S3 takes it unsigned"
    )]
    UnknownLength,
    /// The body ended with an error, which is known elsewhere.
    #[error("its body broke off: {0}")]
    Body(BoxError),
}

impl Unsigned {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLong | Self::UnknownLength => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Presigned | Self::PostForm => StatusCode::FORBIDDEN,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl CompiledRoute {
    /// The signer for AWS of a route that has one.
    pub(super) fn signer(&self) -> Option<&Signer> {
        match &self.credential.as_ref()?.added {
            Added::Signature(signer) => Some(signer),
            Added::Header(..) => None,
        }
    }

    /// What the head says of a request on this route: its upload in chunks, if it is one that is to be signed. To a model nobody's
    /// signature but the route's goes, whatever the route adds.
    pub(super) fn upload(&self, parts: &Parts) -> Result<Option<ChunkedUpload>, Unsigned> {
        match self.signer() {
            Some(signer) => upload(signer, parts),
            None if self.model && Signer::is_presigned(parts.uri.query().unwrap_or_default()) => {
                Err(Unsigned::Presigned)
            }
            None => Ok(None),
        }
    }
}

/// What the head says of a request that is to be signed: its upload in chunks, if it is one.
fn upload(signer: &Signer, parts: &Parts) -> Result<Option<ChunkedUpload>, Unsigned> {
    if Signer::is_presigned(parts.uri.query().unwrap_or_default()) {
        return Err(Unsigned::Presigned);
    }
    if signer.is_s3() && is_form(&parts.headers) {
        return Err(Unsigned::PostForm);
    }
    let payload = single(&parts.headers, &X_AMZ_CONTENT_SHA256)?.unwrap_or_default();
    if !payload.starts_with("STREAMING-") {
        let coded = codings(&parts.headers).any(|coding| coding.eq_ignore_ascii_case(AWS_CHUNKED));
        return if coded { Err(Unsigned::NotStreaming) } else { Ok(None) };
    }
    let (has_signatures, has_trailers) = match payload {
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" => (true, false),
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER" => (true, true),
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER" => (false, true),
        other => return Err(Unsigned::Streaming(other.chars().take(60).collect())),
    };
    if !signer.is_s3() {
        return Err(Unsigned::Streaming(payload.to_owned()));
    }
    let decoded = single(&parts.headers, &X_AMZ_DECODED_CONTENT_LENGTH)?.and_then(number);
    let decoded = decoded.ok_or(Unsigned::Header(X_AMZ_DECODED_CONTENT_LENGTH))?;
    let trailers = if has_trailers { trailers(&parts.headers)? } else { vec![] };
    Ok(Some(ChunkedUpload { decoded, trailers, has_signatures }))
}

/// Tells whether a body is a form with files, in which S3 takes a policy and a signature of anybody's.
fn is_form(headers: &HeaderMap) -> bool {
    const FORM: &[u8] = b"multipart/form-data";
    let begins = |value: &[u8]| value.get(..FORM.len()).is_some_and(|start| start.eq_ignore_ascii_case(FORM));
    headers.get_all(CONTENT_TYPE).iter().any(|value| begins(value.as_bytes().trim_ascii()))
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// The one value of a header.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Unsigned> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return if headers.contains_key(name) { Err(Unsigned::Header(name.clone())) } else { Ok(None) };
    };
    value.to_str().map(|text| Some(text.trim())).map_err(|_| Unsigned::Header(name.clone()))
}

/// The trailers that a head names: checksums, which are all that S3 knows.
fn trailers(headers: &HeaderMap) -> Result<Vec<HeaderName>, Unsigned> {
    let wrong = || Unsigned::Header(X_AMZ_TRAILER);
    let listed = single(headers, &X_AMZ_TRAILER)?.ok_or_else(wrong)?;
    let names = listed.split(',').map(|name| name.trim().parse().map_err(|_| wrong()));
    let mut names = names.collect::<Result<Vec<HeaderName>, _>>()?;
    let count = names.len();
    names.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    names.dedup();
    let is_checksum = |name: &HeaderName| name.as_str().starts_with("x-amz-checksum-");
    if names.len() != count || count > MAX_TRAILERS || !names.iter().all(is_checksum) {
        return Err(wrong());
    }
    Ok(names)
}

fn codings(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONTENT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|coding| !coding.is_empty())
}

/// Signs a request whose body is judged as it is read, and gives it as it is to be sent.
pub(super) async fn signed(
    signer: &Signer,
    mut parts: Parts,
    body: Body,
    upload: Option<ChunkedUpload>,
) -> Result<Request<Body>, Unsigned> {
    parts.uri = sent_uri(&parts.uri)?;
    for name in IDENTIFYING {
        parts.headers.remove(name);
    }
    let body = match upload {
        Some(upload) => in_chunks(signer, &mut parts, body, &upload)?,
        None => whole(signer, &mut parts, body).await?,
    };
    Ok(Request::from_parts(parts, body))
}

fn sign(signer: &Signer, parts: &mut Parts, payload: &str) -> Result<crate::sigv4::SignatureChain, CanonicalError> {
    signer.sign(OffsetDateTime::now_utc(), parts.method.as_str(), &parts.uri, &mut parts.headers, payload)
}

/// An upload in chunks of our own, each with its signature, and signed trailers, whatever the client's were.
fn in_chunks(signer: &Signer, parts: &mut Parts, body: Body, upload: &ChunkedUpload) -> Result<Body, Unsigned> {
    let others: Vec<&str> =
        codings(&parts.headers).filter(|coding| !coding.eq_ignore_ascii_case(AWS_CHUNKED)).collect();
    let coding = std::iter::once(AWS_CHUNKED).chain(others).collect::<Vec<_>>().join(",");
    let coding = HeaderValue::from_str(&coding).map_err(|_| Unsigned::Header(CONTENT_ENCODING))?;
    parts.headers.insert(CONTENT_ENCODING, coding);
    parts.headers.insert(X_AMZ_DECODED_CONTENT_LENGTH, upload.decoded.into());
    parts.headers.remove(X_AMZ_TRAILER);
    parts.headers.remove(CONTENT_LENGTH);
    let has_trailers = !upload.trailers.is_empty();
    let payload = if has_trailers {
        let names = upload.trailers.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(",");
        let names = HeaderValue::from_str(&names).map_err(|_| Unsigned::Header(X_AMZ_TRAILER))?;
        parts.headers.insert(X_AMZ_TRAILER, names);
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    } else {
        // With trailers the length is not known: a checksum's is not.
        parts.headers.insert(CONTENT_LENGTH, framed_bytes(upload.decoded).into());
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    };
    let chain = sign(signer, parts, payload)?;
    Ok(boxed(Framed::new(body, chain, has_trailers)))
}

/// A body that is hashed first, or where S3 lets it be, not at all.
async fn whole(signer: &Signer, parts: &mut Parts, body: Body) -> Result<Body, Unsigned> {
    let declared = match single(&parts.headers, &CONTENT_LENGTH)? {
        Some(text) => Some(number(text).ok_or(Unsigned::Header(CONTENT_LENGTH))?),
        None => None,
    };
    for name in [X_AMZ_DECODED_CONTENT_LENGTH, X_AMZ_TRAILER] {
        parts.headers.remove(name);
    }
    match declared {
        Some(length) if length > MAX_HASHED_BYTES => {
            // TLS keeps it whole; a route that signs has no other.
            if !signer.is_s3() || parts.uri.scheme_str() != Some("https") {
                return Err(Unsigned::TooLong);
            }
            sign(signer, parts, UNSIGNED_PAYLOAD)?;
            return Ok(boxed(MapTrailers::new(body, |_| HeaderMap::new())));
        }
        _ => {}
    }
    if body.is_end_stream() {
        sign(signer, parts, &sha256_hex(b""))?;
        return Ok(body);
    }
    let kib = u32::try_from(declared.unwrap_or(MAX_HASHED_BYTES).div_ceil(1 << 10)).unwrap_or(u32::MAX);
    let permit = KEPT_KIB.acquire_many(kib).await.map_err(|error| Unsigned::Body(error.into()))?;
    let too_long = || if signer.is_s3() { Unsigned::UnknownLength } else { Unsigned::TooLong };
    let bytes = read(body, too_long).await?;
    parts.headers.insert(CONTENT_LENGTH, bytes.len().into());
    sign(signer, parts, &sha256_hex(&bytes))?;
    Ok(boxed(KeptBody { body: Full::new(bytes), _permit: permit }))
}

/// Reads a body to its end; trailers are no part of what is signed, and are left out.
async fn read(mut body: Body, too_long: impl Fn() -> Unsigned) -> Result<Bytes, Unsigned> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Unsigned::Body)?.into_data() else { continue };
        if (bytes.len() + data.len()) as u64 > MAX_HASHED_BYTES {
            return Err(too_long());
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

/// A body that was hashed, and its place among those that are kept.
struct KeptBody {
    body: Full<Bytes>,
    _permit: SemaphorePermit<'static>,
}

impl HttpBody for KeptBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
