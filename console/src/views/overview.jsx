// Overview: connections, rates, latency and nodes.

import { useMemo } from 'preact/hooks';

import { useConsole } from '../context.js';
import { bytes, cores, count, duration, milliseconds, rate, short } from '../format.js';
import { line, total } from '../history.js';
import { Badge, Heading, Notice, Panel, Watched } from '../parts/basics.jsx';
import { BYTE_STEPS, Plot } from '../parts/plot.jsx';
import { Table } from '../parts/table.jsx';
import { toApp } from '../routes.js';

/** The largest apps; all others are one click away. */
const MAX_APPS = 10;

export function Overview() {
  const { overview } = useConsole();
  return (
    <>
      <Heading title="Overview" />
      <Watched state={overview} rows={8}>{(history) => <Content history={history} />}</Watched>
    </>
  );
}

function Content({ history }) {
  const { latest } = history;
  if (!latest.nodes) return <OneApp history={history} />;
  return (
    <>
      <State latest={latest} />
      <Plots history={history} />
      <Nodes nodes={latest.nodes} rates={history.nodeRates} />
      <Apps apps={latest.apps} total={latest.apps_total} />
    </>
  );
}

/** What a session of one app may see. */
function OneApp({ history }) {
  return (
    <>
      <div class="plots"><ConnectionsPlot samples={history.samples} /></div>
      <Apps apps={history.latest.apps} total={history.latest.apps_total} />
    </>
  );
}

/** One line that says whether something is wrong. */
function State({ latest }) {
  const notReady = latest.nodes.filter(({ ready }) => !ready);
  const versions = new Set(latest.nodes.map(({ version }) => version));
  return (
    <>
      {notReady.map(({ node, reasons }) => (
        <Notice key={node} kind="bad" role="alert" title={`Node ${node} is not ready`}>{reasons.join('; ') || 'It gives no reason.'}</Notice>
      ))}
      {latest.redis && !latest.redis.connected && (
        <Notice kind="bad" role="alert" title="Redis is not connected">Publishes are answered with 503 until it is. Clients stay connected.</Notice>
      )}
      {versions.size > 1 && <Notice kind="warn" title="Nodes run different versions">{[...versions].join(', ')}</Notice>}
      <Strip latest={latest} />
    </>
  );
}

function Strip({ latest }) {
  const { nodes, redis, webhooks } = latest;
  const ready = nodes.filter((node) => node.ready).length;
  const facts = [
    ['Nodes ready', `${ready} of ${nodes.length}`, ready === nodes.length ? 'good' : 'bad'],
    ['Subscriptions', count(total(nodes, 'subscriptions'))],
    redis && ['Redis', redis.connected ? milliseconds(redis.round_trip_ms) : 'not connected', redis.connected ? 'good' : 'bad'],
    webhooks && ['Webhooks queued', count(webhooks.queued), webhooks.queued > 1000 ? 'warn' : undefined],
    webhooks && ['Webhooks failed', count(webhooks.failed), webhooks.failed > 0 ? 'warn' : undefined],
    ['Memory', bytes(total(nodes, 'rss_bytes'))],
  ].filter(Boolean);
  return (
    <dl class="strip">
      {facts.map(([name, value, state]) => (
        <div key={name}><dt>{name}</dt><dd>{state && <i class={`dot ${state}`} />}{value}</dd></div>
      ))}
    </dl>
  );
}

function useTimes(samples) {
  return useMemo(() => samples.map(({ time }) => time), [samples]);
}

function ConnectionsPlot({ samples }) {
  const lines = [{ label: 'open', color: 'series-1', values: line(samples, 'connections') }];
  return <Plot title="Connections" times={useTimes(samples)} lines={lines} format={count} axis={short} floor={4} />;
}

function Plots({ history: { samples } }) {
  const of = (name, label, color) => ({ label, color, values: line(samples, name) });
  const times = useTimes(samples);
  return (
    <div class="plots">
      <ConnectionsPlot samples={samples} />
      <Plot title="Delivery latency" times={times} lines={[of('p50', 'median', 'series-1'), of('p99', '99 %', 'series-2')]} format={milliseconds} axis={latencyAxis} floor={10} log />
      <Plot title="Messages per second" times={times} lines={[of('messages_out', 'to clients', 'series-1'), of('messages_in', 'from clients', 'series-2'), of('publishes', 'publishes', 'series-3')]} format={rate} axis={short} floor={4} />
      <Plot title="Bytes to clients per second" times={times} lines={[of('bytes_out', 'sent', 'series-1')]} format={bytes} axis={(value) => bytes(value).replace('.0 ', ' ')} floor={1024} steps={BYTE_STEPS} />
    </div>
  );
}

function latencyAxis(value) {
  return value < 1000 ? `${value} ms` : `${value / 1000} s`;
}

function Nodes({ nodes, rates }) {
  const columns = [
    { name: 'node', title: 'Node', cell: ({ node, is_this, version }) => <><span class="mono">{node}</span>{is_this && nodes.length > 1 && <span class="faint number"> this one</span>}<span class="under">{version}</span></> },
    { name: 'ready', title: 'State', cell: ({ ready, reasons }) => (ready ? <Badge kind="good">ready</Badge> : <Badge kind="bad" title={reasons.join('; ')}>not ready</Badge>) },
    { name: 'connections', title: 'Connections', number: true, cell: ({ connections }) => count(connections) },
    { name: 'out', title: 'Messages out/s', number: true, cell: ({ node }) => rate(rates[node]?.messages_out) },
    { name: 'in', title: 'Messages in/s', number: true, cell: ({ node }) => rate(rates[node]?.messages_in) },
    { name: 'cpu', title: 'CPU cores', number: true, cell: ({ node }) => cores(rates[node]?.cpu_seconds) },
    { name: 'memory', title: 'Memory', number: true, cell: ({ rss_bytes }) => bytes(rss_bytes) },
    { name: 'uptime', title: 'Up for', number: true, cell: ({ uptime_s }) => duration(uptime_s) },
  ];
  return <Panel title="Nodes" flush><Table label="Nodes" stacked columns={columns} rows={nodes} id={({ node }) => node} /></Panel>;
}

function Apps({ apps, total }) {
  const largest = [...apps].sort((one, other) => other.connections - one.connections).slice(0, MAX_APPS);
  const columns = [
    { name: 'app', title: 'App', cell: ({ id }) => <a href={toApp(id, 'channels')} class="mono">{id}</a> },
    { name: 'connections', title: 'Connections', number: true, cell: ({ id, connections }) => <a href={toApp(id, 'connections')}>{count(connections)}</a> },
  ];
  const aside = apps.length > MAX_APPS && <a href="#/apps">All {count(total)} apps</a>;
  return <Panel title={apps.length > MAX_APPS ? 'Largest apps' : 'Apps'} aside={aside} flush><Table label="Apps" columns={columns} rows={largest} id={({ id }) => id} /></Panel>;
}
