//! The columns of `ps`, by the names that ps(1) has for them.

use engine::{ProcessInfo, ProcessList};

use super::values::{
    c, clock_time, command_line, cpu_share, elapsed, elapsed_seconds, kibibytes, lstart, memory_share, name,
    seconds, short_time, start_day, state, terminal, user,
};

/// A column.
#[derive(Debug)]
pub(super) struct Column {
    names: &'static [&'static str],
    pub(super) title: &'static str,
    pub(super) value: fn(&ProcessList, &ProcessInfo) -> String,
}

/// The column of this name.
pub(super) fn column(name: &str) -> Option<&'static Column> {
    COLUMNS.iter().find(|column| column.names.contains(&name))
}

macro_rules! columns {
    ($($title:literal [$($name:literal)+] $value:expr;)+) => {
        &[$(Column { names: &[$($name),+], title: $title, value: $value }),+]
    };
}

const COLUMNS: &[Column] = columns! {
    "PID" ["pid" "tgid"] |_, p| p.pid.to_string();
    "PPID" ["ppid"] |_, p| p.parent.to_string();
    "PGID" ["pgid"] |_, p| p.group.to_string();
    "PGRP" ["pgrp"] |_, p| p.group.to_string();
    "SID" ["sid"] |_, p| p.session.to_string();
    "SESS" ["sess" "session"] |_, p| p.session.to_string();
    "TPGID" ["tpgid"] |_, p| p.terminal_group.to_string();
    "USER" ["user" "uname"] |_, p| user(p.effective_user);
    "EUSER" ["euser"] |_, p| user(p.effective_user);
    "RUSER" ["ruser"] |_, p| user(p.user);
    "UID" ["uid"] |_, p| p.effective_user.to_string();
    "EUID" ["euid"] |_, p| p.effective_user.to_string();
    "RUID" ["ruid"] |_, p| p.user.to_string();
    "GID" ["gid"] |_, p| p.effective_group.to_string();
    "EGID" ["egid"] |_, p| p.effective_group.to_string();
    "RGID" ["rgid"] |_, p| p.group_id.to_string();
    "GROUP" ["group"] |_, p| user(p.effective_group);
    "C" ["c"] c;
    "%CPU" ["pcpu" "%cpu"] cpu_share;
    "%MEM" ["pmem" "%mem"] memory_share;
    "VSZ" ["vsz" "vsize"] |_, p| kibibytes(p.virtual_bytes);
    "RSS" ["rss" "rssize" "rsz"] |_, p| kibibytes(p.resident_bytes);
    "SZ" ["sz"] |_, p| (p.virtual_bytes / 4096).to_string();
    "TTY" ["tty" "tt" "tname"] |_, p| terminal(p.terminal);
    "STAT" ["stat"] |_, p| state(p);
    "S" ["s" "state"] |_, p| p.state.to_string();
    "STIME" ["stime" "start_time"] start_day;
    "START" ["bsdstart" "start"] start_day;
    "STARTED" ["lstart"] lstart;
    "TIME" ["time" "cputime"] |_, p| clock_time(seconds(p));
    "TIME" ["bsdtime"] |_, p| short_time(seconds(p));
    "ELAPSED" ["etime"] |list, p| elapsed(elapsed_seconds(list, p));
    "ELAPSED" ["etimes"] |list, p| elapsed_seconds(list, p).to_string();
    "NI" ["ni" "nice"] |_, p| p.nice.to_string();
    "PRI" ["pri"] |_, p| 39_i64.saturating_sub(p.priority).to_string();
    "PRI" ["opri"] |_, p| p.priority.saturating_add(60).to_string();
    "NLWP" ["nlwp" "thcount"] |_, p| p.threads.to_string();
    "PSR" ["psr"] |_, p| p.cpu.to_string();
    "F" ["f" "flag" "flags"] |_, p| format!("{:x}", (p.flags >> 6) & 7);
    "MINFLT" ["min_flt" "minflt"] |_, p| p.faults.0.to_string();
    "MAJFLT" ["maj_flt" "majflt"] |_, p| p.faults.1.to_string();
    // What the kernel shows to nobody any more.
    "ADDR" ["addr"] |_, _| "-".into();
    "WCHAN" ["wchan"] |_, _| "-".into();
    "CMD" ["cmd"] |_, p| command_line(p);
    "COMMAND" ["args" "command"] |_, p| command_line(p);
    "COMMAND" ["comm" "ucomm"] |_, p| name(p);
    "CMD" ["ucmd"] |_, p| name(p);
};
