//! `HEALTHCHECK`

use engine::ImageHealthCheck;
use jiff::SignedDuration;

/// The shortest duration that Docker takes.
const SHORTEST: SignedDuration = SignedDuration::from_millis(1);

/// Reads what stands behind `HEALTHCHECK`; `command` reads what stands behind `CMD` of it: whether it is a line for a
/// shell, and its words.
pub(super) fn read(
    text: &str,
    command: impl FnOnce(&str) -> Result<(bool, Vec<String>), String>,
) -> Result<ImageHealthCheck, String> {
    let mut check = ImageHealthCheck::default();
    let mut rest = text.trim_start();
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, behind) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag
            .split_once('=')
            .ok_or_else(|| format!("the flag --{flag} has no value"))?;
        set(&mut check, name, value)?;
        rest = behind.trim_start();
    }
    let (kind, behind) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let behind = behind.trim();
    match kind.to_ascii_uppercase().as_str() {
        "NONE" if check != ImageHealthCheck::default() || !behind.is_empty() => {
            Err("HEALTHCHECK NONE takes no arguments".into())
        }
        "NONE" => {
            check.test = vec!["NONE".into()];
            Ok(check)
        }
        "CMD" => {
            let (is_line, words) = command(behind)?;
            if words.is_empty() {
                return Err("Missing command after HEALTHCHECK CMD".into());
            }
            let kind = if is_line { "CMD-SHELL" } else { "CMD" };
            check.test = [vec![kind.into()], words].concat();
            Ok(check)
        }
        other => Err(format!("Unknown type {other:?} in HEALTHCHECK (try CMD)")),
    }
}

fn set(check: &mut ImageHealthCheck, name: &str, value: &str) -> Result<(), String> {
    let field = match name {
        "interval" => &mut check.interval,
        "timeout" => &mut check.timeout,
        "start-period" => &mut check.start_period,
        "start-interval" => &mut check.start_interval,
        "retries" => {
            let retries: i32 = value
                .parse()
                .map_err(|_| format!("--retries={value} is no number"))?;
            if retries < 0 {
                return Err(format!("--retries cannot be negative ({retries})"));
            }
            check.retries = i64::from(retries);
            return Ok(());
        }
        other => return Err(format!("unknown flag: --{other}")),
    };
    *field = nanoseconds(name, value)?;
    Ok(())
}

fn nanoseconds(name: &str, value: &str) -> Result<i64, String> {
    let wrong = || format!("--{name}={value} is no duration: write 30s or 1m30s");
    let duration: SignedDuration = match value {
        "0" => SignedDuration::ZERO,
        value => value.parse().map_err(|_| wrong())?,
    };
    if duration.is_negative() || (!duration.is_zero() && duration < SHORTEST) {
        return Err(format!("--{name}={value}: a duration has at least 1ms"));
    }
    i64::try_from(duration.as_nanos()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<ImageHealthCheck, String> {
        read(text, |command| Ok((true, vec![command.to_owned()])))
    }

    #[test]
    fn flags_and_commands_are_read() {
        let read = check(
            "--interval=1m30s --timeout=500ms --retries=3 --start-period=2s --start-interval=1s CMD true || false",
        );
        let expected = ImageHealthCheck {
            test: vec!["CMD-SHELL".into(), "true || false".into()],
            interval: 90_000_000_000,
            timeout: 500_000_000,
            start_period: 2_000_000_000,
            start_interval: 1_000_000_000,
            retries: 3,
        };
        assert_eq!(read.unwrap(), expected);
        assert_eq!(check("none").unwrap().test, ["NONE"]);
    }

    #[test]
    fn what_is_no_health_check_is_refused() {
        for text in [
            "",
            "TRUE",
            "NONE x",
            "--interval=5s NONE",
            "--interval CMD x",
            "--interval=-5s CMD x",
            "--interval=1us CMD x",
            "--interval=x CMD x",
            "--retries=-1 CMD x",
            "--what=1 CMD x",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
