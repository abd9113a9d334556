// All apps, to choose one.

import { useState } from 'preact/hooks';

import { useConsole } from '../context.js';
import { count, plural } from '../format.js';
import { Badge, Empty, Heading, Panel, Search } from '../parts/basics.jsx';
import { Table } from '../parts/table.jsx';
import { toApp } from '../routes.js';

/** More rows than this are not looked through; the search narrows them down. */
const MAX_ROWS = 200;

export function Apps() {
  const { session, overview } = useConsole();
  const [search, setSearch] = useState('');
  const connections = new Map(overview.value?.latest?.apps.map((app) => [app.id, app.connections]));
  const needle = search.trim().toLowerCase();
  const found = session.apps.filter(({ id, name }) => `${id} ${name ?? ''}`.toLowerCase().includes(needle));
  const total = session.apps_total ?? session.apps.length;
  const wanted = search.trim();
  const isUnknown = total > session.apps.length && wanted && !session.apps.some(({ id }) => id === wanted);
  const columns = [
    { name: 'id', title: 'App', cell: ({ id }) => <a href={toApp(id, 'channels')} class="mono">{id}</a> },
    { name: 'name', title: 'Name', minor: true, cell: ({ name }) => name ?? <span class="faint">–</span> },
    { name: 'payloads', title: 'Payloads', minor: true, cell: ({ payloads }) => (payloads ? <Badge kind="info">shown</Badge> : <Badge>not shown</Badge>) },
    { name: 'connections', title: 'Connections', number: true, cell: ({ id }) => count(connections.get(id)) },
  ];
  return (
    <>
      <Heading title="Apps" note={plural(total, 'app')} />
      <div class="tools"><Search label="Search apps" value={search} onChange={setSearch} /></div>
      <Panel title={needle ? plural(found.length, 'app') : 'All apps'} flush>
        {found.length
          ? <Table label="Apps" columns={columns} rows={found.slice(0, MAX_ROWS)} id={({ id }) => id} />
          : <Empty title="No app matches">Search for a part of an id or a name.</Empty>}
        {isUnknown && <p class="panel-note">The first {count(session.apps.length)} by id are looked through. <a href={toApp(wanted, 'channels')}>Open the app with the id <span class="mono">{wanted}</span></a></p>}
        {found.length > MAX_ROWS && <p class="panel-note">The first {MAX_ROWS} of {count(found.length)} are shown.</p>}
      </Panel>
    </>
  );
}
