// What a client received, as a list of entries. Runs in pages as well, so it uses nothing of Node.

/** The event that publishers publish; its data is `{ from, n }` and more. */
export const EVENT = 'numbered';
export const GAP = 'campanile:gap';

/** Begins to record a pusher-js client: its connections, and the messages that acknowledge what it has handled. */
export function record(pusher) {
  const log = [];
  const { connection } = pusher;
  connection.bind('state_change', ({ current }) => {
    if (current === 'connected') log.push({ kind: 'connected', socketId: connection.socket_id });
  });
  connection.bind('message', ({ event, channel, data }) => {
    // pusher-js has answered it already.
    if (event === 'pusher:ping') log.push({ kind: 'ping' });
    if (event === 'pusher_internal:subscription_succeeded') log.push({ kind: 'subscribed', channel });
    const change = /^pusher_internal:member_(added|removed)$/.exec(event);
    if (change) log.push({ kind: change[1], channel, user: String((typeof data === 'string' ? JSON.parse(data) : data).user_id) });
  });
  // Bound on the client, for handlers of encrypted channels are called with nothing that is not encrypted.
  pusher.bind(GAP, ({ channel, since_ms: since }) => log.push({ kind: 'gap', channel, since_ms: since }));
  return log;
}

/** Subscribes with pusher-js, and records what the channel's handlers are called with. */
export function recordChannel(log, pusher, name) {
  const channel = pusher.subscribe(name);
  channel.bind(EVENT, (data) => log.push(eventOf(name, data)));
}

/** Subscribes with Echo, by the method that the name asks for. */
export function recordEchoChannel(log, echo, name) {
  const [, method, short] = [
    [/^private-encrypted-/, 'encryptedPrivate'], [/^private-/, 'private'], [/^presence-/, 'join'], [/^/, 'channel'],
  ].map(([prefix, of]) => [prefix.test(name), of, name.replace(prefix, '')]).find(([fits]) => fits);
  echo[method](short).listen(`.${EVENT}`, (data) => log.push(eventOf(name, data)));
}

function eventOf(channel, { from, n }) {
  return { kind: 'event', channel, from, n };
}
