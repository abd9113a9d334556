// A page's side of `routes/channels.php` and the events. `show` has the functions that change your page.

export function enterConversation(id, show) {
    const name = `conversations.${id}`;

    window.Echo.private(name)
        .listen('.message.sent', (message) => show.message(message))
        .error(({ status }) => show.refused(status));

    const present = window.Echo.join(name)
        .here((members) => show.members(members))
        .joining((member) => show.joined(member))
        .leaving((member) => show.left(member))
        // Who whispers is in the second argument, put there by Campanile: the first is whatever the sender wrote.
        .listenForWhisper('typing', (_, { user_id }) => show.typing(user_id))
        .listen('.user.typing', ({ id: user }) => show.typing(String(user)));

    return {
        typing: () => present.whisper('typing', {}),
        leave: () => window.Echo.leave(name),
    };
}

/** All windows of one user. */
export function hearSession(userId, show) {
    window.Echo.private(`users.${userId}`)
        .listen('.session.updated', ({ changes }) => show.session(changes));
}
