//! Where a path could change what it leads to: each symbolic link on the way, and the file at its end, as a name in a
//! folder. Follows links one by one, as the kernel does; opens no file.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Links that are followed before a path counts as going in circles: Linux's own bound.
const MAX_LINKS: usize = 40;

/// A name in a folder; the folder's own path has no links in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) name: OsString,
}

/// What to watch in order to see `path` change: every link on the way, in order, then the file itself. Where something
/// is missing, the last place is the first thing that is.
///
/// For `/etc/enc/config.yaml` in a Kubernetes volume: `config.yaml` and `..data` in `/etc/enc`, both links, and
/// `config.yaml` in `/etc/enc/..2026_01_01_…`.
pub(super) fn places(path: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    let mut folder = PathBuf::from(".");
    let mut rest: VecDeque<OsString> = parts(path);
    let mut links = 0;
    while let Some(name) = rest.pop_front() {
        if name == "/" {
            folder = PathBuf::from("/");
            continue;
        }
        if name == ".." {
            folder.push(name);
            continue;
        }
        let at = folder.join(&name);
        let place = Place {
            folder: folder.clone(),
            name,
        };
        match fs::symlink_metadata(&at) {
            Ok(found) if found.is_symlink() => {
                places.push(place);
                links += 1;
                let Some(target) = fs::read_link(&at).ok().filter(|_| links <= MAX_LINKS) else {
                    break;
                };
                for part in parts(&target).into_iter().rev() {
                    rest.push_front(part);
                }
            }
            Ok(_) if !rest.is_empty() => folder = at,
            _ => {
                places.push(place);
                break;
            }
        }
    }
    places
}

/// A path's components, without those that mean nothing.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn named(places: &[Place]) -> Vec<String> {
        let name = |place: &Place| place.folder.join(&place.name).to_string_lossy().into_owned();
        places.iter().map(name).collect()
    }

    #[test]
    fn every_link_on_the_way_and_the_file_are_places() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let below = |names: &[&str]| -> Vec<_> {
            let path = |name: &&str| root.join(name).to_string_lossy().into_owned();
            names.iter().map(path).collect()
        };
        fs::create_dir_all(root.join("volume/..one")).unwrap();
        fs::write(root.join("volume/..one/config"), b"").unwrap();
        symlink("..one", root.join("volume/..data")).unwrap();
        symlink("..data/config", root.join("volume/config")).unwrap();
        symlink(root.join("volume"), root.join("alias")).unwrap();
        let volume = ["volume/config", "volume/..data", "volume/..one/config"];
        assert_eq!(named(&places(&root.join("volume/config"))), below(&volume));
        let with_alias = [&["alias"][..], &volume].concat();
        assert_eq!(named(&places(&root.join("alias/./config"))), below(&with_alias));

        symlink("two", root.join("one")).unwrap();
        symlink("one", root.join("two")).unwrap();
        assert_eq!(places(&root.join("one")).len(), MAX_LINKS + 1, "a circle ends");
        assert_eq!(named(&places(&root.join("none/config"))), below(&["none"]));
        assert_eq!(named(&places(Path::new("Cargo.toml"))), ["./Cargo.toml"]);
    }
}
