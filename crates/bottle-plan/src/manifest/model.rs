//! `model`: where a bottle's model is, and what follows from that: one route, its credential, and what Claude Code is told.

use std::collections::BTreeMap;

use bottle_policy::route::{Auth, AwsAuth, BaseUrl, Route, Scheme};
use bottle_types::host::HostPattern;
use bottle_types::secret::SecretName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The provider of a bottle's model, and the credential that pipelock adds to requests to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Model")]
pub struct ModelEntry {
    /// Whose API it is.
    pub provider: Provider,
    /// bedrock, vertex: the region, such as `eu-central-1` or `europe-west1`; on Vertex also `global`, `us` or `eu`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// vertex: the id of the Google Cloud project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// foundry: the name of the Azure resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// A base URL in place of the provider's own, such as that of a gateway or of a private endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<BaseUrl>,
    /// bedrock, vertex: the ids that may be asked for; every id of a Claude model where none is given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// The credential: an API key, on Vertex an access token, on Bedrock all parts of AWS's keys in one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<SecretName>,
    /// The credential that is a token for `Authorization: Bearer`, such as an API key of Bedrock's or a token of Entra ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<SecretName>,
    /// bedrock: the credential that is the access key's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<SecretName>,
    /// bedrock: the credential that is the secret access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key: Option<SecretName>,
    /// bedrock: the credential that is the session token of temporary keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretName>,
}

/// Whose API a model is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Anthropic's Messages API, or a gateway that speaks it.
    Anthropic,
    /// Amazon Bedrock.
    Bedrock,
    /// Google Vertex AI.
    Vertex,
    /// Microsoft Foundry.
    Foundry,
}

impl Provider {
    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Bedrock => "bedrock",
            Self::Vertex => "vertex",
            Self::Foundry => "foundry",
        }
    }

    /// The name that people know.
    pub fn title(self) -> &'static str {
        match self {
            Self::Anthropic => "Anthropic's API",
            Self::Bedrock => "Amazon Bedrock",
            Self::Vertex => "Google Vertex AI",
            Self::Foundry => "Microsoft Foundry",
        }
    }

    /// The keys of an entry that belong to it, besides `provider`, `upstream` and `bearer`.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Anthropic => &["from"],
            Self::Bedrock => &["region", "models", "from", "access_key_id", "secret_access_key", "session_token"],
            Self::Vertex => &["region", "project", "models"],
            Self::Foundry => &["resource", "from"],
        }
    }
}

/// What is wrong with an entry: the key, why, and what to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelError {
    pub(crate) key: &'static str,
    pub(crate) problem: String,
    pub(crate) hint: Option<&'static str>,
}

fn wrong(key: &'static str, problem: impl Into<String>, hint: Option<&'static str>) -> ModelError {
    ModelError { key, problem: problem.into(), hint }
}

/// What follows from an entry.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ModelEndpoint {
    /// The scheme, host, port and first part of the path of every request.
    pub(crate) base: BaseUrl,
    pub(crate) route: Route,
    /// Variables by which Claude Code finds it.
    pub(crate) env: BTreeMap<&'static str, String>,
    /// The variable that Claude Code wants to have a credential in, if it wants one.
    pub(crate) placeholder: Option<&'static str>,
}

/// A Claude model's id on Bedrock, and the ARN of one and of an inference profile of Amazon's own.
const CLAUDE_ON_BEDROCK: [&str; 3] = [
    "*anthropic.claude-*",
    "arn:aws*:bedrock:*:*:inference-profile%2F*anthropic.claude-*",
    "arn:aws*:bedrock:*:*:foundation-model%2Fanthropic.claude-*",
];
const CLAUDE_ON_VERTEX: &str = "claude-*";

impl ModelEntry {
    /// Every variable that Claude Code is told a provider by.
    pub(crate) const VARIABLES: [&'static str; 14] = [
        "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
        "ANTHROPIC_BEDROCK_BASE_URL",
        "AWS_REGION",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_SKIP_VERTEX_AUTH",
        "ANTHROPIC_VERTEX_BASE_URL",
        "ANTHROPIC_VERTEX_PROJECT_ID",
        "CLOUD_ML_REGION",
        "CLAUDE_CODE_USE_FOUNDRY",
        "CLAUDE_CODE_SKIP_FOUNDRY_AUTH",
        "ANTHROPIC_FOUNDRY_BASE_URL",
        "ANTHROPIC_FOUNDRY_RESOURCE",
    ];

    /// What follows from the entry, or what is wrong with it.
    pub(crate) fn endpoint(&self) -> Result<ModelEndpoint, ModelError> {
        self.check_keys()?;
        let (base, paths, env) = match self.provider {
            Provider::Anthropic => self.anthropic()?,
            Provider::Bedrock => self.bedrock()?,
            Provider::Vertex => self.vertex()?,
            Provider::Foundry => self.foundry()?,
        };
        if base.path.contains(['%', '*', '?', '[', ']', '{', '}', '!']) {
            return Err(wrong("upstream", "its path has a character that is no letter of a plain path", None));
        }
        let auth = self.auth()?;
        if base.scheme == Scheme::Http && auth.is_some() {
            return Err(wrong("upstream", "a credential would go over http, readable on the way", Some("use https")));
        }
        let placeholder = match (self.provider, &self.upstream, &self.bearer) {
            (Provider::Anthropic, None, Some(_)) => Some("CLAUDE_CODE_OAUTH_TOKEN"),
            (Provider::Anthropic, Some(_), Some(_)) => Some("ANTHROPIC_AUTH_TOKEN"),
            (Provider::Anthropic, _, None) => Some("ANTHROPIC_API_KEY"),
            _ => None,
        };
        let paths: Vec<String> = paths.iter().map(|path| format!("{}{path}", base.path)).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let route = Route {
            scheme: base.scheme,
            port: base.port,
            auth,
            model: true,
            ..Route::plain(HostPattern::Exact(base.host.clone()), &["POST"], &paths)
        };
        Ok(ModelEndpoint { base, route, env, placeholder })
    }

    /// Tells whether an agent's model, as a manifest names it, is one that may be asked for; an error says what to write instead.
    pub(crate) fn check_agents_model(&self, model: &str) -> Result<(), String> {
        // With a longer context.
        let id = model.strip_suffix("[1m]").unwrap_or(model);
        let listed = || self.models.iter().any(|own| own == id);
        let (is_alias, known) = match self.provider {
            Provider::Anthropic | Provider::Foundry => return Ok(()),
            Provider::Bedrock => {
                (!id.contains(['.', ':', '/']) && !id.starts_with("claude-"), is_claude_on_bedrock(id))
            }
            Provider::Vertex => {
                (!id.contains(['@', ':', '/']) && !id.starts_with("claude-"), id.starts_with("claude-"))
            }
        };
        match (is_alias, self.models.is_empty()) {
            (true, _) => Ok(()),
            (false, false) if listed() => Ok(()),
            (false, false) => Err(format!("`{model}` is not in the bottle's `model.models`")),
            (false, true) if known => Ok(()),
            (false, true) => Err(format!("`{model}` is no id of a Claude model on {}", self.provider.title())),
        }
    }

    fn check_keys(&self) -> Result<(), ModelError> {
        let given = [
            ("region", self.region.is_some()),
            ("project", self.project.is_some()),
            ("resource", self.resource.is_some()),
            ("models", !self.models.is_empty()),
            ("from", self.from.is_some()),
            ("access_key_id", self.access_key_id.is_some()),
            ("secret_access_key", self.secret_access_key.is_some()),
            ("session_token", self.session_token.is_some()),
        ];
        let name = self.provider.name();
        match given.into_iter().find(|(key, given)| *given && !self.provider.keys().contains(key)) {
            Some(("from", _)) => Err(wrong("from", format!("`{name}` takes a token alone"), Some("write `bearer:`"))),
            Some((key, _)) => Err(wrong(key, format!("`{key}` does not belong to the provider `{name}`"), None)),
            None => Ok(()),
        }
    }

    /// The credential of the route.
    fn auth(&self) -> Result<Option<Auth>, ModelError> {
        let none = Auth { header: None, from: None, bearer: None, aws: None };
        let parts = [&self.access_key_id, &self.secret_access_key, &self.session_token];
        let has_parts = parts.iter().any(|part| part.is_some());
        if let Some(bearer) = &self.bearer {
            return match self.from.is_some() || has_parts {
                true => Err(wrong("bearer", "one credential is enough", Some("remove this one or the other"))),
                false => Ok(Some(Auth { bearer: Some(bearer.clone()), ..none })),
            };
        }
        let header = |name: &str| {
            self.from.clone().map(|from| Auth { header: Some(name.to_owned()), from: Some(from), ..none.clone() })
        };
        let auth = match self.provider {
            Provider::Anthropic => header("x-api-key"),
            Provider::Foundry => header("api-key"),
            Provider::Vertex => None,
            Provider::Bedrock if self.from.is_none() && !has_parts => None,
            Provider::Bedrock => {
                let aws = AwsAuth {
                    service: "bedrock".to_owned(),
                    region: self.region()?.to_owned(),
                    from: self.from.clone(),
                    access_key_id: self.access_key_id.clone(),
                    secret_access_key: self.secret_access_key.clone(),
                    session_token: self.session_token.clone(),
                };
                aws.keys().map_err(|_| {
                    let problem = "the keys of AWS are `from`, or `access_key_id` and `secret_access_key`";
                    wrong("provider", problem, None)
                })?;
                Some(Auth { aws: Some(aws), ..none })
            }
        };
        // A gateway of one's own may know its clients by where they are.
        let may_have_none = self.provider == Provider::Anthropic && self.upstream.is_some();
        match (auth, self.provider) {
            (None, _) if may_have_none => Ok(None),
            (None, Provider::Bedrock) => {
                let hint = "`from: AWS` with a credential that prints AWS's keys, `access_key_id:` and `secret_access_key:`, or `bearer:`";
                Err(wrong("provider", "there is no credential", Some(hint)))
            }
            (None, Provider::Vertex) => {
                let hint =
                    "`bearer: GOOGLE_TOKEN`, with a credential whose command is `gcloud auth print-access-token`";
                Err(wrong("provider", "there is no credential", Some(hint)))
            }
            (None, _) => Err(wrong("provider", "there is no credential", Some("add `from:` or `bearer:`"))),
            (auth, _) => Ok(auth),
        }
    }

    fn anthropic(&self) -> Result<Found, ModelError> {
        let paths = ["/v1/messages", "/v1/messages/count_tokens"].map(str::to_owned).to_vec();
        let own = || url("provider", format!("https://{}", crate::plan::MODEL_HOST));
        let base = self.upstream.clone().map_or_else(own, Ok)?;
        // Without it Claude Code knows that it speaks to Anthropic.
        let env = self.upstream.iter().map(|upstream| ("ANTHROPIC_BASE_URL", upstream.to_string())).collect();
        Ok((base, paths, env))
    }

    fn bedrock(&self) -> Result<Found, ModelError> {
        let region = self.region()?;
        let is_region = region.split('-').count() >= 3 && region.ends_with(|c: char| c.is_ascii_digit());
        if !is_region || !is_word(region) {
            return Err(wrong("region", format!("`{region}` is not a region such as eu-central-1"), None));
        }
        let base = self.base(format!("https://bedrock-runtime.{region}.amazonaws.com"))?;
        let ids: Vec<String> = match self.models.is_empty() {
            true => CLAUDE_ON_BEDROCK.map(str::to_owned).to_vec(),
            false => self.escaped_models()?,
        };
        let paths = ids.iter().flat_map(|id| {
            ["invoke", "invoke-with-response-stream", "count-tokens"].map(|verb| format!("/model/{id}/{verb}"))
        });
        let env = BTreeMap::from([
            ("CLAUDE_CODE_USE_BEDROCK", "1".to_owned()),
            ("CLAUDE_CODE_SKIP_BEDROCK_AUTH", "1".to_owned()),
            ("ANTHROPIC_BEDROCK_BASE_URL", base.to_string()),
            ("AWS_REGION", region.to_owned()),
        ]);
        Ok((base, paths.collect(), env))
    }

    fn vertex(&self) -> Result<Found, ModelError> {
        let region = self.region()?;
        let is_region = matches!(region, "global" | "us" | "eu")
            || (region.contains('-') && region.ends_with(|c: char| c.is_ascii_digit()));
        if !is_region || !is_word(region) {
            let problem = format!("`{region}` is neither a region such as europe-west1 nor global, us or eu");
            return Err(wrong("region", problem, None));
        }
        let missing =
            || wrong("project", "the key `project` is missing", Some("add `project:`, the id of the project"));
        let project = self.project.as_deref().ok_or_else(missing)?;
        if !is_word(project) || !project.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err(wrong("project", format!("`{project}` is not the id of a Google Cloud project"), None));
        }
        let base = self.base(match region {
            "global" => "https://aiplatform.googleapis.com".to_owned(),
            "us" | "eu" => format!("https://aiplatform.{region}.rep.googleapis.com"),
            region => format!("https://{region}-aiplatform.googleapis.com"),
        })?;
        let ids = match self.models.is_empty() {
            true => vec![CLAUDE_ON_VERTEX.to_owned()],
            false => self.escaped_models()?,
        };
        let all = format!("/v1/projects/{project}/locations/{region}/publishers/anthropic/models");
        let mut paths: Vec<String> = ids
            .iter()
            .flat_map(|id| ["rawPredict", "streamRawPredict"].map(|verb| format!("{all}/{id}:{verb}")))
            .collect();
        paths.push(format!("{all}/count-tokens:rawPredict"));
        let env = BTreeMap::from([
            ("CLAUDE_CODE_USE_VERTEX", "1".to_owned()),
            ("CLAUDE_CODE_SKIP_VERTEX_AUTH", "1".to_owned()),
            ("ANTHROPIC_VERTEX_BASE_URL", format!("{base}/v1")),
            ("ANTHROPIC_VERTEX_PROJECT_ID", project.to_owned()),
            ("CLOUD_ML_REGION", region.to_owned()),
        ]);
        Ok((base, paths, env))
    }

    fn foundry(&self) -> Result<Found, ModelError> {
        let base = match (&self.resource, &self.upstream) {
            (Some(_), Some(_)) => {
                let hint = "`upstream` stands in place of https://RESOURCE.services.ai.azure.com";
                return Err(wrong("upstream", "there is a `resource` too", Some(hint)));
            }
            (None, Some(upstream)) => upstream.clone(),
            (None, None) => {
                return Err(wrong(
                    "resource",
                    "the key `resource` is missing",
                    Some("add the name of the Azure resource"),
                ));
            }
            (Some(resource), None) if !is_word(resource) => {
                return Err(wrong("resource", format!("`{resource}` is not the name of an Azure resource"), None));
            }
            (Some(resource), None) => url("resource", format!("https://{resource}.services.ai.azure.com"))?,
        };
        let paths = ["/anthropic/v1/messages", "/anthropic/v1/messages/count_tokens"].map(str::to_owned).to_vec();
        let env = BTreeMap::from([
            ("CLAUDE_CODE_USE_FOUNDRY", "1".to_owned()),
            ("CLAUDE_CODE_SKIP_FOUNDRY_AUTH", "1".to_owned()),
            ("ANTHROPIC_FOUNDRY_BASE_URL", format!("{base}/anthropic")),
        ]);
        Ok((base, paths, env))
    }

    fn region(&self) -> Result<&str, ModelError> {
        let hint = match self.provider {
            Provider::Vertex => "add `region:`, such as europe-west1 or global",
            _ => "add `region:`, such as eu-central-1",
        };
        let missing = || wrong("region", "the key `region` is missing", Some(hint));
        self.region.as_deref().ok_or_else(missing)
    }

    fn base(&self, own: String) -> Result<BaseUrl, ModelError> {
        self.upstream.clone().map_or_else(|| url("region", own), Ok)
    }

    /// The ids as globs that match nothing else.
    fn escaped_models(&self) -> Result<Vec<String>, ModelError> {
        let is_id = |id: &str| {
            let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:@/".contains(&byte);
            !id.is_empty()
                && id.bytes().all(is_known)
                && !id.starts_with('/')
                && !id.contains("..")
                && !id.contains("//")
        };
        match self.models.iter().find(|id| !is_id(id)) {
            Some(id) => Err(wrong("models", format!("`{id}` is not the id of a model"), None)),
            None => Ok(self.models.iter().map(|id| id.replace('/', "%2F")).collect()),
        }
    }
}

/// The base of all requests, the paths below it, and variables.
type Found = (BaseUrl, Vec<String>, BTreeMap<&'static str, String>);

fn url(key: &'static str, text: String) -> Result<BaseUrl, ModelError> {
    BaseUrl::parse(&text).map_err(|error| wrong(key, error.to_string(), None))
}

/// Tells whether a text can stand in a host's name and in a path.
fn is_word(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(is_letter) && !text.starts_with('-') && !text.ends_with('-')
}

/// Tells whether an id is one that the route allows where no models are listed.
fn is_claude_on_bedrock(id: &str) -> bool {
    let id = match id.strip_prefix("arn:aws") {
        Some(arn) => match arn.split_once('/') {
            Some((front, id)) if front.ends_with(":inference-profile") || front.ends_with(":foundation-model") => id,
            _ => return false,
        },
        None => id,
    };
    id.contains("anthropic.claude-") && !id.contains('/')
}
