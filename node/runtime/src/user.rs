//! Who a process runs as: numbers and names, resolved against the container's own `/etc/passwd` and `/etc/group`.
//!
//! The files belong to the image, so they are read with a bound, and only when they are regular files.

use crate::inroot::InRoot;
use crate::report::{LaunchError, Step};
use crate::spec::User;
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::io::Read;
use std::path::Path;

/// Largest `/etc/passwd` or `/etc/group` that is read.
const MAX_FILE: u64 = 4 << 20;

/// A user, in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups, without duplicates.
    pub(crate) groups: Vec<u32>,
    /// The home directory.
    pub(crate) home: String,
}

/// A line of `/etc/passwd` that matters.
struct Account {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

/// Resolves `user` in the root filesystem `root`.
pub(crate) fn resolve(root: InRoot<'_>, user: &User) -> Result<Identity, LaunchError> {
    let passwd = read(root, Path::new("/etc/passwd"))?;
    let group = read(root, Path::new("/etc/group"))?;
    resolve_in(&passwd, &group, user)
}

fn resolve_in(passwd: &str, group: &str, user: &User) -> Result<Identity, LaunchError> {
    let (image_user, image_group) = match user.image_user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user.image_user.as_str(), None),
    };
    let wanted = match user.uid {
        Some(uid) => Ok(uid),
        None if image_user.is_empty() => Ok(0),
        None => image_user.parse().map_err(|_| image_user),
    };
    let account = accounts(passwd).find(|account| match wanted {
        Ok(uid) => account.uid == uid,
        Err(name) => account.name == name,
    });
    let uid = match (wanted, &account) {
        (Ok(uid), _) => uid,
        (Err(_), Some(account)) => account.uid,
        (Err(name), None) => {
            return Err(LaunchError::invalid(format!(
                "unable to find user {name}: no matching entries in passwd file"
            )));
        }
    };
    // runAsUser alone keeps the group of the image's user only if that user is the same.
    let named_group = image_group.filter(|name| !name.is_empty() && user.uid.is_none());
    let gid = match (user.gid, named_group) {
        (Some(gid), _) => gid,
        (None, Some(name)) => group_number(group, name)?,
        (None, None) => account.as_ref().map_or(0, |account| account.gid),
    };
    let mut groups = vec![gid];
    groups.extend(&user.supplemental_groups);
    if let Some(account) = account.as_ref().filter(|_| !user.strict_groups) {
        groups.extend(memberships(group, &account.name));
    }
    groups.sort_unstable();
    groups.dedup();
    let home = account.map_or_else(|| "/".to_owned(), |account| account.home);
    Ok(Identity { uid, gid, groups, home })
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
        Some(Account { name, uid, gid, home })
    })
}

/// Lines of `/etc/group`: name, number, members.
fn group_lines(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

fn group_number(group: &str, name: &str) -> Result<u32, LaunchError> {
    if let Ok(gid) = name.parse() {
        return Ok(gid);
    }
    group_lines(group).find(|(known, ..)| *known == name).map(|(_, gid, _)| gid).ok_or_else(|| {
        LaunchError::invalid(format!("unable to find group {name}: no matching entries in group file"))
    })
}

fn memberships<'a>(group: &'a str, user: &'a str) -> impl Iterator<Item = u32> + 'a {
    group_lines(group)
        .filter(move |(.., members)| members.split(',').any(|name| name == user))
        .map(|(_, gid, _)| gid)
}

/// The text of a regular file of the container; empty when there is none.
fn read(root: InRoot<'_>, path: &Path) -> Result<String, LaunchError> {
    let name = || format!("read {} of the container", path.display());
    // Non-blocking: a FIFO put there must not hold this process up.
    let file = match root.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        Err(errno) => return Err(LaunchError::step(name(), errno)),
    };
    if !file.metadata().step(name)?.is_file() {
        return Err(LaunchError::step(name(), Errno::INVAL));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).step(name)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/srv:/bin/false\nbad line\nnohome:x:7:7:::\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:50:web,other\nmore:x:51:other,web\n";

    fn id(user: &User) -> Identity {
        resolve_in(PASSWD, GROUP, user).unwrap()
    }
    fn image(user: &str) -> User {
        User { image_user: user.into(), ..User::default() }
    }

    #[test]
    fn names_and_numbers_of_the_image() {
        let root = Identity { uid: 0, gid: 0, groups: vec![0], home: "/root".into() };
        assert_eq!(id(&image("")), root);
        assert_eq!(id(&image("root")), root);
        let web = Identity { uid: 33, gid: 34, groups: vec![34, 50, 51], home: "/srv".into() };
        assert_eq!(id(&image("web")), web);
        assert_eq!(id(&image("33")), web);
        assert_eq!(id(&image("web:logs")).gid, 50);
        assert_eq!(id(&image("web:99")).gid, 99);
        assert_eq!(id(&image("1000")), Identity { uid: 1000, gid: 0, groups: vec![0], home: "/".into() });
        assert_eq!(id(&image("nohome")).home, "/");
    }

    #[test]
    fn the_pod_wins_over_the_image() {
        let user = User { uid: Some(33), supplemental_groups: vec![900, 34], ..image("root:root") };
        assert_eq!(id(&user).groups, [34, 50, 51, 900]);
        let strict = User { strict_groups: true, ..user };
        assert_eq!(id(&strict).groups, [34, 900]);
        assert_eq!(id(&User { gid: Some(5), ..image("web") }).gid, 5);
    }

    #[test]
    fn unknown_names_are_errors() {
        let error = resolve_in(PASSWD, GROUP, &image("nobody")).unwrap_err();
        assert_eq!(error.message, "unable to find user nobody: no matching entries in passwd file");
        assert!(resolve_in(PASSWD, GROUP, &image("web:none")).is_err());
        assert!(resolve_in("", "", &image("web")).is_err());
    }
}
