//! Credential helpers: programs called `docker-credential-NAME` that keep credentials elsewhere.
//!
//! The crate that speaks their protocol can only read, and `login` writes, so all three of its
//! requests are here.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::{Credential, CredentialError, Secret, TOKEN_USER};

/// What every helper says when it has none, with exit code 1.
const NOT_FOUND: &str = "credentials not found in native keychain";

/// One helper.
#[derive(Debug)]
pub(super) struct Helper {
    program: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

impl Helper {
    pub(super) fn new(suffix: &str) -> Self {
        Self {
            program: format!("docker-credential-{suffix}"),
        }
    }

    /// The credential for a registry, if the helper has one.
    pub(super) fn get(&self, server: &str) -> Result<Option<Credential>, CredentialError> {
        let output = match self.run("get", server.as_bytes()) {
            Err(CredentialError::HelperFailed { message, .. }) if message == NOT_FOUND => return Ok(None),
            output => output?,
        };
        let record: Record = serde_json::from_slice(&output)
            .map_err(|_| self.failed("get", "its answer is not the JSON that it should be"))?;
        let secret = if record.username == TOKEN_USER {
            Secret::IdentityToken(record.secret)
        } else {
            Secret::Password(record.secret)
        };
        Ok(Some(Credential {
            username: record.username,
            secret,
        }))
    }

    /// Keeps a credential.
    pub(super) fn store(&self, server: &str, credential: &Credential) -> Result<(), CredentialError> {
        let (username, secret) = match &credential.secret {
            Secret::Password(password) => (credential.username.as_str(), password),
            Secret::IdentityToken(token) => (TOKEN_USER, token),
        };
        let record = Record {
            server_url: server.to_owned(),
            username: username.to_owned(),
            secret: secret.clone(),
        };
        // A struct of strings always has a JSON form.
        let input = serde_json::to_vec(&record).unwrap_or_default();
        self.run("store", &input).map(drop)
    }

    /// Forgets a credential.
    pub(super) fn erase(&self, server: &str) -> Result<(), CredentialError> {
        match self.run("erase", server.as_bytes()) {
            Err(CredentialError::HelperFailed { message, .. }) if message == NOT_FOUND => Ok(()),
            output => output.map(drop),
        }
    }

    fn run(&self, action: &'static str, input: &[u8]) -> Result<Vec<u8>, CredentialError> {
        let cannot = |source| CredentialError::Helper {
            program: self.program.clone(),
            source,
        };
        let mut child = Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(cannot)?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input) {
                // One that does not read what it is told says why by its exit code.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                written => written.map_err(cannot)?,
            }
        }
        let output = child.wait_with_output().map_err(cannot)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        // Helpers say on their standard output what went wrong, and only there.
        let said = String::from_utf8_lossy(&output.stdout);
        match said.trim() {
            "" => Err(self.failed(action, &output.status.to_string())),
            said => Err(self.failed(action, said)),
        }
    }

    fn failed(&self, action: &'static str, message: &str) -> CredentialError {
        CredentialError::HelperFailed {
            program: self.program.clone(),
            action,
            message: message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    /// A helper that keeps one credential in a file beside it.
    fn helper(folder: &Path) -> Helper {
        let program = folder.join("docker-credential-test");
        let kept = folder.join("kept").display().to_string();
        let script = format!(
            "#!/bin/sh\ncase $1 in\nstore) cat >{kept} ;;\nerase) rm -f {kept} ;;\n\
             get) cat {kept} 2>/dev/null || {{ echo '{NOT_FOUND}'; exit 1; }} ;;\nesac\n"
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Helper {
            program: program.display().to_string(),
        }
    }

    #[test]
    fn a_credential_is_stored_read_and_erased() {
        let folder = tempfile::tempdir().unwrap();
        let helper = helper(folder.path());
        assert_eq!(helper.get("r").unwrap(), None);
        let token = Credential {
            username: TOKEN_USER.to_owned(),
            secret: Secret::IdentityToken("refresh".to_owned()),
        };
        for credential in [Credential::password("me", "secret"), token] {
            helper.store("r", &credential).unwrap();
            assert_eq!(helper.get("r").unwrap(), Some(credential));
        }
        helper.erase("r").unwrap();
        assert_eq!(helper.get("r").unwrap(), None);
    }

    #[test]
    fn a_helper_that_fails_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let helper = helper(folder.path());
        fs::write(&helper.program, "#!/bin/sh\necho the keyring is locked; exit 1\n").unwrap();
        let error = helper.get("r").unwrap_err().to_string();
        assert!(
            error.contains("failed to get credentials: the keyring is locked"),
            "{error}"
        );
        fs::write(&helper.program, "#!/bin/sh\necho '{\"Username\":\"secret\"'\n").unwrap();
        let error = helper.get("r").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
