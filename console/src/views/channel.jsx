// One channel: its members and its events as they happen.

import { useMemo, useRef, useState } from 'preact/hooks';

import { useConsole, useWatch } from '../context.js';
import { count, plural } from '../format.js';
import { Badge, Copy, Empty, Facts, Heading, Notice, Panel, Search, Watched } from '../parts/basics.jsx';
import { Sampled, Stream } from '../parts/stream.jsx';
import { toApp } from '../routes.js';
import { Kind } from './channels.jsx';

const MAX_MEMBERS = 200;
const MAX_CHANGES = 300;

/** The value: the state of the channel, what has happened since the view was opened, and the last sample. */
function start(snapshot, before) {
  return { state: snapshot, items: before?.items ?? [], sampled: null, seen: before?.seen ?? 0 };
}

function next(value, item) {
  switch (item.type) {
    case 'event':
      return keep(value, item);
    case 'members':
      return keep({ ...value, state: withMembers(value.state, item) }, { ...item, time: item.time ?? Date.now() });
    case 'state':
      return { ...value, state: item };
    case 'sampled':
      return { ...value, sampled: { ...item, at: Date.now() } };
    default:
      return value;
  }
}

/** Newest first. Each gets a number that identifies it in the list. */
function keep(value, item) {
  const seen = value.seen + 1;
  return { ...value, seen, items: [{ ...item, number: seen }, ...value.items].slice(0, MAX_CHANGES) };
}

function withMembers(state, { added, removed }) {
  if (!state.users) return state;
  const gone = new Set(removed.map(idOf));
  const news = added.filter((user) => !state.users.some(({ id }) => id === idOf(user)));
  const users = [...state.users.filter(({ id }) => !gone.has(id)), ...news.map((user) => (typeof user === 'object' ? user : { id: user, info: null }))];
  // Not all members of a large channel are listed; their number comes with the next state.
  return { ...state, users };
}

function idOf(user) {
  return typeof user === 'object' ? user.id : user;
}

export function Channel({ app, item: channel }) {
  const { session } = useConsole();
  // Of an app that was looked up in a database since, the session knows nothing.
  const hidden = session.apps.find(({ id }) => id === app)?.payloads === false;
  const state = useWatch('channel', { app, channel }, { start, next, scope: `${app}/${channel}` });
  return (
    <>
      <Heading title={<span class="mono break">{channel}</span>} back={{ href: toApp(app, 'channels'), label: 'Channels' }} copy={<Copy text={channel} label="the channel's name" />}>
        <a class="button" href={toApp(app, 'publish', undefined, { channel })}>Publish to it</a>
      </Heading>
      <Watched state={state} rows={8}>
        {(value) => (
          <>
            <State channel={channel} state={value.state} />
            {hidden && <Notice title="Payloads are not shown">Event names, sizes and senders are. To see data here, set <code>console_payloads = true</code> for this app.</Notice>}
            <div class={value.state.users ? 'columns' : ''}>
              <Events value={value} />
              {value.state.users && <Members users={value.state.users} total={value.state.user_count} />}
            </div>
          </>
        )}
      </Watched>
    </>
  );
}

function State({ channel, state }) {
  return (
    <Facts of={[
      ['Kind', <Kind channel={channel} />],
      ['State', state.occupied ? <Badge kind="good">occupied</Badge> : <Badge>vacant</Badge>],
      ['Subscriptions', count(state.subscriptions)],
      ['Members', state.user_count === null ? null : count(state.user_count)],
      ['Cached event', /(^|-)cache-/.test(channel) ? (state.cached ? 'yes' : 'none') : null],
    ]} />
  );
}

function Events({ value }) {
  const [search, setSearch] = useState('');
  const [isPaused, setPaused] = useState(false);
  const [cleared, setCleared] = useState(0);
  const frozen = useRef([]);
  if (!isPaused) frozen.current = value.items;
  const needle = search.trim().toLowerCase();
  const shown = useMemo(() => frozen.current.filter((item) => item.number > cleared && matches(item, needle)), [frozen.current, cleared, needle]);
  const missed = isPaused ? value.seen - (frozen.current[0]?.number ?? 0) : 0;
  const aside = (
    <div class="panel-tools">
      {isPaused && missed > 0 && <span class="faint" role="status">{plural(missed, 'new item')}</span>}
      <button type="button" class="button small" aria-pressed={isPaused} onClick={() => setPaused(!isPaused)}>{isPaused ? 'Resume' : 'Pause'}</button>
      <button type="button" class="button small" onClick={() => setCleared(value.seen)}>Clear</button>
    </div>
  );
  return (
    <Panel title="Live events" aside={aside} flush>
      <div class="panel-search"><Search label="Filter by event or text" value={search} onChange={setSearch} /></div>
      <Sampled sampled={value.sampled} />
      {shown.length > 0
        ? <Stream label="Live events" items={shown} />
        : <Empty title={needle ? 'No event matches' : 'Waiting for events'}>{needle ? 'Only events since this page was opened are searched.' : 'Events that are published to this channel appear here.'}</Empty>}
    </Panel>
  );
}

function matches(item, needle) {
  if (!needle) return true;
  if (item.type === 'members') return [...item.added, ...item.removed].some((user) => idOf(user).toLowerCase().includes(needle));
  return `${item.event} ${item.data ?? ''} ${item.user_id ?? ''}`.toLowerCase().includes(needle);
}

function Members({ users, total }) {
  const shown = users.slice(0, MAX_MEMBERS);
  return (
    <Panel title="Members" aside={<span class="faint number">{count(total)}</span>} flush>
      {users.length === 0 && <Empty title="No members" />}
      <ul class="members" aria-label="Members">
        {shown.map(({ id, info }) => (
          <li key={id}>
            <span class="mono break">{id}</span>
            {info !== null && info !== undefined && <span class="faint break">{typeof info === 'string' ? info : summary(info)}</span>}
          </li>
        ))}
      </ul>
      {shown.length < total && <p class="panel-note">{count(shown.length)} of {count(total)} are shown.</p>}
    </Panel>
  );
}

/** The name in the information of a member, or all of it. */
function summary(info) {
  const name = info?.name;
  return typeof name === 'string' ? name : JSON.stringify(info);
}
