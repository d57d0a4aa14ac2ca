//! The model's own routes: answered from a cassette, or sent on and recorded as the reply streams past.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bottle_policy::budget::{Budget, Tokens};
use bottle_types::door;
use bottle_types::reason::Reason;
use bottle_wire::access::AccessVerdict;
use bottle_wire::cassette::{Cassette, Player};
use bottle_wire::messages::{self, ModelRequest, Reply};
use bottle_wire::model_call::{ModelCall, ModelPath};
use bottle_wire::sse::{Metered, turn_of};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::account::{Account, BYTES_PER_TOKEN};
use super::client::PipelockClient;
use super::ledger::{Admission, BudgetLedger, Reservation};
use super::policy::RoutePolicy;
use super::recording::{self, TurnKey, record};
use crate::common::{Dirs, Error};
use crate::proxy::access::{AccessLog, LogFile};
use crate::proxy::response::{Body, BoxError, boxed, full, refuse, typed};
use crate::proxy::target::RequestTarget;

/// A request for a reply is read whole; the API itself takes 32 MB.
const MAX_REQUEST_BYTES: usize = 40 << 20;
/// Headers by which a request to Amazon Bedrock asks for what costs more than the list of prices says.
const DEARER: [&str; 2] = ["x-amzn-bedrock-performanceconfig-latency", "x-amzn-bedrock-service-tier"];

/// Replay and recording.
pub(super) struct Model {
    cassette: PathBuf,
    player: Mutex<Option<Player>>,
    record: Arc<LogFile>,
    ledger: Arc<BudgetLedger>,
}

/// A call that the budget lets go.
struct AdmittedCall {
    body: Bytes,
    parsed: Option<ModelRequest>,
    turn_key: Option<TurnKey>,
    account: Account,
}

impl Model {
    /// Opens the record; the cassette is read at the first request, because it may come after the start.
    pub(super) fn open(dirs: &Dirs) -> Result<Self, Error> {
        let record = LogFile::open(&dirs.log("cassette.jsonl"))?;
        let ledger = BudgetLedger::open(dirs)?;
        Ok(Self { cassette: dirs.state.join(door::REPLAY_FILE), player: Mutex::default(), record, ledger })
    }

    /// Answers a request that a model route allows.
    pub(super) async fn answer<B>(
        &self,
        pipelock: &PipelockClient,
        policy: &Arc<RoutePolicy>,
        target: &RequestTarget,
        route: usize,
        request: Request<B>,
        mut log: AccessLog,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let replay = policy.routes.replay;
        let call = ModelCall::new(request.method().as_str(), request.uri().path());
        if !policy.routes.budget.is_none() && call == ModelCall::OtherPost {
            let why = "this bottle counts what the model costs, and of this request it can't: only requests of the Messages API may be \
                       posted, and those that count tokens";
            return refused_by_budget(why, log);
        }
        let (path, is_charged) = match &call {
            ModelCall::Messages(path) => (path, true),
            ModelCall::CountTokens(path) if replay => (path, false),
            _ if replay => {
                log.entry.verdict = AccessVerdict::Replay;
                return log
                    .answer(send(messages::error(404, "this bottle replays a cassette, which answers messages only")));
            }
            _ => {
                let response = pipelock.forward(policy, target, route, request.map(boxed), &mut log).await;
                return log.answer(response);
            }
        };
        let (parts, body) = at_the_lists_price(request, &policy.routes.budget).into_parts();
        let body = match read_body(body, &mut log).await {
            Ok(body) => body,
            Err(refusal) => return log.answer(*refusal),
        };
        let admitted = match self.admit((path, is_charged), policy, target, body).await {
            Ok(admitted) => admitted,
            Err(why) => return refused_by_budget(&why, log),
        };
        if replay {
            log.entry.verdict = AccessVerdict::Replay;
            return log.answer(send(self.replay((path, is_charged), admitted)));
        }
        let AdmittedCall { body, turn_key, account, .. } = admitted;
        let response = pipelock.forward(policy, target, route, with_whole_body(parts, body), &mut log).await;
        let came_from_upstream = log.entry.verdict == AccessVerdict::Allow;
        let response = match turn_key {
            Some(turn_key) if came_from_upstream => recording::recorded(&self.record, turn_key, account, response),
            _ => {
                account.waive();
                response
            }
        };
        log.answer(response)
    }

    /// Admits a request whose body is read; an error says why it may not go.
    async fn admit(
        &self,
        (path, is_charged): (&ModelPath, bool),
        policy: &Arc<RoutePolicy>,
        target: &RequestTarget,
        body: Bytes,
    ) -> Result<AdmittedCall, String> {
        let parsed = ModelRequest::parse(path, &body);
        let turn_key = parsed.as_ref().map(|parsed| TurnKey::new(parsed, &body));
        let model = parsed.as_ref().map(|parsed| path.priced(&parsed.model)).unwrap_or_default();
        let (body, reservation) = match is_charged {
            true => self.reserve(&model, policy, parsed.as_ref(), body).await?,
            false => (body, None),
        };
        let account = Account {
            ledger: Arc::clone(&self.ledger),
            policy: Arc::clone(policy),
            id: target.id.clone(),
            model,
            size: body.len(),
            most: parsed.as_ref().map(|parsed| parsed.most).unwrap_or_default(),
            received: 0,
            open: is_charged,
            _reservation: reservation,
        };
        Ok(AdmittedCall { body, parsed, turn_key, account })
    }

    /// Sets aside the most that a request may cost, and adds the budget's notice to its body where one is due; an error
    /// says why the request may not go.
    async fn reserve(
        &self,
        model: &str,
        policy: &RoutePolicy,
        parsed: Option<&ModelRequest>,
        body: Bytes,
    ) -> Result<(Bytes, Option<Reservation>), String> {
        let budget = &policy.routes.budget;
        if budget.is_none() {
            return Ok((body, None));
        }
        let Some(parsed) = parsed else {
            return Err("the body is not JSON with `messages`, so what it costs can't be counted".to_owned());
        };
        let input = (parsed.size / BYTES_PER_TOKEN) as u64;
        let most = Tokens { input, output: parsed.most, ..Tokens::default() };
        // A cassette's turns were paid once already.
        let cost_usd = budget.cost_usd.filter(|_| !policy.routes.replay);
        match self.ledger.next(&Budget { cost_usd, ..budget.clone() }, model, most).await {
            Admission::Go(reservation) => Ok((body, Some(reservation))),
            Admission::Tell(notice, reservation) => {
                let body = messages::with_notice(&body, &notice).map_or(body, Bytes::from);
                Ok((body, Some(reservation)))
            }
            Admission::Stop(why) => Err(why),
        }
    }

    /// Answers from the cassette, or counts tokens.
    fn replay(&self, (path, is_charged): (&ModelPath, bool), admitted: AdmittedCall) -> Reply {
        let AdmittedCall { body, parsed, turn_key, account } = admitted;
        match (is_charged, parsed, turn_key) {
            (false, ..) => messages::count_tokens(path, &body),
            (_, Some(parsed), Some(turn_key)) => self.play(&parsed, &turn_key, account),
            _ => {
                account.waive();
                messages::error(400, "the body is not JSON with `messages`")
            }
        }
    }

    /// Plays the cassette's answer; whatever is wrong with it is an error that no client tries again for long.
    fn play(&self, wanted: &ModelRequest, turn_key: &TurnKey, account: Account) -> Reply {
        let mut player = self.player.lock().unwrap_or_else(PoisonError::into_inner);
        if player.is_none() {
            match self.load() {
                Ok(cassette) => *player = Some(Player::new(cassette)),
                Err(why) => {
                    account.waive();
                    tracing::error!("{why}");
                    return messages::error(400, &why);
                }
            }
        }
        let Some(player) = player.as_mut() else {
            account.waive();
            return messages::error(400, "there is no cassette");
        };
        let turns = player.turns();
        match player.next(turn_key.after, &turn_key.request_sha256) {
            Some((index, turn)) => {
                tracing::info!("replayed turn {index} of {turns}");
                let mut played = turn.clone();
                if played.error_status().is_none() {
                    played.content = turn.blocks(index);
                    played.stop_reason = Some(turn.stop_reason().to_owned());
                    (played.text, played.tools) = (None, vec![]);
                }
                let reply = messages::reply(turn, index, wanted);
                if played.error_status().is_none() {
                    // As a client reads it: also where the cassette gives no usage.
                    let read = turn_of(reply.status, reply.content_type.as_bytes(), &reply.body);
                    account.charge(Metered::of_usage(read.and_then(|read| read.usage).as_ref()));
                } else {
                    account.waive();
                }
                record(&self.record, turn_key, played);
                reply
            }
            None => {
                account.waive();
                let why = format!("cassette has no turn {}: it has {turns}", turn_key.after);
                tracing::error!("{why}");
                messages::error(400, &why)
            }
        }
    }

    fn load(&self) -> Result<Cassette, String> {
        let path = self.cassette.display();
        let text =
            std::fs::read_to_string(&self.cassette).map_err(|error| format!("failed to read {path}: {error}"))?;
        Cassette::parse(&text).map_err(|error| format!("failed to read the cassette {path}: {error}"))
    }
}

/// The refusal of a request that the budget does not allow. Claude Code tries this kind again at once a few times, then
/// ends with these words in its result.
fn refused_by_budget(why: &str, mut log: AccessLog) -> Response<Body> {
    log.stop(AccessVerdict::Deny, Reason::Budget);
    log.answer(send(messages::error(400, why)))
}

/// Reads a request's body to its end, or gives the refusal.
async fn read_body<B>(body: B, log: &mut AccessLog) -> Result<Bytes, Box<Response<Body>>>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let error = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
        Ok(body) => return Ok(body.to_bytes()),
        Err(error) => error,
    };
    let (status, reason) = match error.is::<LengthLimitError>() {
        true => (StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge),
        false => (StatusCode::BAD_REQUEST, Reason::Request),
    };
    log.stop(AccessVerdict::Deny, reason);
    Err(Box::new(refuse(status, reason, format!("the request's body can't be read: {error}"))))
}

/// The request without what would make it cost more than the list says, where dollars are counted.
fn at_the_lists_price<B>(mut request: Request<B>, budget: &Budget) -> Request<B> {
    if budget.cost_usd.is_some() {
        DEARER.iter().for_each(|name| drop(request.headers_mut().remove(*name)));
    }
    request
}

/// The request with this body, asking for a reply that can be read on its way: a compressed one could not.
fn with_whole_body(mut parts: Parts, body: Bytes) -> Request<Body> {
    parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    Request::from_parts(parts, full(body))
}

fn send(reply: Reply) -> Response<Body> {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    typed(status, reply.content_type, reply.body)
}
