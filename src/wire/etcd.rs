//! Field numbers of etcd's messages, as its public `rpc.proto`, `kv.proto`, `v3lock.proto` and `v3election.proto` give them
//! (etcd 3.4 to 3.8-alpha). Only fields that are read or written here; all others pass as bytes.

/// `mvccpb.KeyValue` in kv.proto.
pub mod key_value {
    /// `bytes key`
    pub const KEY: u32 = 1;
    /// `int64 create_revision`
    pub const CREATE_REVISION: u32 = 2;
    /// `int64 mod_revision`
    pub const MOD_REVISION: u32 = 3;
    /// `int64 version`
    pub const VERSION: u32 = 4;
    /// `bytes value`
    pub const VALUE: u32 = 5;
}

/// `mvccpb.Event` in kv.proto.
pub mod event {
    /// `EventType type`
    pub const TYPE: u32 = 1;
    /// `KeyValue kv`
    pub const KV: u32 = 2;
    /// `KeyValue prev_kv`
    pub const PREV_KV: u32 = 3;
    /// `EventType.DELETE`; PUT is 0.
    pub const TYPE_DELETE: i32 = 1;
}

/// `etcdserverpb.RangeRequest` in rpc.proto. `DeleteRangeRequest` and `WatchCreateRequest` have `KEY` and `RANGE_END` alike.
pub mod range_request {
    /// `bytes key`
    pub const KEY: u32 = 1;
    /// `bytes range_end`
    pub const RANGE_END: u32 = 2;
    /// `int64 limit`
    pub const LIMIT: u32 = 3;
    /// `int64 revision`
    pub const REVISION: u32 = 4;
    /// `SortOrder sort_order`
    pub const SORT_ORDER: u32 = 5;
    /// `SortTarget sort_target`
    pub const SORT_TARGET: u32 = 6;
    /// `bool keys_only`
    pub const KEYS_ONLY: u32 = 8;
    /// `bool count_only`
    pub const COUNT_ONLY: u32 = 9;

    /// `SortOrder.NONE`
    pub const ORDER_NONE: i32 = 0;
    /// `SortOrder.ASCEND`
    pub const ORDER_ASCEND: i32 = 1;
    /// `SortOrder.DESCEND`
    pub const ORDER_DESCEND: i32 = 2;
    /// `SortTarget.KEY`
    pub const TARGET_KEY: i32 = 0;
    /// `SortTarget.VERSION`
    pub const TARGET_VERSION: i32 = 1;
    /// `SortTarget.CREATE`
    pub const TARGET_CREATE: i32 = 2;
    /// `SortTarget.MOD`
    pub const TARGET_MOD: i32 = 3;
    /// `SortTarget.VALUE`
    pub const TARGET_VALUE: i32 = 4;
}

/// `etcdserverpb.RangeResponse` in rpc.proto.
pub mod range_response {
    /// `ResponseHeader header`
    pub const HEADER: u32 = 1;
    /// `repeated KeyValue kvs`
    pub const KVS: u32 = 2;
    /// `bool more`
    pub const MORE: u32 = 3;
    /// `int64 count`
    pub const COUNT: u32 = 4;
}

/// `etcdserverpb.RangeStreamResponse` in rpc.proto, since 3.7.
pub mod range_stream_response {
    /// `RangeResponse range_response`
    pub const RANGE_RESPONSE: u32 = 1;
}

/// `etcdserverpb.PutRequest` in rpc.proto.
pub mod put_request {
    /// `bytes key`
    pub const KEY: u32 = 1;
    /// `bytes value`
    pub const VALUE: u32 = 2;
    /// `int64 lease`
    pub const LEASE: u32 = 3;
    /// `bool ignore_value`
    pub const IGNORE_VALUE: u32 = 5;
}

/// `etcdserverpb.PutResponse` in rpc.proto.
pub mod put_response {
    /// `ResponseHeader header`
    pub const HEADER: u32 = 1;
    /// `KeyValue prev_kv`
    pub const PREV_KV: u32 = 2;
}

/// `etcdserverpb.DeleteRangeResponse` in rpc.proto.
pub mod delete_range_response {
    /// `ResponseHeader header`
    pub const HEADER: u32 = 1;
    /// `int64 deleted`
    pub const DELETED: u32 = 2;
    /// `repeated KeyValue prev_kvs`
    pub const PREV_KVS: u32 = 3;
}

/// The oneof of `etcdserverpb.RequestOp`, and of `ResponseOp`, whose members have the same numbers; in rpc.proto.
pub mod op {
    /// `RangeRequest request_range`, `RangeResponse response_range`
    pub const RANGE: u32 = 1;
    /// `PutRequest request_put`, `PutResponse response_put`
    pub const PUT: u32 = 2;
    /// `DeleteRangeRequest request_delete_range`, `DeleteRangeResponse response_delete_range`
    pub const DELETE_RANGE: u32 = 3;
    /// `TxnRequest request_txn`, `TxnResponse response_txn`
    pub const TXN: u32 = 4;
}

/// `etcdserverpb.Compare` in rpc.proto.
pub mod compare {
    /// `CompareTarget target`
    pub const TARGET: u32 = 2;
    /// `bytes key`
    pub const KEY: u32 = 3;
    /// `int64 create_revision`
    pub const CREATE_REVISION: u32 = 5;
    /// `int64 mod_revision`
    pub const MOD_REVISION: u32 = 6;
    /// `bytes value`
    pub const VALUE: u32 = 7;
    /// `bytes range_end`
    pub const RANGE_END: u32 = 64;
    /// `CompareTarget.CREATE`
    pub const TARGET_CREATE: i32 = 1;
    /// `CompareTarget.MOD`
    pub const TARGET_MOD: i32 = 2;
    /// `CompareTarget.VALUE`
    pub const TARGET_VALUE: i32 = 3;
}

/// `etcdserverpb.TxnRequest` in rpc.proto.
pub mod txn_request {
    /// `repeated Compare compare`
    pub const COMPARE: u32 = 1;
    /// `repeated RequestOp success`
    pub const SUCCESS: u32 = 2;
    /// `repeated RequestOp failure`
    pub const FAILURE: u32 = 3;
}

/// `etcdserverpb.TxnResponse` in rpc.proto.
pub mod txn_response {
    /// `ResponseHeader header`
    pub const HEADER: u32 = 1;
    /// `bool succeeded`
    pub const SUCCEEDED: u32 = 2;
    /// `repeated ResponseOp responses`
    pub const RESPONSES: u32 = 3;
}

/// `etcdserverpb.MemberListResponse` in rpc.proto.
pub mod member_list_response {
    /// `repeated Member members`
    pub const MEMBERS: u32 = 2;
}

/// `etcdserverpb.Member` in rpc.proto.
pub mod member {
    /// `string name`, which a member has once it has been started
    pub const NAME: u32 = 2;
    /// `repeated string clientURLs`
    pub const CLIENT_URLS: u32 = 4;
    /// `bool isLearner`
    pub const IS_LEARNER: u32 = 5;
}

/// `etcdserverpb.AlarmRequest` in rpc.proto.
pub mod alarm_request {
    /// `AlarmAction action`
    pub const ACTION: u32 = 1;
    /// `AlarmType alarm`
    pub const ALARM: u32 = 3;
    /// `AlarmAction.GET` to `DEACTIVATE`
    pub const ACTIONS: std::ops::RangeInclusive<i32> = 0..=2;
    /// `AlarmType.NONE` to `CORRUPT`
    pub const ALARMS: std::ops::RangeInclusive<i32> = 0..=2;
}

/// `etcdserverpb.AuthRoleGrantPermissionRequest` in rpc.proto.
pub mod role_grant_permission_request {
    /// `authpb.Permission perm`
    pub const PERM: u32 = 2;
}

/// The oneof of `etcdserverpb.WatchRequest` in rpc.proto.
pub mod watch_request {
    /// `WatchCreateRequest create_request`
    pub const CREATE: u32 = 1;
    /// `WatchCancelRequest cancel_request`
    pub const CANCEL: u32 = 2;
    /// `WatchProgressRequest progress_request`
    pub const PROGRESS: u32 = 3;
}

/// `etcdserverpb.WatchResponse` in rpc.proto.
pub mod watch_response {
    /// `int64 watch_id`
    pub const WATCH_ID: u32 = 2;
    /// `bool created`
    pub const CREATED: u32 = 3;
    /// `bool canceled`
    pub const CANCELED: u32 = 4;
    /// `int64 compact_revision`
    pub const COMPACT_REVISION: u32 = 5;
    /// `bool fragment`
    pub const FRAGMENT: u32 = 7;
    /// `repeated Event events`
    pub const EVENTS: u32 = 11;
}

/// `etcdserverpb.LeaseGrantRequest` in rpc.proto.
pub mod lease_grant_request {
    /// `int64 ID`
    pub const ID: u32 = 2;
}

/// `etcdserverpb.LeaseRevokeRequest` in rpc.proto, and `LeaseKeepAliveRequest` alike.
pub mod lease_revoke_request {
    /// `int64 ID`
    pub const ID: u32 = 1;
}

/// `etcdserverpb.LeaseTimeToLiveResponse` in rpc.proto.
pub mod lease_time_to_live_response {
    /// `repeated bytes keys`
    pub const KEYS: u32 = 5;
}

/// `v3lockpb` in v3lock.proto.
pub mod lock {
    /// `LockRequest.name`
    pub const LOCK_NAME: u32 = 1;
    /// `LockRequest.lease`
    pub const LOCK_LEASE: u32 = 2;
    /// `UnlockRequest.key`
    pub const UNLOCK_KEY: u32 = 1;
}

/// `v3electionpb` in v3election.proto.
pub mod election {
    /// `CampaignRequest.name`
    pub const CAMPAIGN_NAME: u32 = 1;
    /// `CampaignRequest.lease`
    pub const CAMPAIGN_LEASE: u32 = 2;
    /// `LeaderRequest.name`, which Observe takes too
    pub const LEADER_NAME: u32 = 1;
    /// `ProclaimRequest.leader`
    pub const PROCLAIM_LEADER: u32 = 1;
    /// `ResignRequest.leader`
    pub const RESIGN_LEADER: u32 = 1;
    /// `LeaderKey.name`
    pub const LEADER_KEY_NAME: u32 = 1;
    /// `LeaderKey.key`
    pub const LEADER_KEY_KEY: u32 = 2;
    /// `LeaderKey.lease`
    pub const LEADER_KEY_LEASE: u32 = 4;
}
