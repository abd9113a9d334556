// Which component shows an address.

import { useConsole, useTitle } from './context.js';
import { TITLES } from './navigation.jsx';
import { Heading, Notice } from './parts/basics.jsx';
import { toApp } from './routes.js';
import { Apps } from './views/apps.jsx';
import { Authorizations } from './views/authorizations.jsx';
import { Channel } from './views/channel.jsx';
import { Channels } from './views/channels.jsx';
import { Configuration } from './views/configuration.jsx';
import { Connection } from './views/connection.jsx';
import { Connections } from './views/connections.jsx';
import { Log } from './views/log.jsx';
import { Overview } from './views/overview.jsx';
import { Publish } from './views/publish.jsx';
import { Webhooks } from './views/webhooks.jsx';

const COMPONENTS = {
  overview: Overview, apps: Apps, log: Log, configuration: Configuration, channels: Channels, channel: Channel,
  connections: Connections, connection: Connection, authorizations: Authorizations, webhooks: Webhooks, publish: Publish,
};

/** Views that show what concerns all apps. */
const NOT_FOR_ONE_APP = ['log', 'configuration'];

export function View({ route }) {
  const { session } = useConsole();
  useTitle(route.item ?? TITLES[route.view] ?? 'Unknown address');
  if (route.view === 'unknown') return <Unknown />;
  const isOthers = route.app !== undefined && session.app && session.app !== route.app;
  if (session.app && (isOthers || NOT_FOR_ONE_APP.includes(route.view))) return <NotAllowed title={TITLES[route.view] ?? route.item} app={session.app} />;
  const Component = COMPONENTS[route.view];
  return <Component key={`${route.app}/${route.item}`} route={route} app={route.app} item={route.item} />;
}

function NotAllowed({ title, app }) {
  return (
    <>
      <Heading title={title} />
      <Notice kind="warn" title="Not allowed">
        This session is limited to the app {app}. Log in with the password of the console to see everything. <a href={toApp(app, 'channels')}>Channels of {app}</a>
      </Notice>
    </>
  );
}

function Unknown() {
  return (
    <>
      <Heading title="Unknown address" />
      <Notice kind="warn">The console has no view for this address. <a href="#/overview">Overview</a></Notice>
    </>
  );
}
