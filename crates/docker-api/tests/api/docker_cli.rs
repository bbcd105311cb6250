//! The real docker CLI against the API. Without it on this machine, the tests say that they were skipped.

use std::process::{Command, Output};

use anyhow::{Context, Result};

use crate::server::Server;

/// The docker CLI on a server of its own.
struct Docker {
    server: Server,
    config: tempfile::TempDir,
}

/// What a command came to.
#[derive(Debug)]
struct Ran {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Docker {
    /// `None` without a docker CLI.
    fn new(test: &str) -> Result<Option<Self>> {
        if Command::new("docker").arg("--version").output().is_err() {
            println!("SKIPPED {test}: there is no docker CLI on this machine");
            return Ok(None);
        }
        Ok(Some(Self {
            server: Server::start()?,
            config: tempfile::tempdir()?,
        }))
    }

    fn run(&self, arguments: &[&str]) -> Result<Ran> {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new("docker")
            .args(["--host", &self.server.host()])
            .args(arguments)
            .env("DOCKER_CONFIG", self.config.path())
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_API_VERSION")
            .output()?;
        Ok(Ran {
            code: status.code().context("docker was ended by a signal")?,
            stdout: String::from_utf8(stdout)?,
            stderr: String::from_utf8(stderr)?,
        })
    }

    /// The standard output of a command that must succeed.
    fn ok(&self, arguments: &[&str]) -> Result<String> {
        let ran = self.run(arguments)?;
        assert_eq!(ran.code, 0, "docker {arguments:?}: {ran:?}");
        Ok(ran.stdout.trim_end().to_owned())
    }

    /// The standard error of a command that must fail.
    fn fails(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let ran = self.run(arguments)?;
        assert_ne!(ran.code, 0, "docker {arguments:?}: {ran:?}");
        Ok((ran.code, ran.stderr))
    }
}

#[test]
fn version_and_info_are_printed_without_a_warning() -> Result<()> {
    let Some(docker) = Docker::new("version_and_info_are_printed_without_a_warning")? else {
        return Ok(());
    };
    let version = docker.ok(&["version"])?;
    assert!(
        version.contains("Server: hull") && version.contains("1.51 (minimum version 1.24)"),
        "{version}"
    );
    let ran = docker.run(&["info"])?;
    assert!(ran.stdout.contains("Storage Driver: erofs"), "{ran:?}");
    // What this host has not is no fault of the answer.
    let mut warnings = ran.stderr.lines().filter(|line| line.contains("WARNING"));
    assert!(
        warnings.all(|line| line.contains("not by control groups of the host: ")),
        "{ran:?}"
    );
    Ok(())
}

#[test]
fn images_are_listed() -> Result<()> {
    let Some(docker) = Docker::new("images_are_listed")? else {
        return Ok(());
    };
    assert_eq!(
        docker.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"])?,
        "localhost/busybox:latest"
    );
    assert_eq!(
        docker.ok(&["image", "inspect", "--format", "{{.Config.Cmd}}", "busybox"])?,
        "[sh]"
    );
    Ok(())
}

#[test]
fn a_container_is_created_listed_inspected_and_removed() -> Result<()> {
    let Some(docker) = Docker::new("a_container_is_created_listed_inspected_and_removed")? else {
        return Ok(());
    };
    let id = docker.ok(&[
        "create",
        "--name",
        "web",
        "-it",
        "-m",
        "64m",
        "--cpus",
        "1.5",
        "-v",
        "/tmp:/src:ro",
        "--tmpfs",
        "/x:size=1m",
        "--init",
        "--cap-add",
        "NET_ADMIN",
        "--read-only",
        "--mount",
        "type=bind,src=/tmp,dst=/y",
        "--label",
        "a=b",
        "--ulimit",
        "nofile=10:20",
        "--stop-timeout",
        "3",
        "--pids-limit",
        "5",
        "--network",
        "none",
        "busybox",
        "sh",
    ])?;
    assert_eq!(docker.ok(&["ps", "-aq", "--no-trunc"])?, id);
    assert_eq!(docker.ok(&["ps", "-q"])?, "");
    let columns = docker.ok(&[
        "ps",
        "-a",
        "--format",
        "{{.Names}} {{.Image}} {{.Command}} {{.Status}} {{.Ports}}",
    ])?;
    assert_eq!(columns.trim_end(), "web busybox \"sh\" Created");
    let format = "{{.HostConfig.NanoCpus}} {{.HostConfig.Memory}} {{.HostConfig.NetworkMode}} {{.Config.StopTimeout}} \
                  {{(index .HostConfig.Ulimits 0).Name}} {{.HostConfig.Init}} {{.Config.Tty}}";
    let inspected = docker.ok(&["inspect", "--format", format, "web"])?;
    assert_eq!(inspected, "1500000000 67108864 none 3 nofile true true");
    assert_eq!(
        docker.ok(&["inspect", "--format", "{{.Hull.Vm.vcpus}}", "web"])?,
        "2"
    );
    assert_eq!(docker.ok(&["rm", "web"])?, "web");
    assert_eq!(docker.ok(&["ps", "-aq"])?, "");
    Ok(())
}

#[test]
fn errors_read_as_dockers() -> Result<()> {
    let Some(docker) = Docker::new("errors_read_as_dockers")? else {
        return Ok(());
    };
    docker.ok(&["create", "--name", "taken", "busybox"])?;
    for (arguments, code, expected) in [
        (
            &["create", "--name", "taken", "busybox"][..],
            1,
            "is already in use by container",
        ),
        (
            &["run", "--network", "host", "busybox"],
            125,
            "hull does not support NetworkMode `host` (--network): a container has a kernel and a network of its own",
        ),
        (&["network", "inspect", "ghost"], 1, "network ghost not found"),
        (
            &["network", "rm", "bridge"],
            1,
            "bridge is a pre-defined network and cannot be removed",
        ),
        (
            &["run", "--pull", "never", "nosuch"],
            125,
            "No such image: nosuch:latest",
        ),
        (&["rm", "ghost"], 1, "No such container: ghost"),
        (&["logs", "ghost"], 1, "No such container: ghost"),
        (&["kill", "taken"], 1, "is not running"),
        (&["exec", "taken", "true"], 1, "is not running"),
        (&["inspect", "ghost"], 1, "o such object: ghost"),
    ] {
        let (found, stderr) = docker.fails(arguments)?;
        assert!(stderr.contains(expected), "docker {arguments:?}: {stderr}");
        assert_eq!(found, code, "docker {arguments:?}: {stderr}");
    }
    Ok(())
}

#[test]
fn networks_and_ports_are_managed_as_docker_does() -> Result<()> {
    let Some(docker) = Docker::new("networks_and_ports_are_managed_as_docker_does")? else {
        return Ok(());
    };
    let id = docker.ok(&[
        "network",
        "create",
        "--subnet",
        "10.214.0.0/24",
        "--gateway",
        "10.214.0.254",
        "--aux-address",
        "router=10.214.0.9",
        "--internal",
        "--label",
        "a=b",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "front",
    ])?;
    let listed = docker.ok(&[
        "network",
        "ls",
        "--format",
        "{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}}",
    ])?;
    assert_eq!(
        listed,
        "bridge bridge local false\nfront bridge local true\nnone null local false"
    );
    let format = "{{.Id}} {{(index .IPAM.Config 0).Gateway}} {{.Options}} {{.Labels}}";
    assert_eq!(
        docker.ok(&["network", "inspect", "--format", format, "front"])?,
        format!("{id} 10.214.0.254 map[com.docker.network.driver.mtu:1400] map[a:b]")
    );
    docker.ok(&[
        "create",
        "--name",
        "web",
        "--network",
        "name=front,alias=www,ip=10.214.0.77",
        "-p",
        "127.0.0.1:8080:80",
        "-p",
        "9000-9001:90-91/udp",
        "busybox",
    ])?;
    let format =
        "{{json .HostConfig.PortBindings}} {{json (index .NetworkSettings.Networks \"front\").IPAMConfig}}";
    assert_eq!(
        docker.ok(&["inspect", "--format", format, "web"])?,
        "{\"80/tcp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"8080\"}],\
         \"90/udp\":[{\"HostIp\":\"\",\"HostPort\":\"9000\"}],\"91/udp\":[{\"HostIp\":\"\",\"HostPort\":\"9001\"}]} \
         {\"IPv4Address\":\"10.214.0.77\"}"
    );
    assert_eq!(
        docker
            .ok(&["ps", "-aq", "--filter", "network=front"])?
            .lines()
            .count(),
        1
    );
    docker.ok(&["network", "disconnect", "front", "web"])?;
    docker.ok(&["network", "connect", "--alias", "www", "front", "web"])?;
    assert_eq!(docker.ok(&["port", "web"])?, "");
    docker.ok(&["rm", "web"])?;
    assert_eq!(
        docker.ok(&["network", "prune", "-f"])?,
        "Deleted Networks:\nfront"
    );
    Ok(())
}
