//! How a Dockerfile names a repository: `REMOTE[#REFERENCE[:DIRECTORY]]`.

use std::str::FromStr;

/// A repository, and what of it is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitReference {
    /// As git takes it.
    pub remote: String,
    /// A branch, a tag or a commit.
    pub reference: String,
    /// A directory in it, clean; empty for all of it.
    pub directory: String,
}

/// A text that names no repository.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GitReferenceError {
    /// It is something else: a file, or another URL.
    #[error("{0:?} is no git repository; it must be like https://example.com/project.git#branch:directory")]
    NotGit(String),
    /// The part behind `#`.
    #[error("{0:?} is no branch, tag, commit or directory of a repository")]
    Fragment(String),
}

/// Schemes that mean git whatever follows.
const SCHEMES: [&str; 3] = ["git://", "ssh://", "file://"];
/// Schemes that mean git if the path ends in `.git`.
const WEB_SCHEMES: [&str; 2] = ["https://", "http://"];
/// Digits of the names of commits: SHA-1 and SHA-256.
const COMMIT_DIGITS: [usize; 2] = [40, 64];

impl FromStr for GitReference {
    type Err = GitReferenceError;

    fn from_str(text: &str) -> Result<Self, GitReferenceError> {
        let (remote, fragment) = text.split_once('#').unwrap_or((text, ""));
        let remote = remote_of(remote).ok_or_else(|| GitReferenceError::NotGit(shown(text)))?;
        let (reference, directory) = fragment.split_once(':').unwrap_or((fragment, ""));
        let refuse = || GitReferenceError::Fragment(fragment.chars().take(200).collect());
        let reference = if reference.is_empty() { "HEAD" } else { reference };
        // What git-check-ref-format(1) refuses of what could mean something else to git.
        let is_odd = |byte: u8| byte <= b' ' || b"~^:?*[\\\x7f".contains(&byte);
        if reference.starts_with('-') || reference.contains("..") || reference.bytes().any(is_odd) {
            return Err(refuse());
        }
        let mut names = Vec::new();
        for name in directory.split('/') {
            match name {
                "" | "." => {}
                ".." => return Err(refuse()),
                name if name.contains(['\0', '\n']) => return Err(refuse()),
                name => names.push(name),
            }
        }
        Ok(Self {
            remote,
            reference: reference.to_owned(),
            directory: names.join("/"),
        })
    }
}

/// What git is to be given; `None` for what is no repository, and for what git could take for an option or a program to run.
fn remote_of(text: &str) -> Option<String> {
    if text.starts_with('-') || text.contains(char::is_control) || text.contains("::") {
        return None;
    }
    let has_rest = |scheme: &&&str| {
        text.strip_prefix(**scheme)
            .is_some_and(|rest| !rest.starts_with(['-', ' ']))
    };
    if SCHEMES.iter().any(|scheme| has_rest(&scheme)) {
        return Some(text.to_owned());
    }
    if WEB_SCHEMES.iter().any(|scheme| has_rest(&scheme)) {
        let path = text.split('?').next().unwrap_or(text).trim_end_matches('/');
        return path.ends_with(".git").then(|| text.to_owned());
    }
    if text.starts_with("github.com/") {
        return Some(format!("https://{text}"));
    }
    // `git@HOST:PATH`, scp's form.
    let (user, rest) = text.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let is_name = |name: &str| {
        let is_usual = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        !name.is_empty() && !name.starts_with('-') && name.bytes().all(is_usual)
    };
    (is_name(user) && is_name(host) && !path.is_empty()).then(|| text.to_owned())
}

impl GitReference {
    /// Whether the text is a commit's name, which never means anything else later.
    pub fn is_commit(&self) -> bool {
        let is_hex = self
            .reference
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hex && COMMIT_DIGITS.contains(&self.reference.len())
    }

    /// Whether it lies on the machine that builds.
    pub fn is_local(&self) -> bool {
        self.remote.starts_with("file://")
    }

    /// The repository, for people: without a password.
    pub fn shown(&self) -> String {
        shown(&self.remote)
    }
}

fn shown(remote: &str) -> String {
    match (remote.find("//"), remote.rfind('@')) {
        (Some(slashes), Some(at)) if at > slashes => {
            format!("{}[hidden]{}", &remote[..slashes + 2], &remote[at..])
        }
        _ => remote.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_told_from_files_and_urls() {
        for (text, remote, reference, directory) in [
            (
                "https://example.com/a.git",
                "https://example.com/a.git",
                "HEAD",
                "",
            ),
            (
                "https://example.com/a.git#v1:/sub//dir/",
                "https://example.com/a.git",
                "v1",
                "sub/dir",
            ),
            (
                "https://example.com/a.git#:sub",
                "https://example.com/a.git",
                "HEAD",
                "sub",
            ),
            ("git://example.com/a#main", "git://example.com/a", "main", ""),
            (
                "git@example.com:a/b.git#feature/x",
                "git@example.com:a/b.git",
                "feature/x",
                "",
            ),
            ("ssh://git@example.com/a", "ssh://git@example.com/a", "HEAD", ""),
            (
                "github.com/moby/buildkit",
                "https://github.com/moby/buildkit",
                "HEAD",
                "",
            ),
            ("file:///srv/a", "file:///srv/a", "HEAD", ""),
        ] {
            let expected = GitReference {
                remote: remote.into(),
                reference: reference.into(),
                directory: directory.into(),
            };
            assert_eq!(text.parse::<GitReference>(), Ok(expected), "{text}");
        }
        for text in [
            "a.git",
            "https://example.com/a.tar.gz",
            "/srv/a",
            "ext::sh -c id",
            "file::x",
            "--upload-pack=id",
            "ssh://-oProxyCommand=id/x.git",
            "git@-oProxyCommand=id:x",
            "https://example.com/a\n.git",
        ] {
            assert!(
                matches!(text.parse::<GitReference>(), Err(GitReferenceError::NotGit(_))),
                "{text}"
            );
        }
        for fragment in ["-x", "a..b", "a b", "main:../..", "a^{/x}"] {
            let text = format!("https://example.com/a.git#{fragment}");
            assert!(
                matches!(text.parse::<GitReference>(), Err(GitReferenceError::Fragment(_))),
                "{text}"
            );
        }
    }

    #[test]
    fn passwords_are_not_shown_and_commits_are_known() {
        let reference: GitReference = format!("https://ann:hunter2@example.com/a.git#{}", "0a".repeat(20))
            .parse()
            .unwrap();
        assert_eq!(reference.shown(), "https://[hidden]@example.com/a.git");
        assert!(reference.is_commit());
        let error = "https://ann:hunter2@example.com/a"
            .parse::<GitReference>()
            .unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
