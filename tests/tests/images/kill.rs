//! `kill -9` of hulld in the middle of whatever it does with images. Each time another one goes on with what is on the
//! disk: its check is clean, no half image shows, nothing unfinished is left, and a second try does it.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use system_tests::{Daemon, DockerRegistry};

use crate::content::layer;
use crate::{http, store, upload};

const KILLS: u32 = 10;

/// Names the seed that a run is to be repeated with.
const SEED: &str = "HULL_TEST_SEED";

/// Numbers that nobody chose (xorshift64*).
struct Random(u64);

impl Random {
    /// With a seed that is printed, so that a failure can be seen again.
    fn new() -> Result<Self> {
        let seed = match std::env::var(SEED) {
            Ok(seed) => seed.parse()?,
            Err(_) => RandomState::new().hash_one(0) | 1,
        };
        println!("{SEED}={seed}");
        Ok(Self(seed))
    }

    /// Less than one.
    fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A registry with an image of three layers, and a daemon.
struct Setting {
    registry: DockerRegistry,
    daemon: Daemon,
    random: Random,
    name: String,
}

impl Setting {
    fn new() -> Result<Self> {
        let random = Random::new()?;
        let registry = DockerRegistry::plain()?;
        let layers: Result<Vec<_>> = (0..3)
            .map(|number| layer(&number.to_string(), 2 << 20, 30 + number))
            .collect();
        upload::image(&registry, "team/app", "1", &layers?)?;
        let name = format!("{}/team/app:1", registry.host);
        Ok(Self {
            registry,
            daemon: Daemon::empty()?,
            random,
            name,
        })
    }

    fn pull(&self) -> Result<()> {
        self.daemon.hull(["pull", "-q", &self.name]).ok();
        Ok(())
    }

    /// A request, on its way: the answer is not waited for.
    fn send(&self, method: &str, target: &str) -> Result<UnixStream> {
        let mut stream = UnixStream::connect(self.daemon.socket())?;
        // `e30=` is `{}`: credentials of nobody, which a push must name.
        http::send(&mut stream, method, target, &[("X-Registry-Auth", "e30=")], b"")?;
        Ok(stream)
    }

    /// Sends a request and kills the daemon at some time before its usual end; whether it was before the answer's end.
    fn kill_during(&mut self, method: &str, target: &str, usual: Duration) -> Result<bool> {
        let point = usual.mul_f64(self.random.fraction());
        let mut answer = self.send(method, target)?;
        thread::sleep(point);
        self.daemon.kill()?;
        // Ends with the daemon; an answer that is complete has an end of its own.
        let mut text = Vec::new();
        let end = answer.read_to_end(&mut text);
        self.daemon.restart()?;
        Ok(end.is_err() || !(text.ends_with(b"\r\n0\r\n\r\n") || has_whole_body(&text)))
    }

    /// How long a request takes that is let alone.
    fn time(&self, method: &str, target: &str) -> Result<Duration> {
        let start = Instant::now();
        let answer = http::receive(&mut self.send(method, target)?)?.success()?;
        ensure!(!answer.body.contains("\"error\""), "{}", answer.body);
        Ok(start.elapsed())
    }

    /// What must hold after every kill; whether the image shows.
    fn check(&self) -> Result<bool> {
        assert_eq!(store::unfinished_files(&self.daemon)?, [""; 0]);
        self.daemon.hull(["system", "check"]).ok();
        let ids = self.daemon.hull(["images", "-aq", "--no-trunc"]).ok();
        for id in ids.lines() {
            // Every byte of it is there.
            let saved = tempfile::NamedTempFile::new()?;
            let path = saved.path().display().to_string();
            self.daemon.hull(["save", "-o", &path, id]).ok();
            ensure!(
                fs::metadata(&path)?.len() > 6 << 20,
                "{id} is saved without its layers"
            );
        }
        Ok(!ids.is_empty())
    }

    fn check_nothing_left(&self) -> Result<()> {
        store::wait_until_empty(&self.daemon)
    }
}

/// Whether an answer has as many bytes as it announced.
fn has_whole_body(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    length == Some(body.len())
}

fn report(what: &str, interrupted: u32, usual: Duration) {
    println!("{what}: {interrupted} of {KILLS} kills before the answer's end, which usually takes {usual:?}");
}

#[test]
fn a_pull_that_hulld_dies_in_leaves_no_half_image_and_can_be_tried_again() -> Result<()> {
    let mut setting = Setting::new()?;
    let (image, tag) = setting.name.rsplit_once(':').expect("a tag");
    let target = format!("/images/create?fromImage={image}&tag={tag}");
    let name = setting.name.clone();
    let usual = setting.time("POST", &target)?;
    setting.daemon.hull(["rmi", &name]).ok();
    let mut interrupted = 0;
    for _ in 0..KILLS {
        interrupted += u32::from(setting.kill_during("POST", &target, usual)?);
        if !setting.check()? {
            setting.check_nothing_left()?;
        }
        setting.pull()?;
        assert!(setting.check()?, "a second try brings the image");
        setting.daemon.hull(["rmi", &name]).ok();
        setting.check_nothing_left()?;
    }
    report("pull", interrupted, usual);
    Ok(())
}

#[test]
fn a_push_that_hulld_dies_in_hurts_nothing_and_can_be_tried_again() -> Result<()> {
    let mut setting = Setting::new()?;
    setting.pull()?;
    let (mut interrupted, mut usual) = (0, Duration::ZERO);
    let host = setting.registry.host.clone();
    for number in 0..=KILLS {
        // A repository of its own each time, to which no blob went before.
        let (source, target) = (setting.name.clone(), format!("{host}/team/to{number}"));
        setting.daemon.hull(["tag", &source, &format!("{target}:1")]).ok();
        let push = format!("/images/{target}/push?tag=1");
        if number == 0 {
            usual = setting.time("POST", &push)?;
            continue;
        }
        interrupted += u32::from(setting.kill_during("POST", &push, usual)?);
        assert!(setting.check()?, "the image is still there");
        let pushed = format!("{target}:1");
        setting.daemon.hull(["push", "-q", &pushed]).ok();
        setting.daemon.hull(["rmi", &pushed]).ok();
        setting.daemon.hull(["pull", "-q", &pushed]).ok();
    }
    report("push", interrupted, usual);
    Ok(())
}

#[test]
fn a_removal_that_hulld_dies_in_is_done_or_not() -> Result<()> {
    let mut setting = Setting::new()?;
    let name = setting.name.clone();
    let target = format!("/images/{name}");
    let mut usual = Duration::MAX;
    for _ in 0..3 {
        setting.pull()?;
        usual = usual.min(setting.time("DELETE", &target)?);
        setting.check_nothing_left()?;
    }
    let mut interrupted = 0;
    for _ in 0..KILLS {
        setting.pull()?;
        interrupted += u32::from(setting.kill_during("DELETE", &target, usual)?);
        if setting.check()? {
            setting.daemon.hull(["rmi", &name]).ok();
        } else {
            setting.daemon.hull(["rmi", &name]).exits(1).says("No such image");
        }
        setting.check_nothing_left()?;
    }
    report("rmi", interrupted, usual);
    Ok(())
}

#[test]
fn a_prune_that_hulld_dies_in_takes_whole_images() -> Result<()> {
    let mut setting = Setting::new()?;
    let host = setting.registry.host.clone();
    for number in 1..=5_u64 {
        let layers = [layer("shared", 2 << 20, 30)?, layer("own", 6 << 20, 40 + number)?];
        upload::image(&setting.registry, &format!("team/p{number}"), "1", &layers)?;
    }
    let names: Vec<String> = (1..=5).map(|number| format!("{host}/team/p{number}:1")).collect();
    let pull = |setting: &Setting| {
        names.iter().try_for_each(|name| {
            setting.daemon.hull(["pull", "-q", name]).ok();
            anyhow::Ok(())
        })
    };
    // {"dangling":["false"]}: all that no container uses.
    let target = "/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D";
    pull(&setting)?;
    let usual = setting.time("POST", target)?;
    setting.check_nothing_left()?;
    let mut interrupted = 0;
    for _ in 0..KILLS {
        pull(&setting)?;
        interrupted += u32::from(setting.kill_during("POST", target, usual)?);
        setting.check()?;
        setting.daemon.hull(["image", "prune", "-a", "-f"]).ok();
        assert!(!setting.check()?, "a second try removes them all");
        setting.check_nothing_left()?;
    }
    report("prune", interrupted, usual);
    Ok(())
}
