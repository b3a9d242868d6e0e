//! Has every member of the cluster give its free pages back, in turn: those that were named, and those that they name. What
//! could not be reached is told, so that nobody takes its disk for clean.

use super::Common;
use super::offline::Hands;
use super::sweep::client_of_one;
use crate::etcd::{CallError, Client, Member, Trouble};
use crate::sweep::{Defragmented, Observer};
use crate::tls::{self, ClientSessions, ClientTls};
use crate::transport::{Dialer, Endpoint};
use crate::types::with_causes;

/// How often history is let go of on a member while others let go of more at the same time.
const MAX_TRIES: u32 = 16;

/// Below the state prefix: written for no other reason than that etcd has a newer revision.
const STEP: &str = "sweep/step";

/// What is to be done, and what with.
pub(super) struct Work<'a> {
    pub(super) hands: &'a Hands,
    pub(super) common: &'a Common,
    pub(super) observer: &'a dyn Observer,
    /// The revision that history was compacted to, if it was.
    pub(super) compacted: Option<i64>,
}

/// Defragments all of them, one after the other, and says what became of each.
pub(super) async fn defragment(work: &Work<'_>) -> Vec<Defragmented> {
    let hands = work.hands;
    let flusher = &hands.on_etcd.flusher;
    let mut done: Vec<Defragmented> = Vec::new();
    let mut seen = Vec::new();
    for dialer in hands.on_etcd.members.iter() {
        let member = dialer.endpoint().to_string();
        let client = client_of_one(dialer, flusher);
        let outcome = match client.status().await {
            Ok(status) if seen.contains(&status.member) => continue,
            Ok(status) => {
                seen.push(status.member);
                work.rewrite(&client, &member).await
            }
            Err(error) => Err(with_causes(&error)),
        };
        done.push(Defragmented {
            member,
            why: outcome.err(),
        });
    }
    match hands.on_etcd.client.members().await {
        Ok(members) => {
            for member in members.iter().filter(|member| !seen.contains(&member.id)) {
                let name = named(member);
                let outcome = work.reach(member, &name).await;
                done.push(Defragmented {
                    member: name,
                    why: outcome.err(),
                });
            }
            // One that was named and could not be reached by that name may have been reached by its own.
            if done.iter().filter(|one| one.why.is_none()).count() >= members.len() {
                done.retain(|one| one.why.is_none());
            }
        }
        Err(error) => done.push(Defragmented {
            member: "members that --etcd-servers does not name".to_owned(),
            why: Some(format!("etcd does not say which there are: {}", with_causes(&error))),
        }),
    }
    done
}

impl Work<'_> {
    /// By the first of its own URLs that leads to it.
    async fn reach(&self, member: &Member, name: &str) -> Result<(), String> {
        let mut whys = Vec::new();
        for url in &member.client_urls {
            match dialer(url, self.common, self.hands.client_tls.as_ref()) {
                Err(why) => whys.push(format!("{url}: {why}")),
                Ok(dialer) => {
                    let client = client_of_one(&dialer, &self.hands.on_etcd.flusher);
                    match client.status().await {
                        Ok(status) if status.member == member.id => return self.rewrite(&client, name).await,
                        Ok(_) => whys.push(format!("{url} leads to another member")),
                        Err(error) => whys.push(with_causes(&error)),
                    }
                }
            }
        }
        if whys.is_empty() {
            return Err("it names no URL for clients".to_owned());
        }
        Err(whys.join("; "))
    }

    /// Defragments the member that `client` reaches, once what it compacts is gone from its database.
    async fn rewrite(&self, client: &Client, member: &str) -> Result<(), String> {
        if let Some(revision) = self.compacted {
            self.let_go(client, revision).await?;
        }
        self.observer
            .notice(&format!("defragmenting {member}, which serves nothing meanwhile"));
        client.defragment().await.map_err(|error| with_causes(&error))
    }

    /// Waits until the member has removed from its database what was compacted at `revision`.
    ///
    /// Each member does that by itself, and etcd's answer to a compaction tells of the one that was asked. They do their
    /// compactions in order, so the end of a later one is the end of all before it: each member is asked for one that is a
    /// little further.
    async fn let_go(&self, client: &Client, revision: i64) -> Result<(), String> {
        let told = |error: CallError| with_causes(&error);
        let mut next = revision + 1;
        for _ in 0..MAX_TRIES {
            let head = client.status().await.map_err(told)?.revision;
            if head < next {
                self.step().await.map_err(told)?;
                continue;
            }
            match client.compact(next, true).await {
                Ok(()) => return Ok(()),
                Err(error) if error.trouble() == Trouble::Compacted => next += 1,
                // This member has not yet seen it.
                Err(error) if error.trouble() == Trouble::FutureRevision => {}
                Err(error) => return Err(told(error)),
            }
        }
        Err("it is not known whether it has removed what was compacted, as others compact at the same time".to_owned())
    }

    /// Has etcd make newer revisions.
    async fn step(&self) -> Result<(), CallError> {
        let key = [self.common.state_prefix.as_bytes(), STEP.as_bytes()].concat();
        let client = &self.hands.on_etcd.client;
        client.put_if(&[], &key, b"", 0).await?;
        client.delete_if(&[], &key).await.map(drop)
    }
}

/// With TLS as towards the members that were named.
fn dialer(url: &str, common: &Common, tls: Option<&tls::Handle<ClientTls>>) -> Result<Dialer, String> {
    let endpoint: Endpoint = url.parse().map_err(|error| with_causes(&error))?;
    let sessions = match (endpoint.is_tls(common.client_files.is_any_given()), tls) {
        (false, _) => None,
        (true, Some(tls)) => Some(ClientSessions::grpc(tls.clone())),
        (true, None) => return Err("it needs TLS, and the members that were named do not".to_owned()),
    };
    Dialer::new(endpoint, sessions).map_err(|error| with_causes(&error))
}

/// As operators know it. Whoever writes the cluster's configuration writes what is in there.
fn named(member: &Member) -> String {
    let name = match &*member.name {
        "" => format!("{:x}", member.id),
        name => name.to_owned(),
    };
    let text = format!("{name} ({})", member.client_urls.join(", "));
    text.escape_debug().to_string()
}
