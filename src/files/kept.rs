//! The old contents of a file that were kept beside it when it was replaced: which are there, and the taking away of those that
//! nobody needs.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::read::read;
use super::replace::{ReplaceError, Target};

/// Takes away kept contents of the file at `path` for which `is_needed` says no. It is asked about the file itself first, then about
/// the one that was `just_kept`, which both stay in any case, and then about each other one, the newest first. Blocks.
///
/// # Errors
/// Some may be there still.
pub fn prune(
    path: &Path,
    just_kept: &Path,
    limit: usize,
    mut is_needed: impl FnMut(&[u8]) -> bool,
) -> Result<(), ReplaceError> {
    let target = Target::find(path)?;
    // Held until this returns, so that the file is not replaced meanwhile.
    let _folder = target.lock()?;
    is_needed(&read(&target.file, limit)?.bytes);
    is_needed(&read(just_kept, limit)?.bytes);
    // Names tell which is the newest only as far as clocks go right.
    for kept in beside(&target).into_iter().filter(|kept| kept != just_kept) {
        let Ok(contents) = read(&kept, limit) else { continue };
        if is_needed(&contents.bytes) {
            continue;
        }
        fs::remove_file(&kept).map_err(|source| ReplaceError::Io {
            path: kept,
            what: "taken away",
            source,
        })?;
    }
    Ok(())
}

/// Kept contents of the file at `path`, the newest first.
///
/// # Errors
/// The file cannot be found.
pub fn kept(path: &Path) -> Result<Vec<PathBuf>, ReplaceError> {
    Ok(beside(&Target::find(path)?))
}

/// The newest first. Only regular files, of names that are made here.
fn beside(target: &Target) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(&target.folder) else {
        return Vec::new();
    };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| Some((order(&target.name, &entry.file_name())?, entry.path())))
        .collect();
    found.sort_unstable();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// `<file>.<RFC 3339 second>`, or that and `-<number>`: its second and number.
fn order(file: &OsStr, name: &OsStr) -> Option<(String, u32)> {
    let rest = name.as_bytes().strip_prefix(file.as_bytes())?.strip_prefix(b".")?;
    let rest = std::str::from_utf8(rest).ok()?;
    let (time, number) = rest.split_at_checked("2026-01-01T00:00:00Z".len())?;
    let is_time = time.ends_with('Z') && humantime::parse_rfc3339(time).is_ok();
    let number = match number {
        "" => 1,
        number => number.strip_prefix('-')?.parse().ok()?,
    };
    is_time.then(|| (time.to_owned(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_goes_but_what_was_just_kept_and_what_others_have_put_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("e.yaml");
        fs::write(&path, "now").unwrap();
        let others = [
            "e.yaml.bak",
            "e.yaml.2026-01-01",
            "e.yaml.2026-01-01T00:00:00Z.gz",
            "e.yaml.2026-01-01T00:00:00Z-x",
            "other.2026-01-01T00:00:00Z",
        ];
        let kept = [
            "e.yaml.2026-01-02T00:00:00Z-10",
            "e.yaml.2026-01-02T00:00:00Z-2",
            "e.yaml.2026-01-02T00:00:00Z",
            "e.yaml.2025-12-31T23:59:59Z",
        ];
        for name in others.iter().chain(&kept) {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("e.yaml.2024-01-01T00:00:00Z")).unwrap();
        let mut asked = Vec::new();
        // By a clock that had been set back.
        let just_kept = folder.path().join(kept[3]);
        prune(&path, &just_kept, 100, |bytes| {
            asked.push(String::from_utf8(bytes.to_vec()).unwrap());
            bytes == kept[2].as_bytes()
        })
        .unwrap();
        assert_eq!(asked, ["now", kept[3], kept[0], kept[1], kept[2]]);
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let mut expected = [
            &others[..],
            &[kept[2], kept[3], "e.yaml", "e.yaml.2024-01-01T00:00:00Z"],
        ]
        .concat();
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
