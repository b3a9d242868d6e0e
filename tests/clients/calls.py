"""The usual calls of etcd's API by gRPC's C core, as Python has it: each is checked, and the first that is wrong ends it.

    calls.py ADDRESS DESCRIPTORS

ADDRESS is host:port, DESCRIPTORS a file with etcd's API as a FileDescriptorSet.
"""

import sys

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PATIENCE = 60
# What C-core clients send of themselves, and what is legal beside it.
METADATA = [
    ("x-bytes-bin", bytes(range(256))),
    ("x-empty", ""),
    ("x-twice", "1"),
    ("x-twice", "2"),
    ("x-long", "a" * 4000),
]


def messages(path):
    with open(path, "rb") as file:
        files = descriptor_pb2.FileDescriptorSet.FromString(file.read())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName("etcdserverpb." + name))


class Etcd:
    """Calls by name; the request and answer of etcd's `A` are `ARequest` and `AResponse`."""

    def __init__(self, address, of, compression):
        self.of = of
        options = [("grpc.primary_user_agent", "odd/1.0 (a client; of ours)")]
        self.channel = grpc.insecure_channel(address, options=options, compression=compression)

    def call(self, service, name, kind=None, timeout=PATIENCE, **fields):
        kind = kind or name
        method = self.channel.unary_unary(
            f"/etcdserverpb.{service}/{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=self.of(kind + "Response").FromString,
        )
        return method(self.of(kind + "Request")(**fields), timeout=timeout, metadata=METADATA)

    def stream(self, service, name, requests):
        method = self.channel.stream_stream(
            f"/etcdserverpb.{service}/{name}",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=self.of(name + "Response").FromString,
        )
        return method(requests, timeout=PATIENCE, metadata=METADATA)


def check(condition, what):
    if not condition:
        sys.exit(f"calls.py: {what}")


def usual_calls(etcd, of, below):
    def key(name):
        return (below + name).encode()

    # A thousand letters compress well, where compression is on.
    value = b"v" * 1000
    etcd.call("KV", "Put", key=key("a"), value=value)
    answer = etcd.call("KV", "Put", key=key("a"), value=value, prev_kv=True)
    check(answer.prev_kv.value == value, "the value before a put")
    answer = etcd.call("KV", "Range", key=key("a"))
    check([kv.value for kv in answer.kvs] == [value], "a range of one")
    modified = answer.kvs[0].mod_revision

    compare = of("Compare")
    create = compare(result=compare.EQUAL, target=compare.MOD, key=key("b"), mod_revision=0)
    put = of("RequestOp")(request_put=of("PutRequest")(key=key("b"), value=b"created"))
    get = of("RequestOp")(request_range=of("RangeRequest")(key=key("b")))
    answer = etcd.call("KV", "Txn", compare=[create], success=[put], failure=[get])
    check(answer.succeeded, "a transaction that creates")
    answer = etcd.call("KV", "Txn", compare=[create], success=[put], failure=[get])
    check(not answer.succeeded, "a transaction that creates again")
    check(answer.responses[0].response_range.kvs[0].value == b"created", "what it gives instead")

    answer = etcd.call("KV", "Range", key=key(""), range_end=key("\x7f"), limit=1)
    check(len(answer.kvs) == 1 and answer.more and answer.count == 2, "a page of a range")

    watch = of("WatchRequest")
    create = of("WatchCreateRequest")(key=key("a"), start_revision=modified, prev_kv=True)
    answers = etcd.stream("Watch", "Watch", iter([watch(create_request=create)]))
    check(next(answers).created, "a watch is created")
    event = next(answers).events[0]
    check(event.kv.value == value and event.prev_kv.value == value, "an event with the value before")
    etcd.call("KV", "DeleteRange", "DeleteRange", key=key("a"))
    event = next(answers).events[0]
    check(event.type == 1 and event.prev_kv.value == value, "the event of a delete")
    answers.cancel()

    lease = etcd.call("Lease", "LeaseGrant", TTL=600).ID
    etcd.call("KV", "Put", key=key("leased"), value=value, lease=lease)
    alive = of("LeaseKeepAliveRequest")(ID=lease)
    answers = etcd.stream("Lease", "LeaseKeepAlive", iter([alive, alive]))
    check([answer.TTL for answer in answers] == [600, 600], "a lease is kept alive")
    answer = etcd.call("Lease", "LeaseTimeToLive", ID=lease, keys=True)
    check(list(answer.keys) == [key("leased")], "the keys of a lease")
    etcd.call("Lease", "LeaseRevoke", ID=lease)
    check(etcd.call("KV", "Range", key=key("leased")).count == 0, "a lease takes its keys along")

    check(etcd.call("Maintenance", "Status").leader, "the member's status")
    check(len(etcd.call("Cluster", "MemberList").members) == 1, "the members")
    answer = etcd.call("KV", "DeleteRange", key=key(""), range_end=key("\x7f"), prev_kv=True)
    check([kv.value for kv in answer.prev_kvs] == [b"created"], "what a delete took")


def failures(etcd, below):
    try:
        etcd.call("KV", "Put", key=b"", value=b"")
        check(False, "a put without a key is refused")
    except grpc.RpcError as error:
        check(error.code() == grpc.StatusCode.INVALID_ARGUMENT, f"a put without a key: {error.code()}")
        check(error.details() == "etcdserver: key is not provided", f"a put without a key: {error.details()}")
    try:
        etcd.call("KV", "Range", key=(below + "a").encode(), timeout=-1)
        check(False, "a call whose time is over fails")
    except grpc.RpcError as error:
        check(error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, f"a call whose time is over: {error.code()}")


def compressed(etcd, below):
    """Messages that really are compressed are refused where the proxy has to read them, and nothing of them is stored."""
    key = (below + "compressed").encode()
    try:
        etcd.call("KV", "Put", key=key, value=b"v" * 1000)
        check(False, "a compressed put is refused")
    except grpc.RpcError as error:
        check(error.code() == grpc.StatusCode.UNIMPLEMENTED, f"a compressed put: {error.code()} {error.details()}")
    return key


def main(address, descriptors):
    of = messages(descriptors)
    plain = Etcd(address, of, None)
    usual_calls(plain, of, "/registry/secrets/python/")
    usual_calls(plain, of, "/registry/configmaps/python/")
    failures(plain, "/registry/secrets/python/")
    key = compressed(Etcd(address, of, grpc.Compression.Gzip), "/registry/secrets/python/")
    check(plain.call("KV", "Range", key=key).count == 0, "a refused put stores nothing")
    print("all calls are right")


main(*sys.argv[1:])
