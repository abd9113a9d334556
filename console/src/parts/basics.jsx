// Small parts that all views use.

import { useEffect, useRef, useState } from 'preact/hooks';

import { clock, exact, sentence } from '../format.js';
import { Icon } from './icons.jsx';

/** How long a button says that it has copied. */
const COPIED_MS = 1500;

/** A heading of a view, with what belongs beside it. */
export function Heading({ title, back, children, note, copy }) {
  return (
    <header class="heading">
      <div class="heading-text">
        {back && <a class="back" href={back.href}><Icon name="back" />{back.label}</a>}
        <div class="heading-title"><h1 tabIndex={-1}>{title}</h1>{copy}</div>
        {note && <p class="note">{note}</p>}
      </div>
      {children && <div class="heading-actions">{children}</div>}
    </header>
  );
}

/** A time of day; the exact time is in its title. */
export function Time({ at }) {
  if (at === null || at === undefined) return <span class="faint">–</span>;
  return <time dateTime={new Date(at).toISOString()} title={exact(at)}>{clock(at)}</time>;
}

/** A word with a colour: `good`, `warn`, `bad`, `info` or `plain`. */
export function Badge({ kind = 'plain', children, title }) {
  return <span class={`badge ${kind}`} title={title}>{children}</span>;
}

/** A button that copies `text`. `label` says what it copies. */
export function Copy({ text, label }) {
  const [state, setState] = useState('idle');
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  const copy = async () => {
    setState(await copyText(text) ? 'copied' : 'failed');
    clearTimeout(timer.current);
    timer.current = setTimeout(() => setState('idle'), COPIED_MS);
  };
  const said = { idle: '', copied: 'Copied', failed: 'Copying failed: select the text by hand' }[state];
  return (
    <span class="copy">
      <button type="button" class="icon-button" aria-label={`Copy ${label}`} title={`Copy ${label}`} onClick={copy}>
        <Icon name={state === 'copied' ? 'done' : 'copy'} />
      </button>
      <span class="copy-said" role="status">{said}</span>
    </span>
  );
}

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyWithoutClipboard(text);
  }
}

/** Browsers have no clipboard on pages without TLS, other than those of this machine. */
function copyWithoutClipboard(text) {
  const area = document.createElement('textarea');
  area.value = text;
  area.className = 'off-screen';
  document.body.append(area);
  area.select();
  const copied = document.execCommand('copy');
  area.remove();
  return copied;
}

/** A block of text with a button that copies it. */
export function Code({ text, label, tone }) {
  return (
    <div class={`code ${tone ?? ''}`}>
      <pre tabIndex={0} role="region" aria-label={label}><code>{text}</code></pre>
      <Copy text={text} label={label} />
    </div>
  );
}

/** Pairs of a name and a value. Pairs without a value are left out. */
export function Facts({ of }) {
  return (
    <dl class="facts">
      {of.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => (
        <div key={name}><dt>{name}</dt><dd>{value}</dd></div>
      ))}
    </dl>
  );
}

/** What is shown in place of a list that has nothing in it. */
export function Empty({ title, children }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children && <p>{children}</p>}
    </div>
  );
}

/** What is shown until the first answer of the server. */
export function Loading({ rows = 4 }) {
  return (
    <div class="loading" role="status">
      <span class="off-screen">Loading</span>
      {Array.from({ length: rows }, (_, row) => <div class="loading-row" key={row} aria-hidden="true" />)}
    </div>
  );
}

/** A sentence of the server about what it does not do. */
export function Problem({ title = 'The server rejected this', children }) {
  return (
    <div class="notice bad" role="alert">
      <p class="notice-title">{title}</p>
      <p>{children}</p>
    </div>
  );
}

export function Notice({ kind = 'info', title, children, role }) {
  return (
    <div class={`notice ${kind}`} role={role}>
      {title && <p class="notice-title">{title}</p>}
      {children && <p>{children}</p>}
    </div>
  );
}

/** Shows the state of a watch, and `children(value)` when there is a value. */
export function Watched({ state, rows, children }) {
  if (state.status === 'loading') return <Loading rows={rows} />;
  if (state.status === 'error') return <Problem>{sentence(state.error)}</Problem>;
  return children(state.value);
}

export function Search({ value, onChange, label, placeholder }) {
  return (
    <label class="search">
      <span class="off-screen">{label}</span>
      <Icon name="search" />
      <input
        type="search" value={value} placeholder={placeholder ?? label} autocomplete="off" spellcheck={false}
        onInput={(event) => onChange(event.currentTarget.value)}
      />
    </label>
  );
}

/** A choice of one of a few: `options` are pairs of a value and a label. */
export function Choice({ label, options, value, onChange, name }) {
  return (
    <fieldset class="choice">
      <legend class="off-screen">{label}</legend>
      {options.map(([each, text]) => (
        <label key={each}>
          <input type="radio" name={name} value={each} checked={each === value} onChange={() => onChange(each)} />
          <span>{text}</span>
        </label>
      ))}
    </fieldset>
  );
}

/** A panel with a heading of its own. */
export function Panel({ title, aside, children, flush = false }) {
  return (
    <section class={`panel ${flush ? 'flush' : ''}`}>
      <header class="panel-head"><h2>{title}</h2>{aside}</header>
      <div class="panel-body">{children}</div>
    </section>
  );
}

/** The node that something is from, if there are several. */
export function OfNode({ node }) {
  return node ? <span class="faint">node <span class="mono break">{node}</span></span> : null;
}
