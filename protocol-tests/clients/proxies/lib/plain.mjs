// A WebSocket client without automatic behaviour: it connects from a given address with given headers, answers pings
// but sends none, and reports the close code.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';

import { APP } from '../../lib/server.mjs';
import { inbox, within } from '../../lib/waiting.mjs';

// RFC 6455, 5.2.
const [TEXT, CLOSE, PING, PONG] = [0x1, 0x8, 0x9, 0xa];
const [FINAL, OPCODE, MASKED] = [0x80, 0x0f, 0x80];
/** The next two bytes are the length: more than 125, and below 64 KiB. Longer frames are not read here. */
const LENGTH_FOLLOWS = 126;
/** RFC 6455, 7.1.5: closed by a frame without a code, and without a frame. */
const [NO_CODE, ABNORMAL] = [1005, 1006];

/**
 * Sends a request to a server on 127.0.0.1, and resolves with `{ status, body }`.
 *
 * `from` is the source address. A body is sent in the chunks of `chunks`, an array or a generator.
 */
export async function ask({ port }, path, { method = 'GET', headers = {}, from, chunks = [] } = {}) {
  const request = http.request({ host: '127.0.0.1', port, path, method, headers, localAddress: from, agent: false });
  const answered = once(request, 'response').then(answerOf);
  // The server may reject the request before all of it is sent.
  answered.catch(() => {});
  for await (const chunk of chunks) request.write(chunk);
  request.end();
  return within(answered, `an answer to ${method} ${path}`);
}

/** Requests an upgrade, and resolves with a [`Plain`], or with `{ status, body }` if it is rejected. */
export async function connectRaw({ port }, { key = APP.key, from, headers = {} } = {}) {
  const handshake = {
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    ...headers,
  };
  const path = `/app/${key}?protocol=7`;
  const request = http.request({ host: '127.0.0.1', port, path, headers: handshake, localAddress: from, agent: false });
  const upgraded = once(request, 'upgrade').then(([, socket, head]) => new Plain(socket, head));
  const rejected = once(request, 'response').then(answerOf);
  for (const outcome of [upgraded, rejected]) outcome.catch(() => {});
  request.end();
  return within(Promise.race([upgraded, rejected]), 'an answer to a handshake');
}

async function answerOf([response]) {
  const parts = [];
  for await (const part of response) parts.push(part);
  return { status: response.statusCode, body: Buffer.concat(parts).toString() };
}

class Plain {
  #socket;
  #unread = Buffer.alloc(0);
  #code = ABNORMAL;
  #closed;

  /** The events of the protocol, `{ event, data }`. */
  events = inbox('an event');
  /** The received WebSocket pings. */
  pings = inbox('a ping');

  constructor(socket, head) {
    this.#socket = socket;
    this.#closed = once(socket, 'close').then(() => this.#code);
    socket.on('error', () => {}).on('data', (bytes) => this.#read(bytes));
    this.#read(head);
  }

  /** Resolves with the close code when the connection has ended. */
  closed(deadline_ms) {
    return within(this.#closed, 'the end of a connection', deadline_ms);
  }

  close() {
    this.#socket.destroy();
  }

  #read(bytes) {
    this.#unread = Buffer.concat([this.#unread, bytes]);
    for (let frame = firstFrame(this.#unread); frame; frame = firstFrame(this.#unread)) {
      this.#unread = this.#unread.subarray(frame.size);
      this.#hear(frame);
    }
  }

  #hear({ opcode, payload }) {
    if (opcode === TEXT) this.events(JSON.parse(payload));
    if (opcode === PING) {
      this.#send(PONG, payload);
      this.pings(payload);
    }
    if (opcode === CLOSE) {
      this.#code = payload.length ? payload.readUInt16BE() : NO_CODE;
      this.#send(CLOSE, payload);
    }
  }

  /** Sends a control frame, whose length fits into seven bits. A mask of zeros masks nothing. */
  #send(opcode, payload) {
    this.#socket.write(Buffer.concat([Buffer.from([FINAL | opcode, MASKED | payload.length, 0, 0, 0, 0]), payload]));
  }
}

/** The first frame in `bytes`, if it is complete. Frames of a server are unmasked, and Campanile does not fragment. */
function firstFrame(bytes) {
  const isLong = bytes[1] === LENGTH_FOLLOWS;
  const start = isLong ? 4 : 2;
  if (bytes.length < start) return undefined;
  const size = start + (isLong ? bytes.readUInt16BE(2) : bytes[1]);
  if (bytes.length < size) return undefined;
  return { opcode: bytes[0] & OPCODE, payload: bytes.subarray(start, size), size };
}
