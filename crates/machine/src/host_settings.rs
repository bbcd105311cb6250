//! What is set on the host for programs that speak to registries, and must hold for hulld in the helper VM as well.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The variables that hulld heeds: proxies, in both spellings as there is no agreement on one, and trusted certificates.
const PROXIES: [&str; 8] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
];
const CERTIFICATE_FILE: &str = "SSL_CERT_FILE";
const CERTIFICATE_FOLDERS: &str = "SSL_CERT_DIR";

/// Registries' certificates, a folder for each: hull's own, and those that an administrator set up for Docker.
const SYSTEM_CERTS_DIRS: [&str; 2] = ["/etc/hull/certs.d", "/etc/docker/certs.d"];
const USER_CERTS_DIRS: [&str; 2] = ["hull/certs.d", "docker/certs.d"];

/// What the user who starts the helper VM has set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostSettings {
    /// Variables of the environment that name proxies.
    pub proxies: BTreeMap<String, String>,
    /// A file with the certificates to trust, instead of the system's.
    pub certificate_file: Option<PathBuf>,
    /// Folders with certificates to trust, instead of the system's.
    pub certificate_folders: Vec<PathBuf>,
    /// Folders in `certs.d` layout, whether or not they are there.
    pub certs_dirs: Vec<PathBuf>,
}

impl HostSettings {
    /// The settings of this process's user.
    pub fn gather() -> Self {
        Self::from_environment(
            |name| std::env::var_os(name),
            rustix::process::geteuid().is_root(),
        )
    }

    fn from_environment(variable: impl Fn(&str) -> Option<OsString>, root: bool) -> Self {
        let proxies = PROXIES.iter().filter_map(|&name| {
            // A proxy that is no text is no URL either.
            let value = variable(name)?.into_string().ok()?;
            Some((name.to_owned(), value))
        });
        let absolute = |path: &PathBuf| path.is_absolute();
        let path = |name| variable(name).map(PathBuf::from).filter(absolute);
        let folders = variable(CERTIFICATE_FOLDERS).unwrap_or_default();
        let mut certs_dirs: Vec<PathBuf> = SYSTEM_CERTS_DIRS.iter().map(PathBuf::from).collect();
        if !root {
            let of_home = || path("HOME").map(|home| home.join(".config"));
            let config = path("XDG_CONFIG_HOME").or_else(of_home);
            certs_dirs.extend(
                config
                    .iter()
                    .flat_map(|config| USER_CERTS_DIRS.map(|name| config.join(name))),
            );
        }
        HostSettings {
            proxies: proxies.collect(),
            certificate_file: path(CERTIFICATE_FILE),
            certificate_folders: std::env::split_paths(&folders).filter(absolute).collect(),
            certs_dirs,
        }
    }

    /// The same settings for a process that finds the host's files below `root`; `resolve` follows a path there, symbolic links
    /// included, and says what it leads to.
    pub(crate) fn environment_below(
        &self,
        root: &Path,
        resolve: impl Fn(&Path) -> Option<PathBuf>,
    ) -> BTreeMap<String, OsString> {
        let mut variables: BTreeMap<String, OsString> = self
            .proxies
            .iter()
            .map(|(name, value)| (name.clone(), value.into()))
            .collect();
        let bundle = match &self.certificate_file {
            Some(file) => resolve(file),
            None => SYSTEM_BUNDLES.iter().find_map(|file| resolve(Path::new(file))),
        };
        if let Some(bundle) = bundle {
            variables.insert(CERTIFICATE_FILE.to_owned(), bundle.into());
        }
        let folders = self
            .certificate_folders
            .iter()
            .map(|folder| resolve(folder).unwrap_or_else(|| below(root, folder)));
        // A name with a colon cannot be said in such a list.
        if let Ok(folders) = std::env::join_paths(folders)
            && !folders.is_empty()
        {
            variables.insert(CERTIFICATE_FOLDERS.to_owned(), folders);
        }
        variables
    }

    /// The folders in `certs.d` layout for such a process.
    pub(crate) fn certs_dirs_below(&self, root: &Path) -> impl Iterator<Item = PathBuf> {
        self.certs_dirs.iter().map(move |folder| below(root, folder))
    }
}

/// Where the distributions keep all certificates in one file: Debian, Fedora, SUSE, Alpine and Arch.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)], root: bool) -> HostSettings {
        HostSettings::from_environment(
            |asked| {
                let found = variables.iter().find(|(name, _)| *name == asked);
                found.map(|(_, value)| (*value).into())
            },
            root,
        )
    }

    #[test]
    fn proxies_go_over_as_they_are_and_other_variables_do_not() {
        let set = settings(
            &[
                ("https_proxy", "http://u:p@proxy:3128"),
                ("NO_PROXY", "localhost,.lan"),
                ("AWS_SECRET", "x"),
            ],
            true,
        );
        let seen = set.environment_below(Path::new("/host"), |_| None);
        assert_eq!(seen.len(), 2);
        assert_eq!(seen["https_proxy"], "http://u:p@proxy:3128");
        assert_eq!(seen["NO_PROXY"], "localhost,.lan");
    }

    #[test]
    fn the_first_bundle_that_there_is_is_trusted_unless_the_user_names_one() {
        let fedora = |path: &Path| {
            let found = path == Path::new("/etc/pki/tls/certs/ca-bundle.crt");
            found.then(|| PathBuf::from("/host/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"))
        };
        let seen = settings(&[], true).environment_below(Path::new("/host"), fedora);
        assert_eq!(
            seen["SSL_CERT_FILE"],
            "/host/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"
        );
        let named = settings(
            &[
                ("SSL_CERT_FILE", "/home/u/ca.pem"),
                ("SSL_CERT_DIR", "/a:relative:/b"),
            ],
            true,
        );
        let beneath = |path: &Path| Some(below(Path::new("/host"), path));
        let seen = named.environment_below(Path::new("/host"), beneath);
        assert_eq!(seen["SSL_CERT_FILE"], "/host/home/u/ca.pem");
        assert_eq!(seen["SSL_CERT_DIR"], "/host/a:/host/b");
    }

    #[test]
    fn an_ordinary_user_has_certificates_of_registries_too() {
        let dirs = |variables, root| -> Vec<PathBuf> {
            settings(variables, root)
                .certs_dirs_below(Path::new("/host"))
                .collect()
        };
        let system = ["/host/etc/hull/certs.d", "/host/etc/docker/certs.d"].map(PathBuf::from);
        assert_eq!(dirs(&[("HOME", "/root")], true), system);
        let of_user = dirs(&[("HOME", "/home/u")], false);
        assert_eq!(of_user[..2], system);
        assert_eq!(
            of_user[2..],
            [
                "/host/home/u/.config/hull/certs.d",
                "/host/home/u/.config/docker/certs.d"
            ]
            .map(PathBuf::from)
        );
        let elsewhere = dirs(&[("HOME", "/home/u"), ("XDG_CONFIG_HOME", "/cfg")], false);
        assert_eq!(elsewhere[2], PathBuf::from("/host/cfg/hull/certs.d"));
    }
}
