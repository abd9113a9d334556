import { configureEcho } from '@laravel/echo-react';
import { createRoot } from 'react-dom/client';

import { Room } from './Room.jsx';

const name = new URLSearchParams(location.search).get('name') ?? 'Guest';

configureEcho({
  broadcaster: 'reverb',
  key: import.meta.env.VITE_REVERB_APP_KEY,
  wsHost: import.meta.env.VITE_REVERB_HOST,
  wsPort: import.meta.env.VITE_REVERB_PORT,
  wssPort: import.meta.env.VITE_REVERB_PORT,
  forceTLS: import.meta.env.VITE_REVERB_SCHEME === 'https',
  enabledTransports: ['ws', 'wss'],
  // In an application, the session says who the user is.
  auth: { headers: { 'X-User': name } },
});

createRoot(document.getElementById('app')).render(<Room id={1} name={name} />);
