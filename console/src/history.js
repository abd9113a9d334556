// The last minutes of the overview: totals of the server become rates, and rates become plots.

/** Five minutes of one sample a second. */
const MAX_SAMPLES = 300;
const COUNTERS = ['messages_in', 'messages_out', 'publishes', 'bytes_out'];

/** An overview without samples. */
export const EMPTY = { latest: null, rates: {}, nodeRates: {}, samples: [] };

/**
 * Adds an overview of the server to the earlier ones.
 *
 * A session of one app gets the connections of its app, and no nodes. Rates are the sum over nodes that are in both overviews and did not start anew in between. `gap` adds an interruption, so that
 * plots do not connect what was before and after a lost connection.
 */
export function add(before, latest, { gap = false } = {}) {
  const usable = before.latest && !gap ? before.latest : null;
  const nodeRates = {};
  for (const node of latest.nodes ?? []) {
    const earlier = usable?.nodes?.find((each) => each.node === node.node);
    const seconds = usable ? (latest.time - usable.time) / 1000 : 0;
    if (earlier && seconds > 0) nodeRates[node.node] = between(earlier, node, seconds);
  }
  const rates = sum(Object.values(nodeRates));
  const sample = {
    time: latest.time / 1000,
    connections: total(latest.nodes ?? latest.apps, 'connections'),
    // Zero is not on a logarithmic axis.
    p50: latest.latency_ms?.p50 || null,
    p99: latest.latency_ms?.p99 || null,
    ...rates,
  };
  const interruption = gap && before.samples.length ? [{ time: sample.time - 0.001 }] : [];
  return { latest, rates, nodeRates, samples: [...before.samples, ...interruption, sample].slice(-MAX_SAMPLES) };
}

/** One line of a plot, with null where there is no value. */
export function line(samples, name) {
  return samples.map((sample) => sample[name] ?? null);
}

/** The sum of a number over all nodes, or null if no node reports it. */
export function total(nodes, name) {
  const values = nodes.map((node) => node[name]).filter((value) => typeof value === 'number');
  return values.length ? values.reduce((sum, value) => sum + value, 0) : null;
}

function between(earlier, later, seconds) {
  const rates = {};
  for (const name of [...COUNTERS, 'cpu_seconds']) {
    const change = later[name] - earlier[name];
    if (change >= 0) rates[name] = change / seconds;
  }
  return rates;
}

function sum(all) {
  const rates = {};
  for (const name of COUNTERS) {
    const values = all.map((each) => each[name]).filter((value) => value !== undefined);
    if (values.length) rates[name] = values.reduce((total, value) => total + value, 0);
  }
  return rates;
}
