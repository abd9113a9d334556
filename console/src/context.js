// What all views share: the live connection, the session and the overview.

import { createContext } from 'preact';
import { useContext, useEffect, useRef, useState } from 'preact/hooks';

/** `{ live, session, overview, connection }` */
export const Console = createContext(null);

export function useConsole() {
  return useContext(Console);
}

/** Several messages within this time are rendered at once. */
const BATCH_MS = 60;

const replace = (_, data) => data;
const identity = (snapshot) => snapshot;

/**
 * Watches a topic of the server while the component is shown.
 *
 * Returns `{ status: 'loading' | 'ready' | 'error', value, error }`. `start` makes the value from the snapshot and the value of
 * before a reconnect, `next` from a value and a change. Other `params` begin a new watch; the old value is kept until it answers,
 * unless `scope`, which says what the value is about, is another one.
 */
export function useWatch(topic, params, { start = identity, next = replace, scope = topic, live: given } = {}) {
  const shared = useConsole();
  const live = given ?? shared.live;
  const [state, setState] = useState({ status: 'loading', scope });
  const handlers = useRef();
  handlers.current = { start, next };
  useEffect(() => {
    let waiting = [];
    let timer = 0;
    const flush = () => {
      const items = waiting;
      waiting = [];
      timer = 0;
      setState((state) => ({ ...state, value: items.reduce((value, item) => handlers.current.next(value, item), state.value) }));
    };
    const stop = live.watch(topic, params, {
      snapshot: (result) => {
        clearTimeout(timer);
        timer = 0;
        waiting = [];
        setState((before) => {
          const earlier = before.scope === scope ? before.value : undefined;
          return { status: 'ready', scope, value: handlers.current.start(result, earlier) };
        });
      },
      data: (item) => {
        waiting.push(item);
        timer ||= setTimeout(flush, BATCH_MS);
      },
      error: (error) => setState({ status: 'error', scope, error }),
    });
    return () => {
      clearTimeout(timer);
      stop();
    };
  }, [live, topic, JSON.stringify(params)]);
  return state.scope === scope ? state : { status: 'loading', scope };
}

/** Renders again each second, for texts such as "in 3 s". */
export function useSeconds() {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return now;
}

/** A value that follows another one after a pause, for searches. */
export function useDelayed(value, delay_ms = 250) {
  const [delayed, setDelayed] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setDelayed(value), delay_ms);
    return () => clearTimeout(timer);
  }, [value]);
  return delayed;
}

/** Sets the title of the document. */
export function useTitle(title) {
  useEffect(() => {
    document.title = title ? `${title} · Campanile` : 'Campanile console';
  }, [title]);
}
