//! How bytes fail to be a protobuf message that all of etcd's decoders read alike. No variant holds a byte of the input.

/// Why a message is refused at wire level. The text is safe to show to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field claims more bytes than its message has left.
    #[error("it ends within a field")]
    Truncated,
    /// A varint is longer than ten bytes or its tenth byte is above 1: decoders differ in which bits they drop.
    #[error("a varint does not fit 64 bits")]
    Varint,
    /// A tag's field number is 0 or above 2^29-1. gogo's decoders cut it to 32 bits and would see another field.
    #[error("a tag holds no valid field number")]
    FieldNumber,
    /// Wire type 6 or 7, which do not exist.
    #[error("a tag holds wire type {0}, which does not exist")]
    WireType(u8),
    /// This known field has another wire type than its message says: some decoders fail, others skip it.
    #[error("field {0} has the wrong wire type")]
    WrongType(u32),
    /// This field may occur once only. Decoders would take the last one, or merge them.
    #[error("field {0} occurs more than once")]
    Repeated(u32),
    /// More than one member of a oneof. Decoders would take the last one.
    #[error("a oneof has more than one member")]
    Oneof,
    /// An end-group tag that closes no group, or another than the one that is open.
    #[error("a group is closed by the wrong tag")]
    Group,
    /// Groups nest deeper than any message of etcd's, which has no group at all.
    #[error("groups nest too deep")]
    GroupDepth,
    /// A `range_end` that is present but empty. etcd up to 3.6 takes it for "every key from `key` on" in reads that do not
    /// pass through raft, and for "only `key`" in those that do.
    #[error("range_end is present but empty, which is ambiguous")]
    EmptyRangeEnd,
}
