// Read receipts: client events on the presence channel.

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
    // Data of other clients is not trusted: only a number can be the id of a message.
    channel.listenForWhisper('read', ({ message } = {}, { user_id }) => {
      if (!Number.isSafeInteger(message) || message <= (this.#reads.get(user_id) ?? 0)) return;
      this.#reads.set(user_id, message);
      this.show();
    });
    document.addEventListener('visibilitychange', this.#look);
  }

  /** A message of another user is on the page. */
  seen(message) {
    this.#newest = Math.max(this.#newest, message);
    this.#soon();
  }

  /** Sends the receipt again, for a new member. */
  repeat() {
    this.#told = 0;
    this.#soon();
    this.show();
  }

  /** Shows the receipts, after a change of the messages or the members. */
  show() {
    this.#show(this.#reads);
  }

  end() {
    clearTimeout(this.#timer);
    document.removeEventListener('visibilitychange', this.#look);
  }

  /** Several messages at once cause one receipt. */
  #soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#tell(), GATHER_MS);
  }

  /** Sends the receipt, unless the page is hidden. */
  #tell() {
    const { subscription } = this.#channel;
    if (this.#newest <= this.#told || document.visibilityState !== 'visible' || !subscription.subscribed) return;
    this.#told = this.#newest;
    // The equivalent of Echo's whisper('read', …) in pusher-js.
    subscription.trigger('client-read', { message: this.#newest });
  }
}
