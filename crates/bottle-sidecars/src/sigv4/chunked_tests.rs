use http_body_util::{BodyExt as _, StreamBody};

use super::super::tests::chain;
use super::*;
use crate::proxy::response::boxed;

fn body(pieces: Vec<Bytes>, trailers: Option<HeaderMap>) -> Body {
    let data = pieces.into_iter().map(Frame::data).chain(trailers.map(Frame::trailers));
    boxed(StreamBody::new(futures_util::stream::iter(data.map(Ok::<_, BoxError>).collect::<Vec<_>>())))
}

async fn framed(seed: &str, trailers: Option<HeaderMap>) -> String {
    let pieces = vec![Bytes::from(vec![b'a'; 1000]); 66].into_iter().chain([Bytes::from(vec![b'a'; 560])]).collect();
    let has_trailers = trailers.is_some();
    let framed = Framed::new(body(pieces, trailers), chain(seed), has_trailers);
    String::from_utf8(framed.collect().await.expect("a body").to_bytes().to_vec())
        .expect("text")
        .replace("aaaaaaaa", "")
}

#[tokio::test]
async fn chunks_are_signed_as_aws_documents_it() {
    let text = framed("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9", None).await;
    assert_eq!(
        text,
        "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n\r\n\
         400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n\r\n\
         0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n"
    );
    assert_eq!(framed_bytes(66_560), text.len() as u64 + 66_560);
    assert_eq!(framed_bytes(0), (1 + SIGNATURE.len() + SIGNATURE_BYTES + 4) as u64);
}

#[tokio::test]
async fn trailers_are_signed_as_aws_documents_it() {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-amz-checksum-crc32c", HeaderValue::from_static("sOO8/Q=="));
    let text = framed("106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e", Some(trailers)).await;
    assert_eq!(
        text,
        "10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n\r\n\
         400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n\r\n\
         0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n\
         x-amz-checksum-crc32c:sOO8/Q==\r\n\
         x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
    );
}

fn upload(decoded: u64, trailers: &[&'static str], has_signatures: bool) -> ChunkedUpload {
    let trailers = trailers.iter().map(|name| HeaderName::from_static(name)).collect();
    ChunkedUpload { decoded, trailers, has_signatures }
}

/// The payload, or the error; the same however the bytes come.
async fn unframed(upload: &ChunkedUpload, text: &str) -> Result<(Vec<u8>, HeaderMap), String> {
    let mut all = vec![];
    for size in [1, 7, text.len().max(1)] {
        let pieces = text.as_bytes().chunks(size).map(Bytes::copy_from_slice).collect();
        let collected = Unframed::new(body(pieces, None), Some(upload.clone())).collect().await;
        all.push(collected.map_err(|error| error.to_string()).map(|collected| {
            let trailers = collected.trailers().cloned().unwrap_or_default();
            (collected.to_bytes().to_vec(), trailers)
        }));
    }
    assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    all.remove(0)
}

/// `SIG` stands for a signature.
fn with_signatures(text: &str) -> String {
    text.replace("SIG", &format!("{SIGNATURE}{}", "0f".repeat(SIGNATURE_BYTES / 2)))
}

#[tokio::test]
async fn a_clients_own_frames_are_taken_off() {
    let signed = upload(5, &[], true);
    let text = with_signatures("3SIG\r\nabc\r\n2SIG\r\n\r\n\r\n0SIG\r\n\r\n");
    assert_eq!(unframed(&signed, &text).await, Ok((b"abc\r\n".to_vec(), HeaderMap::new())));
    let unsigned = upload(3, &["x-amz-checksum-crc32"], false);
    let (payload, trailers) =
        unframed(&unsigned, "3\r\nabc\r\n0\r\nx-amz-checksum-crc32: NSRBwg==\r\n\r\n").await.expect("a payload");
    assert_eq!(
        (payload.as_slice(), &trailers["x-amz-checksum-crc32"]),
        (&b"abc"[..], &HeaderValue::from_static("NSRBwg=="))
    );
    assert_eq!(unframed(&upload(0, &[], true), &with_signatures("0SIG\r\n\r\n")).await.map(|read| read.0), Ok(vec![]));
}

#[tokio::test]
async fn frames_that_are_none_end_in_an_error() {
    let crc = "x-amz-checksum-crc32";
    for (text, trailers, has_signatures, error) in [
        ("", &[][..], true, FrameError::CutOff),
        ("3SIG\r\nabc", &[], true, FrameError::CutOff),
        ("3SIG\r\nabc\r\n0SIG\r\n", &[], true, FrameError::CutOff),
        ("2SIG\r\nab\r\n0SIG\r\n\r\n", &[], true, FrameError::Shorter),
        ("4SIG\r\nabcd\r\n0SIG\r\n\r\n", &[], true, FrameError::Longer),
        ("3SIG\r\nabc\r\n1SIG\r\nd\r\n0SIG\r\n\r\n", &[], true, FrameError::Longer),
        ("3SIG\r\nabcd\r\n0SIG\r\n\r\n", &[], true, FrameError::Line),
        ("3SIG\r\nabc\r\n0SIG\r\n\r\nmore", &[], true, FrameError::Rest),
        ("3\r\nabc\r\n0\r\n\r\n", &[], true, FrameError::Line),
        ("3SIG\r\nabc\r\n0SIG\r\n\r\n", &[], false, FrameError::Line),
        ("3;chunk-signature=0f\r\nabc\r\n", &[], true, FrameError::Line),
        ("3SIG;a=b\r\nabc\r\n", &[], true, FrameError::Line),
        ("3;a=b\r\nabc\r\n", &[], true, FrameError::Line),
        ("+3\r\nabc\r\n", &[], false, FrameError::Line),
        ("\r\nabc\r\n", &[], false, FrameError::Line),
        ("fffffffffffffffff\r\n", &[], false, FrameError::Line),
        ("ffffffffffffffff\r\n", &[], false, FrameError::Longer),
        ("3\r\nabc\r\n0\r\n\r\n", &[crc][..], false, FrameError::Trailer),
        ("3\r\nabc\r\n0\r\nx-other: 1\r\n\r\n", &[crc], false, FrameError::Trailer),
        (
            "3\r\nabc\r\n0\r\nx-amz-checksum-crc32: 1\r\nx-amz-checksum-crc32: 2\r\n\r\n",
            &[crc],
            false,
            FrameError::Trailer,
        ),
        ("3\r\nabc\r\n0\r\nx-amz-checksum-crc32\r\n\r\n", &[crc], false, FrameError::Line),
        ("3\r\nabc\r\n0\r\nx-amz-checksum-crc32: \u{1}\r\n\r\n", &[crc], false, FrameError::Line),
    ] {
        let read = unframed(&upload(3, trailers, has_signatures), &with_signatures(text)).await;
        assert_eq!(read, Err(error.to_string()), "{text:?}");
    }
    let long = "0".repeat(MAX_LINE_BYTES + 1);
    assert_eq!(unframed(&upload(3, &[], false), &long).await, Err(FrameError::LongLine.to_string()));
}
