//! What a round came to.
//!
//! - *unreadable*: a key for which a proxy gives ciphertext or no answer, or which kube-apiserver's code cannot open with the
//!   final configuration.
//! - *lost*: an acknowledged write that the final reads cannot be explained with. Either the key is unreadable and some write to
//!   it was acknowledged; or what it holds was written by an operation that had ended before the acknowledged one began (one
//!   without an answer never ends: it may take effect at any later time); or nobody wrote it.
//! - *not linearizable*: porcupine finds no order of a key's operations in which each could have had its answer.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::history::{History, Operation, Outcome, Verb};
use super::operator::Operator;
use super::plan::PROXIES;
use super::reader::Checker;
use super::world::World;
use super::writers::Session;
use crate::common::rotation::Home;

/// For a proxy that serves to answer a read.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is wrong with which key, and how much was looked at.
#[derive(Debug, Default)]
pub struct Verdict {
    pub lost: BTreeMap<String, String>,
    pub unreadable: BTreeMap<String, String>,
    /// By kube-apiserver's code; none where the checker was left out.
    pub unreadable_by_others: Option<BTreeMap<String, String>>,
    /// Ciphertext that a client was given while the round went on.
    pub ciphertext: usize,
    pub illegal: Vec<String>,
    pub unknown: usize,
    pub linearizable: usize,
    pub keys: usize,
    pub acknowledged: usize,
    pub ambiguous: usize,
    pub failed: usize,
    /// What went wrong otherwise: no command ended the rotation, the checker failed.
    pub other: Vec<String>,
}

impl Verdict {
    /// Whether data were lost, or may have been.
    pub fn has_loss(&self) -> bool {
        let others = self.unreadable_by_others.as_ref();
        !(self.lost.is_empty() && self.unreadable.is_empty() && self.illegal.is_empty() && self.ciphertext == 0)
            || others.is_some_and(|keys| !keys.is_empty())
    }
}

/// Reads every key of the round, and of those before it, and judges. `standing` is what earlier rounds left.
pub async fn judge(
    world: &World,
    operator: &Operator,
    history: &History,
    checker: Option<&Checker>,
    standing: &mut BTreeMap<String, Option<String>>,
    home: Home,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut last: BTreeMap<String, Option<String>> = BTreeMap::new();
    let names: Vec<String> = history.by_key().into_keys().collect();
    for proxy in 0..PROXIES {
        let client = world.client(proxy).await;
        let session = |history: &History| Session {
            client: client.clone(),
            history: history.clone(),
            number: 300 + proxy,
            deadline: Duration::from_secs(5),
        };
        let now = session(history);
        for name in &names {
            match read(&now, name).await {
                Ok(value) => {
                    if last.get(name).is_some_and(|other| *other != value) {
                        verdict
                            .unreadable
                            .insert(name.clone(), format!("p{proxy} has another value"));
                    }
                    last.insert(name.clone(), value);
                }
                Err(why) => _ = verdict.unreadable.insert(name.clone(), format!("p{proxy}: {why}")),
            }
        }
        let elsewhere = session(&History::begin());
        for (name, value) in &*standing {
            match read(&elsewhere, name).await {
                Ok(now) if now == *value => {}
                Ok(_) => {
                    let why = format!("p{proxy}: is not what an earlier round left");
                    verdict.lost.insert(name.clone(), why);
                }
                Err(why) => _ = verdict.unreadable.insert(name.clone(), format!("p{proxy}: {why}")),
            }
        }
    }

    let keys = history.by_key();
    verdict.keys = keys.len();
    for (name, operations) in &keys {
        count(&mut verdict, operations);
        let why = match last.get(name) {
            Some(value) if !verdict.unreadable.contains_key(name) => lost(operations, value.as_deref()),
            _ => operations
                .iter()
                .any(Operation::has_written)
                .then(|| "an acknowledged write is unreadable".to_owned()),
        };
        verdict.lost.extend(why.map(|why| (name.clone(), why)));
    }
    if let Some(checker) = checker {
        by_others(&mut verdict, world, operator, checker, home, &last, standing).await;
        let file = world.folder().join("history");
        history.save(&file);
        let (verdicts, ended) = checker.judge(&file);
        verdict
            .other
            .extend(ended.err().map(|error| format!("checker judge: {error}")));
        for name in keys.keys() {
            match verdicts.get(name).map(String::as_str) {
                Some("Ok") => verdict.linearizable += 1,
                Some("Illegal") => verdict.illegal.push(name.clone()),
                _ => verdict.unknown += 1,
            }
        }
    }
    standing.extend(last);
    verdict
}

/// What kube-apiserver would read, beside what the proxies did.
async fn by_others(
    verdict: &mut Verdict,
    world: &World,
    operator: &Operator,
    checker: &Checker,
    home: Home,
    last: &BTreeMap<String, Option<String>>,
    standing: &BTreeMap<String, Option<String>>,
) {
    let config = match home {
        Home::File => world.shared.path(),
        Home::Etcd => {
            let file = world.folder().join("exported.yaml");
            // It writes to a new file only.
            let _ = std::fs::remove_file(&file);
            let (code, said) = operator.export(&file).await;
            if code != Some(0) {
                verdict.other.push(format!("export ends with {code:?}: {said}"));
                return;
            }
            file
        }
    };
    let read = match checker.read(&world.endpoints(), &config, "/registry/secrets/") {
        Ok(read) => read,
        Err(error) => {
            verdict.other.push(format!("checker read: {error}"));
            return;
        }
    };
    let mut wrong = BTreeMap::new();
    for (name, value) in &read {
        if let Err(error) = value {
            wrong.insert(name.clone(), error.clone());
        }
    }
    for (name, value) in standing.iter().chain(last) {
        let found = read.get(name).and_then(|value| value.as_ref().ok());
        if found != value.as_ref() && !wrong.contains_key(name) {
            wrong.insert(name.clone(), "is not what the proxies read".to_owned());
        }
    }
    verdict.unreadable_by_others = Some(wrong);
}

/// What a key holds; why it cannot be said otherwise.
pub async fn read(session: &Session, name: &str) -> Result<Option<String>, String> {
    let begun = Instant::now();
    loop {
        match session.get(name).await {
            Some(Some((value, _))) if is_ciphertext(&value) => return Err("it is ciphertext".to_owned()),
            Some(seen) => return Ok(seen.map(|(value, _)| value)),
            None if begun.elapsed() > PATIENCE => return Err("no answer".to_owned()),
            None => sleep(Duration::from_millis(200)).await,
        }
    }
}

fn is_ciphertext(value: &str) -> bool {
    value.starts_with("k8s:enc:")
}

fn count(verdict: &mut Verdict, operations: &[Operation]) {
    for operation in operations {
        let writes = operation.verb != Verb::Get;
        match operation.outcome {
            Outcome::Ok if operation.has_written() => verdict.acknowledged += 1,
            Outcome::Ambiguous if writes => verdict.ambiguous += 1,
            Outcome::Failed if writes => verdict.failed += 1,
            Outcome::Ok | Outcome::Ambiguous | Outcome::Failed => {}
        }
        if operation.exists && is_ciphertext(&operation.found) {
            verdict.ciphertext += 1;
        }
    }
}

/// Why what a key holds cannot be explained, if so.
fn lost(operations: &[Operation], holds: Option<&str>) -> Option<String> {
    let leaves = |operation: &&Operation| match holds {
        Some(value) => operation.verb != Verb::Delete && operation.value == value,
        None => operation.verb == Verb::Delete,
    };
    let written: Vec<&Operation> = operations.iter().filter(|operation| operation.has_written()).collect();
    // Before everything: the key did not exist.
    if holds.is_none() && written.is_empty() {
        return None;
    }
    let end = |operation: &Operation| match operation.outcome {
        Outcome::Ambiguous => u64::MAX,
        Outcome::Ok | Outcome::Failed => operation.end,
    };
    let mut causes = operations
        .iter()
        .filter(|operation| operation.may_write())
        .filter(leaves);
    let is_possible = |cause: &Operation| written.iter().all(|other| other.call <= end(cause));
    if causes.clone().any(is_possible) {
        return None;
    }
    Some(match causes.next() {
        Some(_) => "holds what was written before the last acknowledged write began".to_owned(),
        None if holds.is_none() => "is gone, and nobody deleted it".to_owned(),
        None => "holds what nobody wrote".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(verb: Verb, value: &str, call: u64, end: u64, outcome: Outcome) -> Operation {
        let mut operation = Operation::begin(&History::begin(), 0, verb, "key");
        operation.value = value.to_owned();
        operation.succeeded = true;
        (operation.call, operation.end, operation.outcome) = (call, end, outcome);
        operation
    }

    #[test]
    fn what_cannot_be_explained_is_lost() {
        let create = operation(Verb::Create, "a", 1, 2, Outcome::Ok);
        let put = operation(Verb::Put, "b", 3, 4, Outcome::Ok);
        let late = operation(Verb::Put, "c", 1, 2, Outcome::Ambiguous);
        let refused = operation(Verb::Put, "d", 5, 6, Outcome::Failed);
        let delete = operation(Verb::Delete, "", 3, 4, Outcome::Ok);
        let all = [create.clone(), put, late, refused];
        assert_eq!(lost(&all, Some("b")), None);
        assert_eq!(
            lost(&all, Some("c")),
            None,
            "one without an answer may come at any time"
        );
        assert!(
            lost(&all, Some("a"))
                .expect("lost")
                .contains("before the last acknowledged")
        );
        assert!(lost(&all, Some("d")).expect("lost").contains("nobody wrote"));
        assert!(lost(&all, None).expect("lost").contains("nobody deleted"));
        assert_eq!(lost(&[create, delete], None), None);
        assert_eq!(lost(&[], None), None);
    }
}
