//! The few things that GitHub gives by GraphQL alone: whose token it is, whether a pull request is a draft, and when a text was changed.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
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
    /// GitHub's word for what kind of problem it is.
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// Reads the `data` of an answer.
pub(super) fn read<T: DeserializeOwned>(operation: Operation, data: Value) -> Result<T, ForgeError> {
    let place = "POST graphql".to_owned();
    serde_json::from_value(data).map_err(|error| ForgeError::Nonsense { operation, place, problem: error.to_string() })
}

/// Asks or changes something; the `data` of the answer.
pub(super) async fn ask(http: &Http, operation: Operation, query: &str, id: Option<&str>) -> Result<Value, ForgeError> {
    let variables = id.map_or(Value::Null, |id| json!({"id": id}));
    ask_with(http, operation, query, &variables).await
}

/// The same with these variables; null: none.
pub(super) async fn ask_with(
    http: &Http,
    operation: Operation,
    query: &str,
    variables: &Value,
) -> Result<Value, ForgeError> {
    let mut body = json!({"query": query});
    if !variables.is_null() {
        body["variables"] = variables.clone();
    }
    let call = ApiCall { graphql: true, ..ApiCall::write(operation, Method::POST, vec![], body) };
    let answer: Answer = http.send(call).await?;
    match (answer.data, answer.errors.first()) {
        (Some(data), None) if !data.is_null() => Ok(data),
        (_, problem) => {
            let is_gone = problem.is_some_and(|problem| problem.kind.as_deref() == Some("NOT_FOUND"));
            let message = problem.map_or_else(|| "no reason given".to_owned(), |problem| problem.message.clone());
            let message = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
            Err(ForgeError::Answer {
                operation,
                place: "POST graphql".to_owned(),
                status: if is_gone { StatusCode::NOT_FOUND } else { StatusCode::FORBIDDEN },
                message,
            })
        }
    }
}
