//! What a client saw, as text: two runs of one scenario are compared by it.
//!
//! Only what differs between two clusters by nature is blanked: identities, terms, tokens and remaining lifetimes. The
//! revisions, every key and value, error texts and metadata stay.

use std::fmt::Debug;

use tonic::metadata::{KeyAndValueRef, MetadataMap};
use tonic::{Response, Status};

use crate::common::pb::etcdserverpb::response_op::Response as Op;
use crate::common::pb::etcdserverpb::*;
use crate::common::pb::grpc::health::v1::HealthCheckResponse;
use crate::common::pb::{v3electionpb, v3lockpb};

/// The lines of one run.
#[derive(Debug, Default)]
pub struct Transcript {
    lines: Vec<String>,
}

impl Transcript {
    /// Writes down anything.
    pub fn note(&mut self, what: &str, seen: &impl Debug) {
        self.lines.push(format!("{what}: {seen:?}"));
    }

    /// Writes down how a call ended, with its metadata, and gives the answer.
    pub fn unary<T: Answer>(&mut self, what: &str, outcome: Result<Response<T>, Status>) -> Option<T> {
        match outcome {
            Ok(response) => {
                let (metadata, mut answer, _) = response.into_parts();
                let original = answer.clone();
                answer.blank();
                self.lines.push(format!("{what}: {answer:?} {}", visible(&metadata)));
                Some(original)
            }
            Err(status) => {
                self.error(what, &status);
                None
            }
        }
    }

    /// Writes down a message of a stream.
    pub fn message<T: Answer>(&mut self, what: &str, message: &T) {
        let mut message = message.clone();
        message.blank();
        self.note(what, &message);
    }

    /// Writes down an error: code, text, details and trailers.
    pub fn error(&mut self, what: &str, status: &Status) {
        let (code, message, details) = (status.code(), status.message(), status.details());
        self.lines.push(format!(
            "{what}: error {code:?} {message:?} {details:?} {}",
            visible(status.metadata())
        ));
    }

    /// Fails the test at the first line that differs.
    pub fn assert_same(&self, other: &Self, what: &str) {
        for (mine, theirs) in self.lines.iter().zip(&other.lines) {
            assert_eq!(mine, theirs, "{what}");
        }
        assert_eq!(self.lines.len(), other.lines.len(), "{what}");
        assert!(
            !self.lines.is_empty(),
            "{what}: a scenario that saw nothing compares nothing"
        );
    }
}

/// The metadata in a stable order, less the clock's.
fn visible(metadata: &MetadataMap) -> String {
    let mut pairs: Vec<_> = metadata
        .iter()
        .map(|pair| match pair {
            KeyAndValueRef::Ascii(key, value) => format!("{key}={value:?}"),
            KeyAndValueRef::Binary(key, value) => format!("{key}={value:?}"),
        })
        .filter(|pair| !pair.starts_with("date="))
        .collect();
    pairs.sort();
    format!("[{}]", pairs.join(" "))
}

/// A message of etcd, in which what differs between clusters can be blanked.
pub trait Answer: Clone + Debug {
    /// Blanks it.
    fn blank(&mut self);
}

impl Answer for ResponseHeader {
    fn blank(&mut self) {
        self.cluster_id = 0;
        self.member_id = 0;
        self.raft_term = 0;
    }
}

fn blank_header(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        header.blank();
    }
}

macro_rules! headers_only {
    ($($message:ty),* $(,)?) => {$(
        impl Answer for $message {
            fn blank(&mut self) {
                blank_header(&mut self.header);
            }
        }
    )*};
}

headers_only!(
    RangeResponse,
    PutResponse,
    DeleteRangeResponse,
    CompactionResponse,
    WatchResponse,
    LeaseGrantResponse,
    LeaseRevokeResponse,
    LeaseKeepAliveResponse,
    LeaseLeasesResponse,
    DefragmentResponse,
    MoveLeaderResponse,
    DowngradeResponse,
    AuthEnableResponse,
    AuthDisableResponse,
    AuthStatusResponse,
    AuthUserAddResponse,
    AuthUserGetResponse,
    AuthUserListResponse,
    AuthUserDeleteResponse,
    AuthUserChangePasswordResponse,
    AuthUserGrantRoleResponse,
    AuthUserRevokeRoleResponse,
    AuthRoleAddResponse,
    AuthRoleGetResponse,
    AuthRoleListResponse,
    AuthRoleDeleteResponse,
    AuthRoleGrantPermissionResponse,
    AuthRoleRevokePermissionResponse,
    v3lockpb::LockResponse,
    v3lockpb::UnlockResponse,
    v3electionpb::CampaignResponse,
    v3electionpb::LeaderResponse,
    v3electionpb::ProclaimResponse,
    v3electionpb::ResignResponse,
);

impl Answer for HealthCheckResponse {
    fn blank(&mut self) {}
}

impl Answer for TxnResponse {
    fn blank(&mut self) {
        blank_header(&mut self.header);
        for op in &mut self.responses {
            match &mut op.response {
                Some(Op::ResponseRange(range)) => range.blank(),
                Some(Op::ResponsePut(put)) => put.blank(),
                Some(Op::ResponseDeleteRange(delete)) => delete.blank(),
                Some(Op::ResponseTxn(txn)) => txn.blank(),
                None => {}
            }
        }
    }
}

impl Answer for LeaseTimeToLiveResponse {
    fn blank(&mut self) {
        blank_header(&mut self.header);
        // Seconds pass; that there are some left, or none, stays visible.
        self.ttl = self.ttl.signum();
        self.keys.sort();
    }
}

impl Answer for AuthenticateResponse {
    fn blank(&mut self) {
        blank_header(&mut self.header);
        self.token = if self.token.is_empty() {
            String::new()
        } else {
            "a token".to_owned()
        };
    }
}

fn blank_members(members: &mut [Member]) {
    for member in members.iter_mut() {
        // Derived from URLs, and so from ports, and from the clock.
        member.id = 0;
        member.name = if member.name.is_empty() {
            String::new()
        } else {
            "a name".to_owned()
        };
        member.peer_ur_ls = vec!["a url".to_owned(); member.peer_ur_ls.len()];
        member.client_ur_ls = vec!["a url".to_owned(); member.client_ur_ls.len()];
    }
    // etcd lists members in the order of their identities.
    members.sort_by_key(|member| (member.is_learner, member.name.is_empty()));
}

macro_rules! members {
    ($($message:ty),* $(,)?) => {$(
        impl Answer for $message {
            fn blank(&mut self) {
                blank_header(&mut self.header);
                blank_members(&mut self.members);
            }
        }
    )*};
}

members!(
    MemberRemoveResponse,
    MemberUpdateResponse,
    MemberListResponse,
    MemberPromoteResponse
);

impl Answer for MemberAddResponse {
    fn blank(&mut self) {
        blank_header(&mut self.header);
        blank_members(self.member.as_mut_slice());
        blank_members(&mut self.members);
    }
}

impl Answer for AlarmResponse {
    fn blank(&mut self) {
        blank_header(&mut self.header);
        for alarm in &mut self.alarms {
            alarm.member_id = 0;
        }
    }
}
