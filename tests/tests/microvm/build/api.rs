//! Builds through the API, as a client of Docker's classic builder has them.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use system_tests::{Hull, Outcome};

use super::entries::Options;
use super::listing::{Listing, of_configuration, of_files};

/// A build, to be asked for.
#[derive(Debug, Default)]
pub(super) struct Request<'a> {
    pub(super) dockerfile: &'a str,
    pub(super) name: &'a str,
    pub(super) options: Options,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// The objects of the stream; of a refusal that came before it the only one.
    pub(super) objects: Vec<Value>,
}

/// Builds an archive.
pub(super) fn build(hull: &Hull, request: &Request<'_>, context: &[u8]) -> Result<Answer> {
    let options = &request.options;
    let object = |pairs: &[(String, String)]| {
        let pairs: BTreeMap<&String, &String> = pairs.iter().map(|(name, value)| (name, value)).collect();
        serde_json::to_string(&pairs)
    };
    let mut curl = curl(hull);
    let mut parameter = |name: &str, value: &str| {
        curl.arg("--url-query").arg(format!("{name}={value}"));
    };
    parameter("dockerfile", request.dockerfile);
    parameter("t", request.name);
    parameter("buildargs", &object(&options.arguments)?);
    parameter("labels", &object(&options.labels)?);
    parameter("target", options.target.as_deref().unwrap_or_default());
    if !options.secrets.is_empty() {
        let encoded = options
            .secrets
            .iter()
            .map(|(id, text)| (id.clone(), BASE64_STANDARD.encode(text)));
        let secrets = object(&encoded.collect::<Vec<_>>())?;
        let header = format!("X-Hull-Build-Secrets: {}", BASE64_STANDARD.encode(secrets));
        curl.args(["--header", &header]);
    }
    curl.args([
        "--header",
        "Content-Type: application/x-tar",
        "--data-binary",
        "@-",
    ]);
    curl.args(["--write-out", "\n%{http_code}", "http://hull/v1.41/build"]);
    let mut child = curl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("curl cannot be executed")?;
    let mut stdin = child.stdin.take().context("curl has no stdin")?;
    let output = std::thread::scope(|scope| {
        // A build that is refused early does not read all of it.
        scope.spawn(move || stdin.write_all(context).ok());
        child.wait_with_output()
    })?;
    let text = String::from_utf8(output.stdout)?;
    let (body, status) = text.rsplit_once('\n').context("curl told no status")?;
    let objects = body.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    Ok(Answer {
        status: status.parse()?,
        objects: objects.with_context(|| format!("not JSON: {body}"))?,
    })
}

/// Builds a folder with docker's own client, which leaves out what `.dockerignore` says; the image's identifier.
pub(super) fn build_with_docker(hull: &Hull, request: &Request<'_>, folder: &Path) -> String {
    let mut docker = hull.docker_command(["build", "--quiet", "--tag", request.name, "--file"]);
    docker
        .arg(folder.join(request.dockerfile))
        .arg(folder)
        .env("DOCKER_BUILDKIT", "0");
    let outcome = Outcome::from(docker.output().expect("the docker CLI is installed"));
    outcome.ok().trim().to_owned()
}

/// The files and the configuration of an image.
pub(super) fn listing(hull: &Hull, image: &str) -> Result<Listing> {
    let mut curl = curl(hull);
    curl.args(["--fail", &format!("http://hull/hull/images/{image}/files")]);
    let mut child = curl
        .stdout(Stdio::piped())
        .spawn()
        .context("curl cannot be executed")?;
    let mut output = BufReader::new(child.stdout.take().context("curl has no stdout")?);
    let files = of_files(&mut output);
    // What follows the end of the archive is nobody's, but curl wants to write it.
    std::io::copy(&mut output, &mut std::io::sink())?;
    let status = child.wait()?;
    ensure!(status.success(), "the files of {image}: curl ended with {status}");
    let mut listing = files?;
    let inspected = hull.hull(["image", "inspect", image]).ok();
    let inspected: Value = serde_json::from_str(&inspected)?;
    listing.extend(of_configuration(&inspected[0]["Config"]));
    Ok(listing)
}

fn curl(hull: &Hull) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "250", "--unix-socket"])
        .arg(hull.socket());
    curl.stdin(Stdio::null());
    curl
}

impl Answer {
    /// The identifier of the image, if one was made.
    pub(super) fn image(&self) -> Result<&str> {
        let mut found = self
            .objects
            .iter()
            .filter_map(|object| object["aux"]["ID"].as_str());
        found
            .next()
            .with_context(|| format!("nothing was built: {}", self.all()))
    }

    /// Why none was.
    pub(super) fn error(&self) -> Option<&str> {
        let told = self.objects.iter();
        let mut told = told.filter_map(|object| object["error"].as_str().or(object["message"].as_str()));
        told.next()
    }

    /// The exit code of the command that failed.
    pub(super) fn exit_code(&self) -> Option<i64> {
        self.objects
            .iter()
            .find_map(|object| object["errorDetail"]["code"].as_i64())
    }

    /// All that is told, without the identifiers.
    pub(super) fn output(&self) -> String {
        self.objects
            .iter()
            .filter_map(|object| object["stream"].as_str())
            .collect()
    }

    /// The instructions that make layers, and whether each was taken from the cache.
    pub(super) fn layers(&self) -> Vec<(String, bool)> {
        let mut steps = Vec::new();
        for line in self.output().lines() {
            if let Some(step) = line.strip_prefix("Step ") {
                let text = step.split_once(" : ").map_or(step, |(_, text)| text);
                steps.push((text.to_owned(), false));
            } else if line == " ---> Using cache"
                && let Some((_, is_cached)) = steps.last_mut()
            {
                *is_cached = true;
            }
        }
        let makes_layer = |text: &str| {
            ["RUN ", "COPY ", "ADD "]
                .iter()
                .any(|keyword| text.starts_with(keyword))
        };
        steps.retain(|(text, _)| makes_layer(text));
        steps
    }

    fn all(&self) -> String {
        let objects: Vec<String> = self.objects.iter().map(Value::to_string).collect();
        format!("{} {}", self.status, objects.join("\n"))
    }
}

/// Removes its image when it is dropped.
pub(super) struct Image<'a> {
    hull: &'a Hull,
    pub(super) name: String,
}

impl<'a> Image<'a> {
    /// A name that no other test uses.
    pub(super) fn new(hull: &'a Hull, name: &str) -> Self {
        let name = format!("localhost/corpus-{name}:{}", std::process::id());
        Self { hull, name }
    }
}

impl Drop for Image<'_> {
    fn drop(&mut self) {
        self.hull.hull(["rmi", "-f", &self.name]);
    }
}

/// An archive of these files: name and content.
pub(super) fn archive(files: &[(&str, &str)]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, Path::new(name), content.as_bytes())?;
    }
    Ok(archive.into_inner()?)
}
