//! The options and columns of `ps`, as far as they make sense for a container: ps(1) of procps.
//!
//! Docker runs the host's `ps`. The processes here are a guest's, which has none, so their columns are made of what the
//! guest tells. An option that is not known is refused.

mod columns;
mod values;

use axum::http::StatusCode;
use engine::{ProcessInfo, ProcessList};

use crate::error::ApiError;
use columns::{Column, column};

/// Which columns are shown, and under which titles.
#[derive(Debug)]
pub(crate) struct Format(Vec<(String, &'static Column)>);

/// What was asked for besides single columns.
#[derive(Debug, Default)]
struct Wanted {
    columns: Vec<(String, &'static Column)>,
    full: bool,
    extra: bool,
    long: bool,
    jobs: bool,
    bsd: bool,
    user: bool,
}

const PLAIN: &[&str] = &["pid", "tty", "time", "ucmd"];
const FULL: &[&str] = &["user", "pid", "ppid", "c", "stime", "tty", "time", "cmd"];
const EXTRA: &[&str] = &[
    "user", "pid", "ppid", "c", "sz", "rss", "psr", "stime", "tty", "time", "cmd",
];
const LONG: &[&str] = &[
    "f", "s", "uid", "pid", "ppid", "c", "opri", "ni", "addr", "sz", "wchan", "tty", "time", "ucmd",
];
const JOBS: &[&str] = &["pid", "pgid", "sid", "tty", "time", "ucmd"];
const BSD: &[&str] = &["pid", "tty", "stat", "bsdtime", "args"];
const BSD_USER: &[&str] = &[
    "user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "bsdstart", "bsdtime", "args",
];
/// Titles that differ from those of a column that is asked for by its name.
const FULL_TITLES: &[(&str, &str)] = &[("user", "UID")];

impl Format {
    /// Reads the options.
    pub(crate) fn parse(options: &str) -> Result<Self, ApiError> {
        let mut wanted = Wanted::default();
        let mut words = options.split_whitespace();
        while let Some(word) = words.next() {
            match word.strip_prefix('-') {
                Some(long) if long.starts_with('-') => return Err(unknown(word)),
                // What procps takes for the options without a dash, too.
                Some("aux") => wanted.bsd_options("aux", &mut words)?,
                Some(letters) => wanted.unix_options(letters, &mut words)?,
                None => wanted.bsd_options(word, &mut words)?,
            }
        }
        let format = Self(wanted.choose()?);
        match format.0.iter().any(|(title, _)| title == "PID") {
            true => Ok(format),
            false => Err(failure("Couldn't find PID field in ps output")),
        }
    }

    /// The titles of the columns.
    pub(crate) fn titles(&self) -> Vec<String> {
        self.0.iter().map(|(title, _)| title.clone()).collect()
    }

    /// A process as the columns show it.
    pub(crate) fn row(&self, list: &ProcessList, process: &ProcessInfo) -> Vec<String> {
        self.0
            .iter()
            .map(|(_, column)| (column.value)(list, process))
            .collect()
    }
}

impl Wanted {
    /// Letters behind a dash.
    fn unix_options<'a>(
        &mut self,
        letters: &'a str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), ApiError> {
        for (index, letter) in letters.char_indices() {
            match letter {
                // All processes of the container are listed in any case.
                'e' | 'A' | 'a' | 'd' | 'N' | 'w' => {}
                'f' => self.full = true,
                'F' => self.extra = true,
                'l' => self.long = true,
                'j' => self.jobs = true,
                'y' => {}
                'o' => return self.columns(&letters[index + 1..], words),
                other => return Err(unknown(&format!("-{other}"))),
            }
        }
        Ok(())
    }

    /// Letters without a dash.
    fn bsd_options<'a>(
        &mut self,
        letters: &'a str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), ApiError> {
        self.bsd = true;
        for (index, letter) in letters.char_indices() {
            match letter {
                'a' | 'x' | 'w' => {}
                'u' => self.user = true,
                'o' => return self.columns(&letters[index + 1..], words),
                other => return Err(unknown(&other.to_string())),
            }
        }
        Ok(())
    }

    /// `pid,ppid,cmd=COMMAND`; what follows an equals sign is a title, to the end.
    fn columns<'a>(
        &mut self,
        rest: &'a str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), ApiError> {
        let text = if rest.is_empty() {
            words.next().unwrap_or_default()
        } else {
            rest
        };
        let (names, title) = match text.split_once('=') {
            Some((names, title)) => (names, Some(title)),
            None => (text, None),
        };
        let names: Vec<&str> = names.split(',').collect();
        for (index, name) in names.iter().enumerate() {
            let found = column(name).ok_or_else(|| {
                failure(&format!(
                    "ps: error: unknown user-defined format specifier \"{name}\""
                ))
            })?;
            let own = title.filter(|_| index + 1 == names.len());
            if let Some(title) = own
                && *name != "pid"
                && title.starts_with("PID")
            {
                return Err(ApiError::bad_request(format!(
                    "specifying \"{name}={title}\" is not allowed"
                )));
            }
            self.columns.push((own.unwrap_or(found.title).to_owned(), found));
        }
        Ok(())
    }

    fn choose(self) -> Result<Vec<(String, &'static Column)>, ApiError> {
        if !self.columns.is_empty() {
            return Ok(self.columns);
        }
        let (names, titles) = match self {
            Self { user: true, .. } => (BSD_USER, &[][..]),
            Self { bsd: true, .. } => (BSD, &[][..]),
            Self { extra: true, .. } => (EXTRA, FULL_TITLES),
            Self { full: true, .. } => (FULL, FULL_TITLES),
            Self { long: true, .. } => (LONG, &[][..]),
            Self { jobs: true, .. } => (JOBS, &[][..]),
            _ => (PLAIN, &[][..]),
        };
        let find = |name: &&str| {
            let column = column(name).ok_or_else(|| unknown(name))?;
            let title = titles.iter().find(|(own, _)| own == name);
            Ok((title.map_or(column.title, |(_, title)| title).to_owned(), column))
        };
        names.iter().map(find).collect()
    }
}

/// Docker has a ps of the host fail, and takes that for a failure of its own.
fn failure(message: &str) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

fn unknown(option: &str) -> ApiError {
    failure(&format!(
        "hull does not support the option `{option}` of ps: use -ef, aux or -o with the names of columns"
    ))
}

#[cfg(test)]
mod tests {
    use engine::ProcessClock;
    use jiff::Timestamp;

    use super::*;

    fn list() -> ProcessList {
        ProcessList {
            time: Timestamp::from_second(1_000_000).unwrap(),
            clock: ProcessClock {
                uptime_ms: 100_000,
                memory_bytes: 1 << 20,
            },
            processes: Vec::new(),
        }
    }

    fn process() -> ProcessInfo {
        ProcessInfo {
            pid: 42,
            parent: 1,
            group: 42,
            session: 42,
            terminal: 34816,
            terminal_group: 42,
            user: 1000,
            effective_user: 0,
            state: 'S',
            user_time: 100,
            system_time: 50,
            started: 5000,
            priority: 20,
            threads: 2,
            virtual_bytes: 1 << 20,
            resident_bytes: 1 << 19,
            command: "sh".into(),
            arguments: vec!["sh".into(), "-c".into(), "a b".into()],
            ..ProcessInfo::default()
        }
    }

    fn shown(options: &str) -> Vec<(String, String)> {
        let format = Format::parse(options).unwrap();
        format
            .titles()
            .into_iter()
            .zip(format.row(&list(), &process()))
            .collect()
    }

    fn refusal(options: &str) -> String {
        Format::parse(options).unwrap_err().message().to_owned()
    }

    #[test]
    fn dockers_default_is_the_full_format() {
        let shown = shown("-ef");
        let titles: Vec<&str> = shown.iter().map(|(title, _)| title.as_str()).collect();
        assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        let value = |index: usize| shown[index].1.as_str();
        assert_eq!((value(0), value(1), value(2)), ("root", "42", "1"));
        assert_eq!((value(3), value(5)), ("3", "pts/0"));
        assert_eq!((value(6), value(7)), ("00:00:01", "sh -c a b"));
    }

    #[test]
    fn columns_are_chosen_by_name_and_may_have_titles() {
        let expected = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(title, value)| ((*title).to_owned(), (*value).to_owned()))
                .collect()
        };
        assert_eq!(
            shown("-o pid,cmd"),
            expected(&[("PID", "42"), ("CMD", "sh -c a b")])
        );
        assert_eq!(
            shown("-eo pid,comm"),
            expected(&[("PID", "42"), ("COMMAND", "sh")])
        );
        assert_eq!(
            shown("-opid -o ruser=WHO"),
            expected(&[("PID", "42"), ("WHO", "1000")])
        );
        assert_eq!(shown("axo pid,stat")[1].1, "Ssl+");
    }

    #[test]
    fn the_bsd_format_has_shares_of_cpu_and_memory() {
        for options in ["aux", "-aux", "auxww"] {
            let shown = shown(options);
            let value = |title: &str| shown.iter().find(|(own, _)| own == title).unwrap().1.clone();
            assert_eq!(
                (value("%CPU"), value("%MEM")),
                ("3.0".into(), "50.0".into()),
                "{options}"
            );
            assert_eq!(
                (value("VSZ"), value("RSS"), value("TIME")),
                ("1024".into(), "512".into(), "0:01".into())
            );
        }
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        assert!(refusal("--forest").contains("`--forest`"));
        assert!(refusal("-ez").contains("`-z`"));
        assert!(refusal("auxe").contains("`e`"));
        assert!(refusal("-o pid,colour").contains("\"colour\""));
        assert_eq!(refusal("-o cmd"), "Couldn't find PID field in ps output");
        assert_eq!(
            refusal("-o pid,ppid=PID"),
            "specifying \"ppid=PID\" is not allowed"
        );
    }
}
