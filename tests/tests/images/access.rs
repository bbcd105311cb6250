//! Registries with passwords, and with TLS.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result};
use system_tests::{Authority, Daemon, DaemonSpec, DockerRegistry, Outcome, PASSWORD, USER};

fn log_in(daemon: &Daemon, registry: &DockerRegistry, password: &str) -> Result<Outcome> {
    let mut login = daemon
        .hull_command(["login", "-u", USER, "--password-stdin", &registry.host])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    login
        .stdin
        .take()
        .context("no stdin")?
        .write_all(password.as_bytes())?;
    Ok(login.wait_with_output()?.into())
}

#[test]
fn a_registry_with_passwords_is_used_after_a_login() -> Result<()> {
    let registry = DockerRegistry::with_password()?;
    let spec = DaemonSpec {
        arguments: ["--log-level", "trace"].map(Into::into).into(),
        ..DaemonSpec::default()
    };
    let daemon = Daemon::start_with(spec)?;
    let image = registry.image("private:1");
    daemon.hull(["tag", "busybox", &image]).ok();
    daemon.hull(["push", &image]).exits(1).says("hull login");
    daemon
        .hull(["pull", &image])
        .exits(1)
        .says("repository does not exist or may require 'docker login'");
    log_in(&daemon, &registry, "wrong")?.exits(1).says("401");
    assert!(!daemon.file("docker/config.json").exists());
    assert_eq!(log_in(&daemon, &registry, PASSWORD)?.ok(), "Login Succeeded\n");
    daemon.hull(["push", &image]).ok();
    daemon.hull(["rmi", &image]).ok();
    daemon.hull(["pull", &image]).ok();
    daemon.docker(["pull", &image]).ok();
    daemon.hull(["logout", &registry.host]).ok();
    daemon.hull(["pull", &image]).exits(1);
    // What went over the wire, and its base64, which is what config.json held.
    let log = daemon.log()?;
    for secret in [PASSWORD, "YW5uOmNvcnJlY3QtaG9yc2UtYmF0dGVyeQ"] {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
    Ok(())
}

#[test]
fn dockers_own_login_works_too() -> Result<()> {
    let (daemon, registry) = (Daemon::start()?, DockerRegistry::with_password()?);
    let said = daemon
        .docker(["login", "-u", USER, "-p", PASSWORD, &registry.host])
        .ok();
    assert!(said.contains("Login Succeeded"), "{said}");
    daemon
        .docker(["login", "-u", USER, "-p", "wrong", &registry.host])
        .exits(1)
        .says("401");
    Ok(())
}

#[test]
fn a_registry_with_a_ca_of_its_own_is_trusted_once_the_ca_is() -> Result<()> {
    let authority = Authority::new("the registry's")?;
    let registry = DockerRegistry::with_tls(&authority, None)?;
    let daemon = Daemon::start()?;
    let image = registry.image("busybox:1");
    daemon.hull(["tag", "busybox", &image]).ok();
    let certs = daemon.file("certs.d").join(&registry.host);
    fs::create_dir_all(&certs)?;
    fs::write(certs.join("ca.crt"), Authority::new("another")?.pem())?;
    daemon
        .hull(["push", &image])
        .exits(1)
        .says("no TLS connection to")
        .says("certs.d");
    fs::write(certs.join("ca.crt"), authority.pem())?;
    let mut daemon = daemon;
    daemon.kill()?;
    daemon.restart()?;
    daemon.hull(["push", &image]).ok();
    daemon.hull(["rmi", &image]).ok();
    daemon.hull(["pull", &image]).ok();
    Ok(())
}

#[test]
fn a_registry_that_is_not_there_is_told_by_its_name() -> Result<()> {
    let daemon = Daemon::start()?;
    let mut registry = DockerRegistry::plain()?;
    let image = registry.image("a:1");
    registry.kill()?;
    daemon
        .hull(["pull", &image])
        .exits(1)
        .says(&format!("nobody listens at {}", registry.host));
    registry.restart()?;
    daemon.hull(["pull", &image]).exits(1).says("manifest unknown");
    Ok(())
}
