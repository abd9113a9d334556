// How far everybody has read: client events on the presence channel.

const GATHER_MS = 300;

export class Receipts {
  #channel;
  #show;
  #reads = new Map();
  #newest = 0;
  #told = 0;
  #timer;
  #look = () => this.#soon();

  constructor(channel, show) {
    this.#channel = channel;
    this.#show = show;
    // What comes from another client is not to be trusted: only a number can be a message's id.
    channel.listenForWhisper('read', ({ message } = {}, { user_id }) => {
      if (!Number.isSafeInteger(message) || message <= (this.#reads.get(user_id) ?? 0)) return;
      this.#reads.set(user_id, message);
      this.show();
    });
    document.addEventListener('visibilitychange', this.#look);
  }

  /** A message of somebody else is on the page. */
  seen(message) {
    this.#newest = Math.max(this.#newest, message);
    this.#soon();
  }

  /** Somebody came who can't know what we told before. */
  repeat() {
    this.#told = 0;
    this.#soon();
    this.show();
  }

  /** Shows what is known, after a change of the messages or the members. */
  show() {
    this.#show(this.#reads);
  }

  end() {
    clearTimeout(this.#timer);
    document.removeEventListener('visibilitychange', this.#look);
  }

  /** Many messages at once make one receipt. */
  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tell(), GATHER_MS);
  }

  /** A hidden page has not been read. */
  #tell() {
    const { subscription } = this.#channel;
    if (this.#newest <= this.#told || document.visibilityState !== 'visible' || !subscription.subscribed) return;
    this.#told = this.#newest;
    // What Echo's whisper('read', …) does, in the words of pusher-js.
    subscription.trigger('client-read', { message: this.#newest });
  }
}
