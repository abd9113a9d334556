// A list of messages as they happen, newest first.

import { useSeconds } from '../context.js';
import { bytes, count, plural, pretty } from '../format.js';
import { Badge, Copy, Notice, Time } from './basics.jsx';
import { Icon } from './icons.jsx';
import { memo } from './memo.js';

/** Longer data is folded. */
const MAX_OPEN_DATA = 100;
const PREVIEW = 200;

/** The server says each second that it samples; after a silence of this length it no longer does. */
const SAMPLED_FOR_MS = 3000;

/**
 * `items` have a `number` and a `type`: `event`, `members`, `in`, `out` or `closed`. The list is not announced by itself: at many
 * events a second nothing else could be heard.
 */
export function Stream({ label, items }) {
  return (
    <div class="stream" role="log" aria-live="off" aria-label={label} tabIndex={0}>
      <ol>{items.map((item) => <Item key={item.number} item={item} />)}</ol>
    </div>
  );
}

const Item = memo(({ item }) => {
  if (item.type === 'members') return <Members item={item} />;
  if (item.type === 'closed') return <Closed item={item} />;
  return (
    <li class={`stream-item ${item.type}`}>
      <div class="stream-line">
        <Time at={item.time} />
        {item.type === 'in' && <Badge kind="info" title="from the client"><Icon name="out" />from client</Badge>}
        {item.type === 'out' && <Badge title="to the client"><Icon name="in" />to client</Badge>}
        <span class="mono stream-event break">{item.event}</span>
        {item.type !== 'event' && item.channel && <span class="faint mono break">{item.channel}</span>}
        {item.from && <Badge kind={item.from === 'client' ? 'info' : 'plain'} title={item.socket_id ? `connection ${item.socket_id}` : undefined}>{item.from}{item.user_id ? ` · ${item.user_id}` : ''}</Badge>}
        <span class="stream-size number faint">{bytes(item.bytes)}</span>
      </div>
      {typeof item.data === 'string' && item.data !== '' && <Data item={item} />}
    </li>
  );
});

function Data({ item: { data: text, event, is_cut, bytes: size } }) {
  if (text.length <= MAX_OPEN_DATA) {
    return <div class="stream-data"><code class="break">{text}</code><Copy text={text} label={`the data of ${event}`} /></div>;
  }
  return (
    <details class="stream-data">
      <summary><code>{text.slice(0, PREVIEW).replace(/\s+/g, ' ')}…</code></summary>
      <div class="code"><pre tabIndex={0} role="region" aria-label={`Data of ${event}`}><code>{pretty(text)}</code></pre><Copy text={text} label={`the data of ${event}`} /></div>
      {is_cut && <p class="faint">Only the beginning of {bytes(size)} is shown.</p>}
    </details>
  );
}

function Members({ item }) {
  const names = (users) => users.map((user) => (typeof user === 'object' ? user.id : user)).join(', ');
  return (
    <li class="stream-item members-change">
      <div class="stream-line">
        <Time at={item.time} />
        {item.added.length > 0 && <><Badge kind="good">{item.added.length === 1 ? 'member added' : plural(item.added.length, 'member added', 'members added')}</Badge><span class="mono break">{names(item.added)}</span></>}
        {item.removed.length > 0 && <><Badge kind="warn">{item.removed.length === 1 ? 'member removed' : plural(item.removed.length, 'member removed', 'members removed')}</Badge><span class="mono break">{names(item.removed)}</span></>}
      </div>
    </li>
  );
}

function Closed({ item }) {
  return (
    <li class="stream-item closed">
      <div class="stream-line"><Time at={item.time} /><Badge kind="bad">closed {item.code}</Badge><span>{item.reason}</span></div>
      {item.explanation && <p class="stream-explanation">{item.explanation}</p>}
    </li>
  );
}

/** Says that only a part of the messages is shown. */
export function Sampled({ sampled }) {
  const now = useSeconds();
  const isSampled = sampled && now - sampled.at < SAMPLED_FOR_MS;
  return (
    <div role="status">
      {isSampled && <Notice kind="warn">Sampled: <b class="number">{count(sampled.shown)} of {count(sampled.of)}</b> in the last second are shown. Counts and rates elsewhere are complete.</Notice>}
    </div>
  );
}
