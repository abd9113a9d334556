// The Pusher SDK for Node accepts what `campanile webhooks test` sends as a webhook.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import Pusher from 'pusher';

import { makeEndpointCertificate } from './proxies/lib/certificate.mjs';
import { APP, CAMPANILE_BIN } from './lib/server.mjs';
import { test } from './lib/stage.mjs';

const EVENTS = [
  'channel_occupied', 'channel_vacated', 'member_added', 'member_removed', 'client_event', 'cache_miss',
  'subscription_count', 'user_online', 'user_offline',
];

/** An endpoint that records what it receives: `{ headers, rawHeaders, rawBody }` of each request. */
async function startSink(stage, tls) {
  const requests = [];
  const take = (request, response) => {
    const parts = [];
    request.on('data', (part) => parts.push(part)).on('end', () => {
      const { headers, rawHeaders } = request;
      requests.push({ headers, rawHeaders, rawBody: Buffer.concat(parts).toString() });
      response.writeHead(204).end();
    });
  };
  const server = tls ? createTlsServer(tls, take) : createServer(take);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  stage.closing({ close: () => { server.closeAllConnections(); server.close(); } });
  return { requests, url: `${tls ? 'https' : 'http'}://127.0.0.1:${server.address().port}/hooks` };
}

async function folder(stage) {
  const path = await mkdtemp(join(tmpdir(), 'campanile-webhooks-'));
  stage.closing({ close: () => rm(path, { recursive: true, force: true }) });
  return path;
}

/** Runs `campanile webhooks test` for one webhook; resolves with its exit code and its output. */
async function tryOut(stage, url, env = {}) {
  const cwd = await folder(stage);
  const lines = [
    '[[apps]]', ...Object.entries(APP).map(([key, value]) => `${key} = ${JSON.stringify(value)}`),
    '[[apps.webhooks]]', `url = ${JSON.stringify(url)}`, `events = ${JSON.stringify(EVENTS)}`,
  ];
  await writeFile(join(cwd, 'config.toml'), lines.join('\n'));
  const options = { cwd, env: { PATH: process.env.PATH, ...env }, timeout: 30_000 };
  return new Promise((resolve) => {
    execFile(CAMPANILE_BIN, ['webhooks', 'test'], options, (error, stdout, stderr) => {
      resolve({ code: error ? error.code : 0, output: stdout + stderr });
    });
  });
}

const sdk = (changes) => new Pusher({ appId: APP.id, key: APP.key, secret: APP.secret, cluster: '', ...changes });

test('the SDK verifies and reads each kind of webhook', async (stage) => {
  const sink = await startSink(stage);

  const { code, output } = await tryOut(stage, sink.url);

  assert.equal(code, 0, output);
  const webhooks = sink.requests.map((request) => sdk().webhook(request));
  assert.ok(webhooks.every((webhook) => webhook.isValid()));
  assert.deepEqual(webhooks.flatMap((webhook) => webhook.getEvents()).map(({ name }) => name), EVENTS);
  assert.ok(webhooks.every((webhook) => Math.abs(Date.now() - webhook.getTime().getTime()) < 60_000));
  const [whisper] = webhooks[EVENTS.indexOf('client_event')].getEvents();
  assert.deepEqual([typeof whisper.data, typeof whisper.socket_id], ['string', 'string']);
});

test('the SDK rejects a webhook that was changed, and one of another app', async (stage) => {
  const sink = await startSink(stage);
  await tryOut(stage, sink.url);
  const [request] = sink.requests;

  assert.ok(!sdk().webhook({ ...request, rawBody: request.rawBody.replace('test', 'tset') }).isValid());
  assert.ok(!sdk({ secret: 'guess' }).webhook(request).isValid());
  assert.ok(!sdk({ key: 'another' }).webhook(request).isValid());
});

test('an endpoint with a certificate that the system trusts is reached by https, and no other', async (stage) => {
  const { certificate, key, pem } = await makeEndpointCertificate(await folder(stage));
  const sink = await startSink(stage, { cert: pem, key: await readFile(key) });

  const trusted = await tryOut(stage, sink.url, { SSL_CERT_FILE: certificate });
  assert.equal(trusted.code, 0, trusted.output);
  assert.equal(sink.requests.length, EVENTS.length);
  assert.ok(sink.requests.every((request) => sdk().webhook(request).isValid()));

  const other = await makeEndpointCertificate(await folder(stage));
  const stranger = await tryOut(stage, sink.url, { SSL_CERT_FILE: other.certificate });
  assert.equal(stranger.code, 1, stranger.output);
  assert.match(stranger.output, /FAILED, TLS handshake failed/);
  assert.equal(sink.requests.length, EVENTS.length);
});
