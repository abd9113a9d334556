// The connection to Campanile: Laravel Echo over pusher-js, as a Laravel application would set it up.

import Echo from '/vendor/echo.js';

const WORDS = {
  connected: 'Connected',
  connecting: 'Connecting…',
  failed: 'No connection, still trying',
  disconnected: 'Disconnected',
};

/** Connects. `onState` is told of each change as `(state, words)`, `onRefusal` why the server sent us away. */
export function connect(campanile, { onState, onRefusal }) {
  const echo = new Echo({
    broadcaster: 'reverb',
    key: campanile.key,
    wsHost: campanile.host,
    wsPort: campanile.port,
    wssPort: campanile.port,
    forceTLS: campanile.tls,
    enabledTransports: ['ws', 'wss'],
  });
  const tell = (state) => onState(state, WORDS[state]);
  echo.connector.onConnectionChange(tell);
  tell(echo.connectionStatus());
  // Codes from 4000 to 4099 end a connection for good, so pusher-js does not come back by itself.
  echo.connector.pusher.connection.bind('error', (error) => {
    const { code, message } = error.data ?? error.error?.data ?? {};
    if (code >= 4000 && code < 4100) onRefusal(`${message || 'The server sent us away.'} (${code})`);
  });
  return echo;
}
