//! Cases of a data file, judged side by side.

use std::thread;

/// Judges each case, so many at once: each waits for what it has started most of the time.
///
/// # Panics
/// If one does, when all are judged; the messages are on standard error.
#[track_caller]
pub fn judge_all<T: Sync>(cases: &[T], at_once: usize, judge: impl Fn(&T) + Sync) {
    let judge = &judge;
    let mut failed = 0;
    for some in cases.chunks(at_once) {
        thread::scope(|scope| {
            let judged: Vec<_> = some.iter().map(|case| scope.spawn(move || judge(case))).collect();
            failed += judged.into_iter().filter_map(|one| one.join().err()).count();
        });
    }
    assert_eq!(failed, 0, "of {} cases; their messages are above", cases.len());
}
