// The usual calls of etcd's API by gRPC's own implementation for Node: each is checked, and the first that is wrong ends it.
//
//     node calls.js ADDRESS PROTO
//
// ADDRESS is host:port, PROTO the folder with etcd's API. NODE_PATH says where the packages are.
'use strict';

const assert = require('node:assert');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const PATIENCE = 60_000;
const [address, proto] = process.argv.slice(2);
const files = ['kv', 'watch', 'lease', 'cluster', 'maintenance'].map((name) => `etcdserverpb/${name}.proto`);
const definition = loader.loadSync(files, { includeDirs: [proto], keepCase: true, longs: String, enums: String, defaults: true });
const api = grpc.loadPackageDefinition(definition).etcdserverpb;

// What is legal beside what the library sends of itself.
function metadata() {
  const odd = new grpc.Metadata();
  odd.set('x-bytes-bin', Buffer.from(Array.from({ length: 256 }, (_, index) => index)));
  odd.add('x-twice', '1');
  odd.add('x-twice', '2');
  odd.set('x-long', 'a'.repeat(4000));
  return odd;
}

function client(service, options = {}) {
  return new api[service](address, grpc.credentials.createInsecure(), {
    'grpc.primary_user_agent': 'odd/1.0 (a client; of ours)',
    ...options,
  });
}

function call(stub, name, request, patience = PATIENCE) {
  return new Promise((resolve, reject) => {
    const options = { deadline: Date.now() + patience };
    stub[name](request, metadata(), options, (error, answer) => (error ? reject(error) : resolve(answer)));
  });
}

// The answers of a stream, one after another.
async function* answers(stream) {
  for await (const answer of stream) yield answer;
}

async function usualCalls(below) {
  const [kv, lease] = [client('KV'), client('Lease')];
  const key = (name) => Buffer.from(below + name);
  const value = Buffer.alloc(1000, 'v');
  await call(kv, 'Put', { key: key('a'), value });
  let answer = await call(kv, 'Put', { key: key('a'), value, prev_kv: true });
  assert.deepStrictEqual(answer.prev_kv.value, value, 'the value before a put');
  answer = await call(kv, 'Range', { key: key('a') });
  assert.deepStrictEqual(answer.kvs.map((one) => one.value), [value], 'a range of one');
  const modified = answer.kvs[0].mod_revision;

  const create = {
    compare: [{ result: 'EQUAL', target: 'MOD', key: key('b'), mod_revision: 0 }],
    success: [{ request_put: { key: key('b'), value: Buffer.from('created') } }],
    failure: [{ request_range: { key: key('b') } }],
  };
  assert.ok((await call(kv, 'Txn', create)).succeeded, 'a transaction that creates');
  answer = await call(kv, 'Txn', create);
  assert.ok(!answer.succeeded, 'a transaction that creates again');
  assert.strictEqual(answer.responses[0].response_range.kvs[0].value.toString(), 'created', 'what it gives instead');

  const watching = client('Watch').Watch(metadata(), { deadline: Date.now() + PATIENCE });
  const seen = answers(watching);
  watching.write({ create_request: { key: key('a'), start_revision: modified, prev_kv: true } });
  assert.ok((await seen.next()).value.created, 'a watch is created');
  let event = (await seen.next()).value.events[0];
  assert.deepStrictEqual([event.kv.value, event.prev_kv.value], [value, value], 'an event with the value before');
  await call(kv, 'DeleteRange', { key: key('a') });
  event = (await seen.next()).value.events[0];
  assert.deepStrictEqual([event.type, event.prev_kv.value], ['DELETE', value], 'the event of a delete');
  watching.on('error', (error) => assert.strictEqual(error.code, grpc.status.CANCELLED, String(error)));
  watching.cancel();

  const { ID } = await call(lease, 'LeaseGrant', { TTL: 600 });
  await call(kv, 'Put', { key: key('leased'), value, lease: ID });
  const keeping = lease.LeaseKeepAlive(metadata(), { deadline: Date.now() + PATIENCE });
  keeping.write({ ID });
  keeping.write({ ID });
  keeping.end();
  const kept = [];
  for await (const { TTL } of keeping) kept.push(TTL);
  assert.deepStrictEqual(kept, ['600', '600'], 'a lease is kept alive');
  answer = await call(lease, 'LeaseTimeToLive', { ID, keys: true });
  assert.deepStrictEqual(answer.keys, [key('leased')], 'the keys of a lease');
  await call(lease, 'LeaseRevoke', { ID });

  assert.notStrictEqual((await call(client('Maintenance'), 'Status', {})).leader, '0', "the member's status");
  assert.strictEqual((await call(client('Cluster'), 'MemberList', {})).members.length, 1, 'the members');
  answer = await call(kv, 'DeleteRange', { key: key(''), range_end: key('\x7f'), prev_kv: true });
  assert.deepStrictEqual(answer.prev_kvs.map((one) => one.value.toString()), ['created'], 'what a delete took');
}

async function failures(below) {
  const kv = client('KV');
  await assert.rejects(call(kv, 'Put', { value: Buffer.from('v') }), {
    code: grpc.status.INVALID_ARGUMENT,
    details: 'etcdserver: key is not provided',
  });
  await assert.rejects(call(kv, 'Range', { key: Buffer.from(below + 'a') }, -1), { code: grpc.status.DEADLINE_EXCEEDED });
  // Really compressed, and therefore refused where it has to be read; nothing of it is stored.
  const compressing = client('KV', { 'grpc.default_compression_algorithm': 2 });
  const key = Buffer.from(below + 'compressed');
  await assert.rejects(call(compressing, 'Put', { key, value: Buffer.alloc(1000, 'v') }), { code: grpc.status.UNIMPLEMENTED });
  assert.strictEqual((await call(kv, 'Range', { key })).count, '0', 'a refused put stores nothing');
}

async function main() {
  await usualCalls('/registry/secrets/node/');
  await usualCalls('/registry/configmaps/node/');
  await failures('/registry/secrets/node/');
  console.log('all calls are right');
  process.exit(0);
}

main().catch((error) => {
  console.error('calls.js:', error);
  process.exit(1);
});
