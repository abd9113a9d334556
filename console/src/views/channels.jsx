// The occupied channels of an app, with their counts.

import { useState } from 'preact/hooks';

import { useDelayed, useWatch } from '../context.js';
import { count, plural, rate } from '../format.js';
import { Badge, Choice, Empty, Heading, Panel, Search, Watched } from '../parts/basics.jsx';
import { Table } from '../parts/table.jsx';
import { replaceQuery, toApp } from '../routes.js';

const ORDERS = [['events', 'Busiest'], ['subscriptions', 'Largest'], ['name', 'Name']];

export function Channels({ app, route }) {
  const [search, setSearch] = useState(route.query.search ?? '');
  const order = route.query.order ?? 'events';
  const text = useDelayed(search.trim());
  const state = useWatch('channels', { app, order, ...(text && { search: text }) });
  const change = (next) => {
    setSearch(next);
    replaceQuery({ search: next.trim() });
  };
  return (
    <>
      <Heading title="Channels" note={state.value && plural(state.value.total, text ? 'matching channel' : 'occupied channel')} />
      <div class="tools">
        <Search label="Search channels" value={search} onChange={change} />
        <Choice label="Order" name="order" options={ORDERS} value={order} onChange={(next) => replaceQuery({ order: next })} />
      </div>
      <Watched state={state} rows={8}>{(value) => <List app={app} value={value} search={text} />}</Watched>
    </>
  );
}

function List({ app, value, search }) {
  const { channels, total, interval_ms } = value;
  if (channels.length === 0) {
    return search
      ? <Empty title="No channel matches">No occupied channel has “{search}” in its name.</Empty>
      : <Empty title="No channel is occupied">A channel appears here as soon as a client subscribes to it.</Empty>;
  }
  const perSecond = ({ events }) => (interval_ms > 0 ? (events * 1000) / interval_ms : 0);
  const columns = [
    { name: 'channel', title: 'Channel', wide: true, cell: ({ channel }) => <a href={toApp(app, 'channels', channel)} class="mono break">{channel}</a> },
    { name: 'kind', title: 'Kind', minor: true, cell: ({ channel }) => <Kind channel={channel} /> },
    { name: 'events', title: 'Events/s', number: true, cell: (row) => (perSecond(row) > 0 ? rate(perSecond(row)) : <span class="faint">0</span>) },
    { name: 'subscriptions', title: 'Subscriptions', number: true, cell: ({ subscriptions }) => count(subscriptions) },
    { name: 'users', title: 'Members', number: true, minor: true, cell: ({ users }) => (users === null ? <span class="faint">–</span> : count(users)) },
  ];
  return (
    <Panel title="Occupied channels" flush>
      <Table label="Channels" columns={columns} rows={channels} id={({ channel }) => channel} />
      {channels.length < total && <p class="panel-note">{count(channels.length)} of {count(total)} are shown. Search to find the others.</p>}
    </Panel>
  );
}

const KINDS = [
  ['private-encrypted-cache-', 'encrypted, cache'], ['private-encrypted-', 'encrypted'], ['private-cache-', 'private, cache'],
  ['presence-cache-', 'presence, cache'], ['private-', 'private'], ['presence-', 'presence'], ['cache-', 'cache'],
];

/** The kind of a channel, which its prefix says. */
export function kindOf(channel) {
  return KINDS.find(([prefix]) => channel.startsWith(prefix))?.[1] ?? 'public';
}

export function Kind({ channel }) {
  const kind = kindOf(channel);
  return <Badge kind={kind === 'public' ? 'plain' : 'info'}>{kind}</Badge>;
}
