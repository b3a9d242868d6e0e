//! `MemberListResponse`: clients that follow the cluster's members by it (clientv3's `AutoSyncInterval`) are to stay with the proxies.

use bytes::Bytes;

use super::OpenFailure;
use crate::wire::{
    Body, Fields, Frame, Script, Spliced, WireError,
    etcd::{
        member::{CLIENT_URLS, IS_LEARNER, NAME},
        member_list_response::MEMBERS,
    },
    put_bytes,
};

/// The `MemberListResponse` `message` with `urls` in the place of the addresses at which clients would reach the members.
///
/// The members stay as they are but for that: their IDs, names and peers' addresses are what an operator works with. `urls` are dealt
/// out among those that clients look at, which are no learners and have been started, so that all of them together are just `urls`.
///
/// # Errors
/// [`OpenFailure::Malformed`].
pub fn member_list_response(message: Bytes, urls: &[String]) -> Result<Spliced, OpenFailure> {
    let serving = members(&message)
        .map(|member| member.and_then(serves))
        .filter(|serves| !matches!(serves, Ok(false)))
        .collect::<Result<Vec<_>, _>>()?
        .len();
    let mut script = Script::new();
    let mut place = 0;
    for member in members(&message) {
        let member = member?;
        let frame = script.enter(Frame::TOP, member.extent);
        for field in member.fields() {
            let field = field?;
            if field.number == CLIENT_URLS {
                script.remove(frame, field.start, field.end);
            }
        }
        if !serves(member)? {
            continue;
        }
        let mark = script.mark();
        for url in urls.iter().skip(place).step_by(serving.max(1)) {
            put_bytes(script.fresh(), CLIENT_URLS, url.as_bytes());
        }
        let end = member.extent.end;
        script.replace(frame, end, end, mark);
        place += 1;
    }
    Ok(script.apply(message))
}

fn members(message: &[u8]) -> impl Iterator<Item = Result<Body<'_>, WireError>> {
    Fields::new(message).filter_map(|field| match field {
        Ok(field) if field.number == MEMBERS => Some(field.body()),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Whether clients would go to it.
fn serves(member: Body<'_>) -> Result<bool, WireError> {
    let (mut is_named, mut is_learner) = (false, false);
    for field in member.fields() {
        let field = field?;
        match field.number {
            NAME => is_named = !field.body()?.bytes.is_empty(),
            IS_LEARNER => is_learner = field.flag()?,
            _ => {}
        }
    }
    Ok(is_named && !is_learner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u32, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_bytes(&mut out, number, content);
        out
    }

    fn member(name: &[u8], urls: &[&str], more: &[u8]) -> Vec<u8> {
        let mut member = vec![8, 7];
        if !name.is_empty() {
            member.extend(field(NAME, name));
        }
        for url in urls {
            member.extend(field(CLIENT_URLS, url.as_bytes()));
        }
        member.extend_from_slice(more);
        field(MEMBERS, &member)
    }

    fn listed(members: &[Vec<u8>], urls: &[&str]) -> Vec<u8> {
        let message = [&field(1, b"header")[..], &members.concat()].concat();
        let urls: Vec<_> = urls.iter().map(|&url| url.to_owned()).collect();
        member_list_response(message.into(), &urls)
            .unwrap()
            .into_bytes()
            .to_vec()
    }

    #[test]
    fn addresses_are_dealt_out_and_all_else_stays() {
        const LEARNER: [u8; 2] = [40, 1];
        let unknown = field(99, b"of another version");
        let before = [
            member(b"a", &["http://1", "http://2"], &unknown),
            member(b"", &[], &[]),
            member(b"learner", &["http://3"], &LEARNER),
            member(b"b", &["http://4"], &[]),
        ];
        // Behind what is kept: the order of fields means nothing.
        let after = |a: &[&str], b: &[&str]| {
            let dealt: Vec<u8> = a.iter().flat_map(|url| field(CLIENT_URLS, url.as_bytes())).collect();
            let members = [
                member(b"a", &[], &[&unknown[..], &dealt].concat()),
                member(b"", &[], &[]),
                member(b"learner", &[], &LEARNER),
                member(b"b", b, &[]),
            ];
            [&field(1, b"header")[..], &members.concat()].concat()
        };
        assert_eq!(listed(&before, &["p1"]), after(&["p1"], &[]));
        assert_eq!(listed(&before, &["p1", "p2", "p3"]), after(&["p1", "p3"], &["p2"]));
    }

    #[test]
    fn what_is_no_list_is_an_error() {
        assert!(member_list_response(Bytes::from_static(&[0x12, 9]), &[]).is_err());
    }
}
