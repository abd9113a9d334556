import { useEffect, useRef, useState } from 'preact/hooks';

import { useSeconds, useTitle } from '../context.js';
import { sentence } from '../format.js';
import { Notice } from '../parts/basics.jsx';
import { logIn } from '../session.js';

/** The form that asks for the password. */
export function LogIn({ note, onSession }) {
  const [forApp, setForApp] = useState(false);
  const [state, setState] = useState({ busy: false, error: null, until: 0 });
  const password = useRef();
  const now = useSeconds();
  const wait_s = Math.max(0, Math.ceil((state.until - now) / 1000));
  useTitle('Log in');
  useEffect(() => password.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget);
    setState({ busy: true, error: null, until: 0 });
    try {
      onSession(await logIn(form.get('password'), forApp ? form.get('app').trim() : undefined));
    } catch (error) {
      setState({ busy: false, error: error.status ? sentence(error.message) : 'The server does not answer.', until: error.retryAfter_s ? Date.now() + 1000 * error.retryAfter_s : 0 });
      password.current.select();
    }
  };
  return (
    <main class="centred">
      <form class="card" onSubmit={submit} aria-labelledby="log-in-title">
        <div class="brand large"><img src="icon.svg" alt="" width="36" height="36" /><h1 id="log-in-title">Campanile console</h1></div>
        {note && !state.error && <p class="note" role="status">{note}</p>}
        <label class="field">
          <span>Password</span>
          <input ref={password} name="password" type="password" autocomplete="current-password" required aria-describedby={state.error ? 'log-in-error' : undefined} />
        </label>
        {forApp && (
          <label class="field">
            <span>App id</span>
            <input name="app" autocomplete="username" spellcheck={false} required />
          </label>
        )}
        <label class="check">
          <input type="checkbox" checked={forApp} onChange={(event) => setForApp(event.currentTarget.checked)} />
          <span>Log in to one app only</span>
        </label>
        <div id="log-in-error" aria-live="assertive">
          {state.error && <Notice kind="bad">{state.error}{wait_s > 0 && ` Wait ${wait_s} s.`}</Notice>}
        </div>
        <button type="submit" class="button primary" disabled={state.busy || wait_s > 0}>{state.busy ? 'Logging in' : 'Log in'}</button>
      </form>
    </main>
  );
}
