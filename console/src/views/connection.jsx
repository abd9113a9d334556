// The story of one connection.

import { useMemo, useRef, useState } from 'preact/hooks';

import { useConsole, useWatch } from '../context.js';
import { bytes, count, plural, sentence } from '../format.js';
import { Badge, Copy, Empty, Facts, Heading, Notice, Panel, Time, Watched } from '../parts/basics.jsx';
import { Sampled, Stream } from '../parts/stream.jsx';
import { toApp } from '../routes.js';
import { Why } from './connections.jsx';

const MAX_MESSAGES = 300;
const SUBSCRIBED = 'pusher_internal:subscription_succeeded';
const UNSUBSCRIBE = 'pusher:unsubscribe';

function start(snapshot, before) {
  return { state: snapshot, items: before?.items ?? [], seen: before?.seen ?? 0, sampled: null };
}

function next(value, item) {
  switch (item.type) {
    case 'in':
    case 'out':
      return keep({ ...value, state: withMessage(value.state, item) }, item);
    case 'closed': {
      const time = item.time ?? Date.now();
      const { code, reason, explanation, messages_in, messages_out } = item;
      return keep({ ...value, state: { ...value.state, closed_at: time, code, reason, explanation, messages_in, messages_out } }, { ...item, time });
    }
    case 'state':
      return { ...value, state: { ...value.state, ...item } };
    case 'sampled':
      return { ...value, sampled: { ...item, at: Date.now() } };
    default:
      return value;
  }
}

function keep(value, item) {
  const seen = value.seen + 1;
  return { ...value, seen, items: [{ ...item, number: seen }, ...value.items].slice(0, MAX_MESSAGES) };
}

/** Subscriptions follow from the messages: the list of channels is in the first state only. */
function withMessage(state, { type, event, channel }) {
  let channels = state.channels ?? [];
  if (type === 'out' && event === SUBSCRIBED && channel && !channels.includes(channel)) channels = [...channels, channel];
  if (type === 'in' && event === UNSUBSCRIBE && channel) channels = channels.filter((each) => each !== channel);
  const subscriptions = state.subscriptions + channels.length - (state.channels ?? []).length;
  const counts = type === 'in' ? { messages_in: state.messages_in + 1 } : { messages_out: state.messages_out + 1 };
  return { ...state, channels, subscriptions, ...counts };
}

export function Connection({ app, item: socket_id }) {
  const { session } = useConsole();
  // Of an app that was looked up in a database since, the session knows nothing.
  const hidden = session.apps.find(({ id }) => id === app)?.payloads === false;
  const state = useWatch('connection', { app, socket_id }, { start, next, scope: `${app}/${socket_id}` });
  const isOpen = state.value && state.value.state.closed_at === null;
  return (
    <>
      <Heading title={<><span class="off-screen">Connection </span><span class="mono">{socket_id}</span></>} back={{ href: toApp(app, 'connections'), label: 'Connections' }} copy={<Copy text={socket_id} label="the socket id" />}>
        {isOpen && <Disconnect app={app} socket_id={socket_id} />}
      </Heading>
      <Watched state={state} rows={8}>
        {(value) => (
          <>
            {value.state.closed_at !== null && <End state={value.state} />}
            <About state={value.state} />
            {hidden && <Notice title="Payloads are not shown">Event names and sizes are. To see data here, set <code>console_payloads = true</code> for this app.</Notice>}
            <div class="columns">
              <Messages value={value} />
              <Subscriptions app={app} channels={value.state.channels ?? []} />
            </div>
          </>
        )}
      </Watched>
    </>
  );
}

function End({ state }) {
  return (
    <div class="notice bad" role="status">
      <p class="notice-title">Closed at <Time at={state.closed_at} /></p>
      <Why {...state} />
    </div>
  );
}

function About({ state }) {
  return (
    <Facts of={[
      ['State', state.closed_at === null ? <Badge kind="good">open</Badge> : <Badge kind="bad">closed</Badge>],
      ['Connected', <Time at={state.connected_at} />],
      ['Address', <span class="mono">{state.address}</span>],
      ['Node', state.node && <span class="mono break">{state.node}</span>],
      ['Client', state.client],
      ['Origin', state.origin && <span class="break">{state.origin}</span>],
      ['User', state.user_id && <span class="mono break">{state.user_id}</span>],
      ['Subscriptions', count(state.subscriptions)],
      ['Messages in', count(state.messages_in)],
      ['Messages out', count(state.messages_out)],
      ['Waiting to be sent', state.waiting_bytes === null ? null : <span class={state.waiting_bytes > 0 ? 'warn-text' : ''}>{bytes(state.waiting_bytes)}</span>],
    ]} />
  );
}

function Messages({ value }) {
  const [isPaused, setPaused] = useState(false);
  const frozen = useRef([]);
  if (!isPaused) frozen.current = value.items;
  const missed = isPaused ? value.seen - (frozen.current[0]?.number ?? 0) : 0;
  const aside = (
    <div class="panel-tools">
      {missed > 0 && <span class="faint" role="status">{plural(missed, 'new message')}</span>}
      <button type="button" class="button small" aria-pressed={isPaused} onClick={() => setPaused(!isPaused)}>{isPaused ? 'Resume' : 'Pause'}</button>
    </div>
  );
  return (
    <Panel title="Messages" aside={aside} flush>
      <Sampled sampled={value.sampled} />
      {frozen.current.length > 0
        ? <Stream label="Messages" items={frozen.current} />
        : <Empty title={value.state.closed_at === null ? 'Waiting for messages' : 'The connection is closed'}>Messages since this page was opened appear here, in both directions.</Empty>}
    </Panel>
  );
}

function Subscriptions({ app, channels }) {
  const sorted = useMemo(() => [...channels].sort(), [channels]);
  return (
    <Panel title="Subscriptions" aside={<span class="faint number">{count(channels.length)}</span>} flush>
      {sorted.length === 0
        ? <Empty title="No subscriptions" />
        : <ul class="members" aria-label="Subscriptions">{sorted.map((channel) => <li key={channel}><a class="mono break" href={toApp(app, 'channels', channel)}>{channel}</a></li>)}</ul>}
    </Panel>
  );
}

function Disconnect({ app, socket_id }) {
  const { live } = useConsole();
  const dialog = useRef();
  const [error, setError] = useState(null);
  const disconnect = async () => {
    dialog.current.close();
    setError(null);
    try {
      await live.call('disconnect', { app, socket_id });
    } catch (problem) {
      setError(sentence(problem.message));
    }
  };
  return (
    <>
      <button type="button" class="button danger" onClick={() => dialog.current.showModal()}>Disconnect</button>
      {error && <span role="alert" class="bad-text">{error}</span>}
      <dialog ref={dialog} aria-labelledby="disconnect-title">
        <h2 id="disconnect-title">Disconnect {socket_id}?</h2>
        <p>The server closes the connection with code 4009, after which Pusher's clients do not connect again by themselves.</p>
        <div class="dialog-actions">
          <button type="button" class="button" onClick={() => dialog.current.close()}>Cancel</button>
          <button type="button" class="button danger" onClick={disconnect}>Disconnect</button>
        </div>
      </dialog>
    </>
  );
}
