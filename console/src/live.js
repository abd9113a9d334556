// The live connection to the server: calls, and watches that survive a reconnect.

const FIRST_DELAY_MS = 1000;
const MAX_DELAY_MS = 15_000;
/** Longer than a webhook's endpoint may take to answer, which is 11 s. */
const CALL_DEADLINE_MS = 15_000;

/** Why the live connection could not be opened although the server answers over HTTP. */
const NEVER_OPENED = 'The server answers, but the live connection cannot be opened. Usual causes: a proxy does not pass WebSocket '
  + 'upgrades for this path, or too many consoles are open on this node.';

/**
 * One WebSocket, opened again whenever it closes.
 *
 * `check` asks the server for the session before each attempt; it returns the CSRF token, or null if a log-in is needed, and
 * throws if the server does not answer. `onState` gets `{ status, retryAt, detail }`; the status is `connecting`, `open`, `lost`
 * or `ended`.
 */
export class Live {
  #check;
  #onState;
  #socket = null;
  #timer = 0;
  #attempts = 0;
  #nextId = 1;
  #ended = false;
  #status = 'connecting';
  #calls = new Map();
  #watches = new Map();

  constructor({ check, onState }) {
    this.#check = check;
    this.#onState = onState;
  }

  /** Opens the connection, at once also if the next attempt was to come later. */
  async open() {
    clearTimeout(this.#timer);
    if (this.#ended || this.#socket) return;
    this.#report('connecting');
    let csrf;
    try {
      csrf = await this.#check();
    } catch {
      this.#retry('The server does not answer.');
      return;
    }
    if (csrf === null) this.end();
    else if (!this.#ended && !this.#socket) this.#connect(csrf);
  }

  /** Closes the connection for good. */
  end() {
    this.#ended = true;
    this.#rejectCalls();
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#report('ended');
  }

  /** Calls an operation of the server, when the connection is open. Rejects with a sentence for the user. */
  call(name, params) {
    return new Promise((resolve, reject) => {
      if (this.#status === 'lost' || this.#status === 'ended') {
        reject(new Error('The connection to the server is lost.'));
        return;
      }
      const id = this.#nextId++;
      const timer = setTimeout(() => {
        this.#calls.delete(id);
        reject(new Error('The server has not answered in time. Whether it did what you asked is unknown.'));
      }, CALL_DEADLINE_MS);
      const message = { id, call: name, params };
      this.#calls.set(id, { resolve, reject, timer, message });
      if (this.#status === 'open') this.#send(message);
    });
  }

  /**
   * Watches a topic until the returned function is called.
   *
   * `snapshot` is called first, and again after each reconnect; `data` for each change; `error` if the server rejects the watch.
   */
  watch(topic, params, handlers) {
    const watch = { topic, params, handlers, id: 0 };
    const key = this.#nextId++;
    this.#watches.set(key, watch);
    this.#begin(watch);
    return () => {
      this.#watches.delete(key);
      if (watch.id && this.#socket?.readyState === WebSocket.OPEN) this.#send({ id: this.#nextId++, unwatch: watch.id });
    };
  }

  #connect(csrf) {
    const url = new URL('live', document.baseURI);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.hash = '';
    const socket = new WebSocket(url, `campanile-console.${csrf}`);
    let opened = false;
    this.#socket = socket;
    socket.onopen = () => {
      opened = true;
      this.#attempts = 0;
      this.#report('open');
      for (const watch of this.#watches.values()) this.#begin(watch);
      for (const { message } of this.#calls.values()) this.#send(message);
    };
    socket.onmessage = (message) => this.#receive(JSON.parse(message.data));
    socket.onclose = () => {
      this.#socket = null;
      for (const watch of this.#watches.values()) watch.id = 0;
      if (!this.#ended) this.#retry(opened ? 'The connection to the server is lost.' : NEVER_OPENED);
    };
  }

  #rejectCalls() {
    for (const { reject, timer } of this.#calls.values()) {
      clearTimeout(timer);
      reject(new Error('The connection to the server was lost before it answered.'));
    }
    this.#calls.clear();
  }

  #retry(detail) {
    if (this.#ended) return;
    this.#rejectCalls();
    const delay_ms = Math.min(FIRST_DELAY_MS * 2 ** this.#attempts, MAX_DELAY_MS) * (0.8 + 0.4 * Math.random());
    this.#attempts += 1;
    this.#timer = setTimeout(() => this.open(), delay_ms);
    this.#report('lost', { retryAt: Date.now() + delay_ms, detail });
  }

  #begin(watch) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return;
    watch.id = this.#nextId++;
    this.#send({ id: watch.id, watch: watch.topic, params: watch.params });
  }

  #receive(message) {
    const call = this.#calls.get(message.id);
    if (call) {
      clearTimeout(call.timer);
      this.#calls.delete(message.id);
      if (message.error === undefined) call.resolve(message.result);
      else call.reject(new Error(message.error));
      return;
    }
    const id = message.watch ?? message.id;
    const watch = [...this.#watches.values()].find((each) => each.id === id);
    if (!watch) return;
    if (message.watch !== undefined) watch.handlers.data(message.data);
    else if (message.error !== undefined) watch.handlers.error(message.error);
    else watch.handlers.snapshot(message.result);
  }

  #send(message) {
    this.#socket.send(JSON.stringify(message));
  }

  #report(status, more = {}) {
    this.#status = status;
    this.#onState({ status, ...more });
  }
}
