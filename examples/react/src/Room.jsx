import { echo, useConnectionStatus, useEcho, useEchoPresence, useEchoPublic } from '@laravel/echo-react';
import { useEffect, useRef, useState } from 'react';

/** How long after a whisper someone counts as typing. */
const TYPING_MS = 3_000;

/** The members of a presence channel, and who of them is typing. */
function usePresence(name) {
  const { channel } = useEchoPresence(name);
  const [members, setMembers] = useState([]);
  const [typing, setTyping] = useState(null);
  const timer = useRef();

  useEffect(() => {
    channel()
      .here(setMembers)
      .joining((member) => setMembers((all) => [...all, member]))
      .leaving((member) => setMembers((all) => all.filter((other) => other.name !== member.name)))
      // The second argument is the sender, set by Campanile: the first is any data of the sender.
      .listenForWhisper('typing', (_, { user_id }) => {
        setTyping(user_id);
        clearTimeout(timer.current);
        timer.current = setTimeout(() => setTyping(null), TYPING_MS);
      });
    return () => clearTimeout(timer.current);
  }, [name]);

  return { members, typing, whisper: () => channel().whisper('typing', {}) };
}

export function Room({ id, name }) {
  const status = useConnectionStatus();
  const { members, typing, whisper } = usePresence(`room.${id}`);
  const [messages, setMessages] = useState([]);
  const [news, setNews] = useState([]);
  const [text, setText] = useState('');

  // A dot before the name: it is not in the namespace App\Events.
  useEcho(`room.${id}`, '.message.sent', (message) => setMessages((all) => [...all, message]));
  useEchoPublic('news', '.headline', (headline) => setNews((all) => [...all, headline]));

  async function send(event) {
    event.preventDefault();
    // The socket id leaves this connection out: the page shows its own message itself.
    await fetch('/messages', {
      method: 'POST',
      headers: { 'X-User': name },
      body: JSON.stringify({ text, socketId: echo().socketId() }),
    });
    setMessages((all) => [...all, { from: name, text }]);
    setText('');
  }

  return (
    <main>
      <p role="status">{status}</p>
      <List label="Members" items={members.map((member) => member.name)} />
      <List label="News" items={news.map((headline) => headline.text)} />
      <List label="Messages" items={messages.map((message) => `${message.from}: ${message.text}`)} />
      <p>{typing && `${typing} is typing`}</p>
      <form onSubmit={send}>
        <input aria-label="Message" value={text} onChange={(event) => { setText(event.target.value); whisper(); }} />
      </form>
    </main>
  );
}

function List({ label, items }) {
  return <ul aria-label={label}>{items.map((item, at) => <li key={at}>{item}</li>)}</ul>;
}
