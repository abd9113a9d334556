// The frame around all views: navigation, the state of the connection, and the view of the current address.

import { useEffect, useMemo, useRef, useState } from 'preact/hooks';

import { Console, useSeconds, useWatch } from './context.js';
import { add, EMPTY } from './history.js';
import { Live } from './live.js';
import { Navigation } from './navigation.jsx';
import { Icon } from './parts/icons.jsx';
import { useRoute } from './routes.js';
import { readSession } from './session.js';
import { View } from './views.jsx';

const startOverview = (snapshot, before) => add(before ?? EMPTY, snapshot, { gap: true });
const nextOverview = (before, data) => add(before, data);

export function Shell({ session: first, onLogOut, onExpired }) {
  const [session, setSession] = useState(first);
  const [connection, setConnection] = useState({ status: 'connecting' });
  const live = useMemo(() => new Live({
    onState: setConnection,
    check: async () => {
      const next = await readSession();
      if (!next) return null;
      setSession(next);
      return next.csrf;
    },
  }), []);
  useEffect(() => {
    live.open();
    return () => live.end();
  }, [live]);
  useEffect(() => { if (connection.status === 'ended') onExpired(); }, [connection.status]);
  const overview = useWatch('overview', {}, { start: startOverview, next: nextOverview, live });
  const shared = useMemo(() => ({ live, session, overview, connection }), [live, session, overview, connection]);
  const leave = () => {
    live.end();
    onLogOut();
  };
  return (
    <Console.Provider value={shared}>
      <a class="skip" href="#content" onClick={skip}>Skip to the content</a>
      <Frame onLogOut={leave} />
    </Console.Provider>
  );
}

/** The address is that of the view, so the link must not change it. */
function skip(event) {
  event.preventDefault();
  document.querySelector('#content h1')?.focus();
}

function Frame({ onLogOut }) {
  const route = useRoute();
  const [isOpen, setOpen] = useState(false);
  const path = `${route.view}/${route.app}/${route.item}`;
  const isFirst = useRef(true);
  useEffect(() => {
    setOpen(false);
    // The focus follows to the new view, so that screen readers announce it. The first view is not a change.
    if (!isFirst.current) document.querySelector('#content h1')?.focus({ preventScroll: true });
    if (!isFirst.current) scrollTo(0, 0);
    isFirst.current = false;
  }, [path]);
  return (
    <div class="frame">
      <header class="top-bar">
        <button type="button" class="icon-button" aria-expanded={isOpen} aria-controls="navigation" aria-label="Menu" onClick={() => setOpen(!isOpen)}>
          <Icon name={isOpen ? 'close' : 'menu'} />
        </button>
        <span class="brand"><img src="icon.svg" alt="" width="22" height="22" />Campanile</span>
      </header>
      <Navigation route={route} isOpen={isOpen} onLogOut={onLogOut} />
      <main id="content" class="content">
        <ConnectionState />
        <View key={`${route.view}/${route.app}`} route={route} />
      </main>
    </div>
  );
}

/** Says that the live connection is lost, and when it is tried again. */
function ConnectionState() {
  return (
    <Console.Consumer>
      {({ connection, live }) => (
        <div role="status">
          {connection.status === 'lost' && <Lost connection={connection} onRetry={() => live.open()} />}
        </div>
      )}
    </Console.Consumer>
  );
}

function Lost({ connection, onRetry }) {
  const wait_s = Math.max(0, Math.ceil((connection.retryAt - useSeconds()) / 1000));
  return (
    <div class="notice warn lost">
      <div>
        <p class="notice-title">{connection.detail}</p>
        <p>What you see is from before. <span aria-hidden="true">{wait_s > 0 ? `Next attempt in ${wait_s} s.` : 'Connecting.'}</span></p>
      </div>
      <button type="button" class="button" onClick={onRetry}>Connect now</button>
    </div>
  );
}
