//! Why this process does not reach a path, where the system's own words leave out what matters: whose it is, and that the
//! sandbox of a unit hides it.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{getegid, geteuid};

/// `error`, which the system gave for `path`, with what is known of the cause. Blocks. For errors alone: it looks at the path
/// again, and at this process's mounts.
#[must_use]
pub fn explained(path: &Path, error: io::Error) -> io::Error {
    match why(path, error.kind()) {
        Some(why) => io::Error::new(error.kind(), format!("{error}: {why}")),
        None => error,
    }
}

/// The cause of an error of this kind, if it can be told.
fn why(path: &Path, kind: io::ErrorKind) -> Option<String> {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match kind {
        io::ErrorKind::PermissionDenied => hidden(&mounts(), path).or_else(|| refused(path)),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => hidden(&mounts(), path),
        io::ErrorKind::ReadOnlyFilesystem => Some(format!(
            "{} is mounted read-only for this process: in a unit with ProtectSystem=strict, use a folder of RuntimeDirectory= or \
             name this one in ReadWritePaths=",
            path.parent().unwrap_or(path).display()
        )),
        _ => None,
    }
}

/// Whether a setting of the unit that this process runs in gives it other folders than everybody else has.
fn hidden(mountinfo: &str, path: &Path) -> Option<String> {
    let mount = mountinfo
        .lines()
        .filter_map(Mount::parse)
        .filter(|mount| path.starts_with(&mount.point))
        // Of two at one place the later one is seen.
        .reduce(|best, other| {
            if other.point.starts_with(&best.point) {
                other
            } else {
                best
            }
        })?;
    let point = mount.point.display();
    if mount.root.contains("/systemd-private-") {
        return Some(format!(
            "PrivateTmp= of this process's unit gives it a {point} of its own; use a folder below /run, or set PrivateTmp=no"
        ));
    }
    if mount.root.starts_with("/systemd/inaccessible/") {
        return Some(format!(
            "{point} is hidden from this process by its unit (ProtectHome= or InaccessiblePaths=); use another folder, or change that"
        ));
    }
    let is_home = ["/home", "/root", "/run/user"]
        .iter()
        .any(|home| mount.point == Path::new(home));
    (is_home && mount.kind == "tmpfs").then(|| {
        format!("ProtectHome= of this process's unit gives it an empty {point}; use another folder, or change that")
    })
}

/// One line of `/proc/self/mountinfo`.
struct Mount<'a> {
    /// Which part of its file system it shows.
    root: &'a str,
    point: PathBuf,
    kind: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, kind) = line.split_once(" - ")?;
        let mut fields = place.split(' ').skip(3);
        Some(Self {
            root: fields.next()?,
            point: fields.next()?.replace("\\040", " ").into(),
            kind: kind.split(' ').next()?,
        })
    }
}

/// Whose it is, or the first folder on the way that lets this process no further.
fn refused(path: &Path) -> Option<String> {
    let mut on_the_way: Vec<_> = path.ancestors().collect();
    on_the_way.reverse();
    let reached = on_the_way
        .into_iter()
        .map_while(|step| Some((step, fs::metadata(step).ok()?)))
        .last();
    let (step, about) = reached?;
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    let mut text = format!(
        "{} belongs to user {}, group {} and has mode {:04o}; this process is user {user}, group {group}",
        step.display(),
        about.uid(),
        about.gid(),
        about.mode() & 0o7777
    );
    if user == 0 && about.uid() != 0 {
        text.push_str(", and its unit or container leaves root without the capability DAC_OVERRIDE");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIT: &str = "\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 21 8:1 /tmp/systemd-private-0a1b-x.service-Z9/tmp /tmp rw,nosuid - ext4 /dev/sda1 rw
31 21 0:24 /systemd/inaccessible/dir /home ro,nosuid - tmpfs tmpfs rw,mode=755
32 21 0:50 / /run/user ro - tmpfs tmpfs rw
33 21 8:1 /var/my\\040folder /var/my\\040folder rw - ext4 /dev/sda1 rw
";

    #[test]
    fn what_a_unit_hides_is_named_with_its_setting() {
        for (path, setting) in [
            ("/tmp/kms/socket.sock", Some("PrivateTmp=")),
            ("/home/me/key.pem", Some("ProtectHome= or InaccessiblePaths=")),
            ("/run/user/0/kms.sock", Some("ProtectHome=")),
            ("/run/kms.sock", None),
            ("/tmpx/kms.sock", None),
            ("/var/my folder/key", None),
        ] {
            let why = hidden(UNIT, Path::new(path));
            assert_eq!(why.is_some(), setting.is_some(), "{path}: {why:?}");
            assert!(why.unwrap_or_default().contains(setting.unwrap_or_default()), "{path}");
        }
        assert_eq!(hidden("nonsense\n1 2 3 - \n", Path::new("/tmp/x")), None);
    }

    #[test]
    fn the_first_step_that_refuses_is_named_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, "").unwrap();
        let owner = fs::metadata(&file).unwrap().uid();
        let why = refused(&file).unwrap();
        assert!(
            why.starts_with(&format!("{} belongs to user {owner},", file.display())),
            "{why}"
        );
        // What is not there, or cannot be looked into, is told by the last that is.
        let below = refused(&file.join("below/deep")).unwrap();
        assert!(below.starts_with(&format!("{} belongs", file.display())), "{below}");
    }

    #[test]
    fn an_error_keeps_its_kind_and_its_words() {
        let told = explained(
            Path::new("/etc/kubernetes/x.sock"),
            io::ErrorKind::ReadOnlyFilesystem.into(),
        );
        assert_eq!(told.kind(), io::ErrorKind::ReadOnlyFilesystem);
        let text = told.to_string();
        assert!(
            text.contains("read-only")
                && text.contains("/etc/kubernetes is mounted")
                && text.contains("RuntimeDirectory="),
            "{text}"
        );
        let other = explained(Path::new("/x"), io::ErrorKind::BrokenPipe.into());
        assert_eq!(
            other.to_string(),
            io::Error::from(io::ErrorKind::BrokenPipe).to_string()
        );
    }
}
