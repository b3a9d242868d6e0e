//! Files that are mounted by themselves, as `docker run -v FILE:FILE`, a Kubernetes `subPath` and `mount --bind` do it. Such
//! a mount shows one inode for as long as it is there: the kernel refuses to rename another file over it (EBUSY), and a rename
//! over the file that it was made of is not seen through it.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::places::places;

/// Where `path` leads to, if that is a mount by itself. `None` also where the kernel does not say (before Linux 5.8).
pub(super) fn own_mount(path: &Path) -> Option<PathBuf> {
    let end = places(path).pop()?;
    let file = end.folder.join(&end.name);
    let about = statx(CWD, &file, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE).ok()?;
    let is_root = about.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && about.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    is_root.then_some(file)
}

/// Warns of each of `paths` whose changes may never be seen. For the start of whoever follows them.
pub fn warn_of_mounts(paths: &[PathBuf]) {
    for path in paths {
        if let Some(file) = own_mount(path) {
            tracing::warn!(
                path = %path.display(),
                mount = %file.display(),
                "this file is a mount by itself: edits by rename will not be seen, and most programs edit that way; mount the \
                 folder that it lies in"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_a_folder_is_no_mount_and_a_mount_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.yaml");
        assert_eq!(own_mount(&path), None, "it is not even there");
        std::fs::write(&path, "one").unwrap();
        assert_eq!(own_mount(&path), None);
        // A mount that every Linux has; tests/it has a file that is one.
        assert_eq!(own_mount(Path::new("/proc")), Some(PathBuf::from("/proc")));
    }
}
