//! The deploy keys of a repository, which both forges have in one form.

use reqwest::Method;
use serde_json::json;

use super::http::{ApiCall, ForgeError, Http};
use super::wire::WireDeployKey;
use super::{DeployKey, Operation};

/// Keys in a page, where the forge gives that many.
const A_PAGE: usize = 50;

/// The keys of one repository.
pub(super) struct DeployKeys<'a> {
    pub(super) http: &'a Http,
    /// Where they are.
    pub(super) path: Vec<&'a str>,
    /// The query's name for the size of a page.
    pub(super) per_page: &'static str,
    /// What the token needs for it.
    pub(super) needs: &'static str,
}

impl DeployKeys<'_> {
    fn operation(&self, what: &'static str) -> Operation {
        Operation { what, needs: self.needs }
    }

    pub(super) async fn all(self) -> Result<Vec<DeployKey>, ForgeError> {
        let mut keys = vec![];
        for page in 1_u32.. {
            let call = ApiCall::get(self.operation("look for the deploy key"), self.path.clone());
            let call = call.query(self.per_page, A_PAGE).query("page", page);
            let wires: Vec<WireDeployKey> = self.http.send(call).await?;
            // A server may give shorter pages than were asked for: only an empty one is surely the last.
            if wires.is_empty() {
                break;
            }
            keys.extend(wires.into_iter().map(DeployKey::from));
        }
        Ok(keys)
    }

    pub(super) async fn add(self, title: &str, key: &str, read_only: bool) -> Result<(), ForgeError> {
        let body = json!({"title": title, "key": key, "read_only": read_only});
        let call = ApiCall::write(self.operation("register the deploy key"), Method::POST, self.path.clone(), body);
        self.http.send::<WireDeployKey>(call).await.map(|_| ())
    }

    pub(super) async fn delete(self, id: u64) -> Result<(), ForgeError> {
        let id = id.to_string();
        let path = self.path.iter().copied().chain([id.as_str()]).collect();
        self.http.send_for_text(ApiCall::delete(self.operation("remove the deploy key"), path)).await.map(|_| ())
    }
}
