//! Both policy files and the secrets they name, read together and put in force together.

use std::io;
use std::path::Path;

use bottle_policy::dlp::{Mode, Rules, Scope, Search};
use bottle_policy::host::HostPattern;
use bottle_policy::known::KnownSecrets;
use bottle_policy::matcher::Matcher;
use bottle_policy::pipelock::{Action, PipelockPolicy};
use bottle_policy::route::{BaseUrl, Outbound, Route, RoutesPolicy};
use bottle_policy::secret::SecretName;
use bottle_policy::units::Rate;
use http::{HeaderName, HeaderValue};

use crate::common::{self, Dirs, Error};

/// All that judges a request.
pub(super) struct Policy {
    pub(super) pipelock: PipelockPolicy,
    pub(super) matcher: Matcher,
    /// As the matcher counts them.
    pub(super) routes: Vec<Way>,
    pub(super) known: KnownSecrets,
    rules: Rules,
    /// What answers are searched for, if they are.
    answers: Option<Rules>,
}

/// What a route means for pipelock.
pub(super) struct Way {
    pub(super) host: HostPattern,
    pub(super) model: bool,
    /// What findings of rules lead to; none: they are not looked for.
    pub(super) mode: Option<Mode>,
    /// The largest body.
    pub(super) max_bytes: u64,
    pub(super) rate: Option<Rate>,
    /// Where requests really go.
    pub(super) upstream: Option<BaseUrl>,
    pub(super) credential: Option<Credential>,
}

/// A header to add.
pub(super) struct Credential {
    pub(super) name: SecretName,
    pub(super) header: HeaderName,
    /// Marked sensitive.
    pub(super) value: HeaderValue,
}

impl Policy {
    /// Reads everything, or says what is wrong.
    pub(super) fn read(dirs: &Dirs, config: &Path, routes: &Path) -> Result<Self, Error> {
        let pipelock: PipelockPolicy = common::read_policy(config)?;
        let wrong = |reason: String| Error::Policy { path: config.to_owned(), reason };
        if pipelock.version != 1 {
            return Err(wrong(format!("version {} is not known: 1 is", pipelock.version)));
        }
        let routed = match common::read_policy::<RoutesPolicy>(routes) {
            Ok(routed) => routed,
            // A bottle without routes has no such file.
            Err(Error::Read { error, .. }) if pipelock.guest_proxy && error.kind() == io::ErrorKind::NotFound => {
                RoutesPolicy { version: 1, ..RoutesPolicy::default() }
            }
            Err(error) => return Err(error),
        };
        let wrong_routes = |reason: String| Error::Policy { path: routes.to_owned(), reason };
        let (matcher, ways) = if pipelock.guest_proxy {
            let matcher = Matcher::for_hosts(&pipelock.api_allowlist, &routed.git_upstreams);
            (matcher, pipelock.api_allowlist.iter().map(|host| Way::open(host.clone(), &pipelock)).collect())
        } else {
            let ways = routed.routes.iter().map(|route| Way::new(dirs, route, routed.replay, &pipelock));
            (Matcher::new(&routed), ways.collect::<Result<Vec<_>, Error>>()?)
        };
        let matcher = matcher.map_err(|error| wrong_routes(error.to_string()))?;
        let mut secrets = pipelock.secrets.clone();
        secrets.extend(ways.iter().filter_map(|way| way.credential.as_ref()).map(|added| added.name.clone()));
        secrets.sort();
        secrets.dedup();
        let known = dirs.known_secrets(&secrets)?;
        let rules = Rules::builtin().map_err(|error| wrong(error.to_string()))?;
        let looks = pipelock.response_scanning.action != Action::Off;
        let answers = looks.then(Rules::for_answers).transpose().map_err(|error| wrong(error.to_string()))?;
        Ok(Self { pipelock, matcher, routes: ways, known, rules, answers })
    }

    /// What a request on this route is searched for.
    pub(super) fn search(&self, way: &Way) -> Search<'_> {
        let scope = if way.model { Scope::Model } else { Scope::All };
        Search { known: &self.known, rules: way.mode.map(|_| (&self.rules, scope)) }
    }

    /// What an answer is searched for.
    pub(super) fn answers(&self) -> Search<'_> {
        Search { known: &self.known, rules: self.answers.as_ref().map(|rules| (rules, Scope::All)) }
    }
}

impl Way {
    /// Of a host that may be reached in any way.
    fn open(host: HostPattern, pipelock: &PipelockPolicy) -> Self {
        let mode = match pipelock.dlp.action {
            Action::Block => Some(Mode::Block),
            Action::Warn => Some(Mode::Warn),
            Action::Off => None,
        };
        let max_bytes = pipelock.request_body_scanning.max_body_bytes.0;
        Self { host, model: false, mode, max_bytes, rate: None, upstream: None, credential: None }
    }

    fn new(dirs: &Dirs, route: &Route, replay: bool, pipelock: &PipelockPolicy) -> Result<Self, Error> {
        // A replay needs no key: nothing of the model's goes out.
        let auth = route.auth.as_ref().filter(|_| !(replay && route.model));
        let credential = auth.map(|auth| {
            let path = dirs.secrets.clone();
            let wrong = |reason: String| Error::Policy { path: path.clone(), reason };
            let (header, before, name) = auth.injection().map_err(|reason| wrong(reason.to_owned()))?;
            let secret = dirs.secret(name)?;
            let mut bytes = before.as_bytes().to_vec();
            bytes.extend_from_slice(secret.expose().trim_ascii());
            let mut value = HeaderValue::from_bytes(&bytes)
                .map_err(|_| wrong(format!("the value of {name} can't be the value of a header")))?;
            value.set_sensitive(true);
            let header = header.parse().map_err(|_| wrong(format!("`{header}` is not the name of a header")))?;
            Ok::<_, Error>(Credential { name: name.clone(), header, value })
        });
        let open = Self::open(route.host.clone(), pipelock);
        let mode = match route.dlp.outbound {
            None => open.mode,
            Some(Outbound::Block) => Some(Mode::Block),
            Some(Outbound::Redact) => Some(Mode::Redact),
            Some(Outbound::Warn) => Some(Mode::Warn),
            Some(Outbound::Ask) => {
                let reason = format!("route {}: `dlp.outbound: ask` is not there in this version", route.host);
                return Err(Error::Policy { path: "routes.yaml".into(), reason });
            }
        };
        let max_bytes = route.max_bytes.map_or(open.max_bytes, |size| size.0);
        let (rate, upstream) = (route.rate, route.upstream.clone());
        Ok(Self { model: route.model, mode, max_bytes, rate, upstream, credential: credential.transpose()?, ..open })
    }
}
