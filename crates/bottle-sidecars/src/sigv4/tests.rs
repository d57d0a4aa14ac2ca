//! Signatures that AWS's own documentation shows: S3's API Reference, "Examples: Signature Calculations". Botocore's are in
//! `tests/doors/aws.rs`.

use time::macros::datetime;

use super::*;

const AT: OffsetDateTime = datetime!(2013-05-24 00:00 UTC);

fn signer(service: &str) -> Signer {
    let keys = AwsKeys::new("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", None).expect("keys");
    Signer::new(keys, service, "us-east-1")
}

/// The chain behind a signature, which the documentation made over headers that are not signed here.
pub(super) fn chain(previous: &str) -> SignatureChain {
    let stamp = "20130524T000000Z\n20130524/us-east-1/s3/aws4_request".to_owned();
    SignatureChain { key: signer("s3").key("20130524"), stamp, previous: previous.to_owned() }
}

#[test]
fn requests_are_signed_as_aws_documents_it() {
    let host = "https://examplebucket.s3.amazonaws.com";
    for (target, range, signature) in [
        ("/test.txt", Some("bytes=0-9"), "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"),
        ("/?lifecycle", None, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"),
        ("/?max-keys=2&prefix=J", None, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
    ] {
        let uri: Uri = format!("{host}{target}").parse().expect("a URI");
        let mut headers = HeaderMap::new();
        if let Some(range) = range {
            headers.insert("range", HeaderValue::from_static(range));
        }
        signer("s3").sign(AT, "GET", &uri, &mut headers, &sha256_hex(b"")).expect("signed");
        let authorization = headers[AUTHORIZATION].to_str().expect("text");
        assert!(authorization.ends_with(&format!(", Signature={signature}")), "{target}: {authorization}");
        assert!(headers[AUTHORIZATION].is_sensitive());
    }
}

#[test]
fn a_url_is_written_in_the_one_form_and_means_the_same() {
    for (target, sent) in [
        ("/a b", None),
        ("/a(b):c%20d%2fe%7e", Some("/a%28b%29%3Ac%20d%2Fe~")),
        ("/a?b&c=&d=e+f&&%67=%2b", Some("/a?b&c=&d=e%20f&g=%2B")),
        ("/a%2", None),
        ("/a%zz", None),
        ("/%2e%2e/a", None),
        ("/a?b=%f", None),
        ("/%25%2F//b", Some("/%25%2F//b")),
    ] {
        let uri = format!("https://host.example{target}").parse::<Uri>().ok();
        let written = uri.and_then(|uri| sent_uri(&uri).ok());
        let path = written.as_ref().and_then(|uri| uri.path_and_query()).map(http::uri::PathAndQuery::as_str);
        assert_eq!(path, sent, "{target}");
    }
}

#[test]
fn a_presigned_query_is_told_however_it_is_written() {
    for (query, is_presigned) in [
        ("", false),
        ("acl&prefix=x-amz-signature", false),
        ("a=1&X-Amz-Signature=x", true),
        ("x-amz-CREDENTIAL", true),
        ("%58-Amz%2DAlgorithm=x", true),
        ("AWSAccessKeyId=x&Expires=1&Signature=y", true),
    ] {
        assert_eq!(Signer::is_presigned(query), is_presigned, "{query}");
    }
}
