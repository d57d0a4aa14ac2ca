//! Where a value comes from: a variable, a file, a command, or an exchange that another room knows how to make.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use bottle_plan::plan::{CommandSource, SecretSource, TokenExchange};
use bottle_scan::aws_keys::AwsKeys;
use bottle_types::address::userinfo;
use bottle_types::secret::Secret;
use futures_util::future::BoxFuture;
use rustix::fs::OFlags;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::deploy_key;
use crate::host::{self, Environment};
use crate::process::Program;

/// The longest value, and all that a file or a command may say about it.
const MAX_BYTES: usize = 64 << 10;
/// How long a file system may take to give a file.
const FILE_TIMEOUT: Duration = Duration::from_secs(10);

/// A value, as its source has given it.
#[derive(Debug, Clone)]
pub(crate) struct FreshValue {
    pub(crate) value: Secret<Vec<u8>>,
    pub(crate) life: Option<ValueLife>,
}

impl FreshValue {
    /// Takes a text for a value that is good for so long from then on, in milliseconds since 1970; none: for ever.
    pub(crate) fn new(text: &str, from: u64, lifetime: Option<Duration>) -> Result<Self, UnusableValue> {
        usable_line(text.trim().as_bytes())?;
        let life = lifetime.map(|lifetime| ValueLife { from, to: end_of(from, lifetime) });
        if life.is_some_and(|life| life.to <= from) {
            return Err(UnusableValue::Ended);
        }
        Ok(Self { value: Secret::new(text.trim().as_bytes().to_vec()), life })
    }
}

/// Wants a text that is not empty and of one line.
fn usable_line(text: &[u8]) -> Result<(), UnusableValue> {
    if text.is_empty() {
        return Err(UnusableValue::Empty);
    }
    if text.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
        return Err(UnusableValue::Lines);
    }
    Ok(())
}

/// The end of a time that begins so, in milliseconds since 1970.
fn end_of(from: u64, lifetime: Duration) -> u64 {
    from.saturating_add(u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX))
}

/// How long a value is good, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValueLife {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// No value is used any more this long before its end: clocks differ, and a request takes its time.
const LONGEST_MARGIN_MS: u64 = 10_000;

impl ValueLife {
    /// From now until `expires_at`, as GitHub's API says it.
    pub(crate) fn until(now: u64, expires_at: &str) -> Result<Self, UnusableValue> {
        let to = end(expires_at)?;
        if to <= now { Err(UnusableValue::Ended) } else { Ok(Self { from: now, to }) }
    }

    /// When it is to be renewed: after five of its six parts.
    pub(crate) fn renew_at(self) -> u64 {
        self.to - (self.to - self.from) / 6
    }

    /// When it is not used any more: a twelfth of it before its end, or ten seconds.
    pub(crate) fn last_use(self) -> u64 {
        self.to - ((self.to - self.from) / 12).min(LONGEST_MARGIN_MS)
    }
}

/// An exchange that gives values, such as a token for a key.
pub(crate) trait Exchange: Send + Sync {
    /// Makes one more value; an error says what failed, and has nothing of a value in it.
    fn exchange(&self) -> BoxFuture<'_, Result<FreshValue, String>>;

    /// Says what to do where there is no first value.
    fn hint(&self) -> String;
}

/// Makes the exchange that a plan names, with what the environment has for it.
pub(crate) type MakeExchange = fn(&TokenExchange, &Environment) -> Arc<dyn Exchange>;

/// A source of values.
#[derive(Clone)]
pub(crate) enum ValueSource {
    Env(String),
    ProxyPassword(String),
    File(String),
    Command(CommandSource),
    Exchange(Arc<dyn Exchange>),
    DeployKey,
    Canary,
}

impl ValueSource {
    /// What a plan names.
    pub(crate) fn new(source: &SecretSource, environment: &Environment, make: MakeExchange) -> Self {
        match source {
            SecretSource::Env(name) => Self::Env(name.clone()),
            SecretSource::ProxyPassword(name) => Self::ProxyPassword(name.clone()),
            SecretSource::File(path) => Self::File(path.clone()),
            SecretSource::Command(command) => Self::Command(command.clone()),
            SecretSource::Exchange(exchange) => Self::Exchange(make(exchange, environment)),
            SecretSource::DeployKey => Self::DeployKey,
            SecretSource::Canary(_) => Self::Canary,
        }
    }

    /// Reads, runs or exchanges it once; an error says what failed, and has nothing of a value in it.
    pub(crate) async fn read(&self, environment: &Environment) -> Result<FreshValue, String> {
        match self {
            Self::Env(name) => {
                let value = environment.get(name).ok_or_else(|| format!("the variable {name} is not set"))?;
                Ok(FreshValue { value: Secret::new(value.as_bytes().to_vec()), life: None })
            }
            Self::ProxyPassword(name) => {
                let value = environment.get(name).ok_or_else(|| format!("the variable {name} is not set"))?;
                let password = userinfo(value).and_then(|(_, password)| password);
                let password = password.ok_or_else(|| format!("there is no password in {name}"))?;
                usable_line(password.as_bytes()).map_err(|error| format!("the password in {name}: {error}"))?;
                Ok(FreshValue { value: Secret::new(password.into_bytes()), life: None })
            }
            Self::File(path) => in_time(path).await,
            Self::Command(source) => command(source, environment).await,
            Self::Exchange(exchange) => exchange.exchange().await,
            Self::DeployKey => Ok(FreshValue { value: deploy_key::make()?, life: None }),
            Self::Canary => {
                let value = host::canary().map_err(|failure| failure.to_string())?;
                Ok(FreshValue { value: Secret::new(value.into_bytes()), life: None })
            }
        }
    }

    /// Whether it may give another value later.
    pub(crate) fn is_renewable(&self) -> bool {
        !matches!(self, Self::Env(_) | Self::ProxyPassword(_) | Self::DeployKey | Self::Canary)
    }

    /// What to do about a failure to read it at the start.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Env(name) => format!("set {name}, or give --replay to answer the model from a cassette"),
            Self::ProxyPassword(name) => format!("write {name} as http://user:password@host:port"),
            Self::File(_) => "give a readable file in claude-bottle.yml".to_owned(),
            Self::Command(source) => format!("run it by hand: {}", source.argv.join(" ")),
            Self::Exchange(exchange) => exchange.hint(),
            Self::DeployKey => "give the upstream `identity_file` in place of `deploy_key`".to_owned(),
            Self::Canary => "start the run again".to_owned(),
        }
    }
}

/// Reads a file beside the run: a file system that is out of reach must not stop it.
async fn in_time(path: &str) -> Result<FreshValue, String> {
    let own = path.to_owned();
    let read = tokio::task::spawn_blocking(move || file(&own));
    match tokio::time::timeout(FILE_TIMEOUT, read).await {
        Ok(Ok(read)) => read,
        Ok(Err(error)) => Err(format!("failed to read {path}: {error}")),
        Err(_) => Err(format!("failed to read {path} within {} s", FILE_TIMEOUT.as_secs())),
    }
}

/// Reads a file without waiting for anybody to write it.
fn file(path: &str) -> Result<FreshValue, String> {
    let failed = |error: std::io::Error| format!("failed to read {path}: {error}");
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(|error| format!("failed to read {path}: {error}"))?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let bytes =
        regular(file).map_err(failed)?.ok_or_else(|| format!("failed to read {path}: it is no regular file"))?;
    if bytes.len() > MAX_BYTES {
        return Err(format!("{path} has no usable value: it is longer than {MAX_BYTES} bytes"));
    }
    usable(bytes, None, host::unix_millis()).map_err(|why| format!("{path} has no usable value: {why}"))
}

/// The beginning of a regular file; none: it is a pipe, a directory or a device.
fn regular(file: File) -> std::io::Result<Option<Vec<u8>>> {
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = vec![];
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Runs a command, which gets no credential of the runner's but those that it was promised.
async fn command(source: &CommandSource, environment: &Environment) -> Result<FreshValue, String> {
    let began = host::unix_millis();
    let mut program = Program::new(&source.argv).bare().in_dir("/").limit(Duration::from(source.time));
    program.env = environment.without_credentials(&source.pass);
    let named = source.argv.first().map_or("", String::as_str);
    let ended = program.print(MAX_BYTES).await.map_err(|error| error.to_string())?;
    let ended = ended.ok_or_else(|| format!("`{named}` printed more than {MAX_BYTES} bytes"))?;
    if ended.code != 0 {
        return Err(format!("`{named}` ended with {}", ended.code));
    }
    let lifetime = source.lifetime.map(Duration::from);
    usable(ended.stdout, lifetime, began).map_err(|why| format!("`{named}` gave no usable value: {why}"))
}

/// What a file or a command may say in place of the value alone; GitHub's API answers so.
#[derive(Deserialize)]
struct Told {
    token: String,
    expires_at: Option<String>,
}

/// Why what was read is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableValue {
    #[error("it is not UTF-8 text")]
    NotText,
    #[error("it is empty")]
    Empty,
    #[error("it has more than one line")]
    Lines,
    #[error("it begins as a JSON object, and has neither `token`, a text, nor AWS's keys")]
    NoToken,
    #[error("its `expires_at` is no time as in RFC 3339, such as 2030-01-02T03:04:05Z")]
    NoTime,
    #[error("it has ended already")]
    Ended,
}

/// A time as RFC 3339 writes it, in milliseconds since 1970.
fn end(text: &str) -> Result<u64, UnusableValue> {
    let at = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| UnusableValue::NoTime)?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).map_err(|_| UnusableValue::Ended)
}

/// The value in what was read or printed: one line, a key in PEM, or a JSON object.
fn usable(bytes: Vec<u8>, lifetime: Option<Duration>, now: u64) -> Result<FreshValue, UnusableValue> {
    let text = std::str::from_utf8(&bytes).map_err(|_| UnusableValue::NotText)?;
    let line = text.trim();
    let mut to = lifetime.map(|lifetime| end_of(now, lifetime));
    let value = if let Some((keys, expiration)) = AwsKeys::parse(line.as_bytes()) {
        if let Some(text) = expiration {
            to = Some(end(&text)?);
        }
        keys.to_line().into_bytes()
    } else if line.starts_with('{') {
        let told: Told = serde_json::from_str(line).map_err(|_| UnusableValue::NoToken)?;
        if let Some(text) = told.expires_at {
            to = Some(end(&text)?);
        }
        told.token.trim().as_bytes().to_vec()
    } else if line.contains("-----BEGIN ") {
        text.as_bytes().to_vec()
    } else {
        line.as_bytes().to_vec()
    };
    if !line.contains("-----BEGIN ") {
        usable_line(&value)?;
    }
    if to.is_some_and(|to| to <= now) {
        return Err(UnusableValue::Ended);
    }
    Ok(FreshValue { value: Secret::new(value), life: to.map(|to| ValueLife { from: now, to }) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_893_553_445_000; // 2030-01-02T03:04:05Z

    fn read(text: &str, lifetime: Option<u64>) -> Result<(String, Option<u64>), UnusableValue> {
        let fresh = usable(text.as_bytes().to_vec(), lifetime.map(Duration::from_secs), NOW)?;
        let value = String::from_utf8(fresh.value.expose().clone()).expect("text");
        Ok((value, fresh.life.map(|life| life.to - NOW)))
    }

    #[test]
    fn a_line_or_an_object_is_a_value_and_nothing_else_is() {
        let ok = |value: &str, life| Ok((value.to_owned(), life));
        assert_eq!(read(" abc-def\r\n", None), ok("abc-def", None));
        assert_eq!(read("abc-def", Some(3)), ok("abc-def", Some(3000)));
        assert_eq!(read("{\"token\": \"abc\", \"id\": 7}\n", Some(9)), ok("abc", Some(9000)));
        let told = "{\n \"token\": \"abc\",\n \"expires_at\": \"2030-01-02T04:04:05+00:00\"\n}";
        assert_eq!(read(told, Some(9)), ok("abc", Some(3_600_000)));
        let keys = r#""Version":1,"AccessKeyId":"an-id","SecretAccessKey":"a-secret","SessionToken":"a-token""#;
        let printed = format!("{{{keys},\n \"Expiration\": \"2030-01-02T04:04:05Z\"}}\n");
        assert_eq!(read(&printed, None), ok(&format!("{{{keys}}}"), Some(3_600_000)));
        let ended = format!("{{{keys},\"Expiration\":\"2030-01-02T03:04:05Z\"}}");
        assert_eq!(read(&ended, None), Err(UnusableValue::Ended));
        for (text, why) in [
            ("", UnusableValue::Empty),
            (" \n\n", UnusableValue::Empty),
            ("{\"token\": \"\"}", UnusableValue::Empty),
            ("one\ntwo\n", UnusableValue::Lines),
            ("{\"token\": \"one\\ntwo\"}", UnusableValue::Lines),
            ("a\0b", UnusableValue::Lines),
            ("{\"value\": \"abc\"}", UnusableValue::NoToken),
            ("{\"token\": 1}", UnusableValue::NoToken),
            ("{abc", UnusableValue::NoToken),
            ("{\"AccessKeyId\": \"an-id\"}", UnusableValue::NoToken),
            ("{\"token\": \"abc\", \"expires_at\": \"tomorrow\"}", UnusableValue::NoTime),
            ("{\"token\": \"abc\", \"expires_at\": \"2030-01-02T03:04:05Z\"}", UnusableValue::Ended),
            ("{\"token\": \"abc\", \"expires_at\": \"1960-01-02T03:04:05Z\"}", UnusableValue::Ended),
        ] {
            assert_eq!(read(text, None), Err(why), "{text}");
        }
        assert_eq!(usable(vec![0xff; 20], None, NOW).err(), Some(UnusableValue::NotText));
    }

    #[test]
    fn an_hour_is_renewed_after_fifty_minutes_and_used_until_ten_seconds_before_its_end() {
        let hour = ValueLife { from: NOW, to: NOW + 3_600_000 };
        assert_eq!((hour.renew_at() - NOW, hour.last_use() - NOW), (3_000_000, 3_590_000));
        let short = ValueLife { from: NOW, to: NOW + 3000 };
        assert_eq!((short.renew_at() - NOW, short.last_use() - NOW), (2500, 2750));
    }
}
