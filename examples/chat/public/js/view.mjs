// The page. All text of other users is inserted through `textContent`, so it can't be markup.

const find = (selector, within = document) => within.querySelector(selector);
const GROUP_MS = 3 * 60_000;

export class View {
  #log = find('#log');
  #notice = find('#notice');
  #shown = new Map();

  /** Shows the login form; resolves when `enter(name)` has succeeded. */
  login(limits, enter) {
    const [page, form, problem] = [find('#login'), find('#login form'), find('#login .problem')];
    form.elements.name.maxLength = limits.name;
    page.hidden = false;
    form.elements.name.focus();
    return new Promise((resolve) => {
      form.onsubmit = async (event) => {
        event.preventDefault();
        try {
          resolve(await enter(form.elements.name.value));
          page.hidden = true;
        } catch (error) {
          problem.textContent = error.message;
        }
      };
    });
  }

  /** Shows the chat. `on` contains the user's actions: `choose`, `say`, `write`, `logout`. */
  open(me, rooms, limits, on) {
    const [form, text] = [find('#composer'), find('#text')];
    find('#chat').hidden = false;
    find('#me').textContent = me.name;
    find('#logout').onclick = on.logout;
    find('#rooms').replaceChildren(...rooms.map((room) => roomButton(room, on.choose)));
    text.maxLength = limits.text;
    text.oninput = () => on.write(text.value);
    text.onkeydown = (event) => {
      if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      form.requestSubmit();
    };
    form.onsubmit = (event) => {
      event.preventDefault();
      if (text.value.trim()) on.say(text.value);
      text.value = '';
      text.focus();
    };
  }

  enter(room) {
    find('#room-name').textContent = room.name;
    find('#room-topic').textContent = room.topic;
    for (const button of document.querySelectorAll('#rooms button')) {
      button.setAttribute('aria-current', String(button.value === room.id));
    }
    this.#log.replaceChildren();
    this.#log.classList.remove('shut');
    this.#shown.clear();
    this.#notice.hidden = true;
    this.#compose(true);
    this.members([], {});
    find('#text').focus();
  }

  connection(state, words) {
    const pill = find('#connection');
    pill.dataset.state = state;
    pill.textContent = words;
  }

  notice(text, label = '', act = () => {}) {
    const [words, button] = this.#notice.children;
    words.textContent = text;
    button.textContent = label;
    button.onclick = () => {
      this.#notice.hidden = true;
      act();
    };
    this.#notice.hidden = false;
  }

  /** Shows that the application or Campanile denied access. */
  refused({ status, message, error }, known, again) {
    this.#compose(false);
    this.#log.classList.add('shut');
    if (!known) this.notice('You are not signed in any more.', 'Sign in again', () => location.reload());
    else if (status === 403) this.notice('The application did not let you into this room (403).', 'Try again', again);
    else this.notice(`This room could not be entered: ${error ?? message ?? 'no reason given'}`, 'Try again', again);
  }

  members(members, me) {
    const sorted = members.toSorted((one, other) => one.name.localeCompare(other.name));
    find('#here').replaceChildren(...sorted.map((member) => {
      const item = find('#member-template').content.cloneNode(true);
      find('.name', item).textContent = member.id === me.id ? `${member.name} (you)` : member.name;
      paint(find('.face', item), member);
      return item;
    }));
  }

  typing(names) {
    const words = { 0: '', 1: `${names[0]} is typing`, 2: `${names.join(' and ')} are typing` };
    find('#typing').textContent = words[names.length] ?? 'Several people are typing';
  }

  /** Shows a message, once, in its place. */
  message(message, mine) {
    if (this.#shown.has(message.id)) return;
    const item = this.#item(message.from, message.text, new Date(message.at), mine);
    this.#place(item, message.id);
  }

  /** Shows a message of the user that is being sent. */
  draft(me, text) {
    const item = this.#item(me, text.trim(), new Date(), true);
    item.classList.add('sending');
    this.#append(item);
    return item;
  }

  delivered(item, message) {
    item.classList.remove('sending', 'failed');
    find('.fate span', item).textContent = '';
    find('.fate button', item).hidden = true;
    if (this.#shown.has(message.id)) item.remove();
    else this.#place(item, message.id);
  }

  failed(item, reason, again) {
    const button = find('.fate button', item);
    this.#atEnd(() => {
      item.classList.replace('sending', 'failed');
      find('.fate span', item).textContent = `Not delivered. ${reason}`;
      button.hidden = false;
    });
    button.onclick = () => {
      item.classList.replace('failed', 'sending');
      find('.fate span', item).textContent = '';
      button.hidden = true;
      again();
    };
  }

  /** Shows, under each message of the user, the members whose last read message it is. */
  receipts(readers) {
    const mine = [...this.#shown].filter(([, item]) => item.classList.contains('mine'));
    this.#atEnd(() => mine.forEach(([id, item], index) => {
      const next = mine[index + 1]?.[0] ?? Infinity;
      const names = readers.filter(({ message }) => message >= id && message < next).map(({ name }) => name);
      find('.fate span', item).textContent = names.length ? `Seen by ${names.join(', ')}` : '';
    }));
  }

  #item(from, text, at, mine) {
    const item = find('#message-template').content.cloneNode(true).firstElementChild;
    const time = find('time', item);
    item.classList.toggle('mine', mine);
    Object.assign(item.dataset, { from: from.id, at: at.getTime() });
    paint(find('.face', item), from);
    find('.author b', item).textContent = mine ? 'You' : from.name;
    find('.text', item).textContent = text;
    time.textContent = at.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
    time.dateTime = at.toISOString();
    return item;
  }

  /** Messages are in the order of their ids; those without an id are last. */
  #place(item, id) {
    const later = [...this.#shown].find(([other]) => other > id)?.[1];
    if (later) later.before(item);
    else if (!item.isConnected) this.#append(item);
    this.#shown.set(id, item);
    this.#shown = new Map([...this.#shown].toSorted(([one], [other]) => one - other));
    this.#group(item);
  }

  #append(item) {
    const draft = find('.sending', this.#log);
    this.#atEnd(() => {
      if (draft && !item.classList.contains('sending')) draft.before(item);
      else this.#log.append(item);
      this.#group(item);
    });
  }

  /** Makes a change. The log stays at its end if it was there, and does not scroll otherwise. */
  #atEnd(change) {
    const atEnd = this.#log.scrollHeight - this.#log.scrollTop - this.#log.clientHeight < 80;
    change();
    if (atEnd) this.#log.scrollTop = this.#log.scrollHeight;
  }

  /** Consecutive messages of one author show the name once. */
  #group(item) {
    for (const each of [item, item.nextElementSibling]) {
      if (!each) continue;
      const before = each.previousElementSibling;
      const same = before?.dataset.from === each.dataset.from && each.dataset.at - before.dataset.at < GROUP_MS;
      each.classList.toggle('same', same);
    }
  }

  #compose(possible) {
    for (const control of find('#composer').elements) control.disabled = !possible;
  }
}

function roomButton(room, choose) {
  const [item, button] = [document.createElement('li'), document.createElement('button')];
  Object.assign(button, { type: 'button', value: room.id, textContent: room.name });
  button.classList.toggle('locked', room.locked);
  button.onclick = () => choose(room);
  item.append(button);
  return item;
}

function paint(face, { name, hue }) {
  face.textContent = [...name].slice(0, 2).join('').toUpperCase();
  face.style.setProperty('--hue', Number(hue) || 0);
}
