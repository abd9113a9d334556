// The connection to Campanile: Laravel Echo with pusher-js, configured like in a Laravel application.

import Echo from '/vendor/echo.js';

const WORDS = {
  connected: 'Connected',
  connecting: 'Connecting…',
  failed: 'No connection, still trying',
  disconnected: 'Disconnected',
};

/** By this name, chosen once per load, Campanile recognises the page when it returns, and sends what it has missed. */
const token = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');

/** Connects. Calls `onState(state, words)` on each change, and `onRefusal` with the reason of a final close. */
export function connect(campanile, { onState, onRefusal }) {
  const echo = new Echo({
    broadcaster: 'reverb',
    key: campanile.key,
    wsHost: campanile.host,
    wsPort: campanile.port,
    wssPort: campanile.port,
    forceTLS: campanile.tls,
    wsPath: `/app/resume-${token}`,
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
