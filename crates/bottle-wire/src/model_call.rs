//! The kinds of requests that a route to a model allows, told by method and path: Anthropic's Messages API, and the forms that Amazon
//! Bedrock and Google Vertex AI have of it.

use percent_encoding::percent_decode_str;

use crate::messages::ReplyForm;

/// A request on a route to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelCall {
    /// A request for a reply, which is charged.
    Messages(ModelPath),
    /// A request to count tokens, which costs nothing.
    CountTokens(ModelPath),
    /// Any other POST.
    OtherPost,
    /// Anything else.
    Other,
}

/// What a path says besides the kind of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelPath {
    /// `/v1/messages`: nothing.
    Anthropic,
    /// `/model/MODEL/invoke`: the model, and whether the reply is a stream.
    Bedrock {
        /// The id of a model or of an inference profile, or its ARN.
        model: String,
        /// `invoke-with-response-stream`.
        is_stream: bool,
    },
    /// `…/locations/REGION/publishers/anthropic/models/MODEL:rawPredict`.
    Vertex {
        /// The model, such as `claude-sonnet-4-5@20250929`.
        model: String,
        /// The region, or `global`.
        region: String,
    },
}

impl ModelCall {
    /// Tells what a request asks for; `path` as it is sent, without query.
    pub fn new(method: &str, path: &str) -> Self {
        if method != "POST" {
            return Self::Other;
        }
        let segments: Vec<String> = path
            .trim_end_matches('/')
            .split('/')
            .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
            .collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        match segments[..] {
            [.., "v1", "messages"] => Self::Messages(ModelPath::Anthropic),
            [.., "v1", "messages", "count_tokens"] => Self::CountTokens(ModelPath::Anthropic),
            [.., "model", model, verb] => bedrock(model, verb),
            [.., "locations", region, "publishers", "anthropic", "models", call] => vertex(region, call),
            _ => Self::OtherPost,
        }
    }
}

fn bedrock(model: &str, verb: &str) -> ModelCall {
    let path = |is_stream| ModelPath::Bedrock { model: model.to_owned(), is_stream };
    match verb {
        "invoke" => ModelCall::Messages(path(false)),
        "invoke-with-response-stream" => ModelCall::Messages(path(true)),
        "count-tokens" => ModelCall::CountTokens(path(false)),
        _ => ModelCall::OtherPost,
    }
}

fn vertex(region: &str, call: &str) -> ModelCall {
    let path = |model: &str| ModelPath::Vertex { model: model.to_owned(), region: region.to_owned() };
    match call.rsplit_once(':') {
        Some((model @ "count-tokens", "rawPredict")) => ModelCall::CountTokens(path(model)),
        Some((model, "rawPredict" | "streamRawPredict")) => ModelCall::Messages(path(model)),
        _ => ModelCall::OtherPost,
    }
}

impl ModelPath {
    /// The model, where the path names it.
    pub fn model(&self) -> Option<&str> {
        match self {
            Self::Anthropic => None,
            Self::Bedrock { model, .. } | Self::Vertex { model, .. } => Some(model),
        }
    }

    /// The name by which a price is looked up: on Vertex with the region before it, where it is not `global`.
    pub fn priced(&self, model: &str) -> String {
        match self {
            Self::Vertex { region, .. } if region != "global" => format!("{region}/{model}"),
            _ => model.to_owned(),
        }
    }

    /// The form of the reply to a body that asks, or does not ask, for a stream.
    pub fn form(&self, asks_for_stream: bool) -> ReplyForm {
        match self {
            Self::Bedrock { is_stream: true, .. } => ReplyForm::EventStream,
            Self::Bedrock { is_stream: false, .. } => ReplyForm::Whole,
            Self::Anthropic | Self::Vertex { .. } if asks_for_stream => ReplyForm::Sse,
            Self::Anthropic | Self::Vertex { .. } => ReplyForm::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_of_the_api_is_told_and_nothing_like_it() {
        let bedrock = |model: &str, is_stream| ModelPath::Bedrock { model: model.to_owned(), is_stream };
        let vertex = |model: &str| ModelPath::Vertex { model: model.to_owned(), region: "europe-west1".to_owned() };
        let profile = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.anthropic.claude-x-v1:0";
        let models = "/v1/projects/p/locations/europe-west1/publishers/anthropic/models";
        for (path, call) in [
            ("/v1/messages".to_owned(), ModelCall::Messages(ModelPath::Anthropic)),
            ("/gate/way/v1/m%65ssages/".to_owned(), ModelCall::Messages(ModelPath::Anthropic)),
            ("/v1/messages/count_tokens".to_owned(), ModelCall::CountTokens(ModelPath::Anthropic)),
            ("/v1/messages/batches".to_owned(), ModelCall::OtherPost),
            ("/model/a.b-v1%3A0/invoke".to_owned(), ModelCall::Messages(bedrock("a.b-v1:0", false))),
            (
                format!("/model/{}/invoke-with-response-stream", profile.replace('/', "%2F")),
                ModelCall::Messages(bedrock(profile, true)),
            ),
            ("/model/a/count-tokens".to_owned(), ModelCall::CountTokens(bedrock("a", false))),
            ("/model/a/converse".to_owned(), ModelCall::OtherPost),
            ("/model/a/converse-stream".to_owned(), ModelCall::OtherPost),
            ("/model/a/async-invoke".to_owned(), ModelCall::OtherPost),
            ("/guardrail/a/version/1/apply".to_owned(), ModelCall::OtherPost),
            (format!("{models}/claude-x@1:streamRawPredict"), ModelCall::Messages(vertex("claude-x@1"))),
            (format!("{models}/claude-x:rawPredict"), ModelCall::Messages(vertex("claude-x"))),
            (format!("{models}/count-tokens:rawPredict"), ModelCall::CountTokens(vertex("count-tokens"))),
            (format!("{models}/count-tokens:streamRawPredict"), ModelCall::Messages(vertex("count-tokens"))),
            (format!("{models}/claude-x:predict"), ModelCall::OtherPost),
        ] {
            assert_eq!(ModelCall::new("POST", &path), call, "{path}");
            assert_eq!(ModelCall::new("GET", &path), ModelCall::Other, "{path}");
        }
    }
}
