// Live plots over the last minutes.

import { useEffect, useRef, useState } from 'preact/hooks';
import uPlot from 'uplot';

import { clock } from '../format.js';

const HEIGHT = 132;
const AXIS_WIDTH = 52;
const AXIS_FONT = '11px system-ui, sans-serif';
/** A plot begins with the shorter span, and grows with its samples to the longer one. */
const MIN_SPAN_S = 60;
const MAX_SPAN_S = 300;
/** Distances of marks on the axis of time. */
const TIME_STEPS_S = [15, 30, 60, 120];
/** The smallest value on an axis of powers of ten. */
const LOG_MIN = 0.01;
/** Distances of marks that are round numbers of bytes. */
export const BYTE_STEPS = Array.from({ length: 40 }, (_, power) => 2 ** power);
const SYNC = uPlot.sync('overview');

/**
 * A plot of `lines`, `{ name, label, color, values }`, over `times` in seconds. The colour is the name of a CSS property.
 *
 * `format` makes the texts of values, `axis` those of the axis, which starts at zero and reaches to `floor` at least; its marks are
 * `steps` apart. With `log`, each mark is ten times the one below. The figure above shows the last values, or those under the pointer.
 */
export function Plot({ title, times, lines, format, axis, floor = 1, steps, log = false }) {
  const frame = useRef();
  const plot = useRef();
  const [index, setIndex] = useState(null);
  const theme = useTheme();
  useEffect(() => {
    const element = frame.current;
    const options = optionsOf({ lines, axis, floor, steps, log, width: element.clientWidth, onCursor: setIndex });
    const made = new uPlot(options, dataOf(times, lines), element);
    plot.current = made;
    const resized = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    return () => {
      resized.disconnect();
      made.destroy();
    };
  }, [theme]);
  useEffect(() => plot.current.setData(dataOf(times, lines)), [times]);
  const at = index !== null && index < times.length ? index : times.length - 1;
  const values = lines.map(({ label, values: all, color }) => ({ label, color, text: format(all[at] ?? null) }));
  const summary = values.map(({ label, text }) => `${label} ${text}`).join(', ');
  return (
    <section class="plot" aria-label={title}>
      <header class="plot-head">
        <h2>{title}</h2>
        <span class="plot-time">{index !== null && times[at] ? clock(times[at] * 1000) : ''}</span>
      </header>
      <dl class={`figures ${lines.length > 1 ? 'several' : ''}`}>
        {values.map(({ label, color, text }) => (
          <div key={label}><dt><i class={`swatch ${color}`} />{label}</dt><dd>{text}</dd></div>
        ))}
      </dl>
      <div ref={frame} class="plot-frame" role="img" aria-label={`${title}, the last five minutes. Now: ${summary}`} />
    </section>
  );
}

function dataOf(times, lines) {
  return [times, ...lines.map(({ values }) => values)];
}

function optionsOf({ lines, axis, floor, steps, log, width, onCursor }) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const common = { stroke: color('faint'), font: AXIS_FONT, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    padding: [8, 4, 0, 0],
    legend: { show: false },
    cursor: { y: false, sync: { key: SYNC.key }, points: { size: 6 }, drag: { x: false, y: false } },
    hooks: { setCursor: [(plot) => onCursor(plot.cursor.left >= 0 ? plot.cursor.idx ?? null : null)] },
    scales: {
      x: { time: true, range: spanOf },
      y: log ? { distr: 3, log: 10, range: (_, __, max) => [LOG_MIN, powerAbove(Math.max(floor, max ?? 0))] } : { range: (_, __, max) => [0, Math.max(floor, (max ?? 0) * 1.15)] },
    },
    axes: [
      { ...common, size: 24, gap: 4, space: 70, grid: { show: false }, values: timesOf, incrs: TIME_STEPS_S },
      { ...common, size: AXIS_WIDTH, gap: 6, space: 22, grid: { stroke: color('grid'), width: 1 }, values: (_, ticks) => ticks.map(axis), ...(steps && { incrs: steps }), ...(log && { splits: (plot) => powersTo(plot.scales.y.max), filter: (_, marks) => marks }) },
    ],
    series: [{}, ...lines.map((each) => ({
      label: each.label,
      stroke: color(each.color),
      width: 1.6,
      fill: lines.length === 1 ? color(`${each.color}-fill`) : undefined,
      points: { show: false },
      spanGaps: false,
    }))],
  };
}

function powerAbove(value) {
  return 10 ** Math.ceil(Math.log10(value) - 1e-9);
}

function powersTo(max) {
  const all = [];
  for (let power = LOG_MIN; power <= max * 1.001; power *= 10) all.push(Number(power.toPrecision(3)));
  return all;
}

function spanOf(_, first, last) {
  const end = last ?? Date.now() / 1000;
  const span = Math.min(MAX_SPAN_S, Math.max(MIN_SPAN_S, end - (first ?? end)));
  return [end - span, end];
}

/** Seconds are left out where all marks are full minutes, and marks whose text would run into the other axis have none. */
function timesOf({ scales: { x } }, ticks, __, ___, step) {
  const first = x.min + (x.max - x.min) * 0.07;
  return ticks.map((tick) => (tick < first ? '' : clock(tick * 1000).slice(-8, step < 60 ? undefined : -3)));
}

/** The theme in use, rendered again when it changes. */
function useTheme() {
  const root = document.documentElement;
  const [theme, setTheme] = useState(root.dataset.theme);
  useEffect(() => {
    const observer = new MutationObserver(() => setTheme(root.dataset.theme));
    observer.observe(root, { attributeFilter: ['data-theme'] });
    setTheme(root.dataset.theme);
    return () => observer.disconnect();
  }, []);
  return theme;
}
