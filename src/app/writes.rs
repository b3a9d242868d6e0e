//! What operators are told of writes under a rule: how late ones are kept out, or why none is taken. In the log when it
//! changes, as a gauge, and as a health check.
//!
//! Refused writes do not fail the check, as a sweep that waits does not. A kube-apiserver has no other way to its etcd than
//! this proxy; a `/readyz` that fails takes its pod out of a Service, and with it the reads and all writes without a rule,
//! which still work. A restart mends nothing either. The gauge and its alert are what calls somebody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use humantime::format_rfc3339_seconds;
use metrics::gauge;

use super::build::Parts;
use crate::keyring::{KeyringHandle, Permit};
use crate::proxy::Unfenced;
use crate::telemetry::{Family, Kind};
use crate::types::Tenure;

/// Whether encrypted values may be written.
pub(super) const MAY_WRITE: Family = Family {
    name: "etcd_encryption_proxy_may_write",
    kind: Kind::Gauge,
    help: "1 while values under a rule may be written, 0 while such writes are refused or wait because etcd could not be asked; \
           /readyz/writes says why. Of a process without a member record, once there was such a write.",
    labels: &[],
};

/// What is known of writes, and what has been said of them.
pub(super) struct Writes {
    keyring: Arc<KeyringHandle>,
    unfenced: Arc<Unfenced>,
    tenure: Arc<Tenure>,
    /// Why it could not be found out lately whether values may be written.
    trouble: Mutex<Option<Arc<str>>>,
}

/// What it comes to.
#[derive(Debug, PartialEq, Eq)]
enum Now {
    Fenced { some_are_not: bool },
    Unfenced,
    Refused(Arc<str>),
    Unknown(Option<Arc<str>>),
}

impl Writes {
    /// Of the process that `parts` serve.
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            keyring: Arc::clone(&parts.keyring),
            unfenced: Arc::clone(&parts.proxy.unfenced),
            tenure: Arc::clone(&parts.proxy.tenure),
            trouble: Mutex::default(),
        }
    }

    /// It could not be found out whether values may be written, or it could.
    pub(super) fn found(&self, trouble: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble.map(Arc::from);
        self.measure();
    }

    /// Sets the gauge to what is so. A permit that is not known while nothing is wrong is about to be found out.
    pub(super) fn measure(&self) {
        let may_write = match self.now().0 {
            Now::Fenced { .. } | Now::Unfenced => 1.0,
            Now::Unknown(None) => return,
            Now::Refused(_) | Now::Unknown(Some(_)) => 0.0,
        };
        gauge!(MAY_WRITE.name).set(may_write);
    }

    /// For the health check, in one line.
    pub(super) fn text(&self) -> String {
        let (now, since) = self.now();
        let since = format_rfc3339_seconds(since);
        match now {
            Now::Fenced { some_are_not: false } => format!("fenced: etcd refuses what is late, since {since}"),
            Now::Fenced { some_are_not: true } => format!(
                "fenced: etcd refuses what is late, since {since}; but some requests are sent without the fence, because a \
                 client's token may not read the epoch, or their form has no room for it. Rotations wait for those"
            ),
            Now::Unfenced => format!(
                "unfenced: this store does not take the fence, since {since}; late writes are bound by time, and rotations wait for \
                 them"
            ),
            Now::Refused(why) => {
                let why = one_line(&why);
                format!("REFUSED since {since}: {why}. Reads, and writes without a rule, go on")
            }
            Now::Unknown(None) => format!("not known yet, since {since}: nobody has asked, or etcd has not answered"),
            Now::Unknown(Some(why)) => format!("not known since {since}, such writes wait: {}", one_line(&why)),
        }
    }

    fn now(&self) -> (Now, SystemTime) {
        let writing = self.keyring.writing();
        let now = match &writing.permit {
            Permit::Fenced { .. } => Now::Fenced {
                some_are_not: self.unfenced.is_wanted(),
            },
            // As a request finds it: it would be refused at this moment.
            Permit::Unfenced if self.unfenced.is_wanted() && !self.tenure.holds() => Now::Refused(Arc::from(
                "this store does not take the fence, and this process has no record in etcd by which others know of its writes",
            )),
            Permit::Unfenced => Now::Unfenced,
            Permit::Refused(why) => Now::Refused(Arc::clone(why)),
            Permit::Unknown => {
                let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                Now::Unknown(trouble.clone())
            }
        };
        (now, writing.since)
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches('.').to_owned()
}

/// What has been said in the log.
#[derive(Default)]
pub(super) struct Told {
    refused: Option<Arc<str>>,
    is_fenced: bool,
    is_unfenced: bool,
    has_trouble: bool,
}

impl Told {
    /// It was found out.
    pub(super) fn of(&mut self, permit: &Permit) {
        self.has_trouble = false;
        match permit {
            Permit::Refused(why) => {
                if self.refused.as_ref() != Some(why) {
                    self.refused = Some(Arc::clone(why));
                    tracing::error!(why = &**why, "writes of values under a rule are refused");
                }
            }
            Permit::Fenced { epoch, .. } => {
                tracing::debug!(?epoch, "values under a rule are written in this epoch");
                let was_refused = self.refused.take().is_some();
                if !std::mem::replace(&mut self.is_fenced, true) {
                    tracing::info!("writes of values under a rule are fenced: etcd refuses what is late");
                } else if was_refused {
                    tracing::info!("values under a rule are written again");
                }
            }
            Permit::Unfenced => {
                if !std::mem::replace(&mut self.is_unfenced, true) {
                    tracing::warn!(
                        "this store does not take a transaction with the compare that keeps late writes out; they are bound by \
                         time instead, and rotations wait for them"
                    );
                }
            }
            Permit::Unknown => {}
        }
    }

    /// It could not be found out.
    pub(super) fn trouble(&mut self, why: &str) {
        if !std::mem::replace(&mut self.has_trouble, true) {
            tracing::warn!(
                why,
                "writes of values under a rule wait: it cannot be found out whether they may be"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EncryptionConfiguration;
    use crate::keyring::Keyring;
    use crate::keyspace::{EtcdPrefix, KeySpace};
    use crate::kms::Plugins;
    use crate::telemetry::Registry;
    use crate::types::{Epoch, Fingerprint};

    fn writes(has_record: bool) -> Writes {
        let config = EncryptionConfiguration {
            entries: vec![],
            fingerprint: Fingerprint::of(b""),
            retired: crate::config::Retired::default(),
        };
        let keyspace = KeySpace::new(vec![EtcdPrefix::parse("/registry").unwrap()]).unwrap();
        let keyring = Keyring::compile(&config, &keyspace, &Plugins::none()).unwrap();
        Writes {
            keyring: Arc::new(KeyringHandle::new(keyring)),
            unfenced: Arc::new(Unfenced::new(has_record)),
            tenure: Arc::new(if has_record { Tenure::none() } else { Tenure::for_ever() }),
            trouble: Mutex::default(),
        }
    }

    fn permit(writes: &Writes, permit: Permit) {
        writes.keyring.permit(&writes.keyring.snapshot(), permit);
    }

    #[test]
    fn each_state_is_told_and_measured() {
        let registry = Registry::new(&[MAY_WRITE]);
        metrics::with_local_recorder(&registry, || {
            let writes = writes(false);
            let shown = || registry.render();
            writes.measure();
            assert!(writes.text().starts_with("not known yet, since "), "{}", writes.text());
            assert!(!shown().contains("_may_write 0\n"), "what was not asked is not refused");
            writes.found(Some("no member\nanswers"));
            assert!(
                writes.text().ends_with("such writes wait: no member answers"),
                "{}",
                writes.text()
            );
            assert!(shown().contains("_may_write 0\n"), "{}", shown());
            let epoch = Epoch::found(b"1", 1).unwrap();
            permit(&writes, Permit::Fenced { epoch, nests: true });
            writes.found(None);
            assert!(writes.text().starts_with("fenced: "), "{}", writes.text());
            assert!(shown().contains("_may_write 1\n"), "{}", shown());
            permit(&writes, Permit::Refused(Arc::from("a key was dropped.")));
            writes.measure();
            let text = writes.text();
            assert!(
                text.starts_with("REFUSED since ") && text.contains(": a key was dropped. Reads"),
                "{text}"
            );
            assert!(shown().contains("_may_write 0\n"), "{}", shown());
            permit(&writes, Permit::Unfenced);
            writes.measure();
            assert!(writes.text().starts_with("unfenced: "), "{}", writes.text());
            assert!(shown().contains("_may_write 1\n"), "{}", shown());
        });
    }
}
