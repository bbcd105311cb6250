//! `RUN` and `HEALTHCHECK`.

use super::flags::{Flags, Kind};
use super::instructions::{at_least_one, command};
use super::json;
use super::parse::{Context, Fault, Parts, fault};
use crate::diagnostic::{did_you_mean, quoted};
use crate::instruction::{
    Healthcheck, HealthcheckCommand, Heredoc, Mount, Network, Run, Security, check_mount,
};
use crate::position::Word;
use std::time::Duration;

const RUN: [(&str, Kind); 3] = [
    ("mount", Kind::Texts),
    ("network", Kind::Text),
    ("security", Kind::Text),
];

const HEALTHCHECK: [(&str, Kind); 5] = [
    ("interval", Kind::Text),
    ("timeout", Kind::Text),
    ("start-period", Kind::Text),
    ("start-interval", Kind::Text),
    ("retries", Kind::Text),
];

/// The most mounts of one command.
const MAX_MOUNTS: usize = 256;

pub(super) fn run(context: &Context<'_>, mut parts: Parts<'_>, heredocs: Vec<Heredoc>) -> Result<Run, Fault> {
    let flags = Flags::check(std::mem::take(&mut parts.flags), &RUN)?;
    let nothing = at_least_one(&parts);
    let command = command(context, parts)?;
    if command.is_empty() {
        return Err(nothing);
    }
    let mut mounts = Vec::new();
    for list in flags.texts("mount") {
        let refuse = |error: crate::instruction::MountError| fault(list.span, error.to_string());
        if mounts.len() >= MAX_MOUNTS {
            return Err(fault(list.span, format!("more than {MAX_MOUNTS} mounts")));
        }
        let mount = Mount::parse(&list).map_err(refuse)?;
        check_mount(&mount, context.escape).map_err(refuse)?;
        mounts.push(mount);
    }
    let network = flags.text("network");
    let network =
        network.map(|name| one_of(&name, Network::ALL.map(|one| (one.as_str(), one)), "network mode"));
    let security = flags.text("security");
    let security = security.map(|name| {
        one_of(
            &name,
            Security::ALL.map(|one| (one.as_str(), one)),
            "security mode",
        )
    });
    Ok(Run {
        mounts,
        network: network.transpose()?,
        security: security.transpose()?,
        command,
        heredocs,
    })
}

fn one_of<T: Copy, const N: usize>(
    written: &Word,
    values: [(&'static str, T); N],
    what: &str,
) -> Result<T, Fault> {
    let found = values.iter().find(|(name, _)| *name == written.as_str());
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = values.iter().map(|(name, _)| *name).collect();
        let hint = did_you_mean(written, names.iter().copied());
        let error = fault(
            written.span,
            format!("{what} \"{}\" is not supported{hint}", quoted(written)),
        );
        Box::new(error.with_help(format!("one of {}", names.join(", "))))
    })
}

pub(super) fn healthcheck(context: &Context<'_>, mut parts: Parts<'_>) -> Result<Healthcheck, Fault> {
    if parts.arguments.text.is_empty() {
        return Err(at_least_one(&parts));
    }
    let kind_end = parts
        .arguments
        .text
        .find(char::is_whitespace)
        .unwrap_or(parts.arguments.text.len());
    let kind = parts.arguments.slice(0, kind_end);
    let rest = parts.arguments.from(kind_end).trim();
    let flags = std::mem::take(&mut parts.flags);
    match kind.text.to_ascii_uppercase().as_str() {
        "NONE" if !rest.text.is_empty() => Err(context.fault(rest, "HEALTHCHECK NONE takes no arguments")),
        "NONE" => {
            // As Docker, which takes the flags of a check and does nothing with them.
            Flags::check(flags, &HEALTHCHECK)?;
            Ok(Healthcheck::None)
        }
        "CMD" => {
            let flags = Flags::check(flags, &HEALTHCHECK)?;
            let json = json::read(rest.text);
            let command = command(
                context,
                Parts {
                    arguments: rest,
                    json,
                    ..parts
                },
            )?;
            if command.is_empty() {
                return Err(context.fault(kind, "Missing command after HEALTHCHECK CMD"));
            }
            let duration = |name: &str| flags.text(name).map(|value| duration(name, &value)).transpose();
            Ok(Healthcheck::Command(HealthcheckCommand {
                command,
                interval: duration("interval")?.flatten(),
                timeout: duration("timeout")?.flatten(),
                start_period: duration("start-period")?.flatten(),
                start_interval: duration("start-interval")?.flatten(),
                retries: flags.text("retries").map(|value| retries(&value)).transpose()?,
            }))
        }
        other => {
            let message = format!("Unknown type \"{}\" in HEALTHCHECK (try CMD)", quoted(other));
            Err(context.fault(kind, message))
        }
    }
}

fn retries(value: &Word) -> Result<u32, Fault> {
    match value.parse::<i32>() {
        Ok(number) => u32::try_from(number)
            .map_err(|_| fault(value.span, format!("--retries cannot be negative ({number})"))),
        Err(_) => Err(fault(
            value.span,
            format!("invalid --retries \"{}\": not a number", quoted(value)),
        )),
    }
}

/// A duration as Go writes it (`1m30s`); none when it is 0, which stands for the default.
fn duration(name: &str, value: &Word) -> Result<Option<Duration>, Fault> {
    let Some(nanoseconds) = nanoseconds(value) else {
        let message = format!("invalid duration \"{}\" for --{name}", quoted(value));
        let error = fault(value.span, message);
        return Err(Box::new(
            error.with_help("a number and a unit: 30s, 1m30s, 500ms"),
        ));
    };
    match nanoseconds {
        0 => Ok(None),
        1..1_000_000 => Err(fault(
            value.span,
            format!("Interval \"{name}\" cannot be less than 1ms"),
        )),
        _ => Ok(Some(Duration::from_nanos(nanoseconds))),
    }
}

fn nanoseconds(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0u64;
    while !rest.is_empty() {
        let digits = rest
            .find(|next: char| !next.is_ascii_digit() && next != '.')
            .unwrap_or(rest.len());
        let (number, behind) = rest.split_at(digits);
        let unit_end = behind
            .find(|next: char| next.is_ascii_digit() || next == '.')
            .unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(unit_end);
        let unit: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let fraction = format!("0.{fraction}0").parse::<f64>().ok()? * unit as f64;
        sum = sum
            .checked_add(whole.checked_mul(unit)?)?
            .checked_add(fraction as u64)?;
        rest = behind;
    }
    // Go keeps them in 64 bits with a sign.
    i64::try_from(sum).is_ok().then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, expected) in [
            ("30s", Some(30_000_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("500ms", Some(500_000_000)),
            ("10us", Some(10_000)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("5", None),
            ("s", None),
            ("", None),
            ("-1s", None),
            ("1x", None),
            ("999999999h", None),
        ] {
            assert_eq!(nanoseconds(text), expected, "{text}");
        }
    }
}
