//! What a member is asked before it is used, and while it is: whether it is etcd at all, whether it is still there, and whether it has
//! a leader. The last is asked only where another member could serve instead.

use std::time::Duration;

use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::{Bytes, BytesMut};

use super::connection::Connection;
use crate::wire::{Fields, Value};

/// A member that does not answer within this long is treated as one without a leader.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// `StatusResponse.leader` in etcd's public rpc.proto: the member ID of the leader, absent where there is none.
const STATUS_LEADER: u32 = 4;

/// `ResponseHeader StatusResponse.header`, and `uint64 member_id` in it.
const HEADER: u32 = 1;
const HEADER_MEMBER_ID: u32 = 2;

/// What a member tells of itself.
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

/// The call by which a proxy says what it is. No etcd and no other server of its API has it: they answer UNIMPLEMENTED.
pub const IDENTIFY: (&str, &str) = ("etcdencryptionproxy.Proxy", "Identify");

/// `string version` of the answer to it.
pub const IDENTIFY_VERSION: u32 = 1;

/// Characters of a version that are shown.
const MAX_VERSION: usize = 40;

/// An empty message in a gRPC frame: not compressed, length 0.
const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; 5]);

/// `Ok` if the member behind `connection` follows a leader, or if it will not say (authentication is on).
pub(super) async fn has_leader(connection: &Connection) -> Result<(), String> {
    let asked = ask(connection, STATUS);
    match tokio::time::timeout(PROBE_TIMEOUT, asked).await {
        Err(_) => Err(format!(
            "no answer to a status request within {} s",
            PROBE_TIMEOUT.as_secs()
        )),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(Some(message))) if has_no_leader(&message) => Err("the member has no leader".to_owned()),
        Ok(Ok(_)) => Ok(()),
    }
}

/// `Ok` if the member behind `connection` says anything within `time`.
pub(super) async fn answers(connection: &Connection, time: Duration) -> Result<(), String> {
    let asked = ask(connection, STATUS);
    match tokio::time::timeout(time, asked).await {
        Err(_) => Err(format!("no answer to a status request within {} ms", time.as_millis())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) => Ok(()),
    }
}

/// Whether a `StatusResponse` says that there is no leader. A store that is no cluster, such as kine, has none ever, and no member either.
fn has_no_leader(message: &[u8]) -> bool {
    leader(message) == 0 && is_member(message)
}

/// Whether the header of a `StatusResponse` names the member that answers.
fn is_member(message: &[u8]) -> bool {
    let headers = Fields::new(message).filter_map(Result::ok);
    let headers = headers
        .filter(|field| field.number == HEADER)
        .filter_map(|field| field.body().ok());
    headers
        .flat_map(|header| header.fields().filter_map(Result::ok).collect::<Vec<_>>())
        .any(|field| field.number == HEADER_MEMBER_ID && matches!(field.value, Value::Varint(id) if id != 0))
}

/// The leader's member ID in a `StatusResponse`; 0 where it is absent, as protobuf has it.
fn leader(message: &[u8]) -> u64 {
    let fields = Fields::new(message).filter_map(Result::ok);
    let values = fields
        .filter(|field| field.number == STATUS_LEADER)
        .map(|field| match field.value {
            Value::Varint(leader) => leader,
            _ => 0,
        });
    values.last().unwrap_or(0)
}

/// The version of the proxy that is behind `connection`; `None` where it is no proxy, or an earlier one than can say so.
pub(super) async fn proxy_version(connection: &Connection) -> Result<Option<String>, h2::Error> {
    let (service, method) = IDENTIFY;
    let answer = ask(connection, &format!("/{service}/{method}")).await?;
    Ok(answer.map(|message| version(&message)))
}

/// What stands in the answer, fit to be shown.
fn version(message: &[u8]) -> String {
    let fields = Fields::new(message).filter_map(Result::ok);
    let texts = fields.filter(|field| field.number == IDENTIFY_VERSION).map(|field| {
        let body = field
            .body()
            .map(|body| String::from_utf8_lossy(body.bytes).into_owned());
        body.unwrap_or_default()
    });
    let shown = |char: &char| char.is_ascii_graphic();
    texts
        .last()
        .unwrap_or_default()
        .chars()
        .filter(shown)
        .take(MAX_VERSION)
        .collect()
}

/// The answer's message; `None` where the member answered with an error instead.
async fn ask(connection: &Connection, path: &str) -> Result<Option<Bytes>, h2::Error> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let path = PathAndQuery::try_from(path).unwrap_or_else(|_| PathAndQuery::from_static("/"));
    let mut call = connection.call(path, headers)?;
    call.request.send_data(EMPTY_MESSAGE, true)?;
    let response = call.response.await?;
    if response.status() != StatusCode::OK {
        return Ok(None);
    }
    let mut body = response.into_body();
    let mut frame = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        // A member can close its half before the window is given back; that is no failure.
        let _ = body.flow_control().release_capacity(data.len());
        frame.extend_from_slice(&data);
    }
    let message = frame.split_off(frame.len().min(EMPTY_MESSAGE.len())).freeze();
    Ok((!message.is_empty()).then_some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_member_can_be_without_a_leader() {
        // header { member_id: 7 }, and a leader or none; kine's header is empty.
        let (member, leader) = ([0x0a, 2, 0x10, 7], [0x20, 9]);
        assert!(has_no_leader(&member));
        assert!(!has_no_leader(&[&member[..], &leader[..]].concat()));
        assert!(!has_no_leader(&[0x0a, 0]));
        assert!(!has_no_leader(b""));
    }
}
