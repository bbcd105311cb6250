//! `hull login`

use std::io::{self, BufRead, Read, Write};

use anyhow::{Context, bail};
use bollard_stubs::models::AuthResponse;
use clap::Args;

use super::print_line;
use crate::api::{Client, Target};
use crate::credentials::{ConfigFile, Credential, DOCKER_HUB_KEY, Kept, RegistryAuth, Secret};
use crate::failure::{CommandResult, complain};
use crate::terminal;

/// The longest password that is read from standard input, in bytes.
const PASSWORD_MAX: u64 = 1 << 20;

#[derive(Debug, Args)]
#[command(override_usage = "hull login [OPTIONS] [SERVER]")]
pub(crate) struct Arguments {
    /// Password or Personal Access Token (PAT)
    #[arg(short, long, conflicts_with = "password_stdin")]
    password: Option<String>,

    /// Take the Password or Personal Access Token (PAT) from stdin
    #[arg(long)]
    password_stdin: bool,

    /// Username
    #[arg(short, long)]
    username: Option<String>,

    /// The registry; Docker Hub when none is named
    server: Option<String>,
}

pub(crate) async fn execute(client: &Client, arguments: Arguments) -> CommandResult {
    let server = server_key(arguments.server.as_deref());
    let mut config = ConfigFile::load()?;
    let nothing_given =
        arguments.username.is_none() && arguments.password.is_none() && !arguments.password_stdin;
    if nothing_given && let Some(kept) = config.get(&server)? {
        complain("Authenticating with existing credentials...");
        match log_in(client, &server, &kept).await {
            Ok(status) => return Ok(print_line(&status.0)?),
            Err(error) => complain(format_args!("Login did not succeed, error: {error}")),
        }
    }
    let credential = ask(&arguments)?;
    let (status, token) = log_in(client, &server, &credential).await?;
    let kept = match token {
        // What the registry gave in its place is kept, not the password.
        Some(token) => Credential {
            username: credential.username,
            secret: Secret::IdentityToken(token),
        },
        None => credential,
    };
    if config.store(&server, &kept)? == Kept::InFile {
        complain(format_args!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\n\
             Configure a credential helper to remove this warning. See\n\
             https://docs.docker.com/go/credential-store/\n",
            config.path().display()
        ));
    }
    Ok(print_line(&status)?)
}

/// What `config.json` calls a registry that was named on the command line.
pub(super) fn server_key(server: Option<&str>) -> String {
    match server {
        None | Some("" | "docker.io" | "index.docker.io" | "registry-1.docker.io" | DOCKER_HUB_KEY) => {
            DOCKER_HUB_KEY.to_owned()
        }
        Some(server) => {
            let rest = server
                .strip_prefix("https://")
                .or_else(|| server.strip_prefix("http://"));
            let host = rest.unwrap_or(server).split('/').next();
            host.unwrap_or(server).to_owned()
        }
    }
}

/// The daemon's words, and the token that takes the password's place from now on.
async fn log_in(
    client: &Client,
    server: &str,
    credential: &Credential,
) -> anyhow::Result<(String, Option<String>)> {
    let auth = RegistryAuth::new(Some(credential), server);
    let answer: AuthResponse = client.post(Target::new(&["auth"]), &auth).await?;
    Ok((
        answer.status,
        answer.identity_token.filter(|token| !token.is_empty()),
    ))
}

fn ask(arguments: &Arguments) -> anyhow::Result<Credential> {
    if arguments.password_stdin {
        let Some(username) = &arguments.username else {
            bail!("Must provide --username with --password-stdin");
        };
        let mut password = String::new();
        io::stdin()
            .lock()
            .take(PASSWORD_MAX)
            .read_to_string(&mut password)
            .context("cannot read the password from standard input")?;
        return credential(username, password.trim_end_matches(['\r', '\n']));
    }
    if let Some(password) = &arguments.password {
        complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if let Some(username) = &arguments.username {
            return credential(username, password);
        }
    }
    if !terminal::stdin_is_terminal() {
        bail!("Error: Cannot perform an interactive login from a non TTY device");
    }
    let username = match &arguments.username {
        Some(username) => username.clone(),
        None => ask_line("Username: ")?,
    };
    let password = match &arguments.password {
        Some(password) => password.clone(),
        None => rpassword::prompt_password("Password: ").context("cannot read the password")?,
    };
    credential(&username, &password)
}

fn credential(username: &str, password: &str) -> anyhow::Result<Credential> {
    if username.is_empty() {
        bail!("username is empty");
    }
    if password.is_empty() {
        bail!("password is empty");
    }
    Ok(Credential::password(username, password))
}

fn ask_line(prompt: &str) -> anyhow::Result<String> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(prompt.as_bytes())?;
    stdout.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_known_by_their_host() {
        for (server, key) in [
            (None, DOCKER_HUB_KEY),
            (Some("docker.io"), DOCKER_HUB_KEY),
            (Some("https://localhost:5000/v2/"), "localhost:5000"),
            (Some("registry.example.com"), "registry.example.com"),
        ] {
            assert_eq!(server_key(server), key);
        }
    }
}
