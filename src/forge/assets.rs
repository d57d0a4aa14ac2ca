//! Files that people attach to issues and comments: which addresses are those of one, and how it is fetched.
//!
//! No forge's API has them, so that they are fetched as a browser does. An address is one of an attachment by its whole form alone, and
//! so is each that a redirect leads to. The token goes along only where the forge wants one, to the forge's own host, never by a
//! redirect, and only for what nobody can guess or the job's own repository has: words that a stranger wrote must not get at what
//! another repository's token could read.
//!
//! Sources: <https://docs.github.com/en/get-started/writing-on-github/working-with-advanced-formatting/attaching-files>; the hosts of
//! github.com's Content-Security-Policy; `/storage/user` and `media.HOST` of GitHub Enterprise Server's subdomain isolation; `attachments`
//! of Gitea's and Forgejo's `routers/web/web.go`.

use std::error::Error;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bottle_plan::facts::ForgeKind;
use bottle_types::net;
use bottle_types::units::ByteSize;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION};
use reqwest::{Client, Url};

use super::answer::explain;

/// github.com keeps pictures and files there.
const GITHUB_STORES: [&str; 6] = [
    "user-images.githubusercontent.com",
    "private-user-images.githubusercontent.com",
    "objects.githubusercontent.com",
    "github-production-user-asset-6210df.s3.amazonaws.com",
    "github-production-repository-file-5c1aeb.s3.amazonaws.com",
    "github-production-repository-image-32fea6.s3.amazonaws.com",
];
/// Of these a person can name an address; the others are where github.com itself leads to.
const GITHUB_NAMED_STORES: usize = 2;
/// github.com leads to its stores by one.
const MAX_REDIRECTS: usize = 3;
/// One file takes no longer.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);

/// Why there is no file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AssetError {
    #[error("the forge answers {0}")]
    Status(u16),
    #[error("the forge leads to {0}, which is no place of its attachments")]
    Elsewhere(String),
    #[error("the forge leads from one address to the next, more than {MAX_REDIRECTS} times")]
    Circle,
    #[error("it is larger than {0}")]
    TooLarge(ByteSize),
    #[error("it did not come within {} s", FETCH_TIMEOUT.as_secs())]
    Slow,
    #[error("it can't be fetched: {0}")]
    Lost(String),
}

/// An address of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asset {
    pub(crate) url: Url,
    /// Whether the job's token may go along, where the forge gives nobody the file without one.
    may_have_token: bool,
    /// The file's name, where the address has it.
    pub(crate) name: Option<String>,
}

impl Asset {
    /// The address for people, without what signs it.
    pub(crate) fn shown(&self) -> String {
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        url.into()
    }
}

/// The attachments of a forge.
pub(super) struct Assets {
    kind: ForgeKind,
    server: Url,
    owner: String,
    name: String,
}

impl Assets {
    /// The attachments of the forge at this address for browsers, as the job of this repository sees them.
    pub(super) fn new(kind: ForgeKind, server: &str, owner: &str, name: &str) -> Result<Self, String> {
        let server =
            Url::parse(server).map_err(|error| format!("the forge's address for browsers is not one: {error}"))?;
        Ok(Self { kind, server, owner: owner.to_owned(), name: name.to_owned() })
    }

    /// Reads an address that stands in a text, relative ones as the forge shows them; none that is not an attachment's.
    pub(super) fn read(&self, address: &str) -> Option<Asset> {
        let url = Url::options().base_url(Some(&self.server)).parse(address).ok()?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        if has_user || url.query().is_some_and(|query| query.len() > 4096) {
            return None;
        }
        let asset = |may_have_token, name: Option<&str>| {
            let name = name.map(str::to_owned);
            Some(Asset { url: url.clone(), may_have_token, name })
        };
        let path: Vec<&str> = url.path_segments()?.collect();
        if url.origin() == self.server.origin() {
            return match (self.kind, self.below(&path)) {
                (ForgeKind::Github, ["user-attachments", "assets", id]) if is_uuid(id) => asset(true, None),
                // Numbers and names can be guessed.
                (ForgeKind::Github, ["user-attachments", "files", id, name]) if is_number(id) => {
                    asset(false, Some(name))
                }
                (ForgeKind::Github, [owner, repository, "assets", user, id]) if is_number(user) && is_uuid(id) => {
                    asset(self.is_own(owner, repository), None)
                }
                (ForgeKind::Github, [owner, repository, "files", id, name]) if is_number(id) => {
                    asset(self.is_own(owner, repository), Some(name))
                }
                (ForgeKind::Github, ["storage", "user", user, "files", id]) if is_number(user) && is_uuid(id) => {
                    asset(true, None)
                }
                (ForgeKind::Gitea, ["attachments", id]) if is_uuid(id) => self.at_gitea(id),
                (ForgeKind::Gitea, [_, _, "attachments", id]) if is_uuid(id) => self.at_gitea(id),
                _ => None,
            };
        }
        let is_https = url.scheme() == "https" && url.port().is_none();
        let host = url.host_str().filter(|_| is_https && self.kind == ForgeKind::Github)?;
        let is_media = self.server.host_str().is_some_and(|own| host.strip_prefix("media.") == Some(own));
        match path.as_slice() {
            ["user", user, "files", id] if is_media && is_number(user) && is_uuid(id) => asset(false, None),
            [_, .., last] if self.is_github_com() && GITHUB_STORES[..GITHUB_NAMED_STORES].contains(&host) => {
                asset(false, Some(last))
            }
            _ => None,
        }
    }

    /// At Gitea the token counts below `/attachments` alone.
    fn at_gitea(&self, id: &str) -> Option<Asset> {
        let mut url = self.server.clone();
        url.path_segments_mut().ok()?.pop_if_empty().extend(["attachments", id]);
        Some(Asset { url, may_have_token: true, name: None })
    }

    /// A path below the server's own; Gitea writes one from the host's root all the same.
    fn below<'p>(&self, path: &'p [&'p str]) -> &'p [&'p str] {
        let own = || self.server.path_segments().into_iter().flatten().filter(|part| !part.is_empty());
        let is_below = own().eq(path.iter().copied().take(own().count()));
        if is_below { &path[own().count()..] } else { path }
    }

    fn is_own(&self, owner: &str, name: &str) -> bool {
        owner.eq_ignore_ascii_case(&self.owner) && name.eq_ignore_ascii_case(&self.name)
    }

    fn is_github_com(&self) -> bool {
        self.kind == ForgeKind::Github && self.server.host_str() == Some("github.com")
    }

    /// Fetches a file of at most so many bytes; with the token only where it is not had without.
    pub(super) async fn fetch(
        &self,
        client: &Client,
        token: Option<HeaderValue>,
        (asset, most): (&Asset, ByteSize),
    ) -> Result<Vec<u8>, AssetError> {
        let once = |token| async move {
            let fetched = tokio::time::timeout(FETCH_TIMEOUT, self.follow(client, token, (asset, most)));
            fetched.await.unwrap_or(Err(AssetError::Slow))
        };
        match (once(None).await, token.filter(|_| asset.may_have_token)) {
            (Err(AssetError::Status(401 | 403 | 404) | AssetError::Elsewhere(_)), Some(token)) => {
                once(Some(token)).await
            }
            (fetched, _) => fetched,
        }
    }

    async fn follow(
        &self,
        client: &Client,
        mut token: Option<HeaderValue>,
        (asset, most): (&Asset, ByteSize),
    ) -> Result<Vec<u8>, AssetError> {
        let lost = |error: reqwest::Error| match error.is_timeout() {
            true => AssetError::Slow,
            false => AssetError::Lost(explain(&error.without_url())),
        };
        let mut url = asset.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = client.get(url.clone());
            // The first address is the forge's own; no other gets it.
            if let Some(token) = token.take() {
                request = request.header(AUTHORIZATION, token);
            }
            let mut response = request.send().await.map_err(lost)?;
            let status = response.status();
            if status.is_redirection() {
                let there = response.headers().get(LOCATION).and_then(|there| there.to_str().ok());
                url = self.next(&url, there.ok_or(AssetError::Status(status.as_u16()))?)?;
                continue;
            }
            if !status.is_success() {
                return Err(AssetError::Status(status.as_u16()));
            }
            let mut body = vec![];
            while let Some(chunk) = response.chunk().await.map_err(lost)? {
                if body.len() as u64 + chunk.len() as u64 > most.0 {
                    return Err(AssetError::TooLarge(most));
                }
                body.extend_from_slice(&chunk);
            }
            return Ok(body);
        }
        Err(AssetError::Circle)
    }

    /// The address that a redirect leads to, if attachments can be there.
    fn next(&self, from: &Url, location: &str) -> Result<Url, AssetError> {
        let there = from.join(location).map_err(|_| AssetError::Elsewhere("no address".to_owned()))?;
        let host = there.host_str().filter(|host| !host.is_empty()).unwrap_or("an address without a host").to_owned();
        let is_plain = there.username().is_empty() && there.password().is_none() && there.port().is_none();
        let is_store = self.is_github_com() && GITHUB_STORES.contains(&host.as_str());
        match self.read(there.as_str()) {
            Some(asset) => Ok(asset.url),
            None if is_store && is_plain && there.scheme() == "https" => Ok(there),
            None => Err(AssetError::Elsewhere(bottle_policy::prose::name(&host, 100))),
        }
    }
}

fn is_uuid(text: &str) -> bool {
    let dash = |at| matches!(at, 8 | 13 | 18 | 23);
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| if dash(at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
}

fn is_number(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Name service for attachments: github.com's stores are at public addresses. The forge itself, and a proxy, may be anywhere.
#[derive(Debug)]
pub(super) struct AssetResolver;

impl Resolve for AssetResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let judged: Vec<SocketAddr> = judged(name.as_str(), found)?;
            Ok(Box::new(judged.into_iter()) as Addrs)
        })
    }
}

/// The addresses of a name, if all of them may be dialled.
fn judged(name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Box<dyn Error + Send + Sync>> {
    let name = name.trim_end_matches('.');
    let refused = |address: IpAddr| net::refusal(address, &[], &[]).map(|class| (address, class));
    let is_store = GITHUB_STORES.iter().any(|store| store.eq_ignore_ascii_case(name));
    match found.iter().find_map(|address| refused(address.ip())).filter(|_| is_store) {
        Some((address, class)) => Err(format!("{name} has the address {address}, which is {class}").into()),
        None => Ok(found),
    }
}

#[cfg(test)]
#[path = "assets_tests.rs"]
mod tests;
