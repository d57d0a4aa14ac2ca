//! AWS's keys, as its tools hand them to each other.

use bottle_types::secret::Secret;
use serde::{Deserialize, Serialize};

/// An access key that signs, and the token that goes with one that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsKeys {
    /// The public part, which every signature names.
    pub access_key_id: String,
    /// The part that signs and is never sent.
    pub secret_access_key: Secret<String>,
    /// Sent beside each signature of temporary keys.
    pub session_token: Option<Secret<String>>,
}

/// What a program for `credential_process` prints: AWS SDKs and Tools Reference Guide, "Process credential provider".
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Printed {
    #[serde(default = "version")]
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session_token: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expiration: Option<String>,
}

fn version() -> u32 {
    1
}

impl AwsKeys {
    /// Takes the parts; none: one of them can't stand in a header.
    pub fn new(access_key_id: &str, secret_access_key: &str, session_token: Option<&str>) -> Option<Self> {
        let is_plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        // The id stands between a slash and a comma.
        let is_id = is_plain(access_key_id) && !access_key_id.contains(['/', ',']);
        (is_id && is_plain(secret_access_key) && session_token.is_none_or(is_plain)).then(|| Self {
            access_key_id: access_key_id.to_owned(),
            secret_access_key: Secret::new(secret_access_key.to_owned()),
            session_token: session_token.map(|token| Secret::new(token.to_owned())),
        })
    }

    /// Reads what a program for `credential_process` prints, and when the keys end, as RFC 3339 writes it; none: it is something else.
    pub fn parse(text: &[u8]) -> Option<(Self, Option<String>)> {
        let printed: Printed = serde_json::from_slice(text).ok()?;
        let keys = Self::new(&printed.access_key_id, &printed.secret_access_key, printed.session_token.as_deref())?;
        (printed.version == 1).then_some((keys, printed.expiration))
    }

    /// Writes the same in one line, without an end.
    pub fn to_line(&self) -> String {
        let printed = Printed {
            version: 1,
            access_key_id: self.access_key_id.clone(),
            secret_access_key: self.secret_access_key.expose().clone(),
            session_token: self.session_token.as_ref().map(|token| token.expose().clone()),
            expiration: None,
        };
        serde_json::to_string(&printed).expect("texts are JSON")
    }

    /// The parts that are secret.
    pub fn secret_parts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.secret_access_key).chain(&self.session_token).map(|part| part.expose().as_str())
    }
}

/// The texts in a credential's value that are secrets: AWS's keys by their parts, any other value as it is.
pub fn secret_texts(value: &[u8]) -> Vec<Vec<u8>> {
    match AwsKeys::parse(value) {
        Some((keys, _)) => keys.secret_parts().map(|part| part.as_bytes().to_vec()).collect(),
        None => vec![value.to_vec()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_as_they_are_written_and_their_parts_are_the_secrets() {
        let keys = AwsKeys::new("an-id", "a-secret/key+", Some("a-token==")).expect("keys");
        assert_eq!(AwsKeys::parse(keys.to_line().as_bytes()), Some((keys.clone(), None)));
        let printed =
            br#"{"Version": 1, "AccessKeyId": "an-id", "SecretAccessKey": "a-secret/key+", "SessionToken": "a-token==",
            "Expiration": "2030-01-02T03:04:05Z", "AccountId": "123"}"#;
        assert_eq!(AwsKeys::parse(printed), Some((keys, Some("2030-01-02T03:04:05Z".to_owned()))));
        assert_eq!(secret_texts(printed), [b"a-secret/key+".to_vec(), b"a-token==".to_vec()]);
        assert_eq!(secret_texts(b"another value"), [b"another value".to_vec()]);
        assert!(!format!("{:?}", AwsKeys::parse(printed)).contains("a-secret"));
    }

    #[test]
    fn what_can_not_stand_in_a_header_is_no_key() {
        for (id, secret, token) in [
            ("", "s", None),
            ("a/b", "s", None),
            ("a,b", "s", None),
            ("a", "", None),
            ("a", "s s", None),
            ("a", "s", Some("t\n")),
        ] {
            assert_eq!(AwsKeys::new(id, secret, token), None, "{id} {secret} {token:?}");
        }
        let other = br#"{"Version": 2, "AccessKeyId": "an-id", "SecretAccessKey": "a-secret"}"#;
        assert_eq!(AwsKeys::parse(other), None);
    }
}
