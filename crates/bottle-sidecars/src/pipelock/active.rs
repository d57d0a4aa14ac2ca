//! The policy in force, with the connections made under it, and the one before it.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bottle_policy::limits::Reached;
use bottle_types::host::{HostName, HostPattern};
use bottle_types::units::Rate;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::approval_client::ApprovalClient;
use super::dial::Dialer;
use super::policy::Policy;
use super::resend::UpstreamClients;
use super::usage::UsageLog;
use super::windows::Windows;
use crate::proxy::headers::{MAX_HEADER_LIST_BYTES, MAX_HEADERS};
use crate::proxy::response::Body;
use crate::tls::Trust;

/// A policy in force, with the connections made under it.
pub(super) struct ActivePolicy {
    pub(super) policy: Arc<Policy>,
    pub(super) upstream: UpstreamClients,
    /// For connections that become something else.
    pub(super) switcher: Client<Dialer, Body>,
    pub(super) dialer: Dialer,
    pub(super) approvals: Arc<ApprovalClient>,
    usage_log: Arc<UsageLog>,
    pub(super) windows: Arc<Windows>,
}

/// The way out of the bundle: the policies, and what outlives them.
pub(super) struct Forwarder {
    active: RwLock<PolicySlot>,
    trust: Trust,
    approvals: Arc<ApprovalClient>,
    usage_log: Arc<UsageLog>,
    windows: Arc<Windows>,
}

/// How long the policy before stays for requests that egress has judged by it and that are still on their way here.
const PREVIOUS_POLICY_GRACE: Duration = Duration::from_secs(5);

/// The policy in force, and the one before it.
struct PolicySlot {
    now: Arc<ActivePolicy>,
    before: Option<(Arc<ActivePolicy>, Instant)>,
}

impl Forwarder {
    pub(super) fn new(policy: Policy, approvals: ApprovalClient, usage_log: UsageLog) -> Self {
        let (trust, approvals, usage_log) = (Trust::default(), Arc::new(approvals), Arc::new(usage_log));
        let windows = Arc::default();
        let now = Arc::new(ActivePolicy::new(policy, &trust, &approvals, &usage_log, &windows));
        Self { active: RwLock::new(PolicySlot { now, before: None }), trust, approvals, usage_log, windows }
    }

    /// From now on requests are judged by this policy, over connections of its own.
    pub(super) fn replace(&self, policy: Policy) {
        let now = Arc::new(ActivePolicy::new(policy, &self.trust, &self.approvals, &self.usage_log, &self.windows));
        let mut slot = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut slot.now, now);
        // With the same routes nothing is on its way that the new policy could not judge.
        if before.policy.routes_hash != slot.now.policy.routes_hash {
            slot.before = Some((before, Instant::now()));
        }
    }

    /// The policy in force, which a request keeps to its end.
    pub(super) fn active(&self) -> Arc<ActivePolicy> {
        Arc::clone(&self.active.read().unwrap_or_else(PoisonError::into_inner).now)
    }

    /// The policy with the routes that egress went by, so that a request is judged by one policy all the way. With routes
    /// that are not known (any more) it is judged by those in force, and refused where they don't agree.
    pub(super) fn active_for(&self, routes_hash: &str) -> Arc<ActivePolicy> {
        let slot = self.active.read().unwrap_or_else(PoisonError::into_inner);
        match &slot.before {
            Some((before, since))
                if slot.now.policy.routes_hash != routes_hash
                    && before.policy.routes_hash == routes_hash
                    && since.elapsed() < PREVIOUS_POLICY_GRACE =>
            {
                Arc::clone(before)
            }
            _ => Arc::clone(&slot.now),
        }
    }
}

impl ActivePolicy {
    fn new(
        policy: Policy,
        trust: &Trust,
        approvals: &Arc<ApprovalClient>,
        usage_log: &Arc<UsageLog>,
        windows: &Arc<Windows>,
    ) -> Self {
        let dialer = Dialer::new(trust.clone(), &policy.pipelock, policy.proxy.clone());
        let client = |idle, dialer| -> Client<Dialer, Body> {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(Duration::from_secs(20))
                .pool_max_idle_per_host(idle)
                .http1_max_headers(MAX_HEADERS)
                // RFC 9112, 5.1 and 5.2: whoever passes an answer on mends both.
                .http1_allow_spaces_after_header_name_in_responses(true)
                .http1_allow_obsolete_multiline_headers_in_responses(true)
                .http2_max_header_list_size(MAX_HEADER_LIST_BYTES)
                .build(dialer)
        };
        let upstream = UpstreamClients { kept: client(32, dialer.clone()), fresh: client(0, dialer.clone()) };
        let switcher = client(0, dialer.http1());
        let (approvals, usage_log, windows) = (Arc::clone(approvals), Arc::clone(usage_log), Arc::clone(windows));
        Self { policy: Arc::new(policy), upstream, switcher, dialer, approvals, usage_log, windows }
    }

    /// Tells whether the self-test is here now: once in a run.
    pub(super) fn is_first_self_test(&self) -> bool {
        self.usage_log.is_first_self_test()
    }

    /// Counts a request by the rule about these hosts.
    pub(super) fn count(&self, pattern: &HostPattern, host: &HostName) -> Result<(), Reached> {
        self.usage_log.request(&self.policy.pipelock.limits, pattern, host)
    }

    /// Counts bytes that are about to leave.
    pub(super) fn may_send(&self, host: &HostName, more: u64) -> Result<(), Reached> {
        let limits = &self.policy.pipelock.limits;
        if limits.is_default() {
            return Ok(());
        }
        self.usage_log.bytes(limits, host, more)
    }

    /// Counts a request against its route's rate.
    pub(super) fn count_rate(&self, route: usize, rate: Rate) -> Result<(), Reached> {
        self.usage_log.rate(route, rate)
    }
}
