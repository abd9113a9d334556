// Failed authorizations: what was received, and what should have been signed.

import { command } from '../command.js';
import { useWatch } from '../context.js';
import { sentence } from '../format.js';
import { Badge, Code, Empty, Facts, Heading, Notice, OfNode, Time, Watched } from '../parts/basics.jsx';
import { toApp } from '../routes.js';

const MAX_ITEMS = 200;
const KINDS = { private: 'private channel', presence: 'presence channel', signin: 'sign-in' };

/** Newest first. */
const start = (snapshot) => ({ seen: snapshot.length, items: [...snapshot].sort((one, other) => one.time - other.time).map(numbered).reverse() });
const next = ({ seen, items }, item) => ({ seen: seen + 1, items: [numbered(item, seen), ...items].slice(0, MAX_ITEMS) });

function numbered(item, number) {
  return { ...item, number };
}

export function Authorizations({ app }) {
  const state = useWatch('authorizations', { app }, { start, next });
  return (
    <>
      <Heading title="Failed authorizations" note="Subscriptions and sign-ins that were rejected because their signature is wrong." />
      <Watched state={state} rows={6}>
        {({ items }) => (items.length === 0
          ? <Empty title="No authorization has failed">When a client presents a wrong signature, this page says which string should have been signed.</Empty>
          : <ol class="cards" aria-label="Failed authorizations">{items.map((item) => <Failure key={item.number} app={app} item={item} />)}</ol>)}
      </Watched>
    </>
  );
}

function Failure({ app, item }) {
  const title = item.channel ?? 'Sign-in';
  const text = command(item);
  return (
    <li class="panel">
      <header class="panel-head">
        <h2 class={item.channel ? 'mono break' : ''}>{title}</h2>
        <span class="panel-tools"><OfNode node={item.node} /><Badge kind="bad">{KINDS[item.kind] ?? item.kind}</Badge><Time at={item.time} /></span>
      </header>
      <div class="panel-body failure">
        <p class="failure-why">{sentence(item.why)}</p>
        {item.hint && <Notice kind="info" title="Probable cause">{sentence(item.hint)}</Notice>}
        <Facts of={[
          ['Connection', <a class="mono" href={toApp(app, 'connections', item.socket_id)}>{item.socket_id}</a>],
          ...(item.key ? [['Key of the app', <span class="mono break">{item.key}</span>]] : []),
        ]} />
        {item.string_to_sign && (
          <Labelled title="The string that should have been signed"><Code text={item.string_to_sign} label={`the string that should have been signed for ${title}`} tone="good" /></Labelled>
        )}
        {item.received && (
          <Labelled title="Received, as KEY:SIGNATURE"><Code text={item.received} label={`what was received for ${title}`} tone="bad" /></Labelled>
        )}
        {text && (
          <details>
            <summary>Compute the right signature yourself</summary>
            <Code text={text} label={`the command that computes the signature for ${title}`} />
          </details>
        )}
      </div>
    </li>
  );
}

function Labelled({ title, children }) {
  return <div class="labelled"><p class="label">{title}</p>{children}</div>;
}
