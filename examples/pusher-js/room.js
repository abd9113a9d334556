const name = new URLSearchParams(location.search).get('name') ?? 'Guest';
/** How long after a whisper someone counts as typing. */
const TYPING_MS = 3_000;

const pusher = new Pusher(campanile.key, {
  wsHost: campanile.host,
  wsPort: campanile.port,
  wssPort: campanile.port,
  forceTLS: false,
  enabledTransports: ['ws', 'wss'],
  // pusher-js requires it, and does not use it with a wsHost.
  cluster: '',
  // In an application, the session says who the user is.
  channelAuthorization: { endpoint: '/broadcasting/auth', headers: { 'X-User': name } },
});

const element = (selector) => document.querySelector(selector);
const input = element('input');

function add(label, text) {
  const item = document.createElement('li');
  item.textContent = text;
  element(`[aria-label=${label}]`).append(item);
}

pusher.connection.bind('state_change', ({ current }) => { element('[role=status]').textContent = current; });

pusher.subscribe('news').bind('headline', ({ text }) => add('News', text));
pusher.subscribe('private-room.1').bind('message.sent', ({ from, text }) => add('Messages', `${from}: ${text}`));

const room = pusher.subscribe('presence-room.1');
function showMembers() {
  element('[aria-label=Members]').replaceChildren();
  room.members.each(({ info }) => add('Members', info.name));
}
for (const event of ['pusher:subscription_succeeded', 'pusher:member_added', 'pusher:member_removed']) {
  room.bind(event, showMembers);
}

let timer;
// The second argument is the sender, set by Campanile: the first is any data of the sender.
room.bind('client-typing', (_, { user_id }) => {
  element('#typing').textContent = `${user_id} is typing`;
  clearTimeout(timer);
  timer = setTimeout(() => { element('#typing').textContent = ''; }, TYPING_MS);
});
input.addEventListener('input', () => room.trigger('client-typing', {}));

element('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const text = input.value;
  // The socket id leaves this connection out: the page shows its own message itself.
  await fetch('/messages', {
    method: 'POST',
    headers: { 'X-User': name },
    body: JSON.stringify({ text, socketId: pusher.connection.socket_id }),
  });
  add('Messages', `${name}: ${text}`);
  input.value = '';
});
