//! The answers of AWS's Security Token Service, in XML (STS API Reference, "AssumeRoleWithWebIdentity").

use bottle_scan::aws_keys::AwsKeys;
use quick_xml::Reader;
use quick_xml::events::Event;

/// The longest name of an error that is told.
const MAX_ERROR_NAME: usize = 60;

/// The keys in an answer, and when they end.
pub(super) fn keys(body: &[u8]) -> Option<(AwsKeys, String)> {
    let inside = "AssumeRoleWithWebIdentityResponse/AssumeRoleWithWebIdentityResult/Credentials";
    let text = |name: &str| element(body, &format!("{inside}/{name}"));
    let token = text("SessionToken")?;
    let keys = AwsKeys::new(&text("AccessKeyId")?, &text("SecretAccessKey")?, Some(&token))?;
    Some((keys, text("Expiration")?))
}

/// The code of an error, if it is a word.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    let code = element(body, "ErrorResponse/Error/Code")?;
    let is_word = code.len() <= MAX_ERROR_NAME && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_word.then_some(code)
}

/// The text of the one element at a path; none: there is no such element, there are two, or it is no XML.
fn element(body: &[u8], path: &str) -> Option<String> {
    let wanted: Vec<&[u8]> = path.split('/').map(str::as_bytes).collect();
    let mut reader = Reader::from_reader(body);
    let (mut at, mut found): (Vec<Vec<u8>>, Option<String>) = (vec![], None);
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) => {
                at.push(start.local_name().as_ref().to_vec());
                if at == wanted && found.replace(String::new()).is_some() {
                    return None;
                }
            }
            Event::End(_) => drop(at.pop()?),
            Event::Text(text) if at == wanted => found.as_mut()?.push_str(&text.decode().ok()?),
            // Keys have no characters that XML writes in another way.
            Event::GeneralRef(_) | Event::CData(_) if at == wanted => return None,
            Event::Eof => return found.map(|text| text.trim().to_owned()),
            _ => {}
        }
    }
}
