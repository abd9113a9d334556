// The effective configuration, with the source of each value.

import { useEffect, useState } from 'preact/hooks';

import { useConsole } from '../context.js';
import { plural, sentence } from '../format.js';
import { Badge, Choice, Empty, Heading, Loading, Panel, Problem, Search } from '../parts/basics.jsx';
import { Table } from '../parts/table.jsx';

const SHOW = [['all', 'All'], ['set', 'Set by you']];

export function Configuration() {
  const { live, connection } = useConsole();
  const [state, setState] = useState({});
  const [search, setSearch] = useState('');
  const [show, setShow] = useState('all');
  const isOpen = connection.status === 'open';
  // A reload of the server may have changed it while the connection was lost.
  useEffect(() => {
    if (!isOpen) return;
    live.call('configuration', {}).then((rows) => setState({ rows }), (problem) => setState({ error: sentence(problem.message) }));
  }, [isOpen]);
  return (
    <>
      <Heading title="Configuration" note="What is in force on this node, and where each value comes from. Secrets are masked." />
      <div class="tools">
        <Search label="Search settings" value={search} onChange={setSearch} />
        <Choice label="Which settings" name="show" options={SHOW} value={show} onChange={setShow} />
      </div>
      {state.error && <Problem>{state.error}</Problem>}
      {!state.error && !state.rows && <Loading rows={10} />}
      {state.rows && <Settings rows={state.rows.filter((row) => matches(row, search, show))} />}
    </>
  );
}

function matches({ key, value, source }, search, show) {
  const needle = search.trim().toLowerCase();
  return (show === 'all' || source !== 'default') && `${key} ${value} ${source}`.toLowerCase().includes(needle);
}

function Settings({ rows }) {
  if (rows.length === 0) return <Empty title="No setting matches" />;
  const columns = [
    { name: 'key', title: 'Setting', wide: true, cell: ({ key }) => <span class="mono break">{key}</span> },
    { name: 'value', title: 'Value', medium: true, cell: ({ value }) => (value === '***' ? <Badge>masked</Badge> : <span class="mono break">{value}</span>) },
    { name: 'source', title: 'Source', cell: ({ source }) => (source === 'default' ? <span class="faint">default</span> : <span class="source break">{source}</span>) },
  ];
  return <Panel title={plural(rows.length, 'setting')} flush><Table label="Settings" stacked columns={columns} rows={rows} id={({ key }) => key} rowClass={({ source }) => (source === 'default' ? undefined : 'set')} /></Panel>;
}
