//! How much an agent may ask: a few at once, then one every so often, and so many in a whole run.

use std::time::{Duration, Instant};

/// A bucket of tokens, filled by the clock, over a stock that is not.
#[derive(Debug)]
struct TokenBucket {
    burst: u32,
    every: Duration,
    left: u32,
    stock: u32,
    filled: Instant,
}

impl TokenBucket {
    /// `burst` at once, one more after each `every`, `stock` altogether.
    fn new(burst: u32, every: Duration, stock: u32, now: Instant) -> Self {
        Self { burst, every, left: burst, stock, filled: now }
    }

    /// Takes one, or says why there is none.
    fn take(&mut self, now: Instant) -> Result<(), &'static str> {
        while self.left < self.burst && now.duration_since(self.filled) >= self.every {
            self.left += 1;
            self.filled += self.every;
        }
        if self.left == self.burst {
            self.filled = now;
        }
        if self.stock == 0 {
            return Err("too many requests in this run");
        }
        if self.left == 0 {
            return Err("too many requests in a short time; wait a minute");
        }
        self.left -= 1;
        self.stock -= 1;
        Ok(())
    }

    /// Counts what was taken before a restart.
    fn used(&mut self, count: usize) {
        self.stock = self.stock.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
    }
}

/// So many proposals may wait at once.
const MAX_OPEN_PROPOSALS: usize = 16;

/// Limits of what one run may ask.
#[derive(Debug)]
pub(super) struct RequestLimits {
    proposals: TokenBucket,
    progress: TokenBucket,
}

impl RequestLimits {
    /// With what was asked before a restart.
    pub(super) fn new(asked: usize, noted: usize, now: Instant) -> Self {
        let mut proposals = TokenBucket::new(10, Duration::from_secs(6), 100, now);
        let mut progress = TokenBucket::new(30, Duration::from_secs(1), 2000, now);
        proposals.used(asked);
        progress.used(noted);
        Self { proposals, progress }
    }

    /// Takes a proposal, of which so many are open.
    pub(super) fn ask(&mut self, open: usize, now: Instant) -> Result<(), &'static str> {
        if open >= MAX_OPEN_PROPOSALS {
            return Err("too many requests wait for a decision already");
        }
        self.proposals.take(now)
    }

    /// Takes a line of progress.
    pub(super) fn note(&mut self, now: Instant) -> Result<(), &'static str> {
        self.progress.take(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_ends_and_a_pause_helps() {
        let start = Instant::now();
        let every = Duration::from_secs(6);
        let mut limit = TokenBucket::new(3, every, 5, start);
        let taken = |limit: &mut TokenBucket, at| (0..10).filter(|_| limit.take(start + at).is_ok()).count();
        assert_eq!(taken(&mut limit, Duration::ZERO), 3);
        assert_eq!(taken(&mut limit, every), 1);
        assert_eq!(taken(&mut limit, every * 100), 1, "the stock is at its end");
    }
}
