//! Who else can read, or change, a file that holds keys. Modes and owners only: access control lists, mounts and the
//! modes of the folders above are not looked at.

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::process::{getegid, geteuid, getgroups};

/// Permission bits that let the file's group read or write it, and everybody else.
const GROUP: u32 = 0o060;
const OTHERS: u32 = 0o006;

/// A file with keys that others than its user can get at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    path: PathBuf,
    /// Where symbolic links led, if anywhere else.
    real: Option<PathBuf>,
    /// Permission bits.
    mode: u32,
    owner: u32,
    /// Who runs this process.
    user: u32,
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Others,
    Group,
    Owner,
}

impl fmt::Display for Exposure {
    #[expect(
        clippy::unnecessary_debug_formatting,
        reason = "a path may hold anything; quotes and escapes show where it ends"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.path)?;
        if let Some(real) = &self.real {
            write!(f, " (really {real:?})")?;
        }
        write!(
            f,
            " holds keys, has mode {:04o} and owner uid {}: ",
            self.mode, self.owner
        )?;
        match self.reason {
            Reason::Others => f.write_str(
                "every user of the machine can read or change it; chmod 0600 it, or set defaultMode: 0400 on the volume \
                 where Kubernetes mounts it",
            ),
            Reason::Group => f.write_str(
                "its group can read or change it; chmod 0600 it, or set defaultMode: 0400 on the volume where Kubernetes \
                 mounts it (with an fsGroup that volume stays readable for the group, which is fine for a process that \
                 does not run as root and is in the group)",
            ),
            Reason::Owner => write!(
                f,
                "that is neither root nor uid {}, which this process runs as, and an owner can always read and change \
                 a file; chown it to one of the two",
                self.user
            ),
        }
    }
}

/// Who asks: the process's own identity.
struct Me {
    user: u32,
    groups: Vec<u32>,
}

impl Me {
    fn now() -> Self {
        let groups = getgroups().unwrap_or_default().into_iter();
        Self {
            user: geteuid().as_raw(),
            groups: groups.chain([getegid()]).map(rustix::process::Gid::as_raw).collect(),
        }
    }
}

/// What is wrong with the mode and owner of the file that was opened at `path`.
pub(super) fn exposure(path: &Path, about: &Metadata) -> Option<Exposure> {
    // Only a regular file keeps what is in it for others to read.
    if !about.is_file() {
        return None;
    }
    let me = Me::now();
    let reason = reason(&me, about.mode(), about.uid(), about.gid())?;
    Some(Exposure {
        path: path.to_owned(),
        real: fs::canonicalize(path).ok().filter(|real| real != path),
        mode: about.mode() & 0o7777,
        owner: about.uid(),
        user: me.user,
        reason,
    })
}

/// A file of root's may be readable for a group of ours where we are not root: there is no other way to give it to us,
/// and both Kubernetes' `fsGroup` and Debian's `ssl-cert` group do it.
fn reason(me: &Me, mode: u32, owner: u32, group: u32) -> Option<Reason> {
    const WRITE: u32 = 0o020;
    let is_lent = owner == 0 && me.user != 0 && me.groups.contains(&group) && mode & WRITE == 0;
    if mode & OTHERS != 0 {
        Some(Reason::Others)
    } else if owner != 0 && owner != me.user {
        Some(Reason::Owner)
    } else if mode & GROUP != 0 && !is_lent {
        Some(Reason::Group)
    } else {
        None
    }
}

/// What is done about exposed files: each is told once, or refused.
#[derive(Debug, Default)]
pub struct Permissions {
    is_strict: bool,
    /// Path, mode and owner of what has been told. Where a link leads does not matter: with each update of a Kubernetes
    /// volume it leads elsewhere.
    told: Mutex<HashSet<(PathBuf, u32, u32)>>,
}

impl Permissions {
    /// Refuses exposed files (`--strict-permissions`), or warns of each once.
    pub fn new(is_strict: bool) -> Self {
        Self {
            is_strict,
            told: Mutex::default(),
        }
    }

    /// Lets a file pass that was found in such a state, or not.
    ///
    /// # Errors
    /// The file is exposed, and such files are refused.
    pub fn admit(&self, exposure: Option<Exposure>) -> Result<(), Exposure> {
        match exposure {
            None => Ok(()),
            Some(exposure) if self.is_strict => Err(exposure),
            Some(exposure) => {
                if self.is_news(&exposure) {
                    tracing::warn!("{exposure}");
                }
                Ok(())
            }
        }
    }

    fn is_news(&self, exposure: &Exposure) -> bool {
        let told = (exposure.path.clone(), exposure.mode, exposure.owner);
        self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(told)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn who_may_read_decides() {
        let root = Me {
            user: 0,
            groups: vec![0],
        };
        let daemon = Me {
            user: 100,
            groups: vec![100, 2000],
        };
        for (me, mode, owner, group, expected) in [
            (&root, 0o600, 0, 0, None),
            (&root, 0o400, 0, 0, None),
            (&daemon, 0o100_600, 100, 100, None),
            (&daemon, 0o600, 0, 0, None),
            (&root, 0o644, 0, 0, Some(Reason::Others)),
            (&root, 0o602, 0, 0, Some(Reason::Others)),
            (&daemon, 0o604, 100, 100, Some(Reason::Others)),
            (&root, 0o640, 0, 0, Some(Reason::Group)),
            (&daemon, 0o640, 100, 100, Some(Reason::Group)),
            (&daemon, 0o600, 101, 100, Some(Reason::Owner)),
            (&root, 0o600, 101, 0, Some(Reason::Owner)),
            // What fsGroup makes of defaultMode 0400, for its group, for another, and with a right too many.
            (&daemon, 0o440, 0, 2000, None),
            (&daemon, 0o440, 0, 2001, Some(Reason::Group)),
            (&daemon, 0o460, 0, 2000, Some(Reason::Group)),
            (&root, 0o440, 0, 2000, Some(Reason::Group)),
        ] {
            assert_eq!(reason(me, mode, owner, group), expected, "{mode:o} {owner}:{group}");
        }
    }

    #[test]
    fn links_are_followed_and_a_finding_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let [real, link] = ["real", "link"].map(|name| folder.path().join(name));
        fs::write(&real, b"key").unwrap();
        symlink(&real, &link).unwrap();
        let found = |mode| {
            fs::set_permissions(&real, fs::Permissions::from_mode(mode)).unwrap();
            super::super::read(&link, 9).unwrap().exposure
        };
        assert_eq!(found(0o600), None);
        let exposure = found(0o644).unwrap();
        let text = exposure.to_string();
        for part in ["link\"", "real\"", "0644", "defaultMode: 0400"] {
            assert!(text.contains(part), "{text}");
        }
        let lenient = Permissions::new(false);
        assert!(lenient.is_news(&exposure) && !lenient.is_news(&exposure));
        assert!(lenient.is_news(&found(0o640).unwrap()));
        lenient.admit(Some(exposure.clone())).unwrap();
        assert_eq!(Permissions::new(true).admit(Some(exposure.clone())), Err(exposure));
        assert_eq!(Permissions::new(true).admit(None), Ok(()));
    }
}
