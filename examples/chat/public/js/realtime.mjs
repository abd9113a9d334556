// The connection to Campanile: Laravel Echo with pusher-js, configured like in a Laravel application.

import Echo from '/vendor/echo.js';

const WORDS = {
  connected: 'Connected',
  connecting: 'Connecting…',
  failed: 'No connection, still trying',
  disconnected: 'Disconnected',
};

/** Connects. Calls `onState(state, words)` on each change, and `onRefusal` with the reason of a final close. */
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
  // After codes from 4000 to 4099, pusher-js does not reconnect.
  echo.connector.pusher.connection.bind('error', (error) => {
    const { code, message } = error.data ?? error.error?.data ?? {};
    if (code >= 4000 && code < 4100) onRefusal(`${message || 'The server sent us away.'} (${code})`);
  });
  return echo;
}
