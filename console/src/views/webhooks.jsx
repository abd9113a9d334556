// Deliveries of webhooks, and a second attempt at those that failed.

import { useState } from 'preact/hooks';

import { useConsole, useWatch } from '../context.js';
import { milliseconds, plural, pretty, sentence } from '../format.js';
import { Badge, Choice, Code, Empty, Heading, OfNode, Time, Watched } from '../parts/basics.jsx';
import { Icon } from '../parts/icons.jsx';
import { replaceQuery } from '../routes.js';

const MAX_ITEMS = 200;
const STATES = { delivered: ['good', 'delivered'], retrying: ['warn', 'retrying'], failed: ['bad', 'failed'] };
const SHOW = [['all', 'All'], ['trouble', 'Failed or retrying']];

/** Each node numbers its own attempts. */
const keyOf = ({ node, id }) => `${node ?? ''}/${id}`;

/** Newest first; a later state of a delivery takes the place of an earlier one. */
const next = (items, item) => [item, ...items.filter((other) => keyOf(other) !== keyOf(item))].slice(0, MAX_ITEMS);
const start = (snapshot) => [...snapshot].sort((one, other) => one.time - other.time).reduce(next, []);

export function Webhooks({ app, route }) {
  const state = useWatch('webhooks', { app }, { start, next });
  const show = route.query.show ?? 'all';
  return (
    <>
      <Heading title="Webhooks" note="The last deliveries to the endpoints of this app." />
      <div class="tools"><Choice label="Which deliveries" name="show" options={SHOW} value={show} onChange={(value) => replaceQuery({ show: value })} /></div>
      <Watched state={state} rows={6}>
        {(items) => <List app={app} items={items.filter((item) => show === 'all' || item.state !== 'delivered')} all={items.length} />}
      </Watched>
    </>
  );
}

function List({ app, items, all }) {
  if (items.length === 0) {
    return all > 0
      ? <Empty title="No delivery has failed">All {plural(all, 'delivery', 'deliveries')} that are kept have succeeded.</Empty>
      : <Empty title="No webhook was sent">Deliveries of this app's webhooks appear here. If none is configured, <code>[[apps.webhooks]]</code> adds one.</Empty>;
  }
  return <ul class="panel rows" aria-label="Deliveries">{items.map((item) => <Delivery key={keyOf(item)} app={app} item={item} />)}</ul>;
}

function Delivery({ app, item }) {
  const [kind, word] = STATES[item.state] ?? ['plain', item.state];
  const outcome = item.error ?? (item.status === null ? 'No answer yet' : `The endpoint answered ${item.status}`);
  return (
    <li class="row">
      <div class="row-line">
        <Badge kind={kind}>{word}</Badge>
        <span class="mono break row-main">{item.url}</span>
        <OfNode node={item.node} />
        <span class="faint"><Time at={item.time} /></span>
        {item.can_resend && <Resend app={app} item={item} />}
      </div>
      <p class="row-line faint">
        <span class="break">{[...new Set(item.events)].join(', ')}</span>
      </p>
      <p class="row-line">
        <span class={item.state === 'delivered' ? 'faint' : ''}>{outcome}</span>
        <span class="faint number">{milliseconds(item.took_ms)}</span>
        {item.attempt > 1 && <span class="faint">attempt {item.attempt}</span>}
      </p>
      {item.body !== null && item.body !== undefined && (
        <details><summary>Body</summary><Code text={pretty(item.body)} label={`the body of delivery ${item.id}`} /></details>
      )}
    </li>
  );
}

function Resend({ app, item }) {
  const { live } = useConsole();
  const [state, setState] = useState({});
  const resend = async () => {
    setState({ busy: true });
    try {
      await live.call('resend_webhook', { app, id: item.id, ...(item.node && { node: item.node }) });
      setState({ said: 'Sent again' });
    } catch (problem) {
      setState({ error: sentence(problem.message) });
    }
  };
  return (
    <span class="panel-tools">
      <button type="button" class="button small" disabled={state.busy} onClick={resend} aria-label={`Send again: delivery ${item.id}`}><Icon name="again" />Send again</button>
      <span role="status" class={state.error ? 'bad-text' : 'faint'}>{state.error ?? state.said}</span>
    </span>
  );
}
