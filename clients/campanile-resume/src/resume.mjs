// Exactly once: the page counts the events of each channel, and tells Campanile where it has stopped. Other servers ignore it.

/** Channels in one message, which has to stay below `connection.max_message_bytes`. */
const CHANNELS_MAX = 100;

/** A value for `wsPath` with a random token. Make one for each page load, and keep it over reconnections. */
export function resumePath(prefix = '') {
  const token = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return `${prefix}/app/resume-${token}`;
}

/** Begins to count for a client of pusher-js or laravel-echo, which it returns. Call it right after its constructor. */
export function resume(client) {
  const pusher = client.connector ? client.connector.pusher : client;
  const { connection } = pusher;
  const positions = new Map();
  const count = ({ event, channel, data }) => {
    const position = positions.get(channel);
    if (event === 'pusher_internal:position') positions.set(channel, [...data]);
    else if (position && !/^(pusher(_internal)?:|campanile:|client-)/.test(event)) position[1] += 1;
  };
  // Global handlers are called before those of channels, so an event counts even if the page's own handler throws.
  connection.bind_global((name, message) => { if (name === 'message') count(message); });
  // `connected` comes later, after the channels have been subscribed.
  connection.bind('state_change', ({ current }) => {
    if (current !== 'connected') return;
    for (const name of positions.keys()) if (!pusher.channel(name)) positions.delete(name);
    const all = [...positions];
    do pusher.send_event('campanile:resume', { channels: Object.fromEntries(all.splice(0, CHANNELS_MAX)) });
    while (all.length > 0);
  });
  return client;
}
