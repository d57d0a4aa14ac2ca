//! Short cuts can be taken away, by tests alone: then each place is looked at by itself, and what is found has to be the same.

#[cfg(test)]
thread_local! {
    static ARE_OFF: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Whether every place has to be looked at by itself; never in a program.
#[inline(always)]
pub(super) fn are_off() -> bool {
    #[cfg(test)]
    return ARE_OFF.get();
    #[cfg(not(test))]
    false
}

/// Acts without short cuts on this thread.
#[cfg(test)]
pub(super) fn without<T>(act: impl FnOnce() -> T) -> T {
    ARE_OFF.set(true);
    let done = act();
    ARE_OFF.set(false);
    done
}
