//! Who a process runs as, by the container's own passwd and group files.

use guest_protocol::ErrorKind;

/// Docker's bound on user and group ids.
const MAX_ID: u32 = i32::MAX as u32;

/// The identity of a process.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups; the primary one is among them.
    pub(crate) groups: Vec<u32>,
    /// What `HOME` is when nothing else is said.
    pub(crate) home: String,
}

/// A name that the container does not know. The messages are Docker's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoSuchUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoSuchGroup(String),
    #[error("uids and gids must be in range 0-{MAX_ID}, and {0} is not")]
    OutOfRange(String),
}

impl UserError {
    pub(crate) fn kind(&self) -> ErrorKind {
        ErrorKind::NoSuchUser
    }
}

/// An entry of `/etc/passwd`, passwd(5).
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// An entry of `/etc/group`, group(5).
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Resolves Docker's `user[:group]` and further groups.
///
/// A user given by number is looked up too, for its home, its primary group and the groups it is a member of. A group
/// given explicitly takes the place of all groups of the user.
pub(crate) fn resolve(
    user: &str,
    further: &[String],
    passwd: &str,
    group: &str,
) -> Result<Identity, UserError> {
    let (user, explicit_group) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let user = if user.is_empty() { "0" } else { user };
    let number = user.parse::<u32>().ok();
    let entry = users(passwd).find(|entry| entry.name == user || Some(entry.uid) == number);
    let uid = match (&entry, number) {
        (Some(entry), _) => entry.uid,
        (None, Some(number)) => number,
        (None, None) if is_number(user) => return Err(UserError::OutOfRange(user.into())),
        (None, None) => return Err(UserError::NoSuchUser(user.into())),
    };
    let mut gid = entry.as_ref().map_or(0, |entry| entry.gid);
    let mut groups = Vec::new();
    if let Some(name) = explicit_group {
        gid = find_group(name, group)?;
    } else if let Some(entry) = &entry {
        let is_member = |group: &Group| group.members.split(',').any(|member| member == entry.name);
        groups.extend(self::groups(group).filter(is_member).map(|group| group.gid));
    }
    for name in further {
        groups.push(find_group(name, group)?);
    }
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    if let Some(id) = [uid, gid]
        .into_iter()
        .chain(groups.iter().copied())
        .find(|id| *id > MAX_ID)
    {
        return Err(UserError::OutOfRange(id.to_string()));
    }
    let home = entry
        .map(|entry| entry.home)
        .filter(|home| !home.is_empty())
        .unwrap_or("/");
    Ok(Identity {
        uid,
        gid,
        groups,
        home: home.into(),
    })
}

fn find_group(name: &str, group: &str) -> Result<u32, UserError> {
    let number = name.parse::<u32>().ok();
    let known = groups(group)
        .find(|entry| entry.name == name || Some(entry.gid) == number)
        .map(|entry| entry.gid);
    match known.or(number) {
        Some(gid) => Ok(gid),
        None if is_number(name) => Err(UserError::OutOfRange(name.into())),
        None => Err(UserError::NoSuchGroup(name.into())),
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The entries that are well-formed; others are passed over, as the C library does.
fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let mut fields = fields.skip(1);
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("");
        Some(User { name, uid, gid, home })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields
            .next()
            .filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group {
            name,
            gid,
            members: fields.next().unwrap_or(""),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                          # a comment\n\
                          daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin\n\
                          broken line\n\
                          alice:x:1000:1001:Alice:/home/alice:/bin/sh\n\
                          short:x:7:8\n";
    const GROUP: &str =
        "root:x:0:root\nbin:x:1:root,daemon\nalice:x:1001:\naudio:x:29:alice,short\nvideo:x:44:alice\n";

    fn identity(user: &str) -> Result<Identity, UserError> {
        resolve(user, &[], PASSWD, GROUP)
    }

    #[test]
    fn nobody_named_is_root_with_roots_groups() {
        let root = Identity {
            uid: 0,
            gid: 0,
            groups: vec![0, 1],
            home: "/root".into(),
        };
        assert_eq!(identity(""), Ok(root));
        assert_eq!(identity("0"), identity("root"));
    }

    #[test]
    fn a_user_by_name_or_number_has_its_home_and_groups() {
        let alice = Identity {
            uid: 1000,
            gid: 1001,
            groups: vec![1001, 29, 44],
            home: "/home/alice".into(),
        };
        assert_eq!(identity("alice"), Ok(alice));
        assert_eq!(identity("1000"), identity("alice"));
    }

    #[test]
    fn an_explicit_group_takes_the_place_of_all_others() {
        for user in ["alice:video", "1000:44", "alice:44"] {
            let expected = Identity {
                uid: 1000,
                gid: 44,
                groups: vec![44],
                home: "/home/alice".into(),
            };
            assert_eq!(identity(user), Ok(expected), "{user}");
        }
    }

    #[test]
    fn numbers_need_no_entry() {
        let expected = Identity {
            uid: 4242,
            gid: 0,
            groups: vec![0],
            home: "/".into(),
        };
        assert_eq!(identity("4242"), Ok(expected));
        let expected = Identity {
            uid: 4242,
            gid: 4343,
            groups: vec![4343],
            home: "/".into(),
        };
        assert_eq!(resolve("4242:4343", &[], "", ""), Ok(expected));
    }

    #[test]
    fn a_short_entry_has_no_home() {
        assert_eq!(identity("short").unwrap().home, "/");
        assert_eq!(identity("short").unwrap().groups, [8, 29]);
    }

    #[test]
    fn further_groups_are_names_or_numbers() {
        let identity = resolve("alice:alice", &["audio".into(), "77".into()], PASSWD, GROUP).unwrap();
        assert_eq!(identity.groups, [1001, 29, 77]);
        let error = resolve("", &["nobodys".into()], PASSWD, GROUP).unwrap_err();
        assert_eq!(error, UserError::NoSuchGroup("nobodys".into()));
    }

    #[test]
    fn unknown_names_and_wild_numbers_are_errors() {
        assert_eq!(identity("bob"), Err(UserError::NoSuchUser("bob".into())));
        assert_eq!(identity("alice:bobs"), Err(UserError::NoSuchGroup("bobs".into())));
        assert_eq!(
            identity("4294967295"),
            Err(UserError::OutOfRange("4294967295".into()))
        );
        assert_eq!(identity("-1"), Err(UserError::OutOfRange("-1".into())));
        assert_eq!(
            identity("1:99999999999"),
            Err(UserError::OutOfRange("99999999999".into()))
        );
        assert_eq!(
            identity("broken line"),
            Err(UserError::NoSuchUser("broken line".into()))
        );
    }
}
