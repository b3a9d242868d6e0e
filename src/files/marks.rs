//! Marks beside a file: one for each store that it has ever been used for, in a hidden folder of its name. A store holds what was
//! encrypted with the file whether a process runs that uses it or not, so a mark stays until an operator removes it. What a mark
//! says is its writer's business; it is there to be read by people, and holds no secret.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::places::places;
use super::read::read;
use super::users::StoreNumber;

/// What the folder's name ends with.
const FOLDER: &str = ".stores";
/// What a mark's name ends with.
const ENDING: &str = ".json";
/// A mark has a few hundred bytes.
const MAX_BYTES: usize = 64 * 1024;

/// A mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of which store it is.
    pub store: StoreNumber,
    /// Where it lies.
    pub path: PathBuf,
    /// What it says. Empty where that cannot be read.
    pub text: Vec<u8>,
}

/// Leaves a mark of `store` beside the file at `path`, which says `text`. Says it anew where there is one.
///
/// # Errors
/// The folder takes no files, or the file is in a volume that Kubernetes keeps up to date.
pub fn leave_mark(path: &Path, store: StoreNumber, text: &[u8]) -> io::Result<()> {
    if places(path).iter().any(|place| place.name == "..data") {
        // What is put there goes with the next version of the volume.
        return Err(io::ErrorKind::ReadOnlyFilesystem.into());
    }
    let folder = folder(path)?;
    if let Err(error) = fs::create_dir(&folder)
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(error);
    }
    let mark = folder.join(format!("{}{ENDING}", store.hex()));
    // Of processes that write the same mark at once each has a file of its own.
    let new = folder.join(format!(".{}.{:016x}", store.hex(), rand::random::<u64>()));
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &mark));
    written.inspect_err(|_| drop(fs::remove_file(&new)))
}

/// The marks beside the file at `path`.
///
/// # Errors
/// They cannot be listed.
pub fn marks(path: &Path) -> io::Result<Vec<Mark>> {
    let entries = match fs::read_dir(folder(path)?) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(ENDING));
        if let Some(store) = digits.and_then(StoreNumber::parse) {
            let text = read(&entry.path(), MAX_BYTES).map(|contents| contents.bytes.to_vec());
            found.push(Mark {
                store,
                path: entry.path(),
                text: text.unwrap_or_default(),
            });
        }
    }
    found.sort_by_key(|mark| mark.store);
    Ok(found)
}

/// The folder of the marks of the file at `path`, wherever links lead to it.
fn folder(path: &Path) -> io::Result<PathBuf> {
    let file = fs::canonicalize(path)?;
    let mut name = OsString::from(".");
    name.push(file.file_name().unwrap_or_default());
    name.push(FOLDER);
    Ok(file.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_mark_is_one_for_each_store_and_says_what_was_said_last() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("e.yaml"), folder.path().join("link"));
        fs::write(&path, "").unwrap();
        symlink("e.yaml", &link).unwrap();
        assert_eq!(marks(&path).unwrap(), []);
        let [a, b] = ["a", "b"].map(StoreNumber::of);
        for (store, text) in [(a, "1"), (b, "2"), (a, "3")] {
            leave_mark(&link, store, text.as_bytes()).unwrap();
        }
        let mut said: Vec<_> = marks(&path)
            .unwrap()
            .into_iter()
            .map(|mark| (mark.store, mark.text))
            .collect();
        said.sort();
        let mut expected = vec![(a, b"3".to_vec()), (b, b"2".to_vec())];
        expected.sort();
        assert_eq!(said, expected);
        let left = fs::read_dir(folder.path().join(".e.yaml.stores")).unwrap().count();
        assert_eq!(left, 2, "nothing else lies about");
    }

    #[test]
    fn a_volume_that_kubernetes_keeps_takes_no_mark() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("..one")).unwrap();
        fs::write(folder.path().join("..one/e.yaml"), "").unwrap();
        symlink("..one", folder.path().join("..data")).unwrap();
        symlink("..data/e.yaml", folder.path().join("e.yaml")).unwrap();
        let error = leave_mark(&folder.path().join("e.yaml"), StoreNumber::of("a"), b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
    }
}
