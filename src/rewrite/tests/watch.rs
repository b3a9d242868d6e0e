//! Events of the proxy's own records do not reach a watch, and their absence tells nothing.

use prost::Message;

use super::{
    pb::{Event, KeyValue, ResponseHeader, WatchCreateRequest, WatchRequest, WatchResponse},
    world::{POD, SECRET, STATE, World},
};
use crate::rewrite::{OpenFailure, WatchSession};

fn watch(world: &World, key: &[u8], range_end: &[u8]) -> WatchSession {
    let mut session = WatchSession::new();
    let request = WatchRequest {
        create_request: Some(WatchCreateRequest {
            key: key.to_vec(),
            range_end: range_end.to_vec(),
            ..WatchCreateRequest::default()
        }),
        progress_request: None,
    };
    let message = request.encode_to_vec();
    let sent = session
        .request(message.clone().into(), &world.ctx())
        .expect("it is allowed");
    assert_eq!(sent.into_bytes(), message);
    session
}

fn response(watch_id: i64, fragment: bool, keys: &[&[u8]]) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader {
            revision: 9,
            ..ResponseHeader::default()
        }),
        watch_id,
        fragment,
        events: keys
            .iter()
            .map(|key| Event {
                kv: Some(KeyValue {
                    key: key.to_vec(),
                    value: b"v".to_vec(),
                    ..KeyValue::default()
                }),
                ..Event::default()
            })
            .collect(),
        ..WatchResponse::default()
    }
}

fn shown(session: &mut WatchSession, world: &World, response: &WatchResponse) -> Option<WatchResponse> {
    let job = session
        .response(response.encode_to_vec().into(), &world.ctx())
        .expect("it is well formed")?;
    let message = job.run(&world.ctx()).expect("it opens").message.into_bytes();
    Some(WatchResponse::decode(message).expect("it is the message"))
}

#[test]
fn events_of_state_are_left_out_and_a_response_of_nothing_else_too() {
    let world = World::new();
    let mut session = watch(&world, b"\0", b"\0");
    let mixed = response(1, false, &[STATE, POD, STATE]);
    assert_eq!(shown(&mut session, &world, &mixed), Some(response(1, false, &[POD])));
    assert_eq!(shown(&mut session, &world, &response(1, false, &[STATE])), None);
    // What has no event of its own passes: progress, created, canceled.
    for own in [
        response(-1, false, &[]),
        WatchResponse {
            created: true,
            ..response(1, false, &[])
        },
        WatchResponse {
            canceled: true,
            compact_revision: 4,
            ..response(1, false, &[])
        },
    ] {
        assert_eq!(shown(&mut session, &world, &own), Some(own));
    }
}

#[test]
fn a_series_of_fragments_that_has_begun_is_ended() {
    let world = World::new();
    let mut session = watch(&world, b"/", b"0");
    let all_state = |fragment| response(1, fragment, &[STATE]);
    // Begun with a pod: the emptied middle goes, the emptied end stays, as an end.
    assert!(shown(&mut session, &world, &response(1, true, &[POD])).is_some());
    assert_eq!(shown(&mut session, &world, &all_state(true)), None);
    // Another watch in between has its own series.
    assert_eq!(shown(&mut session, &world, &response(2, false, &[STATE])), None);
    assert_eq!(
        shown(&mut session, &world, &all_state(false)),
        Some(response(1, false, &[]))
    );
    // That series is over: what is emptied now is no end of anything.
    assert_eq!(shown(&mut session, &world, &all_state(false)), None);
    // A series that never got through to the client has no end either.
    assert_eq!(shown(&mut session, &world, &all_state(true)), None);
    assert_eq!(shown(&mut session, &world, &all_state(false)), None);
    assert_eq!(shown(&mut session, &world, &all_state(true)), None);
    assert_eq!(
        shown(&mut session, &world, &response(1, false, &[POD])),
        Some(response(1, false, &[POD]))
    );
    // An end with events is an end.
    assert!(shown(&mut session, &world, &response(1, true, &[POD])).is_some());
    assert!(shown(&mut session, &world, &response(1, false, &[POD, STATE])).is_some());
    assert_eq!(shown(&mut session, &world, &all_state(false)), None);
}

#[test]
fn one_spanning_watch_is_enough_for_the_stream() {
    let world = World::new();
    let mut session = watch(&world, SECRET, b"");
    let more = WatchRequest {
        create_request: Some(WatchCreateRequest {
            // No key is the smallest one.
            range_end: vec![0],
            ..WatchCreateRequest::default()
        }),
        progress_request: None,
    };
    session
        .request(more.encode_to_vec().into(), &world.ctx())
        .expect("it is allowed");
    assert_eq!(shown(&mut session, &world, &response(1, false, &[STATE])), None);
}

#[test]
fn a_watch_without_a_key_is_sent_with_the_one_that_etcd_takes_it_for() {
    let world = World::new();
    let sent = |range_end: &[u8]| {
        let asked = |key: &[u8]| WatchRequest {
            create_request: Some(WatchCreateRequest {
                key: key.to_vec(),
                range_end: range_end.to_vec(),
                start_revision: 7,
                prev_kv: true,
                ..WatchCreateRequest::default()
            }),
            progress_request: None,
        };
        let message = asked(b"").encode_to_vec();
        let sent = WatchSession::new().request(message.into(), &world.ctx());
        let sent = WatchRequest::decode(sent.expect("it is allowed").into_bytes()).expect("a request");
        assert_eq!(sent, asked(&[0]));
    };
    // One key, every key, and those before some key.
    sent(b"");
    sent(b"\0");
    sent(b"!");
}

#[test]
fn an_event_that_was_not_asked_for_shows_nothing() {
    let world = World::new();
    for deleted in [0, 1] {
        let mut session = watch(&world, POD, b"");
        let mut response = response(1, false, &[POD, STATE]);
        response.events[1].r#type = deleted;
        let job = session.response(response.encode_to_vec().into(), &world.ctx());
        let opened = job
            .expect("it is well formed")
            .expect("it has events")
            .run(&world.ctx());
        assert_eq!(opened.map(drop), Err(OpenFailure::Stray));
    }
}

#[test]
fn an_empty_range_end_watches_one_key_as_in_etcd() {
    let world = World::new();
    // create_request { key: "/a", range_end: "" }, the latter written out.
    let message = [0x0a, 0x06, 0x0a, 0x02, b'/', b'a', 0x12, 0x00];
    let sent = WatchSession::new().request(message.to_vec().into(), &world.ctx());
    assert_eq!(sent.expect("it is allowed").into_bytes(), message[..]);
}

#[test]
fn progress_requests_and_cancels_pass() {
    let world = World::new();
    for message in [&[0x1a, 0x00][..], &[0x12, 0x02, 0x08, 0x05], &[]] {
        let sent = WatchSession::new().request(message.to_vec().into(), &world.ctx());
        assert_eq!(sent.expect("it is allowed").into_bytes(), message);
    }
}

#[test]
fn open_watches_are_those_confirmed_and_not_cancelled() {
    let world = World::new();
    let mut session = watch(&world, POD, b"");
    let mut open_after = |created, canceled, keys: &[&[u8]]| {
        let response = WatchResponse {
            created,
            canceled,
            ..response(1, false, keys)
        };
        shown(&mut session, &world, &response);
        session.open_watches()
    };
    assert_eq!(open_after(true, false, &[]), 1);
    assert_eq!(open_after(true, false, &[]), 2);
    assert_eq!(open_after(false, false, &[POD]), 2);
    // Refused: etcd confirms and cancels in one.
    assert_eq!(open_after(true, true, &[]), 2);
    assert_eq!(open_after(false, true, &[]), 1);
    assert_eq!(open_after(false, true, &[]), 0);
    assert_eq!(open_after(false, true, &[]), 0);
    // One that cannot be read is judged where it is opened, not where it is counted.
    assert!(session.response(b"\x18\xff".as_slice().into(), &world.ctx()).is_ok());
    assert_eq!(session.open_watches(), 0);
}
