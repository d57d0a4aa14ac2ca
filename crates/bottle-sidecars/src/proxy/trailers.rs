//! Trailers on their way. Over HTTP/1.1, which the doors speak to each other, only trailers pass that the head names, and over HTTP/2
//! nobody names them: between the doors all of them are values of one trailer that every head names.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::headers;

/// The one trailer.
const FIELD: HeaderName = HeaderName::from_static(headers::TRAILERS);

/// A body whose trailers are changed.
pub(crate) struct MapTrailers<B, F> {
    body: B,
    map: F,
}

impl<B, F: Fn(HeaderMap) -> HeaderMap> MapTrailers<B, F> {
    pub(crate) fn new(body: B, map: F) -> Self {
        Self { body, map }
    }
}

impl<B, F> HttpBody for MapTrailers<B, F>
where
    B: HttpBody<Data = Bytes> + Unpin,
    F: Fn(HeaderMap) -> HeaderMap + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        Pin::new(&mut this.body).poll_frame(cx).map_ok(|frame| match frame.into_trailers() {
            Ok(trailers) => Frame::trailers((this.map)(trailers)),
            Err(frame) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Names the one trailer in a head, unless the body's length is said, and nothing can follow it.
pub(crate) fn announce(headers: &mut HeaderMap) {
    if !headers.contains_key(CONTENT_LENGTH) {
        headers.append(TRAILER, HeaderValue::from_static(headers::TRAILERS));
    }
}

/// Takes that name out of a head again.
pub(crate) fn forget(headers: &mut HeaderMap) {
    let named: Vec<HeaderValue> =
        headers.get_all(TRAILER).iter().filter(|names| *names != headers::TRAILERS).cloned().collect();
    headers.remove(TRAILER);
    for names in named {
        headers.append(TRAILER, names);
    }
}

/// Makes all trailers values of the one.
pub(crate) fn pack(trailers: HeaderMap) -> HeaderMap {
    let fields = trailers.iter().map(|(name, value)| [name.as_str().as_bytes(), b":", value.as_bytes()].concat());
    fields.filter_map(|field| Some((FIELD, HeaderValue::from_bytes(&field).ok()?))).collect()
}

/// Undoes [`pack`]; other trailers than the one are nobody's.
pub(crate) fn unpack(packed: HeaderMap) -> HeaderMap {
    let field = |field: &HeaderValue| {
        let colon = memchr::memchr(b':', field.as_bytes())?;
        let (name, value) = (&field.as_bytes()[..colon], &field.as_bytes()[colon + 1..]);
        Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
    };
    let mut trailers = HeaderMap::new();
    for (name, value) in packed.get_all(FIELD).iter().filter_map(field) {
        trailers.append(name, value);
    }
    trailers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked() {
        let mut trailers = HeaderMap::new();
        for (name, value) in [("grpc-status", "0"), ("x-many", "a: b"), ("x-many", "c"), ("x-empty", "")] {
            trailers.append(name, HeaderValue::from_static(value));
        }
        let packed = pack(trailers.clone());
        assert!(packed.keys().all(|name| name == FIELD), "{packed:?}");
        assert_eq!(unpack(packed), trailers);
    }

    #[test]
    fn a_head_names_the_one_trailer_and_forgets_it() {
        let mut headers = HeaderMap::new();
        headers.insert(TRAILER, HeaderValue::from_static("x-sum, x-key"));
        announce(&mut headers);
        assert_eq!(headers.get_all(TRAILER).iter().count(), 2);
        forget(&mut headers);
        assert_eq!(headers.get_all(TRAILER).iter().collect::<Vec<_>>(), ["x-sum, x-key"]);
    }
}
