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

/** Receives what is for a user, in all windows: events, and Laravel's notifications. */
export function hearSession(userId, show) {
    window.Echo.private(`App.Models.User.${userId}`)
        .listen('.session.updated', ({ changes }) => show.session(changes))
        .notification((notification) => show.notification(notification));
}

/** Signs the connection in as the user of the page's session, and receives what `sendToUser` sends. */
export function signIn(show) {
    window.Echo.connector.signin();
    window.Echo.connector.pusher.user.bind('alert', (data) => show.alert(data));
}
