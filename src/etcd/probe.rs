//! Asks a member whether it is there, and whether it has a leader. The latter only where another member could serve instead.

use std::time::Duration;

use ::http::uri::PathAndQuery;
use ::http::{HeaderMap, HeaderValue, header};
use bytes::{Bytes, BytesMut};

use super::connection::Connection;
use crate::wire::{Fields, Value};

/// A member that does not answer within this long is treated as one without a leader.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// `StatusResponse.leader` in etcd's public rpc.proto: the member ID of the leader, absent where there is none.
const STATUS_LEADER: u32 = 4;

/// An empty `StatusRequest` in a gRPC frame: not compressed, length 0.
const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; 5]);

/// `Ok` if the member behind `connection` follows a leader, or if it will not say (authentication is on).
pub(super) async fn has_leader(connection: &Connection) -> Result<(), String> {
    match tokio::time::timeout(PROBE_TIMEOUT, status(connection)).await {
        Err(_) => Err(format!(
            "no answer to a status request within {} s",
            PROBE_TIMEOUT.as_secs()
        )),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(Some(message))) if leader(&message) == 0 => Err("the member has no leader".to_owned()),
        Ok(Ok(_)) => Ok(()),
    }
}

/// `Ok` if the member behind `connection` says anything within `time`.
pub(super) async fn answers(connection: &Connection, time: Duration) -> Result<(), String> {
    match tokio::time::timeout(time, status(connection)).await {
        Err(_) => Err(format!("no answer to a status request within {} ms", time.as_millis())),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(_)) => Ok(()),
    }
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

/// The `StatusResponse` in its gRPC frame; `None` where the member answered with an error instead.
async fn status(connection: &Connection) -> Result<Option<Bytes>, h2::Error> {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    let path = PathAndQuery::from_static("/etcdserverpb.Maintenance/Status");
    let mut call = connection.call(path, headers)?;
    call.request.send_data(EMPTY_MESSAGE, true)?;
    let mut body = call.response.await?.into_body();
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
