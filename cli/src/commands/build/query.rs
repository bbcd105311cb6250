//! What the daemon is told of a build, beside its context (Docker Engine API, "Build an image").

use std::collections::BTreeMap;

use anyhow::bail;
use bollard_stubs::models::ResourcesUlimits;

use super::cache::{CacheFrom, CacheTo};
use super::options::Arguments;
use super::output::Output;
use super::variables::labels;
use crate::api::Target;
use crate::commands::limit_options::Ulimit;

/// The period of `--cpus`, in microseconds, which is Docker's.
const CPU_PERIOD: i64 = 100_000;
/// Billionths of a CPU in a microsecond of that period.
const NANO_CPUS_A_MICROSECOND: i64 = 1_000_000_000 / CPU_PERIOD;
/// A little less than the longest path and query that HTTP libraries and the daemon take, in bytes.
const LENGTH_LIMIT: usize = 60_000;

/// Where the context and the Dockerfile in it are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The Dockerfile's path in the context; none where the daemon's default holds.
    pub(super) dockerfile: Option<String>,
    /// The URL of a context that the daemon fetches.
    pub(super) remote: Option<String>,
}

/// The request's path and query. The daemon is never asked to be quiet: what a quiet build does not show is shown when it fails.
pub(super) fn target(
    arguments: &Arguments,
    build_args: &BTreeMap<String, Option<String>>,
    tags: &[String],
    place: &Place,
) -> anyhow::Result<Target> {
    let image = &arguments.image;
    let timeout = arguments.timeout.map(|time| time.as_secs_f64().to_string());
    let target = tags
        .iter()
        .fold(Target::new(&["build"]), |target, tag| target.query("t", tag))
        .option("dockerfile", place.dockerfile.as_deref())
        .option("remote", place.remote.as_deref())
        .option("buildargs", json_map(build_args)?.as_deref())
        .option("labels", json_map(&labels(&image.label)?)?.as_deref())
        .option("target", image.target.as_deref())
        .option("platform", platform(arguments).as_deref())
        .option("cachefrom", cache_from(&image.cache_from)?.as_deref())
        .option("cacheto", cache_to(&image.cache_to)?.as_deref())
        .flag("nocache", image.no_cache)
        .flag("pull", image.pull)
        .option("timeout", timeout.as_deref())
        .query("rm", if image.rm { "1" } else { "0" })
        .flag("forcerm", image.force_rm);
    let target = with_limits(arguments, target)?;
    if target.to_string().len() > LENGTH_LIMIT {
        bail!(
            "the build's options are too long for a request: put long build arguments and labels into the Dockerfile, \
             or into a file of the context"
        );
    }
    Ok(target)
}

/// The image's names: those of `-t`, then those of outputs, each once.
pub(super) fn tags(arguments: &Arguments, outputs: &[Output]) -> anyhow::Result<Vec<String>> {
    let mut tags: Vec<String> = Vec::new();
    let names = outputs.iter().flat_map(|output| &output.names);
    for tag in arguments.image.tag.iter().chain(names) {
        if tag.is_empty() {
            bail!("invalid tag: it is empty");
        }
        if !tags.contains(tag) {
            tags.push(tag.clone());
        }
    }
    Ok(tags)
}

/// `--platform`, else what Docker's client takes from the environment.
pub(super) fn platform(arguments: &Arguments) -> Option<String> {
    let named = || std::env::var("DOCKER_DEFAULT_PLATFORM").ok();
    arguments
        .image
        .platform
        .clone()
        .or_else(named)
        .filter(|platform| !platform.is_empty())
}

fn with_limits(arguments: &Arguments, target: Target) -> anyhow::Result<Target> {
    let run = &arguments.run;
    let (period, quota) = match run.cpus {
        Some(cpus) => (Some(CPU_PERIOD), Some(cpus / NANO_CPUS_A_MICROSECOND)),
        None => (run.cpu_period, run.cpu_quota),
    };
    let numbers = [
        ("memory", run.memory),
        ("memswap", run.memory_swap),
        ("cpushares", run.cpu_shares),
        ("cpuperiod", period),
        ("cpuquota", quota),
        ("shmsize", run.shm_size),
    ];
    let target = numbers.into_iter().fold(target, |target, (name, number)| {
        target.option(name, number.map(|number| number.to_string()).as_deref())
    });
    let ulimits: Vec<ResourcesUlimits> = run.ulimit.iter().map(Ulimit::tell).collect();
    let ulimits = match ulimits.is_empty() {
        true => None,
        false => Some(serde_json::to_string(&ulimits)?),
    };
    let target = target
        .option("cpusetcpus", run.cpuset_cpus.as_deref())
        .option("cpusetmems", run.cpuset_mems.as_deref())
        .option("cgroupparent", run.cgroup_parent.as_deref())
        .option("networkmode", run.network.as_deref())
        .option("isolation", run.isolation.as_deref())
        .option("ulimits", ulimits.as_deref());
    let hosts = run.add_host.iter();
    Ok(hosts.fold(target, |target, host| target.query("extrahosts", host)))
}

/// Caches that the daemon is to look for, in JSON; none without any.
fn cache_from(given: &[CacheFrom]) -> Result<Option<String>, serde_json::Error> {
    let images = given.iter().filter_map(|from| match from {
        CacheFrom::Images(images) => Some(images),
        CacheFrom::Folder(_) => None,
    });
    json_list(&images.flatten().collect::<Vec<_>>())
}

/// Caches that the daemon is to write.
fn cache_to(given: &[CacheTo]) -> Result<Option<String>, serde_json::Error> {
    let caches = given.iter().filter_map(|to| match to {
        CacheTo::Daemon(cache) => Some(cache),
        CacheTo::Folder { .. } => None,
    });
    json_list(&caches.collect::<Vec<_>>())
}

fn json_list<T: serde::Serialize>(list: &[T]) -> Result<Option<String>, serde_json::Error> {
    match list.is_empty() {
        true => Ok(None),
        false => serde_json::to_string(list).map(Some),
    }
}

/// In JSON; none where it is empty.
fn json_map<K: serde::Serialize, V: serde::Serialize>(
    map: &BTreeMap<K, V>,
) -> Result<Option<String>, serde_json::Error> {
    match map.is_empty() {
        true => Ok(None),
        false => serde_json::to_string(map).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(line: &[&str]) -> Arguments {
        Line::try_parse_from(["build"].iter().chain(line))
            .unwrap()
            .arguments
    }

    fn query(line: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
        let arguments = arguments(line);
        let build_args = [("A".to_owned(), Some("1".to_owned())), ("B".to_owned(), None)].into();
        let place = Place {
            dockerfile: Some("sub/Dockerfile".to_owned()),
            remote: None,
        };
        let tags = tags(&arguments, &arguments.outputs())?;
        let target = target(&arguments, &build_args, &tags, &place)?.to_string();
        let (path, query) = target.split_once('?').unwrap();
        assert_eq!(path, "/v1.51/build");
        Ok(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    #[test]
    fn every_option_reaches_the_query() {
        let line = "-t a -t b:1 --label l=1 --target t --no-cache --pull --network none -m 64m --memory-swap -1 \
                    -c 7 --cpus 1.5 --cpuset-cpus 0 --cpuset-mems 0 --shm-size 1m --ulimit nofile=1:2 \
                    --platform linux/arm64 --timeout 1m1.5s --add-host h:1.2.3.4 --add-host=i=::1 --cache-from c,d \
                    --cache-from type=registry,ref=e --cache-from type=local,src=f --cache-to type=local,dest=g \
                    --cache-to type=registry,ref=h,mode=max --rm=false --force-rm --isolation default --cgroup-parent /p \
                    --output type=image,name=a,push=true --output type=image,name=z .";
        let expected = [
            ("t", "a"),
            ("t", "b:1"),
            ("t", "z"),
            ("dockerfile", "sub/Dockerfile"),
            ("buildargs", r#"{"A":"1","B":null}"#),
            ("labels", r#"{"l":"1"}"#),
            ("target", "t"),
            ("platform", "linux/arm64"),
            ("cachefrom", r#"["c","d","e"]"#),
            ("cacheto", r#"[{"type":"registry","ref":"h","mode":"max"}]"#),
            ("nocache", "1"),
            ("pull", "1"),
            ("timeout", "61.5"),
            ("rm", "0"),
            ("forcerm", "1"),
            ("memory", "67108864"),
            ("memswap", "-1"),
            ("cpushares", "7"),
            ("cpuperiod", "100000"),
            ("cpuquota", "150000"),
            ("shmsize", "1048576"),
            ("cpusetcpus", "0"),
            ("cpusetmems", "0"),
            ("cgroupparent", "/p"),
            ("networkmode", "none"),
            ("isolation", "default"),
            ("ulimits", r#"[{"Name":"nofile","Soft":1,"Hard":2}]"#),
            ("extrahosts", "h:1.2.3.4"),
            ("extrahosts", "i:::1"),
        ];
        let found = query(&line.split_whitespace().collect::<Vec<_>>()).unwrap();
        assert_eq!(
            found,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_is_not_said_is_left_to_the_daemon() {
        let found = query(&["."]).unwrap();
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["dockerfile", "buildargs", "rm"]);
    }

    #[test]
    fn what_makes_no_request_is_refused() {
        let long = format!("l={}", "x".repeat(LENGTH_LIMIT));
        let error = query(&["--label", &long, "."]).unwrap_err().to_string();
        assert!(error.contains("too long"), "{error}");
        assert!(query(&["-t", "", "."]).is_err());
        assert!(Line::try_parse_from(["build", "--timeout", "0s", "."]).is_err());
    }
}
