//! The messages that kube-apiserver and etcd exchange most, with the fields that they have, by the numbers of etcd's public
//! rpc.proto and kv.proto.

use bytes::Bytes;
use etcd_encryption_proxy::wire::{put_bytes, put_varint};

fn message(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    fill(&mut out);
    out
}

fn header() -> Vec<u8> {
    message(|out| {
        put_varint(out, 1, 14_841_639_068_965_178_418);
        put_varint(out, 2, 10_276_657_743_932_975_437);
        put_varint(out, 3, 1_234_567);
        put_varint(out, 4, 3);
    })
}

fn kv(key: &[u8], value: &[u8]) -> Vec<u8> {
    message(|out| {
        put_bytes(out, 1, key);
        put_varint(out, 2, 1_000_000);
        put_varint(out, 3, 1_234_000);
        put_varint(out, 4, 7);
        put_bytes(out, 5, value);
    })
}

pub fn put(key: &[u8], value: &[u8]) -> Bytes {
    message(|out| {
        put_bytes(out, 1, key);
        put_bytes(out, 2, value);
    })
    .into()
}

/// kube-apiserver's update: if it was last written at a revision, put; else get.
pub fn update(key: &[u8], value: &[u8]) -> Bytes {
    let compare = message(|out| {
        put_varint(out, 2, 2);
        put_bytes(out, 3, key);
        put_varint(out, 6, 1_234_000);
    });
    let put = message(|out| put_bytes(out, 2, &put(key, value)));
    let get = message(|out| put_bytes(out, 1, &message(|out| put_bytes(out, 1, key))));
    message(|out| {
        put_bytes(out, 1, &compare);
        put_bytes(out, 2, &put);
        put_bytes(out, 3, &get);
    })
    .into()
}

/// The answer to an [`update`] that was carried out.
pub fn updated() -> Bytes {
    let put = message(|out| put_bytes(out, 1, &header()));
    let op = message(|out| put_bytes(out, 2, &put));
    message(|out| {
        put_bytes(out, 1, &header());
        put_varint(out, 2, 1);
        put_bytes(out, 3, &op);
    })
    .into()
}

pub fn get(key: &[u8]) -> Bytes {
    message(|out| put_bytes(out, 1, key)).into()
}

/// A page of a list, as kube-apiserver asks for it.
pub fn list(prefix: &[u8], end: &[u8]) -> Bytes {
    message(|out| {
        put_bytes(out, 1, prefix);
        put_bytes(out, 2, end);
        put_varint(out, 3, 500);
        put_varint(out, 4, 1_234_567);
    })
    .into()
}

pub fn ranged<'a>(kvs: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Bytes {
    let mut count = 0;
    let mut out = message(|out| put_bytes(out, 1, &header()));
    for (key, value) in kvs {
        put_bytes(&mut out, 2, &kv(key, value));
        count += 1;
    }
    put_varint(&mut out, 4, count);
    out.into()
}

pub fn watch_create(prefix: &[u8], end: &[u8]) -> Bytes {
    let create = message(|out| {
        put_bytes(out, 1, prefix);
        put_bytes(out, 2, end);
        put_varint(out, 3, 1_000_000);
        put_varint(out, 4, 1);
        put_varint(out, 6, 1);
    });
    message(|out| put_bytes(out, 1, &create)).into()
}

pub fn watch_created() -> Bytes {
    message(|out| {
        put_bytes(out, 1, &header());
        put_varint(out, 3, 1);
    })
    .into()
}

/// A modification, with the value that was there before.
pub fn event(key: &[u8], value: &[u8]) -> Bytes {
    let event = message(|out| {
        put_bytes(out, 2, &kv(key, value));
        put_bytes(out, 3, &kv(key, value));
    });
    message(|out| {
        put_bytes(out, 1, &header());
        put_bytes(out, 11, &event);
    })
    .into()
}
