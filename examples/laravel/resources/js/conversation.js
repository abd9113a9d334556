// The page's part of `routes/channels.php` and the events. `show` contains the functions that change the page.

export function enterConversation(id, show) {
    const name = `conversations.${id}`;

    window.Echo.private(name)
        .listen('.message.sent', (message) => show.message(message))
        .error(({ status }) => show.refused(status));

    const present = window.Echo.join(name)
        .here((members) => show.members(members))
        .joining((member) => show.joined(member))
        .leaving((member) => show.left(member))
        // The second argument is the sender, set by Campanile: the first is any data of the sender.
        .listenForWhisper('typing', (_, { user_id }) => show.typing(user_id))
        .listen('.user.typing', ({ id: user }) => show.typing(String(user)));

    return {
        typing: () => present.whisper('typing', {}),
        leave: () => window.Echo.leave(name),
    };
}

/** Receives the events of a user, in all windows. */
export function hearSession(userId, show) {
    window.Echo.private(`users.${userId}`)
        .listen('.session.updated', ({ changes }) => show.session(changes));
}
