// A form that publishes an event.

import { useState } from 'preact/hooks';

import { useConsole } from '../context.js';
import { bytes, clock, plural, sentence } from '../format.js';
import { Heading, Notice, Panel } from '../parts/basics.jsx';
import { toApp } from '../routes.js';

const MAX_SENT = 20;
const encoder = new TextEncoder();

export function Publish({ app, route }) {
  const { live } = useConsole();
  const [form, setForm] = useState({ channels: route.query.channel ?? '', event: '', data: '{}', socket_id: '' });
  const [state, setState] = useState({ busy: false });
  const [sent, setSent] = useState([]);
  const set = (name) => (event) => setForm({ ...form, [name]: event.currentTarget.value });
  const channels = form.channels.split(/[\s,]+/).filter(Boolean);
  const json = jsonProblem(form.data);
  const submit = async (event) => {
    event.preventDefault();
    setState({ busy: true });
    const params = { app, channels, event: form.event, data: form.data, ...(form.socket_id.trim() && { socket_id: form.socket_id.trim() }) };
    try {
      const result = await live.call('publish', params);
      setState({ busy: false, done: said(channels, result) });
      setSent([{ ...params, at: Date.now() }, ...sent].slice(0, MAX_SENT));
    } catch (problem) {
      setState({ busy: false, error: sentence(problem.message) });
    }
  };
  return (
    <>
      <Heading title="Publish" note={`Sends an event to subscribers, as the HTTP API of the app ${app} does.`} />
      <div class="columns">
        <form class="panel form" onSubmit={submit} aria-label="Publish an event">
          <label class="field">
            <span>Channels</span>
            <input name="channels" class="mono" value={form.channels} onInput={set('channels')} required spellcheck={false} autocomplete="off" aria-describedby="channels-note" />
            <small id="channels-note">Separated by spaces or commas.</small>
          </label>
          <label class="field">
            <span>Event</span>
            <input name="event" class="mono" value={form.event} onInput={set('event')} required spellcheck={false} autocomplete="off" />
          </label>
          <label class="field">
            <span>Data</span>
            <textarea name="data" class="mono" rows={8} value={form.data} onInput={set('data')} spellcheck={false} aria-describedby="data-note" />
            <small id="data-note">{bytes(encoder.encode(form.data).length)}{json ? ` · not JSON: ${json}. It is sent as text.` : ' · JSON'}</small>
          </label>
          <label class="field">
            <span>Except this connection <em>optional</em></span>
            <input name="socket_id" class="mono" value={form.socket_id} onInput={set('socket_id')} pattern="\s*\d+\.\d+\s*" title="A socket id, such as 1234.5678" placeholder="1234.5678" spellcheck={false} autocomplete="off" />
          </label>
          <div class="form-end">
            <button type="submit" class="button primary" disabled={state.busy}>{state.busy ? 'Publishing' : 'Publish'}</button>
          </div>
          <div aria-live="polite">
            {state.done && <Notice kind="good">{state.done}</Notice>}
            {state.error && <Notice kind="bad" title="Not published">{state.error}</Notice>}
          </div>
        </form>
        <Sent app={app} sent={sent} onAgain={(item) => setForm({ channels: item.channels.join(' '), event: item.event, data: item.data, socket_id: item.socket_id ?? '' })} />
      </div>
    </>
  );
}

function said(channels, result) {
  const where = channels.length === 1 ? channels[0] : plural(channels.length, 'channel');
  const count = result?.subscribers;
  if (count === undefined || count === null) return `Published to ${where}.`;
  return count === 0 ? `Published to ${where}, which has no subscribers now.` : `Published to ${where}: ${plural(count, 'subscriber')}.`;
}

function Sent({ app, sent, onAgain }) {
  return (
    <Panel title="Published from here" flush>
      {sent.length === 0 && <p class="panel-note">Events that you publish are listed here, to send them again.</p>}
      <ul class="members" aria-label="Published from here">
        {sent.map((item) => (
          <li key={item.at}>
            <span class="sent-line"><span class="mono break">{item.event}</span><span class="faint number">{clock(item.at)}</span></span>
            <span class="sent-line">
              <span class="break">{item.channels.slice(0, 3).map((channel) => <a key={channel} class="mono" href={toApp(app, 'channels', channel)}>{channel} </a>)}</span>
              <button type="button" class="button small" onClick={() => onAgain(item)}>Fill in</button>
            </span>
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function jsonProblem(text) {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error.message.split('\n')[0].replace(/\.$/, '');
  }
}
