// campanile-resume, MIT or Apache-2.0. Built from src by build.mjs.
// Exactly once: the page counts the events of each channel, and tells Campanile where it has stopped. Other servers ignore it.

/** Channels in one message, which has to stay below `connection.max_message_bytes`. */
const CHANNELS_MAX = 100;

/** A value for `wsPath` with a random token. Make one for each page load, and keep it over reconnections. */
function resumePath(prefix = '') {
  const token = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  return `${prefix}/app/resume-${token}`;
}

/** Begins to count for a client of pusher-js or laravel-echo, which it returns. Call it right after its constructor. */
function resume(client) {
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

// Spares the application's authorization endpoint when many clients reconnect: with resume, the socket id stays the same, and a
// signature of a socket id and a channel stays valid.

/**
 * Remembers the answers of `authorize(socketId, channelName)`, which returns a promise of the endpoint's JSON, until the socket id
 * changes. Rejections are not remembered. Returns what the options of both libraries take.
 */
function cacheAuthorization(authorize) {
  let current;
  let answers = new Map();
  const answer = (socketId, channelName) => {
    if (socketId !== current) [current, answers] = [socketId, new Map()];
    const known = answers;
    if (!known.has(channelName)) {
      known.set(channelName, Promise.resolve().then(() => authorize(socketId, channelName)).catch((error) => {
        known.delete(channelName);
        throw error;
      }));
    }
    return known.get(channelName);
  };
  const call = (socketId, channelName, callback) => {
    // A copy: pusher-js takes the key of an encrypted channel out of what it is given.
    answer(socketId, channelName).then((data) => callback(null, { ...data }), (error) => callback(error, null));
  };
  return {
    /** For pusher-js: `channelAuthorization: { customHandler }`. */
    customHandler: ({ socketId, channelName }, callback) => call(socketId, channelName, callback),
    /** For laravel-echo: `authorizer`. */
    authorizer: ({ name }) => ({ authorize: (socketId, callback) => call(socketId, name, callback) }),
  };
}

/** Asks an endpoint like Laravel's `/broadcasting/auth`, with the page's cookies. A status other than 2xx rejects. */
function askEndpoint(endpoint = '/broadcasting/auth', headers = {}) {
  return async (socketId, channelName) => {
    const body = new URLSearchParams({ socket_id: socketId, channel_name: channelName });
    const response = await fetch(endpoint, { method: 'POST', headers: { Accept: 'application/json', ...headers }, body });
    // Echo's `error` handlers read the status.
    if (!response.ok) throw Object.assign(new Error(`${endpoint} answered with ${response.status}`), { type: 'AuthError', status: response.status });
    return response.json();
  };
}

export { askEndpoint, cacheAuthorization, resume, resumePath };
