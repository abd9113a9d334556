// Views and their addresses. An address is the fragment of the page's URL: `#/apps/ID/channels/NAME?search=TEXT`.

import { useEffect, useState } from 'preact/hooks';

/** Views of one app, in the order of the navigation. */
export const APP_VIEWS = ['channels', 'connections', 'authorizations', 'webhooks', 'publish'];

/** Views of the whole server. */
export const SERVER_VIEWS = ['overview', 'log', 'configuration'];

/** The parts of an address: `{ view, app, item, query }`. An unknown address is the view `unknown`. */
export function parse(hash) {
  const [path, search = ''] = hash.replace(/^#\/?/, '').split('?');
  const query = Object.fromEntries(new URLSearchParams(search));
  const parts = path.split('/').filter(Boolean).map(decode);
  if (parts.length === 0) return { view: 'overview', query };
  if (parts.length === 1 && (SERVER_VIEWS.includes(parts[0]) || parts[0] === 'apps')) return { view: parts[0], query };
  const [, app, view, item] = parts;
  if (parts[0] !== 'apps' || !APP_VIEWS.includes(view) || parts.length > 4) return { view: 'unknown', query };
  if (item === undefined) return { view, app, query };
  if (view === 'channels') return { view: 'channel', app, item, query };
  if (view === 'connections') return { view: 'connection', app, item, query };
  return { view: 'unknown', query };
}

export function toServer(view) {
  return `#/${view}`;
}

export function toApp(app, view, item, query) {
  const path = ['apps', app, view, ...(item === undefined ? [] : [item])].map(encodeURIComponent).join('/');
  return `#/${path}${query ? `?${new URLSearchParams(query)}` : ''}`;
}

/** The current address, rendered again when it changes. */
export function useRoute() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const change = () => setHash(location.hash);
    addEventListener('hashchange', change);
    // The address may have changed between the rendering and this.
    change();
    return () => removeEventListener('hashchange', change);
  }, []);
  return parse(hash);
}

/** Replaces the query of the current address, without an entry in the history. */
export function replaceQuery(changes) {
  const [path, search = ''] = location.hash.split('?');
  const query = new URLSearchParams(search);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const text = query.toString();
  history.replaceState(null, '', `${path || '#/'}${text ? `?${text}` : ''}`);
  dispatchEvent(new HashChangeEvent('hashchange'));
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
