//! Several builds at a time.

use std::sync::Mutex;

use anyhow::Result;

/// How many.
const WORKERS: usize = 2;

/// Does `work` for all items; what each has to complain about, in one text.
pub(super) fn complaints<T: Sync>(
    items: &[T],
    name: impl Fn(&T) -> &str + Sync,
    work: impl Fn(&T) -> Result<Vec<String>> + Sync,
) -> String {
    let pending = Mutex::new(items.iter());
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    // A worker that has panicked has left both as they were.
                    let next = pending.lock().unwrap_or_else(|broken| broken.into_inner()).next();
                    let Some(item) = next else { return };
                    let complaints = work(item).unwrap_or_else(|error| vec![format!("{error:#}")]);
                    println!(
                        "{}: {}",
                        name(item),
                        if complaints.is_empty() {
                            "as expected"
                        } else {
                            "WRONG"
                        }
                    );
                    let told = complaints
                        .iter()
                        .map(|complaint| format!("{}: {complaint}\n", name(item)));
                    let mut found = found.lock().unwrap_or_else(|broken| broken.into_inner());
                    found.extend(told);
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(|broken| broken.into_inner());
    found.sort();
    found.concat()
}
