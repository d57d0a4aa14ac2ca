//! Signature Version 4, by which AWS and what speaks like it know who sends a request.
//!
//! Source: AWS General Reference, "Create a signed AWS API request"; for S3 its API Reference, "Authenticating Requests (AWS Signature
//! Version 4)". Map: `canonical` (the one form of a path, a query and headers), `chunked` (uploads whose chunks are signed one by one),
//! here the signature.
//!
//! Always: what is signed is what is sent; path and query are written in the one form before both. A key signs for one service in one
//! region. No socket, no clock.

mod canonical;
pub(crate) mod chunked;

use bottle_scan::aws_keys::AwsKeys;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use ring::digest::{SHA256, digest};
use ring::hmac::{self, HMAC_SHA256};
use time::OffsetDateTime;

use canonical::PathRule;
pub(crate) use canonical::{CanonicalError, sent_uri};

pub(crate) const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
pub(crate) const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
pub(crate) const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
pub(crate) const X_AMZ_DECODED_CONTENT_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
pub(crate) const X_AMZ_TRAILER: HeaderName = HeaderName::from_static("x-amz-trailer");

/// What stands for a body's hash where the body is not signed.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The services whose requests are signed by S3's rules.
const S3: [&str; 3] = ["s3", "s3-outposts", "s3-object-lambda"];

/// Headers by which a client says who it is; those of the guest's go no further.
pub(crate) const IDENTIFYING: [&str; 7] = [
    "authorization",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-content-sha256",
    "x-amz-region-set",
    "x-amz-s3session-token",
    "x-amz-create-session-mode",
];

/// The parameters of a query by which a presigned URL says who made it, in small letters (versions 4 and 2).
const PRESIGNED: [&str; 9] = [
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-signature",
    "x-amz-security-token",
    "x-amz-signedheaders",
    "x-amz-expires",
    "x-amz-date",
    "awsaccesskeyid",
    "signature",
];

/// Signs requests to one service in one region.
pub(crate) struct Signer {
    keys: AwsKeys,
    service: String,
    region: String,
}

/// A signature that others follow: each chunk's is made over that of the one before.
pub(crate) struct SignatureChain {
    key: hmac::Key,
    /// The time and the scope, as every text to sign has them.
    stamp: String,
    previous: String,
}

/// SHA-256 in hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

impl Signer {
    pub(crate) fn new(keys: AwsKeys, service: &str, region: &str) -> Self {
        Self { keys, service: service.to_owned(), region: region.to_owned() }
    }

    /// Whether S3's rules hold: a path is encoded once, and bodies may be unsigned or in signed chunks.
    pub(crate) fn is_s3(&self) -> bool {
        S3.contains(&self.service.as_str())
    }

    fn rule(&self) -> PathRule {
        if self.is_s3() { PathRule::S3 } else { PathRule::Other }
    }

    /// Whether a query says by itself who made the request.
    pub(crate) fn is_presigned(query: &str) -> bool {
        canonical::pairs(query).any(|(name, _)| PRESIGNED.contains(&name.to_ascii_lowercase().as_str()))
    }

    /// Puts a signature into the headers of a request whose URI is in the one form, and gives what its chunks are signed with.
    /// `payload` is the body's hash, or what stands for it.
    pub(crate) fn sign(
        &self,
        at: OffsetDateTime,
        method: &str,
        uri: &Uri,
        headers: &mut HeaderMap,
        payload: &str,
    ) -> Result<SignatureChain, CanonicalError> {
        let at = at.to_utc();
        let date = format!("{:04}{:02}{:02}", at.year(), u8::from(at.month()), at.day());
        let time = format!("{date}T{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second());
        for name in IDENTIFYING {
            headers.remove(name);
        }
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| CanonicalError::Header);
        headers.insert(X_AMZ_DATE, value(&time)?);
        if let Some(token) = &self.keys.session_token {
            let mut token = value(token.expose())?;
            token.set_sensitive(true);
            headers.insert(X_AMZ_SECURITY_TOKEN, token);
        }
        if self.is_s3() {
            headers.insert(X_AMZ_CONTENT_SHA256, value(payload)?);
        }
        let host = uri.authority().ok_or(CanonicalError::Host)?.as_str();
        let signed = canonical::signed_headers(host, headers);
        let request = canonical::request(self.rule(), method, uri, &signed, payload);
        let scope = format!("{date}/{}/{}/aws4_request", self.region, self.service);
        let stamp = format!("{time}\n{scope}");
        let key = self.key(&date);
        let signature = mac(&key, &format!("{ALGORITHM}\n{stamp}\n{}", sha256_hex(&request)));
        let names = canonical::names(&signed);
        let id = &self.keys.access_key_id;
        let mut authorization =
            value(&format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}"))?;
        authorization.set_sensitive(true);
        headers.remove(HOST);
        headers.insert(AUTHORIZATION, authorization);
        Ok(SignatureChain { key, stamp, previous: signature })
    }

    /// The key of one day, region and service.
    fn key(&self, date: &str) -> hmac::Key {
        let first = hmac::Key::new(HMAC_SHA256, format!("AWS4{}", self.keys.secret_access_key.expose()).as_bytes());
        [date, &self.region, &self.service, "aws4_request"]
            .iter()
            .fold(first, |key, part| hmac::Key::new(HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref()))
    }
}

fn mac(key: &hmac::Key, text: &str) -> String {
    hex::encode(hmac::sign(key, text.as_bytes()))
}

impl SignatureChain {
    /// Signs the next chunk.
    fn chunk(&mut self, data: &[u8]) -> &str {
        self.next("AWS4-HMAC-SHA256-PAYLOAD", &format!("{}\n{}", sha256_hex(b""), sha256_hex(data)))
    }

    /// Signs what follows the last chunk: lines of a name, a colon and a value.
    fn trailers(&mut self, lines: &str) -> &str {
        self.next("AWS4-HMAC-SHA256-TRAILER", &sha256_hex(lines.as_bytes()))
    }

    fn next(&mut self, algorithm: &str, digest: &str) -> &str {
        self.previous = mac(&self.key, &format!("{algorithm}\n{}\n{}\n{digest}", self.stamp, self.previous));
        &self.previous
    }
}

#[cfg(test)]
mod tests;
