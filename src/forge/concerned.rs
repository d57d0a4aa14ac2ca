//! Whom a pull request concerns: reviewers, assignees, a milestone. Forges have these in nearly one form.

use bottle_plan::facts::ForgeKind;
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Operation;
use super::http::{ApiCall, ForgeError, Http};

/// Milestones in a page, where the forge gives that many.
const A_PAGE: usize = 50;

/// One pull request's.
pub(super) struct Concerned<'a> {
    pub(super) http: &'a Http,
    pub(super) kind: ForgeKind,
    /// The repository.
    pub(super) path: Vec<&'a str>,
    /// What the token needs for it.
    pub(super) needs: &'static str,
}

/// An open milestone.
#[derive(Debug, Deserialize)]
struct WireMilestone {
    title: String,
    /// Gitea: what it is called by.
    id: u64,
    /// GitHub: the same.
    #[serde(default)]
    number: u64,
}

impl<'a> Concerned<'a> {
    fn operation(&self, what: &'static str) -> Operation {
        Operation { what, needs: self.needs }
    }

    fn below(&self, rest: &[&'a str]) -> Vec<&'a str> {
        [&self.path, rest].concat()
    }

    /// Asks logins for a review, and teams of the form `ORGANISATION/TEAM`.
    pub(super) async fn ask_reviewers(self, number: &'a str, reviewers: &[String]) -> Result<(), ForgeError> {
        let teams: Vec<&str> = reviewers.iter().filter_map(|one| Some(one.split_once('/')?.1)).collect();
        let people: Vec<&String> = reviewers.iter().filter(|one| !one.contains('/')).collect();
        let body = json!({"reviewers": people, "team_reviewers": teams});
        let path = self.below(&["pulls", number, "requested_reviewers"]);
        let call = ApiCall::write(self.operation("ask for reviews"), Method::POST, path, body);
        self.http.send_for_text(call).await.map(|_| ())
    }

    pub(super) async fn assign(self, number: &'a str, people: &[String]) -> Result<(), ForgeError> {
        let body = json!({"assignees": people});
        let (method, path) = match self.kind {
            ForgeKind::Github => (Method::POST, self.below(&["issues", number, "assignees"])),
            ForgeKind::Gitea => (Method::PATCH, self.below(&["issues", number])),
        };
        let call = ApiCall::write(self.operation("assign the pull request"), method, path, body);
        self.http.send_for_text(call).await.map(|_| ())
    }

    /// Gives it the open milestone of this title; false: there is none.
    pub(super) async fn set_milestone(self, number: &'a str, title: &str) -> Result<bool, ForgeError> {
        let operation = self.operation("give it the milestone");
        let per_page = match self.kind {
            ForgeKind::Github => "per_page",
            ForgeKind::Gitea => "limit",
        };
        for page in 1_u32.. {
            let call = ApiCall::get(operation, self.below(&["milestones"]));
            let call = call.query("state", "open").query(per_page, A_PAGE).query("page", page);
            let wires: Vec<WireMilestone> = self.http.send(call).await?;
            // A server may give shorter pages than were asked for: only an empty one is surely the last.
            if wires.is_empty() {
                break;
            }
            if let Some(found) = wires.iter().find(|one| one.title == title) {
                let called: Value = match self.kind {
                    ForgeKind::Github => found.number.into(),
                    ForgeKind::Gitea => found.id.into(),
                };
                let path = self.below(&["issues", number]);
                let call = ApiCall::write(operation, Method::PATCH, path, json!({"milestone": called}));
                return self.http.send_for_text(call).await.map(|_| true);
            }
        }
        Ok(false)
    }
}
