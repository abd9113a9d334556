// The navigation: views of the server, views of one app, the session.

import { useEffect, useState } from 'preact/hooks';

import { useConsole } from './context.js';
import { Choice } from './parts/basics.jsx';
import { Icon } from './parts/icons.jsx';
import { APP_VIEWS, SERVER_VIEWS, toApp, toServer } from './routes.js';
import { keep, recall } from './storage.js';
import { chooseTheme, chosenTheme, THEMES } from './theme.js';

/** With more apps, the list of apps has a view of its own, with a search. */
const MAX_APPS_IN_MENU = 50;

export const TITLES = {
  overview: 'Overview',
  log: 'Warnings and errors',
  configuration: 'Configuration',
  apps: 'Apps',
  channels: 'Channels',
  connections: 'Connections',
  authorizations: 'Failed authorizations',
  webhooks: 'Webhooks',
  publish: 'Publish',
};

const LAST_APP = 'campanile-console-app';

/** The app that was looked at last in this browser, or the first one. */
function lastApp(apps) {
  const kept = recall(LAST_APP);
  return apps.some(({ id }) => id === kept) ? kept : apps[0]?.id;
}

/** The view of the app that shows an item of it. */
const LISTS = { channel: 'channels', connection: 'connections' };

export function Navigation({ route, isOpen, onLogOut }) {
  const { session } = useConsole();
  const [last, setLast] = useState(() => lastApp(session.apps));
  useEffect(() => {
    if (!route.app) return;
    setLast(route.app);
    keep(LAST_APP, route.app);
  }, [route.app]);
  const app = route.app ?? last;
  const current = LISTS[route.view] ?? route.view;
  const server = SERVER_VIEWS.filter((view) => !session.app || view === 'overview');
  return (
    <nav id="navigation" class={`navigation ${isOpen ? 'open' : ''}`} aria-label="Console">
      <a class="brand" href={toServer('overview')}><img src="icon.svg" alt="" width="24" height="24" />Campanile</a>
      <Group label="Server">{server.map((view) => <Entry key={view} view={view} href={toServer(view)} current={current} />)}</Group>
      {app !== undefined && (
        <Group label="App">
          <li><AppChooser apps={session.apps} app={app} view={APP_VIEWS.includes(current) ? current : 'channels'} current={current} /></li>
          {APP_VIEWS.map((view) => <Entry key={view} view={view} href={toApp(app, view)} current={current} />)}
        </Group>
      )}
      <Foot session={session} onLogOut={onLogOut} />
    </nav>
  );
}

function Group({ label, children }) {
  const id = `navigation-${label}`;
  return <div class="navigation-group"><h2 id={id}>{label}</h2><ul aria-labelledby={id}>{children}</ul></div>;
}

function Entry({ view, href, current }) {
  return (
    <li><a href={href} aria-current={view === current ? 'page' : undefined}><Icon name={view} /><span>{TITLES[view]}</span></a></li>
  );
}

function AppChooser({ apps, app, view, current }) {
  if (apps.length === 1) return <p class="app-name" title={`App id ${app}`}>{nameOf(apps[0])}</p>;
  if (apps.length > MAX_APPS_IN_MENU) {
    const chosen = apps.find(({ id }) => id === app);
    return (
      <a class="app-name" href="#/apps" aria-current={current === 'apps' ? 'page' : undefined}>
        <Icon name="apps" /><span>{chosen ? nameOf(chosen) : app}</span>
      </a>
    );
  }
  return (
    <label class="field">
      <span class="off-screen">App</span>
      <select value={app} onChange={(event) => { location.hash = toApp(event.currentTarget.value, view); }}>
        {!apps.some(({ id }) => id === app) && <option value={app}>{app}</option>}
        {apps.map((each) => <option key={each.id} value={each.id}>{nameOf(each)}</option>)}
      </select>
    </label>
  );
}

export function nameOf({ id, name }) {
  return name && name !== id ? `${name} (${id})` : id;
}

function Foot({ session, onLogOut }) {
  const [theme, setTheme] = useState(chosenTheme);
  const { connection } = useConsole();
  const choose = (next) => {
    chooseTheme(next);
    setTheme(next);
  };
  const state = { open: ['good', 'Live'], connecting: ['warn', 'Connecting'], lost: ['bad', 'Not connected'] }[connection.status];
  return (
    <div class="navigation-foot">
      <p class="live-state"><i class={`dot ${state?.[0]}`} />{state?.[1]}</p>
      <Choice label="Theme" name="theme" options={THEMES} value={theme} onChange={choose} />
      {!session.development && <button type="button" class="button quiet" onClick={onLogOut}><Icon name="logout" />Log out</button>}
      <p class="version">Campanile {session.version}<br /><span title="Node">{session.node}</span></p>
    </div>
  );
}
