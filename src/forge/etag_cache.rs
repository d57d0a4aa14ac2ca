//! Answers that are kept with their ETag, so that the forge can say that nothing has changed, which costs it and us next to
//! nothing: GitHub does not count such a call. The forge is asked each time all the same.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use reqwest::header::HeaderValue;

/// All that is kept, in bytes; more, and it begins anew.
const MAX_CACHE_BYTES: usize = 8 << 20;

/// The last answer of each address.
#[derive(Debug, Default)]
pub(super) struct EtagCache(Mutex<HashMap<String, (HeaderValue, Vec<u8>)>>);

impl EtagCache {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (HeaderValue, Vec<u8>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tag and the body of the last answer.
    pub(super) fn get(&self, url: &str) -> Option<(HeaderValue, Vec<u8>)> {
        self.lock().get(url).cloned()
    }

    /// Keeps an answer.
    pub(super) fn keep(&self, url: &str, tag: HeaderValue, body: &[u8]) {
        let mut known = self.lock();
        known.remove(url);
        if known.values().map(|(_, body)| body.len()).sum::<usize>() + body.len() > MAX_CACHE_BYTES {
            known.clear();
        }
        if body.len() <= MAX_CACHE_BYTES {
            known.insert(url.to_owned(), (tag, body.to_vec()));
        }
    }
}
