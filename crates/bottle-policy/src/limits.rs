//! How much may leave in one run: requests, bytes, hosts, and what names of hosts can say.

use std::collections::{BTreeMap, BTreeSet};

use bottle_types::host::{HostName, HostPattern};
use bottle_types::units::{ByteSize, Rate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may leave; a limit that is not given is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests of the whole run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Bytes of all request bodies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<ByteSize>,
    /// Different hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<usize>,
    /// Requests to one host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_host: Option<u64>,
    /// Bytes of all request bodies to one host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_out_per_host: Option<ByteSize>,
    /// What all different names below one wildcard may say together: a name is a message to whoever runs its name server.
    pub names: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests: None,
            bytes_out: None,
            hosts: None,
            requests_per_host: None,
            bytes_out_per_host: None,
            names: ByteSize(512),
        }
    }
}

impl Limits {
    /// Whether nothing was said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A limit that is reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reached {
    /// Of the whole run.
    #[error("this run may send {0} requests, and has")]
    Requests(u64),
    /// Of the whole run.
    #[error("this run may send {0} bytes in request bodies, and they are used up")]
    Bytes(u64),
    /// Of the whole run.
    #[error("this run may talk to {0} hosts, and {1} would be one more")]
    Hosts(usize, HostName),
    /// Of one host.
    #[error("this run may send {0} requests to {1}, and has")]
    RequestsToHost(u64, HostName),
    /// Of one host.
    #[error("this run may send {0} bytes in request bodies to {1}, and they are used up")]
    BytesToHost(u64, HostName),
    /// Of one wildcard.
    #[error("the names below *.{1} that this run has used say {0} bytes already, which looks like a message in names")]
    Names(u64, HostName),
    /// Of one route.
    #[error("this route takes {0} requests: wait, and try again")]
    Rate(Rate),
    /// Of none, but it can't be counted.
    #[error("what this run sends can't be written down, so nothing more may leave")]
    Lost,
}

/// What is written down of what has left, so that a restart can count on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Count {
    /// A life began.
    Began,
    /// Requests to a host.
    Requests {
        /// Which.
        host: HostName,
        /// How many.
        count: u64,
    },
    /// Bytes to a host, sent or set aside to be sent.
    Bytes {
        /// Which.
        host: HostName,
        /// How many.
        bytes: u64,
    },
    /// Another name below a wildcard.
    Name {
        /// The wildcard's own name.
        below: HostName,
        /// The name.
        host: HostName,
    },
}

/// What has left so far.
#[derive(Debug, Default)]
pub struct Usage {
    requests: u64,
    bytes: u64,
    hosts: BTreeMap<HostName, Host>,
    names: BTreeMap<HostName, Names>,
    buckets: BTreeMap<usize, Bucket>,
    /// Whether there was a life before this one, whose buckets nobody knows.
    again: bool,
}

#[derive(Debug, Default)]
struct Host {
    requests: u64,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Names {
    seen: BTreeSet<HostName>,
    bits: f64,
}

/// What is left of a rate.
#[derive(Debug)]
struct Bucket {
    rate: Rate,
    left: f64,
    at_ms: u64,
}

impl Usage {
    /// Takes what an earlier life has written down.
    pub fn add(&mut self, count: &Count) {
        match count {
            Count::Began => {}
            Count::Requests { host, count } => {
                self.requests += count;
                self.hosts.entry(host.clone()).or_default().requests += count;
            }
            Count::Bytes { host, bytes } => {
                self.bytes += bytes;
                self.hosts.entry(host.clone()).or_default().bytes += bytes;
            }
            Count::Name { below, host } => {
                let names = self.names.entry(below.clone()).or_default();
                if names.seen.insert(host.clone()) {
                    names.bits += says(front(host, below));
                }
            }
        }
    }

    /// Rates begin with nothing, because what is left of them is not written down.
    pub fn begin_again(&mut self) {
        self.again = true;
    }

    /// Requests to each host so far.
    pub fn requests_so_far(&self) -> impl Iterator<Item = Count> {
        self.hosts.iter().map(|(host, usage)| Count::Requests { host: host.clone(), count: usage.requests })
    }

    /// Counts a request by the rule about `pattern`, and gives the name if it is another one; or says which limit keeps it back.
    pub fn request(
        &mut self,
        limits: &Limits,
        pattern: &HostPattern,
        host: &HostName,
    ) -> Result<Option<Count>, Reached> {
        if let Some(most) = limits.requests.filter(|most| self.requests >= *most) {
            return Err(Reached::Requests(most));
        }
        let known = self.hosts.get(host);
        if let Some(most) = limits.hosts.filter(|most| known.is_none() && self.hosts.len() >= *most) {
            return Err(Reached::Hosts(most, host.clone()));
        }
        let asked = known.map_or(0, |host| host.requests);
        if let Some(most) = limits.requests_per_host.filter(|most| asked >= *most) {
            return Err(Reached::RequestsToHost(most, host.clone()));
        }
        let mut name = None;
        if let HostPattern::Below(suffix) = pattern {
            let names = self.names.entry(suffix.clone()).or_default();
            if !names.seen.contains(host) {
                let bits = names.bits + says(front(host, suffix));
                if bits > limits.names.0 as f64 * 8.0 {
                    return Err(Reached::Names(limits.names.0, suffix.clone()));
                }
                names.bits = bits;
                names.seen.insert(host.clone());
                name = Some(Count::Name { below: suffix.clone(), host: host.clone() });
            }
        }
        self.requests += 1;
        self.hosts.entry(host.clone()).or_default().requests += 1;
        Ok(name)
    }

    /// Counts a request against its route's rate; the clock is the caller's, in milliseconds.
    pub fn rate(&mut self, route: usize, rate: Rate, now_ms: u64) -> Result<(), Reached> {
        let full = f64::from(rate.count);
        let left = if self.again { 0.0 } else { full };
        let bucket = self.buckets.entry(route).or_insert(Bucket { rate, left, at_ms: now_ms });
        if bucket.rate != rate {
            *bucket = Bucket { rate, left: full, at_ms: now_ms };
        }
        let passed = now_ms.saturating_sub(bucket.at_ms) as f64;
        bucket.left = (bucket.left + passed * full / (rate.per.0 as f64 * 1000.0)).min(full);
        bucket.at_ms = now_ms;
        if bucket.left < 1.0 {
            return Err(Reached::Rate(rate));
        }
        bucket.left -= 1.0;
        Ok(())
    }

    /// Counts bytes that are about to leave, and gives those to this host so far; or says which limit keeps them back.
    pub fn bytes(&mut self, limits: &Limits, host: &HostName, more: u64) -> Result<u64, Reached> {
        if let Some(most) = limits.bytes_out.filter(|most| self.bytes + more > most.0) {
            return Err(Reached::Bytes(most.0));
        }
        let sent = self.hosts.get(host).map_or(0, |host| host.bytes);
        if let Some(most) = limits.bytes_out_per_host.filter(|most| sent + more > most.0) {
            return Err(Reached::BytesToHost(most.0, host.clone()));
        }
        self.bytes += more;
        let own = self.hosts.entry(host.clone()).or_default();
        own.bytes += more;
        Ok(own.bytes)
    }
}

/// What a name says in front of a wildcard's own.
fn front<'a>(host: &'a HostName, below: &HostName) -> &'a str {
    host.as_str().strip_suffix(below.as_str()).unwrap_or(host.as_str())
}

/// How many bits a name can carry: its letters by their entropy, and one for being another name at all.
fn says(front: &str) -> f64 {
    let letters: Vec<u8> = front.bytes().filter(|byte| *byte != b'.').collect();
    bottle_scan::dlp::entropy(&letters) * letters.len() as f64 + 1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use bottle_types::units::Seconds;

    fn host(name: &str) -> HostName {
        HostName::parse(name).expect("a host")
    }

    #[test]
    fn each_limit_keeps_back_what_is_over_it() {
        let a = HostPattern::parse("a.example").expect("a pattern");
        let mut usage = Usage::default();
        let limits = Limits { requests_per_host: Some(2), hosts: Some(2), requests: Some(4), ..Limits::default() };
        for (name, fine) in
            [("a.example", true), ("a.example", true), ("a.example", false), ("b.example", true), ("c.example", false)]
        {
            assert_eq!(usage.request(&limits, &a, &host(name)).is_ok(), fine, "{name}");
        }
        assert_eq!(usage.request(&limits, &a, &host("b.example")), Ok(None));
        assert_eq!(usage.request(&limits, &a, &host("b.example")), Err(Reached::Requests(4)));
        let limits =
            Limits { bytes_out: Some(ByteSize(100)), bytes_out_per_host: Some(ByteSize(60)), ..Limits::default() };
        for (name, bytes, fine) in [("a.example", 60, true), ("a.example", 1, false), ("b.example", 41, false)] {
            assert_eq!(usage.bytes(&limits, &host(name), bytes).is_ok(), fine, "{name} {bytes}");
        }
        assert_eq!(usage.bytes(&limits, &host("b.example"), 40), Ok(40));
    }

    #[test]
    fn names_below_a_wildcard_can_t_be_a_message() {
        let below = HostPattern::parse("*.cdn.example").expect("a pattern");
        let mut usage = Usage::default();
        let limits = Limits::default();
        // What ordinary names say is little, and saying it again is nothing.
        for _ in 0..100 {
            for name in ["www", "static", "images", "api-v2"] {
                assert!(usage.request(&limits, &below, &host(&format!("{name}.cdn.example"))).is_ok());
            }
        }
        let said = (0..200u64).find(|number| {
            let text = hex::encode(sha2::Digest::finalize(sha2::Digest::chain_update(
                <sha2::Sha256 as sha2::Digest>::new(),
                number.to_le_bytes(),
            )));
            usage.request(&limits, &below, &host(&format!("{}.cdn.example", &text[..60]))).is_err()
        });
        assert!(said.is_some_and(|said| (10..30).contains(&said)), "{said:?}");
        assert_eq!(usage.request(&limits, &below, &host("www.cdn.example")), Ok(None));
    }

    #[test]
    fn a_rate_fills_again() {
        let mut usage = Usage::default();
        let rate = Rate { count: 2, per: Seconds(1) };
        for (now, fine) in [(0, true), (0, true), (100, false), (600, true), (700, false), (10_000, true)] {
            assert_eq!(usage.rate(0, rate, now).is_ok(), fine, "{now}");
        }
        assert!(usage.rate(1, rate, 10_000).is_ok());
    }
}
