// The start of the page: finds out whether a log-in is needed, and shows the log-in or the console.

import { render } from 'preact';
import { useEffect, useState } from 'preact/hooks';

import { sentence } from './format.js';
import { Notice } from './parts/basics.jsx';
import { logOut, readSession } from './session.js';
import { Shell } from './shell.jsx';
import { startTheme } from './theme.js';
import { LogIn } from './views/log-in.jsx';

export function start(element) {
  startTheme();
  render(<Start />, element);
}

function Start() {
  const [state, setState] = useState({ phase: 'starting' });
  const read = async () => {
    try {
      const session = await readSession();
      setState(session ? { phase: 'console', session } : { phase: 'log-in' });
    } catch (error) {
      setState({ phase: 'failed', error });
    }
  };
  useEffect(() => { read(); }, []);
  switch (state.phase) {
    case 'console': {
      const leave = async () => {
        await logOut(state.session.csrf).catch(() => {});
        setState({ phase: 'log-in', note: 'You are logged out.' });
      };
      const expire = () => setState({ phase: 'log-in', note: 'The session has ended. Log in again.' });
      return <Shell session={state.session} onLogOut={leave} onExpired={expire} />;
    }
    case 'log-in':
      return <LogIn note={state.note} onSession={(session) => setState({ phase: 'console', session })} />;
    case 'failed':
      return <Failed error={state.error} onRetry={read} />;
    default:
      return <main class="centred" aria-busy="true"><p class="faint" role="status">Loading</p></main>;
  }
}

function Failed({ error, onRetry }) {
  const isOff = error.status === 404;
  return (
    <main class="centred">
      <div class="card">
        <h1>Campanile console</h1>
        <Notice kind="bad" role="alert" title={isOff ? 'The console is off' : 'The server does not answer'}>
          {isOff ? 'The server does not offer the console to this address.' : sentence(error.message)}
        </Notice>
        <button type="button" class="button" onClick={onRetry}>Try again</button>
      </div>
    </main>
  );
}
