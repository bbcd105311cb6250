//! The values in the columns of `ps`.

use engine::{ProcessInfo, ProcessList};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

/// Units of the kernel's times in a second.
const TICKS: u64 = 100;
const DAY: u64 = 24 * 3600;

/// The name of a user. Those in the container are the container's own, and are told by number.
pub(super) fn user(id: u32) -> String {
    if id == 0 { "root".into() } else { id.to_string() }
}

pub(super) fn kibibytes(bytes: u64) -> String {
    (bytes / 1024).to_string()
}

/// CPU time in seconds.
pub(super) fn seconds(process: &ProcessInfo) -> u64 {
    process.user_time.saturating_add(process.system_time) / TICKS
}

/// How long it has been there, in seconds.
pub(super) fn elapsed_seconds(list: &ProcessList, process: &ProcessInfo) -> u64 {
    (list.clock.uptime_ms / 1000).saturating_sub(process.started / TICKS)
}

/// The share of a CPU that it has used since it began, in tenths of a percent.
fn cpu_tenths(list: &ProcessList, process: &ProcessInfo) -> u64 {
    let used = process.user_time.saturating_add(process.system_time);
    match elapsed_seconds(list, process) {
        0 => 0,
        elapsed => used.saturating_mul(1000 / TICKS) / elapsed,
    }
}

pub(super) fn cpu_share(list: &ProcessList, process: &ProcessInfo) -> String {
    tenths(cpu_tenths(list, process).min(999))
}

pub(super) fn c(list: &ProcessList, process: &ProcessInfo) -> String {
    (cpu_tenths(list, process) / 10).min(99).to_string()
}

pub(super) fn memory_share(list: &ProcessList, process: &ProcessInfo) -> String {
    let share = process.resident_bytes.saturating_mul(1000);
    tenths(share.checked_div(list.clock.memory_bytes).unwrap_or(0).min(999))
}

fn tenths(tenths: u64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// The name of a terminal, from its device number in the kernel's coding.
pub(super) fn terminal(device: i32) -> String {
    let device = device as u32;
    let (major, minor) = (
        (device >> 8) & 0xfff,
        (device & 0xff) | ((device >> 12) & 0xfff00),
    );
    match (major, minor) {
        (136..=143, minor) => format!("pts/{}", (major - 136) * 256 + minor),
        (4, 0..=63) => format!("tty{minor}"),
        (4, minor) => format!("ttyS{}", minor - 64),
        (5, 1) => "console".into(),
        (229, minor) => format!("hvc{minor}"),
        _ => "?".into(),
    }
}

/// Its state and what is special about it.
pub(super) fn state(process: &ProcessInfo) -> String {
    let mut state = String::from(process.state);
    let marks = [
        (process.nice < 0, '<'),
        (process.nice > 0, 'N'),
        (process.locked_bytes > 0, 'L'),
        (process.session == process.pid, 's'),
        (process.threads > 1, 'l'),
        (process.terminal_group == process.group, '+'),
    ];
    state.extend(marks.into_iter().filter(|(set, _)| *set).map(|(_, mark)| mark));
    state
}

/// `[DD-]HH:MM:SS`
pub(super) fn clock_time(seconds: u64) -> String {
    let days = match seconds / DAY {
        0 => String::new(),
        days => format!("{days}-"),
    };
    format!(
        "{days}{:02}:{:02}:{:02}",
        seconds % DAY / 3600,
        seconds % 3600 / 60,
        seconds % 60
    )
}

/// `M:SS`
pub(super) fn short_time(seconds: u64) -> String {
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// `[[DD-]HH:]MM:SS`
pub(super) fn elapsed(seconds: u64) -> String {
    if seconds < 3600 {
        return format!("{:02}:{:02}", seconds / 60, seconds % 60);
    }
    clock_time(seconds)
}

/// When it began, in the daemon's time zone.
fn began(list: &ProcessList, process: &ProcessInfo) -> Zoned {
    let ago = i64::try_from(elapsed_seconds(list, process)).unwrap_or(i64::MAX);
    let began = list.time.checked_sub(SignedDuration::from_secs(ago));
    began
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(TimeZone::system())
}

/// The time of day if that is less than a day ago, else the day, else the year.
pub(super) fn start_day(list: &ProcessList, process: &ProcessInfo) -> String {
    let (began, now) = (began(list, process), list.time.to_zoned(TimeZone::system()));
    let form = if elapsed_seconds(list, process) < DAY && began.day() == now.day() {
        "%H:%M"
    } else if began.year() == now.year() {
        "%b%d"
    } else {
        "%Y"
    };
    began.strftime(form).to_string()
}

pub(super) fn lstart(list: &ProcessList, process: &ProcessInfo) -> String {
    began(list, process).strftime("%a %b %e %H:%M:%S %Y").to_string()
}

/// The name of its program.
pub(super) fn name(process: &ProcessInfo) -> String {
    match process.state {
        'Z' => format!("{} <defunct>", process.command),
        _ => process.command.clone(),
    }
}

/// Its arguments, or the name of its program where it has none.
pub(super) fn command_line(process: &ProcessInfo) -> String {
    match (process.arguments.is_empty(), process.state) {
        (false, _) => process.arguments.join(" "),
        (true, 'Z') => format!("[{}] <defunct>", process.command),
        (true, _) => format!("[{}]", process.command),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_ps_writes_them() {
        assert_eq!(clock_time(3 * DAY + 3661), "3-01:01:01");
        assert_eq!(clock_time(59), "00:00:59");
        assert_eq!(short_time(3661), "61:01");
        assert_eq!(
            (elapsed(61), elapsed(3600), elapsed(DAY)),
            ("01:01".into(), "01:00:00".into(), "1-00:00:00".into())
        );
    }

    #[test]
    fn terminals_have_names_and_nothing_has_a_question_mark() {
        for (device, name) in [
            (0, "?"),
            (34816, "pts/0"),
            (34817, "pts/1"),
            (0x0501, "console"),
            (0x0440, "ttyS0"),
            (0xe500, "hvc0"),
            (-1, "?"),
        ] {
            assert_eq!(terminal(device), name, "{device}");
        }
    }

    #[test]
    fn hostile_numbers_do_no_harm() {
        let list = ProcessList {
            time: Timestamp::MIN,
            clock: engine::ProcessClock::default(),
            processes: Vec::new(),
        };
        let process = ProcessInfo {
            started: u64::MAX,
            user_time: u64::MAX,
            system_time: u64::MAX,
            resident_bytes: u64::MAX,
            priority: i64::MIN,
            ..ProcessInfo::default()
        };
        assert_eq!(cpu_share(&list, &process), "0.0");
        assert_eq!(memory_share(&list, &process), "0.0");
        start_day(&list, &process);
        let old = ProcessList {
            clock: engine::ProcessClock {
                uptime_ms: u64::MAX,
                memory_bytes: 1,
            },
            ..list
        };
        lstart(
            &old,
            &ProcessInfo {
                started: 0,
                ..process
            },
        );
    }

    #[test]
    fn a_process_that_has_ended_is_defunct() {
        let process = ProcessInfo {
            state: 'Z',
            command: "sh".into(),
            ..ProcessInfo::default()
        };
        assert_eq!(command_line(&process), "[sh] <defunct>");
        assert_eq!(name(&process), "sh <defunct>");
    }
}
