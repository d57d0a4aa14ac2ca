//! Both policy files and the secrets they name, read together and put in force together.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bottle_policy::matcher::Matcher;
use bottle_policy::pipelock::{Action, Dlp, PipelockPolicy};
use bottle_policy::route::{Auth, AwsKeySource, BaseUrl, Injection, Outbound, Route, RoutesPolicy};
use bottle_policy::supervise::Found;
use bottle_scan::aws_keys::AwsKeys;
use bottle_scan::dlp::{DataKind, Mode, Rules, RulesError, Scope, Search, TokenPattern};
use bottle_scan::known::KnownSecrets;
use bottle_types::canary::SELF_TEST_HOST;
use bottle_types::host::{HostName, HostPattern};
use bottle_types::secret::SecretName;
use bottle_types::units::Rate;
use bottle_wire::proposal::sha256;
use http::{HeaderName, HeaderValue};

use crate::common::{self, Dirs, Error};
use crate::credentials::{CredentialEnd, CredentialStatus};
use crate::sigv4::Signer;
use crate::tls::Trust;
use crate::upstream_proxy::ProxyClient;

/// All that judges a request.
pub(super) struct Policy {
    pub(super) pipelock: PipelockPolicy,
    pub(super) matcher: Matcher,
    /// As the matcher counts them; the last is the self-test's, which the matcher does not have.
    pub(super) routes: Vec<CompiledRoute>,
    pub(super) known: KnownSecrets,
    /// The company's proxy, with its password.
    pub(super) proxy: Option<ProxyClient>,
    rules: Arc<Rules>,
    /// Rules that answers are searched for: where nothing is said about answers, words alone that talk an agent into something.
    answers: Rules,
    /// What is searched for besides in an answer of which a finding is only noted.
    no_secrets: KnownSecrets,
    /// SHA-256 of the two files.
    pub(super) hash: String,
    pub(super) routes_hash: String,
    /// The generation of the credentials.
    pub(super) generation: u64,
}

/// The two files, as texts.
pub(super) struct PolicyTexts {
    pub(super) pipelock: String,
    /// None where there is no such file, as in a bottle without routes.
    pub(super) routes: Option<String>,
}

impl PolicyTexts {
    pub(super) fn read(config: &Path, routes: &Path) -> Result<Self, Error> {
        let pipelock = common::read(config)?;
        let routes = match common::read(routes) {
            Ok(text) => Some(text),
            Err(Error::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { pipelock, routes })
    }

    pub(super) fn hashes(&self) -> (String, String) {
        (sha256(&self.pipelock), sha256(self.routes.as_deref().unwrap_or_default()))
    }
}

/// A route as pipelock goes by it.
pub(super) struct CompiledRoute {
    pub(super) host: HostPattern,
    pub(super) model: bool,
    /// The consequence of a rule's finding; none: rules are not looked for.
    pub(super) mode: Option<Mode>,
    /// A person is asked about a finding before it is blocked.
    pub(super) ask: bool,
    /// The largest body.
    pub(super) max_bytes: u64,
    pub(super) rate: Option<Rate>,
    /// Where requests really go.
    pub(super) upstream: Option<BaseUrl>,
    pub(super) credential: Option<Credential>,
    /// What is let through is sent to nobody.
    pub(super) leads_nowhere: bool,
}

/// What is added to a request.
pub(super) struct Credential {
    /// The name that logs show.
    pub(super) name: SecretName,
    pub(super) added: Added,
    /// The secret that upstream gets to see, for answers that show it.
    pub(super) sent: Option<Arc<[u8]>>,
    /// When each of its secrets ends.
    ends: Vec<(SecretName, CredentialEnd)>,
}

/// How a request says whose it is.
pub(super) enum Added {
    /// By a header; its value is marked sensitive.
    Header(HeaderName, HeaderValue),
    /// By a signature for AWS.
    Signature(Signer),
}

impl Credential {
    /// Reads the secrets and makes of them what is added.
    fn new(dirs: &Dirs, status: &CredentialStatus, auth: &Auth) -> Result<Self, Error> {
        let invalid = |reason: String| Error::Policy { path: dirs.secrets.clone(), reason };
        let injection = auth.injection().map_err(|reason| invalid(reason.to_owned()))?;
        let ends = injection.secrets().into_iter().map(|name| (name.clone(), status.end(name))).collect();
        let (name, added, sent) = match injection {
            Injection::Header { name: header, before, from } => {
                let secret = dirs.secret(from)?;
                let secret = secret.expose().trim_ascii();
                let mut value = HeaderValue::from_bytes(&[before.as_bytes(), secret].concat())
                    .map_err(|_| invalid(format!("the value of {from} can't be the value of a header")))?;
                value.set_sensitive(true);
                let header = header.parse().map_err(|_| invalid(format!("`{header}` is not the name of a header")))?;
                (from, Added::Header(header, value), Some(secret.into()))
            }
            Injection::Aws(aws, source) => {
                let (name, keys) = aws_keys(dirs, source)?;
                let token = keys.session_token.as_ref().map(|token| token.expose().as_bytes().into());
                (name, Added::Signature(Signer::new(keys, &aws.service, &aws.region)), token)
            }
        };
        Ok(Self { name: name.clone(), added, sent, ends })
    }

    /// Why it may not be used any more, if it may not.
    pub(super) fn why_ended(&self) -> Option<String> {
        self.ends.iter().find_map(|(name, end)| end.why_ended(name))
    }
}

/// The keys, and the name that logs show; an error says which value is none.
fn aws_keys<'a>(dirs: &Dirs, source: AwsKeySource<'a>) -> Result<(&'a SecretName, AwsKeys), Error> {
    let invalid = |reason: String| Error::Policy { path: dirs.secrets.clone(), reason };
    match source {
        AwsKeySource::Whole(name) => {
            let value = dirs.secret(name)?;
            let (keys, _) = AwsKeys::parse(value.expose()).ok_or_else(|| {
                invalid(format!("the value of {name} has no keys of AWS, as `credential_process` prints them"))
            })?;
            Ok((name, keys))
        }
        AwsKeySource::Parts { id, secret, token } => {
            let text = |name: &SecretName| {
                let value = dirs.secret(name)?;
                let text = std::str::from_utf8(value.expose().trim_ascii());
                text.map(str::to_owned).map_err(|_| invalid(format!("the value of {name} is no text")))
            };
            let token = token.map(text).transpose()?;
            let keys = AwsKeys::new(&text(id)?, &text(secret)?, token.as_deref());
            let keys = keys.ok_or_else(|| invalid(format!("the values of {id} and {secret} are no keys of AWS")))?;
            Ok((secret, keys))
        }
    }
}

impl Policy {
    /// Takes everything, or says what is wrong.
    pub(super) fn new(dirs: &Dirs, config: &Path, routes: &Path, texts: &PolicyTexts) -> Result<Self, Error> {
        let pipelock: PipelockPolicy = common::parse_policy(config, &texts.pipelock)?;
        let invalid = |reason: String| Error::Policy { path: config.to_owned(), reason };
        if pipelock.version != 1 {
            return Err(invalid(format!("version {} is not known: 1 is", pipelock.version)));
        }
        let routed: RoutesPolicy = match &texts.routes {
            Some(text) => common::parse_policy(routes, text)?,
            None if pipelock.guest_proxy => RoutesPolicy { version: 1, ..RoutesPolicy::default() },
            None => return Err(Error::Read { path: routes.to_owned(), error: io::ErrorKind::NotFound.into() }),
        };
        // Before the values: they are as new as it, or newer.
        let status = CredentialStatus::read(dirs)?;
        let invalid_routes = |reason: String| Error::Policy { path: routes.to_owned(), reason };
        let (matcher, mut compiled_routes) = if pipelock.guest_proxy {
            let matcher = Matcher::for_hosts(&pipelock.api_allowlist, &routed.git_upstreams);
            (matcher, pipelock.api_allowlist.iter().map(|host| CompiledRoute::open(host.clone(), &pipelock)).collect())
        } else {
            let compiled_routes =
                routed.routes.iter().map(|route| CompiledRoute::new((dirs, &status), route, routed.replay, &pipelock));
            (Matcher::new(&routed), compiled_routes.collect::<Result<Vec<_>, Error>>()?)
        };
        let matcher = matcher.map_err(|error| invalid_routes(error.to_string()))?;
        compiled_routes.push(CompiledRoute::self_test(&pipelock).map_err(invalid)?);
        let mut secrets = pipelock.secrets.clone();
        let added = compiled_routes.iter().filter_map(|compiled| compiled.credential.as_ref());
        secrets.extend(added.flat_map(|added| &added.ends).map(|(name, _)| name.clone()));
        let login = pipelock.proxy.as_ref().and_then(|proxy| proxy.login.as_ref());
        secrets.extend(login.map(|login| login.password.clone()));
        secrets.sort();
        secrets.dedup();
        let known = dirs.known_secrets(&secrets)?;
        let rules = rules(&pipelock.dlp, vec![]).map_err(|error| invalid(error.to_string()))?;
        for exemption in &pipelock.dlp.exemptions {
            if !pipelock.dlp.knows(&exemption.rule) {
                return Err(invalid(format!("`dlp.exemptions`: there is no DLP rule {}", exemption.rule)));
            }
        }
        let (hash, routes_hash) = texts.hashes();
        let answers = match pipelock.response_scanning.action {
            Action::Off => Rules::for_notes(),
            Action::Block | Action::Warn => Rules::for_answers(&pipelock.dlp.patterns),
        };
        let answers = answers.map_err(|error| invalid(error.to_string()))?;
        let no_secrets = KnownSecrets::new(&[]).map_err(|error| invalid(error.to_string()))?;
        let generation = status.generation;
        let proxy = pipelock.proxy.as_ref().map(|proxy| ProxyClient::new(dirs, &status, proxy, &Trust::default()));
        let proxy = proxy.transpose()?;
        Ok(Self {
            pipelock,
            matcher,
            routes: compiled_routes,
            known,
            proxy,
            rules,
            answers,
            no_secrets,
            hash,
            routes_hash,
            generation,
        })
    }

    /// The route of the self-test.
    pub(super) fn self_test_route(&self) -> usize {
        self.routes.len() - 1
    }

    /// The rules that are looked for on the way to a host.
    pub(super) fn rules_for(&self, host: &HostName) -> Arc<Rules> {
        let exempt = self.pipelock.dlp.exemptions.iter().filter(|exemption| exemption.host.matches(host));
        let ids: Vec<String> = exempt.filter_map(|exemption| exemption.rule.id().map(str::to_owned)).collect();
        if ids.is_empty() {
            return Arc::clone(&self.rules);
        }
        rules(&self.pipelock.dlp, ids).unwrap_or_else(|error| {
            tracing::error!("failed to leave DLP rules out, so all are looked for: {error}");
            Arc::clone(&self.rules)
        })
    }

    /// The same without those of some findings: made anew each time, because a guest has a say in which.
    pub(super) fn rules_but(&self, host: &HostName, more: &[Found]) -> Result<Arc<Rules>, RulesError> {
        if more.is_empty() {
            return Ok(self.rules_for(host));
        }
        let exempt = self.pipelock.dlp.exemptions.iter().filter(|exemption| exemption.host.matches(host));
        let rules = exempt.map(|exemption| &exemption.rule).chain(more.iter().map(|found| &found.rule));
        let ids: Vec<String> = rules.filter_map(|rule| rule.id().map(str::to_owned)).collect();
        Rules::with(&self.pipelock.dlp.patterns, &self.pipelock.dlp.detect, &ids).map(Arc::new)
    }

    /// The search for a request on this route.
    pub(super) fn search<'a>(&'a self, compiled: &CompiledRoute, rules: &'a Rules) -> Search<'a> {
        let scope = if compiled.model { Scope::Model } else { Scope::All };
        Search { known: &self.known, rules: compiled.mode.map(|_| (rules, scope)) }
    }

    /// The search for an answer.
    pub(super) fn answers(&self) -> Search<'_> {
        let known = if self.only_notes() { &self.no_secrets } else { &self.known };
        Search { known, rules: Some((&self.answers, Scope::All)) }
    }

    /// Whether of an answer nothing but words that talk an agent into something is looked for, and noted.
    pub(super) fn only_notes(&self) -> bool {
        self.pipelock.response_scanning.action == Action::Off
    }
}

/// The rules that come with the program, those of the policy's kinds of data and the project's own, without some: made once for each
/// set.
fn rules(dlp: &Dlp, mut without: Vec<String>) -> Result<Arc<Rules>, RulesError> {
    type Made = BTreeMap<(Vec<TokenPattern>, BTreeSet<DataKind>, Vec<String>), Arc<Rules>>;
    static MADE: Mutex<Made> = Mutex::new(BTreeMap::new());
    without.sort_unstable();
    without.dedup();
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (dlp.patterns.clone(), dlp.detect.clone(), without);
    if let Some(rules) = made.get(&key) {
        return Ok(Arc::clone(rules));
    }
    let rules = Arc::new(Rules::with(&key.0, &key.1, &key.2)?);
    made.insert(key, Arc::clone(&rules));
    Ok(rules)
}

impl CompiledRoute {
    /// The route of a host that may be reached in any way.
    fn open(host: HostPattern, pipelock: &PipelockPolicy) -> Self {
        let mode = match pipelock.dlp.action {
            Action::Block => Some(Mode::Block),
            Action::Warn => Some(Mode::Warn),
            Action::Off => None,
        };
        let max_bytes = pipelock.request_body_scanning.max_body_bytes.0;
        let (rate, upstream, credential) = (None, None, None);
        Self { host, model: false, mode, ask: false, max_bytes, rate, upstream, credential, leads_nowhere: false }
    }

    /// The self-test's: judged as any other, and sent to nobody.
    fn self_test(pipelock: &PipelockPolicy) -> Result<Self, String> {
        let host = HostPattern::parse(SELF_TEST_HOST).map_err(|error| error.to_string())?;
        Ok(Self { leads_nowhere: true, ..Self::open(host, pipelock) })
    }

    fn new(
        (dirs, status): (&Dirs, &CredentialStatus),
        route: &Route,
        replay: bool,
        pipelock: &PipelockPolicy,
    ) -> Result<Self, Error> {
        // A replay needs no key: nothing of the model's goes out.
        let auth = route.auth.as_ref().filter(|_| !(replay && route.model));
        let credential = auth.map(|auth| Credential::new(dirs, status, auth));
        let open = Self::open(route.host.clone(), pipelock);
        let mode = match route.dlp.outbound {
            None => open.mode,
            Some(Outbound::Block | Outbound::Ask) => Some(Mode::Block),
            Some(Outbound::Redact) => Some(Mode::Redact),
            Some(Outbound::Warn) => Some(Mode::Warn),
        };
        let max_bytes = route.max_bytes.map_or(open.max_bytes, |size| size.0);
        let (rate, upstream) = (route.rate, route.upstream.clone());
        let ask = route.dlp.outbound == Some(Outbound::Ask);
        Ok(Self {
            model: route.model,
            mode,
            ask,
            max_bytes,
            rate,
            upstream,
            credential: credential.transpose()?,
            ..open
        })
    }
}
