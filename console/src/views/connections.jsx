// The connections of an app: live ones, the last closed ones, the last rejected ones.

import { useState } from 'preact/hooks';

import { useDelayed, useWatch } from '../context.js';
import { bytes, capital, count, plural } from '../format.js';
import { Badge, Choice, Empty, Heading, Notice, OfNode, Panel, Search, Time, Watched } from '../parts/basics.jsx';
import { Table } from '../parts/table.jsx';
import { replaceQuery, toApp } from '../routes.js';

export function Connections({ app, route }) {
  const [search, setSearch] = useState(route.query.search ?? '');
  const show = route.query.show ?? 'live';
  const text = useDelayed(search.trim());
  const state = useWatch('connections', { app, ...(text && { search: text }) });
  const value = state.value;
  const options = [
    ['live', value ? `Live ${count(value.total)}` : 'Live'],
    ['closed', value ? `Closed ${count(value.closed.length)}` : 'Closed'],
    ['rejected', value ? `Rejected ${count(value.rejected.length)}` : 'Rejected'],
  ];
  const change = (next) => {
    setSearch(next);
    replaceQuery({ search: next.trim() });
  };
  return (
    <>
      <Heading title="Connections" />
      <div class="tools">
        <Choice label="Which connections" name="show" options={options} value={show} onChange={(next) => replaceQuery({ show: next })} />
        <Search label="Search connections" placeholder="Socket id, address, user, origin" value={search} onChange={change} />
      </div>
      <Watched state={state} rows={8}>
        {(all) => {
          return <><Missing nodes={all.nodes} /><List app={app} all={all} show={show} search={text} /></>;
        }}
      </Watched>
    </>
  );
}

function List({ app, all, show, search }) {
  if (show === 'closed') return <Closed app={app} rows={all.closed} search={search} />;
  if (show === 'rejected') return <Rejections rows={all.rejected} search={search} />;
  return <Open app={app} rows={all.connections} total={all.total} search={search} />;
}

/** Says that nodes are left out. */
function Missing({ nodes }) {
  if (!nodes || nodes.answered >= nodes.asked) return null;
  return <Notice kind="warn" title={`${count(nodes.answered)} of ${count(nodes.asked)} nodes have answered`}>The connections of the others are missing here. Their consoles are off, or they run another version.</Notice>;
}

const socket = (app) => ({
  name: 'socket', title: 'Connection', medium: true,
  cell: ({ socket_id, address, user_id, node }) => (
    <>
      <a href={toApp(app, 'connections', socket_id)} class="mono break">{socket_id}</a>
      <span class="under">{address}{user_id !== null && <> · user <span class="break">{user_id}</span></>}</span>
      {node && <span class="under"><OfNode node={node} /></span>}
    </>
  ),
});

const origin = {
  name: 'origin', title: 'Origin', minor: true, medium: true,
  cell: ({ client, origin: text }) => <>{text ? <span class="break">{text}</span> : <span class="faint">none</span>}{client && <span class="under">{client}</span>}</>,
};

function Open({ app, rows, total, search }) {
  if (rows.length === 0) {
    return search ? <Empty title="No connection matches" /> : <Empty title="No client is connected">If you expect one, look at the rejected connections.</Empty>;
  }
  const columns = [
    { ...socket(app), medium: false, wide: true },
    origin,
    { name: 'since', title: 'Since', number: true, minor: true, cell: ({ connected_at }) => <Time at={connected_at} /> },
    { name: 'subscriptions', title: 'Subscriptions', number: true, minor: true, cell: ({ subscriptions }) => count(subscriptions) },
    { name: 'waiting', title: 'Waiting', number: true, cell: ({ waiting_bytes }) => (waiting_bytes > 0 ? <span class="warn-text">{bytes(waiting_bytes)}</span> : <span class="faint">0 B</span>) },
  ];
  return (
    <Panel title="Live connections" flush>
      <Table label="Live connections" columns={columns} rows={rows} id={({ socket_id }) => socket_id} />
      {rows.length < total && <p class="panel-note">{count(rows.length)} of {count(total)} are shown. Search to find the others.</p>}
    </Panel>
  );
}

function Closed({ app, rows, search }) {
  if (rows.length === 0) return <Empty title={search ? 'No closed connection matches' : 'No connection was closed'}>The last closed connections appear here.</Empty>;
  const columns = [
    socket(app),
    origin,
    { name: 'closed', title: 'Closed', number: true, cell: ({ closed_at }) => <Time at={closed_at} /> },
    { name: 'messages', title: 'Messages', number: true, minor: true, cell: ({ messages_in, messages_out }) => <>{count(messages_in)} in<span class="under">{count(messages_out)} out</span></> },
    { name: 'why', title: 'Why', wide: true, cell: Why },
  ];
  return (
    <Panel title="Closed connections" aside={<span class="faint">{plural(rows.length, 'connection')}</span>} flush>
      <Table label="Closed connections" stacked columns={columns} rows={rows} id={({ socket_id, closed_at }) => `${socket_id} ${closed_at}`} />
    </Panel>
  );
}

function Rejections({ rows, search }) {
  if (rows.length === 0) return <Empty title={search ? 'No rejected connection matches' : 'No connection was rejected'}>Unknown keys, origins that are not allowed and exceeded limits appear here.</Empty>;
  const columns = [
    { name: 'time', title: 'Time', number: true, cell: ({ time }) => <Time at={time} /> },
    { name: 'address', title: 'Address', medium: true, cell: ({ address, origin, node }) => <>{address}{origin && <span class="under break">{origin}</span>}{node && <span class="under"><OfNode node={node} /></span>}</> },
    { name: 'key', title: 'Key', minor: true, cell: ({ key }) => <span class="mono break">{key}</span> },
    { name: 'why', title: 'Why', wide: true, cell: ({ status_or_code, ...row }) => <Why code={status_or_code} {...row} /> },
  ];
  return (
    <Panel title="Rejected connections" aside={<span class="faint">{plural(rows.length, 'attempt')}</span>} flush>
      <Table label="Rejected connections" stacked columns={columns} rows={rows} id={(row) => `${row.node} ${row.time} ${row.address} ${row.status_or_code}`} />
    </Panel>
  );
}

/** Why a connection was closed or rejected, in the words of the server. */
export function Why({ code, reason, explanation }) {
  const isNormal = code === 1000 || code === 1001 || code === null;
  return (
    <div class="why">
      <p>{code !== null && code !== undefined && <Badge kind={isNormal ? 'plain' : 'bad'}>{code}</Badge>} {reason && capital(reason)}</p>
      {explanation && <p class="why-explanation">{explanation}</p>}
    </div>
  );
}
