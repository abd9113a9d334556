// What Livewire has no listener for: whispers, and the state of the connection. Import it in `app.js`, after `echo.js`.

/** How long after a whisper someone counts as typing. */
const TYPING_MS = 3_000;

/** Shows who is typing in a room, and whether the page is connected. `root` is the element of the component. */
window.enterRoom = (id, root) => {
    // The channel to which Livewire subscribes for the component's listeners.
    const room = window.Echo.join(`room.${id}`);
    const status = root.querySelector('[role=status]');
    const typing = root.querySelector('#typing');
    const names = new Map();
    let timer;

    status.textContent = window.Echo.connectionStatus();
    window.Echo.connector.onConnectionChange((state) => { status.textContent = state; });

    const add = ({ id: userId, name }) => names.set(String(userId), name);
    room.here((members) => members.forEach(add))
        .joining(add)
        // The second argument is the sender, set by Campanile: the first is any data of the sender.
        .listenForWhisper('typing', (_, { user_id: userId }) => {
            typing.textContent = `${names.get(userId)} is typing`;
            clearTimeout(timer);
            timer = setTimeout(() => { typing.textContent = ''; }, TYPING_MS);
        });
    root.querySelector('input').addEventListener('input', () => room.whisper('typing', {}));
};
