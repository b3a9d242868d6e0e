//! Wall clocks that step while a process runs. `clock.c` is preloaded into it, and adds what lies in a file to the time of day;
//! the clocks that nobody sets stay true. libfaketime is not used: it leaves shared memory behind a process that is killed, refuses
//! `clock_nanosleep` where the monotonic clock is left alone, and reads a file for each look at the clock.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::plan::Step;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture/clock.c");

/// What is preloaded, compiled.
#[derive(Clone, Debug)]
pub struct Library(PathBuf);

/// The wall clock of some process, or of several. True at first.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    path: PathBuf,
    file: File,
}

impl Library {
    /// Compiles it into `folder`, and tries it; says why it cannot be had.
    pub fn build(folder: &Path) -> Result<Self, String> {
        let library = folder.join("clock.so");
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O2", "-o"])
            .arg(&library)
            .arg(SOURCE);
        said_by(&mut compiler)?;
        let library = Self(library);
        let clock = Clock::new(&library, &folder.join("tried"));
        clock.step(Step(-30 * 366 * 86_400_000));
        let year = said_by(clock.preload(&mut Command::new("date")).arg("+%Y"))?;
        if year.trim().parse::<u32>().is_ok_and(|year| year < 2000) {
            Ok(library)
        } else {
            Err(format!("a program that it is preloaded into sees the year {year}"))
        }
    }
}

impl Clock {
    /// A clock whose step lies in the file at `path`.
    pub fn new(library: &Library, path: &Path) -> Self {
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(path);
        let clock = Self {
            library: library.0.clone(),
            path: path.to_owned(),
            file: file.expect("a clock's file"),
        };
        clock.step(Step::NONE);
        clock
    }

    /// Steps it to so far from the true time, whoever has it.
    pub fn step(&self, step: Step) {
        self.file
            .write_all_at(&step.0.to_ne_bytes(), 0)
            .expect("a clock's file is written");
    }

    /// The words that start a program with this clock.
    pub fn enter(&self) -> [String; 3] {
        [
            "env".to_owned(),
            format!("LD_PRELOAD={}", self.library.display()),
            format!("TORTURE_CLOCK={}", self.path.display()),
        ]
    }

    /// Has a command start with it.
    pub fn preload<'command>(&self, command: &'command mut Command) -> &'command mut Command {
        command
            .env("LD_PRELOAD", &self.library)
            .env("TORTURE_CLOCK", &self.path)
    }
}

/// What a program printed, if it succeeded.
fn said_by(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{command:?}: {said}"))
}

#[test]
fn a_running_process_sees_each_step() {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::process::Stdio;

    let folder = tempfile::TempDir::new().expect("a folder");
    let library = Library::build(folder.path()).expect("a C compiler, as aws-lc needs one");
    let clock = Clock::new(&library, &folder.path().join("clock"));
    // A process that stays, and says the time whenever it is given a line. `printf` is part of the shell.
    let mut shell = Command::new("bash");
    shell.args(["-c", "while read -r; do printf '%(%s)T\\n' -1; done"]);
    let mut shell = clock
        .preload(&mut shell)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash");
    let mut input = shell.stdin.take().expect("its input");
    let mut output = BufReader::new(shell.stdout.take().expect("its output"));
    let mut says = || {
        writeln!(input).expect("it reads");
        let mut line = String::new();
        output.read_line(&mut line).expect("it answers");
        line.trim().parse::<i64>().expect("a time")
    };
    let truth = || i64::try_from(std::time::UNIX_EPOCH.elapsed().expect("later").as_secs()).expect("a time");
    for days in [0, 3_000, -9_000, 0] {
        clock.step(Step(days * 86_400_000));
        let off = says() - truth() - days * 86_400;
        assert!(off.abs() < 3_600, "{off} s beyond {days} days");
    }
    drop(input);
    assert!(shell.wait().expect("it ends").success());
}
