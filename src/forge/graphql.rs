//! The few things that GitHub gives by GraphQL alone: whose token it is, and whether a pull request is a draft.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Operation;
use super::http::{ApiCall, ForgeError, Http};

#[derive(Debug, Deserialize)]
struct Answer {
    data: Option<Value>,
    #[serde(default)]
    errors: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    message: String,
}

/// Asks or changes something; the `data` of the answer.
pub(super) async fn ask(http: &Http, operation: Operation, query: &str, id: Option<&str>) -> Result<Value, ForgeError> {
    let mut body = json!({"query": query});
    if let Some(id) = id {
        body["variables"] = json!({"id": id});
    }
    let call = ApiCall { graphql: true, ..ApiCall::write(operation, Method::POST, vec![], body) };
    let answer: Answer = http.send(call).await?;
    match (answer.data, answer.errors.first()) {
        (Some(data), None) if !data.is_null() => Ok(data),
        (_, problem) => {
            let message = problem.map_or_else(|| "no reason given".to_owned(), |problem| problem.message.clone());
            let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
            Err(ForgeError::Answer {
                operation,
                place: "POST graphql".to_owned(),
                status: StatusCode::FORBIDDEN,
                message,
            })
        }
    }
}
