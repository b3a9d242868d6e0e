//! The kernel's file events for a set of places, and nothing about what they mean.
//!
//! Folders are watched, not files: a file that is replaced takes its own watch with it.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

use super::places::Place;

/// What is asked for: a name put into the folder, taken out of it, given other permissions, or closed by somebody who had
/// it open for writing; and the same of the folder itself. Not each write: a writer who is not done yet is of no interest.
const WANTED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What is said of the folder itself, or of nothing in particular (events were dropped): anything may have happened.
const ANYTHING: ReadFlags = ReadFlags::DELETE_SELF
    .union(ReadFlags::MOVE_SELF)
    .union(ReadFlags::UNMOUNT)
    .union(ReadFlags::IGNORED)
    .union(ReadFlags::QUEUE_OVERFLOW);

/// Room for the events that one read takes, bytes; one has at most 272.
const BUFFER: usize = 8 * 1024;

/// One inotify instance.
#[derive(Debug)]
pub(super) struct Inotify {
    events: AsyncFd<OwnedFd>,
    /// The names of interest, by the kernel's number for their folder.
    names: HashMap<i32, HashSet<OsString>>,
}

impl Inotify {
    /// Must be called on the runtime that will wait for the events. Fails where the user has no instances left.
    pub(super) fn new() -> io::Result<Self> {
        let instance = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "its successor is an unsafe function, for values that may change their descriptor; an OwnedFd cannot"
        )]
        let events = AsyncFd::new(instance)?;
        Ok(Self {
            events,
            names: HashMap::new(),
        })
    }

    /// Watches these places and no others. Folders that are gone are left out.
    ///
    /// # Errors
    /// Some folder cannot be watched: it is not ours to list, or the user has no watches left. The others are watched.
    pub(super) fn watch(&mut self, places: &[Place]) -> io::Result<()> {
        let mut names: HashMap<i32, HashSet<OsString>> = HashMap::new();
        let mut failure = Ok(());
        for Place { folder, name } in places {
            // A folder that is watched already keeps its number; another one under the same path gets a new one.
            match inotify::add_watch(&self.events, folder, WANTED) {
                Ok(number) => {
                    names.entry(number).or_default().insert(name.clone());
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => failure = Err(error.into()),
            }
        }
        for number in self.names.keys().filter(|number| !names.contains_key(number)) {
            // Fails where the folder is gone, and its watch with it.
            let _ = inotify::remove_watch(&self.events, *number);
        }
        self.names = names;
        failure
    }

    /// Waits for events and says whether any of them concerns a place. Loses none when dropped halfway.
    pub(super) async fn touched(&mut self) -> io::Result<bool> {
        let mut ready = self.events.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = Reader::new(ready.get_inner(), &mut buffer);
        let mut touched = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    let names = self.names.get(&event.wd());
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    let is_named = names.zip(name).is_some_and(|(names, name)| names.contains(name));
                    // Dropped events have no folder (-1); those of folders that are watched no longer say nothing.
                    let is_about_all = event.events().intersects(ANYTHING) && (names.is_some() || event.wd() < 0);
                    touched |= is_named || is_about_all;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        ready.clear_ready();
        Ok(touched)
    }
}
