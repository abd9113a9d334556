// Recent warnings and errors, with what they mean.

import { useState } from 'preact/hooks';

import { useWatch } from '../context.js';
import { Badge, Choice, Copy, Empty, Heading, OfNode, Search, Time, Watched } from '../parts/basics.jsx';
import { replaceQuery } from '../routes.js';

const MAX_ITEMS = 300;
const SHOW = [['all', 'All'], ['errors', 'Errors']];

/** Newest first. */
const start = (snapshot) => ({ seen: snapshot.length, items: [...snapshot].sort((one, other) => one.time - other.time).map((item, number) => ({ ...item, number })).reverse() });
const next = ({ seen, items }, item) => ({ seen: seen + 1, items: [{ ...item, number: seen }, ...items].slice(0, MAX_ITEMS) });

export function Log({ route }) {
  const state = useWatch('log', {}, { start, next });
  const [search, setSearch] = useState('');
  const show = route.query.show ?? 'all';
  const needle = search.trim().toLowerCase();
  const isShown = (item) => (show === 'all' || isError(item)) && textOf(item).toLowerCase().includes(needle);
  return (
    <>
      <Heading title="Warnings and errors" note="The last ones of the log, of all nodes." />
      <div class="tools">
        <Search label="Search the log" value={search} onChange={setSearch} />
        <Choice label="Which lines" name="show" options={SHOW} value={show} onChange={(value) => replaceQuery({ show: value })} />
      </div>
      <Watched state={state} rows={6}>
        {({ items }) => <Lines items={items.filter(isShown)} all={items.length} />}
      </Watched>
    </>
  );
}

function Lines({ items, all }) {
  if (items.length === 0) return <Empty title={all > 0 ? 'No line matches' : 'No warnings and no errors'}>{all > 0 ? null : 'The server has reported no problem since it started.'}</Empty>;
  return <ol class="panel rows" aria-label="Lines of the log">{items.map((item) => <Line key={item.number} item={item} />)}</ol>;
}

function Line({ item }) {
  const fields = Object.entries(item.fields ?? {});
  return (
    <li class="row">
      <div class="row-line">
        <Badge kind={isError(item) ? 'bad' : 'warn'}>{item.level.toLowerCase()}</Badge>
        <span class="row-main break">{item.message}</span>
        <OfNode node={item.node} />
        <span class="faint"><Time at={item.time} /></span>
        <Copy text={textOf(item)} label={`the line: ${item.message}`} />
      </div>
      {fields.length > 0 && (
        <dl class="fields">{fields.map(([name, value]) => <div key={name}><dt>{name}</dt><dd class="mono break">{text(value)}</dd></div>)}</dl>
      )}
      {item.explanation && <p class="row-explanation">{item.explanation}</p>}
    </li>
  );
}

function isError({ level }) {
  return level.toLowerCase() === 'error';
}

function textOf({ time, level, message, fields }) {
  const pairs = Object.entries(fields ?? {}).map(([name, value]) => `${name}=${text(value)}`);
  return [new Date(time).toISOString(), level.toUpperCase(), message, ...pairs].join(' ');
}

function text(value) {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
