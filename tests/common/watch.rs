//! A client's end of one Watch stream.

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, Streaming};

use super::client::Client;
use super::pb::etcdserverpb::watch_request::RequestUnion;
use super::pb::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use super::pb::mvccpb::Event;
use super::process::PATIENCE;

/// One stream, with as many watches as are created on it.
#[derive(Debug)]
pub struct Watch {
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

impl Watch {
    /// Opens a stream and creates a first watch on it.
    pub async fn open(client: &Client, create: WatchCreateRequest) -> Self {
        Self::try_open(client, create).await.expect("a watch stream")
    }

    /// The same, where it may fail.
    pub async fn try_open(client: &Client, create: WatchCreateRequest) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::unbounded_channel();
        // Sent with the headers: etcd sends its own only once there is something to answer.
        requests
            .send(request(RequestUnion::CreateRequest(create)))
            .expect("an open channel");
        let responses = client
            .watch()
            .watch(UnboundedReceiverStream::new(receiver))
            .await?
            .into_inner();
        Ok(Self { requests, responses })
    }

    /// Creates another watch on the stream.
    pub fn create(&self, create: WatchCreateRequest) {
        self.send(RequestUnion::CreateRequest(create));
    }

    /// Cancels a watch.
    pub fn cancel(&self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
    }

    /// Asks how far all watches of the stream are.
    pub fn request_progress(&self) {
        self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    /// A request of no kind that is known.
    pub fn send_empty(&self) {
        self.requests.send(WatchRequest::default()).expect("an open stream");
    }

    /// The next response.
    pub async fn next(&mut self) -> WatchResponse {
        self.try_next()
            .await
            .expect("a living stream")
            .expect("another response")
    }

    /// The next response, the end of the stream, or its error.
    pub async fn try_next(&mut self) -> Result<Option<WatchResponse>, Status> {
        timeout(PATIENCE, self.responses.message()).await.expect("a response")
    }

    /// The next `count` events, however they are spread over responses.
    pub async fn events(&mut self, count: usize) -> Vec<Event> {
        let mut events = Vec::new();
        while events.len() < count {
            events.extend(self.next().await.events);
        }
        assert_eq!(events.len(), count, "more events than were waited for");
        events
    }

    /// Half-closes the stream and gives what still comes.
    pub fn half_close(self) -> Streaming<WatchResponse> {
        self.responses
    }

    fn send(&self, union: RequestUnion) {
        self.requests.send(request(union)).expect("an open stream");
    }
}

/// A watch of everything that starts with `prefix`, from `start_revision` on.
pub fn all_under(prefix: &str, start_revision: i64) -> WatchCreateRequest {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix") += 1;
    WatchCreateRequest {
        key: prefix.into(),
        range_end: end,
        start_revision,
        ..WatchCreateRequest::default()
    }
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}
