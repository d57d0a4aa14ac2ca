//! The model's own routes: answered from a cassette, or sent on and recorded as the reply streams past.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bottle_policy::access::Verdict;
use bottle_policy::budget::{Budget, Tokens};
use bottle_policy::cassette::{Cassette, Player, Turn};
use bottle_policy::door;
use bottle_policy::messages::{self, ModelRequest, Reply};
use bottle_policy::sse::{Fold, turn_of};
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use sha2::{Digest as _, Sha256};

use super::handler::{EgressHandler, Policy};
use super::ledger::{Admission, Ledger, Reservation};
use crate::common::{Dirs, Error};
use crate::proxy::access::{AccessLog, LogFile};
use crate::proxy::response::{Body, BoxError, boxed, full, refuse, typed};
use crate::proxy::target::RequestTarget;

/// A request for a reply is read whole; the API itself takes 32 MB.
const MAX_REQUEST_BYTES: usize = 40 << 20;
/// A reply that is not a stream is kept up to this size to be recorded.
const MAX_RECORDED_REPLY_BYTES: usize = 32 << 20;

/// Where a reply does not say, so many bytes of a request are about a token.
const BYTES_PER_TOKEN: usize = 4;

/// Replay and recording.
pub(super) struct Model {
    cassette: PathBuf,
    player: Mutex<Option<Player>>,
    record: Arc<LogFile>,
    ledger: Arc<Ledger>,
}

/// What a recorded turn says about its request.
#[derive(Clone)]
struct TurnKey {
    after: u32,
    request_sha256: String,
}

/// Whom a reply is charged to.
struct Account {
    ledger: Arc<Ledger>,
    policy: Arc<Policy>,
    id: String,
    model: String,
    /// Of the request, in bytes.
    size: usize,
    /// Whether it is still to be charged.
    open: bool,
    /// Until then, what it may cost.
    _reservation: Option<Reservation>,
}

impl Account {
    /// What a reply says it has cost; where it was cut off before it said so, by its size.
    fn charge(mut self, spent: Option<(Tokens, bool)>) {
        self.add(spent);
    }

    /// Nothing was bought.
    fn waive(mut self) {
        self.open = false;
    }

    fn add(&mut self, spent: Option<(Tokens, bool)>) {
        self.open = false;
        let guess = || (Tokens { input: (self.size / BYTES_PER_TOKEN) as u64, ..Tokens::default() }, true);
        let (tokens, estimated) = spent.unwrap_or_else(guess);
        self.ledger.add(&self.policy.routes.budget, &self.id, &self.model, tokens, estimated);
    }
}

/// A client that leaves before there is an answer pays all the same.
impl Drop for Account {
    fn drop(&mut self) {
        if self.open {
            self.add(None);
        }
    }
}

impl Model {
    /// Opens the record; the cassette is read at the first request, because it may come after the start.
    pub(super) fn open(dirs: &Dirs) -> Result<Self, Error> {
        let record = LogFile::open(&dirs.log("cassette.jsonl"))?;
        let ledger = Ledger::open(dirs)?;
        Ok(Self { cassette: dirs.state.join(door::REPLAY_FILE), player: Mutex::default(), record, ledger })
    }

    /// Answers a request that a model route allows.
    pub(super) async fn answer<B>(
        &self,
        egress: &EgressHandler,
        policy: &Arc<Policy>,
        target: &RequestTarget,
        route: usize,
        request: Request<B>,
        mut log: AccessLog,
    ) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (replay, budget) = (policy.routes.replay, &policy.routes.budget);
        let path = request.uri().path().trim_end_matches('/');
        let post = request.method() == Method::POST;
        let reply = post && path.ends_with("/v1/messages");
        let count = post && path.ends_with("/v1/messages/count_tokens");
        if !budget.is_none() && post && !reply && !count {
            let why = "this bottle counts what the model costs, and of this request it can't: only /v1/messages may be posted";
            log.stop(Verdict::Deny, "budget");
            return log.answer(send(messages::error(400, why)));
        }
        if !replay && !reply {
            let response = egress.forward(policy, target, route, request.map(boxed), &mut log).await;
            return log.answer(response);
        }
        if !reply && !count {
            log.entry.verdict = Verdict::Replay;
            return log
                .answer(send(messages::error(404, "this bottle replays a cassette, which answers messages only")));
        }
        let (mut parts, body) = request.into_parts();
        let mut body = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => {
                let (status, kind) = match error.is::<LengthLimitError>() {
                    true => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
                    false => (StatusCode::BAD_REQUEST, "request"),
                };
                log.stop(Verdict::Deny, kind);
                return log.answer(refuse(status, kind, format!("the request's body can't be read: {error}")));
            }
        };
        let wanted = ModelRequest::parse(&body);
        let turn_key = wanted
            .as_ref()
            .map(|wanted| TurnKey { after: wanted.after, request_sha256: hex::encode(Sha256::digest(&body)) });
        let model = wanted.as_ref().map(|wanted| wanted.model.clone());
        let mut reservation = None;
        if reply && !budget.is_none() {
            let next = match &wanted {
                Some(wanted) => {
                    let input = (wanted.size / BYTES_PER_TOKEN) as u64;
                    let most = Tokens { input, output: wanted.most, ..Tokens::default() };
                    // What a cassette says was paid once already.
                    let cost_usd = budget.cost_usd.filter(|_| !replay);
                    self.ledger.next(&Budget { cost_usd, ..budget.clone() }, &wanted.model, most).await
                }
                None => Admission::Stop(
                    "the body is not JSON with `messages`, so what it costs can't be counted".to_owned(),
                ),
            };
            match next {
                Admission::Go(own) => reservation = Some(own),
                Admission::Tell(notice, own) => {
                    reservation = Some(own);
                    body = messages::with_notice(&body, &notice).map_or(body, Bytes::from);
                }
                Admission::Stop(why) => {
                    log.stop(Verdict::Deny, "budget");
                    // Claude Code tries this kind again at once a few times, then ends with these words in its result.
                    return log.answer(send(messages::error(400, &why)));
                }
            }
        }
        let account = Account {
            ledger: Arc::clone(&self.ledger),
            policy: Arc::clone(policy),
            id: target.id.clone(),
            model: model.unwrap_or_default(),
            size: body.len(),
            open: reply,
            _reservation: reservation,
        };
        if replay {
            log.entry.verdict = Verdict::Replay;
            let reply = match (count, wanted, turn_key) {
                (true, ..) => messages::count_tokens(&body),
                (false, Some(wanted), Some(turn_key)) => self.play(&wanted, &turn_key, account),
                _ => {
                    account.waive();
                    messages::error(400, "the body is not JSON with `messages`")
                }
            };
            return log.answer(send(reply));
        }
        // A compressed reply could not be read on its way.
        parts.headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        let response = egress.forward(policy, target, route, Request::from_parts(parts, full(body)), &mut log).await;
        let ours = log.entry.verdict != Verdict::Allow;
        let response = match turn_key {
            Some(turn_key) if !ours => self.recorded(turn_key, account, response),
            _ => {
                account.waive();
                response
            }
        };
        log.answer(response)
    }

    /// The cassette's answer; whatever is wrong with it is an error that no client tries again for long.
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
                    let read = turn_of(reply.status, reply.body.as_bytes()).and_then(|read| read.usage);
                    account.charge(read.map(|usage| (Tokens::of(&usage), false)));
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

    /// The same answer, written to the record when it has ended.
    fn recorded(&self, turn_key: TurnKey, account: Account, response: Response<Body>) -> Response<Body> {
        let status = response.status().as_u16();
        let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        let partial = if status == 200 && kind.starts_with(b"text/event-stream") {
            PartialReply::Stream(Box::default())
        } else {
            PartialReply::Whole(vec![])
        };
        let record = Arc::clone(&self.record);
        response.map(|body| {
            boxed(RecordedBody { body, status, partial: Some(partial), turn_key, account: Some(account), record })
        })
    }
}

fn send(reply: Reply) -> Response<Body> {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    typed(status, reply.content_type, reply.body)
}

fn record(log_file: &LogFile, turn_key: &TurnKey, turn: Turn) {
    let turn = Turn { after: Some(turn_key.after), request_sha256: Some(turn_key.request_sha256.clone()), ..turn };
    log_file.append(&turn);
}

enum PartialReply {
    Stream(Box<Fold>),
    Whole(Vec<u8>),
}

/// A reply on its way that is read along.
struct RecordedBody {
    body: Body,
    status: u16,
    /// None once it is written, or can't be.
    partial: Option<PartialReply>,
    turn_key: TurnKey,
    /// None once it is charged.
    account: Option<Account>,
    record: Arc<LogFile>,
}

impl RecordedBody {
    fn take(&mut self, data: &[u8]) {
        match &mut self.partial {
            Some(PartialReply::Stream(fold)) => fold.push(data),
            Some(PartialReply::Whole(bytes)) if bytes.len() + data.len() <= MAX_RECORDED_REPLY_BYTES => {
                bytes.extend_from_slice(data)
            }
            _ => self.partial = None,
        }
    }

    fn end(&mut self) {
        // A reply that is not one costs nothing.
        if let Some(account) = self.account.take() {
            if self.status != 200 {
                account.waive();
                return self.write();
            }
            account.charge(match &self.partial {
                Some(PartialReply::Stream(fold)) => fold.spent(),
                Some(PartialReply::Whole(bytes)) => {
                    let usage = turn_of(self.status, bytes).and_then(|turn| turn.usage);
                    usage.map(|usage| (Tokens::of(&usage), false))
                }
                None => None,
            });
        }
        self.write();
    }

    fn write(&mut self) {
        let turn = match self.partial.take() {
            Some(PartialReply::Stream(fold)) => fold.finish(),
            Some(PartialReply::Whole(bytes)) => turn_of(self.status, &bytes),
            None => None,
        };
        if let Some(turn) = turn {
            record(&self.record, &self.turn_key, turn);
        }
    }
}

/// A client may close as soon as it has seen the message's end.
impl Drop for RecordedBody {
    fn drop(&mut self) {
        self.end();
    }
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.take(data);
                }
            }
            Poll::Ready(None) => self.end(),
            // A stream whose last event has come is whole, however the connection then ends.
            Poll::Ready(Some(Err(_))) if matches!(self.partial, Some(PartialReply::Stream(_))) => self.end(),
            Poll::Ready(Some(Err(_))) => {
                self.partial = None;
                self.end();
            }
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
