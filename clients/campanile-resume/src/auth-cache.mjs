// Spares the application's authorization endpoint when many clients reconnect: with resume, the socket id stays the same, and a
// signature of a socket id and a channel stays valid.

/**
 * Remembers the answers of `authorize(socketId, channelName)`, which returns a promise of the endpoint's JSON, until the socket id
 * changes. Rejections are not remembered. Returns what the options of both libraries take.
 */
export function cacheAuthorization(authorize) {
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
export function askEndpoint(endpoint = '/broadcasting/auth', headers = {}) {
  return async (socketId, channelName) => {
    const body = new URLSearchParams({ socket_id: socketId, channel_name: channelName });
    const response = await fetch(endpoint, { method: 'POST', headers: { Accept: 'application/json', ...headers }, body });
    // Echo's `error` handlers read the status.
    if (!response.ok) throw Object.assign(new Error(`${endpoint} answered with ${response.status}`), { type: 'AuthError', status: response.status });
    return response.json();
  };
}
