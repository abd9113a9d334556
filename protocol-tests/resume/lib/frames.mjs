// Reads the WebSocket messages in a stream of bytes, without changing it.

const TEXT = 1;
const CLOSE = 8;
const PING = 9;
const PONG = 10;

/**
 * Cuts the bytes of one direction of a connection into pieces: the HTTP head, then one piece for each frame. Without an upgrade to
 * WebSocket, the bytes stay as they arrive. Calls `onPiece({ bytes, kind, text })`; only frames have a `kind`.
 */
export function frameReader(onPiece) {
  let rest = Buffer.alloc(0);
  let next = head;
  return (chunk) => {
    rest = Buffer.concat([rest, chunk]);
    for (let piece = next(); piece; piece = next()) {
      rest = rest.subarray(piece.bytes.length);
      onPiece(piece);
    }
  };
  function head() {
    const end = rest.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const bytes = rest.subarray(0, end + 4);
    next = /^upgrade: *websocket/im.test(bytes.toString('latin1')) ? () => frameOf(rest) : raw;
    return { bytes };
  }
  function raw() {
    return rest.length > 0 ? { bytes: rest } : undefined;
  }
}

/** The first frame of `bytes`, if it is complete. */
function frameOf(bytes) {
  if (bytes.length < 2) return undefined;
  const isMasked = bytes[1] >= 0x80;
  const short = bytes[1] & 0x7f;
  const lengthBytes = { 126: 2, 127: 8 }[short] ?? 0;
  const at = 2 + lengthBytes + (isMasked ? 4 : 0);
  if (bytes.length < at) return undefined;
  const length = lengthBytes ? Number(BigInt(`0x${bytes.subarray(2, 2 + lengthBytes).toString('hex')}`)) : short;
  if (bytes.length < at + length) return undefined;
  const payload = Buffer.from(bytes.subarray(at, at + length));
  if (isMasked) for (let i = 0; i < length; i += 1) payload[i] ^= bytes[at - 4 + (i % 4)];
  const kind = { [TEXT]: 'text', [CLOSE]: 'close', [PING]: 'ping', [PONG]: 'pong' }[bytes[0] & 0x0f] ?? 'other';
  return { kind, text: payload.toString(), code: length >= 2 ? payload.readUInt16BE() : 1005, bytes: bytes.subarray(0, at + length) };
}

/** Whether a client's message acknowledges what the server wrote before. */
export function isAcknowledgement({ kind, text }) {
  return kind === 'pong' || (kind === 'text' && text.includes('"pusher:pong"'));
}

/** Whether a message of the server asks for an acknowledgement. */
export function isQuestion({ kind, text }) {
  return kind === 'ping' || (kind === 'text' && text.includes('"pusher:ping"'));
}
