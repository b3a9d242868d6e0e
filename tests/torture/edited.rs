//! The configuration's file edited by hand, as an operator does it who knows better: a key renamed, replaced, given other bytes, or
//! put first. What was acknowledged opens afterwards, by itself or by the command that the documentation names.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::operator::Operator;
use super::plan::PROXIES;
use super::restored::{PATIENCE, recover, unlike};
use super::world::World;
use crate::common::proxy::replace;

/// What is done to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// The key that writes gets another name.
    Renamed,
    /// Another key stands in its place.
    Replaced,
    /// The key that writes gets other bytes under its name.
    OtherBytes,
    /// A key that only reads is put first.
    PutFirst,
}

/// What came of it.
#[derive(Debug)]
pub struct Edited {
    pub edit: Edit,
    /// Commands that failed, and keys that do not read as they did.
    pub wrong: Vec<String>,
}

impl Edit {
    /// Each kind in turn.
    pub fn of(seed: u64, scene: usize) -> Self {
        let all = [Self::Renamed, Self::Replaced, Self::OtherBytes, Self::PutFirst];
        let first = usize::try_from(seed % 4).expect("below 4");
        // Every second scene has a file.
        all[(first + scene / 2) % 4]
    }

    /// Edits the file, runs what leads out of it, and reads everything through every proxy.
    pub async fn carry_out(
        self,
        world: &World,
        operator: &Operator,
        standing: &BTreeMap<String, Option<String>>,
    ) -> Edited {
        let mut wrong = Vec::new();
        let run = async |words: &'static [&'static str]| {
            let (code, said) = operator.run(words).await;
            (code != Some(0)).then(|| format!("{} ends with {code:?}: {said}", words[0]))
        };
        if self == Self::PutFirst {
            wrong.extend(run(&["prepare"]).await);
        }
        let before = world.shared.text();
        replace(&world.shared.path(), self.made_to(&before));
        match self {
            // Proxies refuse it, and go on with what they have.
            Self::OtherBytes => {
                wrong.extend(until_refused(world).await.err());
                wrong.extend(unlike(world, standing).await);
                replace(&world.shared.path(), before);
            }
            Self::Renamed | Self::Replaced => wrong.extend(recover(operator).await.err()),
            Self::PutFirst => {}
        }
        wrong.extend(unlike(world, standing).await);
        wrong.extend(operator.settle().await.err());
        wrong.extend(unlike(world, standing).await);
        Edited { edit: self, wrong }
    }

    /// The file as commands write it, edited.
    fn made_to(self, text: &str) -> String {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let keys: Vec<usize> = (0..lines.len().saturating_sub(1))
            .filter(|&at| lines[at].trim().starts_with("- name: ") && lines[at + 1].trim().starts_with("secret: "))
            .collect();
        let first = keys[0];
        let indent = |line: &str| line[..line.len() - line.trim_start().len()].to_owned();
        let secret = format!("{}secret: {OTHER}", indent(&lines[first + 1]));
        match self {
            Self::Renamed => rename(&mut lines[first], "-renamed"),
            Self::Replaced => {
                rename(&mut lines[first], "-by-hand");
                lines[first + 1] = secret;
            }
            Self::OtherBytes => lines[first + 1] = secret,
            Self::PutFirst => {
                let second = keys[1];
                lines.swap(first, second);
                lines.swap(first + 1, second + 1);
            }
        }
        lines.join("\n") + "\n"
    }
}

/// Waits until every proxy has looked at the file and refused it.
async fn until_refused(world: &World) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        let status = world.shared.run(&["status"]).await.stdout;
        if status.matches("has other bytes under the same name").count() >= PROXIES {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("not every proxy refuses other bytes: {status}"));
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Puts `end` behind a name, within its quotes where it has any.
fn rename(line: &mut String, end: &str) {
    let at = line.trim_end_matches('"').len();
    line.insert_str(at, end);
}

/// 32 bytes.
const OTHER: &str = "c29tZWJvZHkgaGFzIHR5cGVkIHRoaXMgYnkgaGFuZCE=";

#[test]
fn each_edit_changes_what_it_says() {
    let text =
        "  - aescbc:\n      keys:\n      - name: one\n        secret: AAAA\n      - name: two\n        secret: BBBB\n";
    let made = |edit: Edit| edit.made_to(text);
    assert!(made(Edit::Renamed).contains("- name: one-renamed\n        secret: AAAA\n"));
    assert!(made(Edit::Replaced).contains(&format!("- name: one-by-hand\n        secret: {OTHER}\n")));
    let quoted = text.replace("name: one", "name: \"one\"");
    assert!(Edit::Renamed.made_to(&quoted).contains("- name: \"one-renamed\"\n"));
    assert!(made(Edit::OtherBytes).contains(&format!("- name: one\n        secret: {OTHER}\n")));
    assert!(made(Edit::PutFirst).contains("- name: two\n        secret: BBBB\n      - name: one\n"));
}
