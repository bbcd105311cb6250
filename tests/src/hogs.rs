//! Containers that take all they can get.

/// Each takes one thing without end, until [`LIMITS`] keep it from more; what takes memory is ended by them.
pub const HOGS: [(&str, &str); 5] = [
    (
        FORKS,
        "while :; do (while :; do sleep 1000 & done) 2>/dev/null; done",
    ),
    (MEMORY, "sleep 2; tail /dev/zero"),
    (
        DISK,
        "while :; do dd if=/dev/zero of=/fill bs=1M; sleep 0.2; done",
    ),
    (
        LOG,
        "while :; do echo a line that is neither short nor long, for somebody to keep; done",
    ),
    ("cpu", "while :; do :; done"),
];

/// Starts as many processes as there can be.
pub const FORKS: &str = "forks";
/// Takes memory, and is killed.
pub const MEMORY: &str = "memory";
/// Fills its root.
pub const DISK: &str = "disk";
/// Writes lines.
pub const LOG: &str = "log";

/// The options of `run` for each of them.
pub const LIMITS: [&str; 12] = [
    "--cpus",
    "0.3",
    "-m",
    "64m",
    "--pids-limit",
    "50",
    "--storage-opt",
    "size=64M",
    "--log-opt",
    "max-size=1m",
    "--log-opt",
    "max-file=2",
];

/// What the disk hog says when its disk is full.
pub const FULL: &str = "No space left on device";
/// As many processes has the fork hog when it is at its limit, or about to end one.
pub const MOST_PROCESSES: u32 = 49;
