//! Lines of JavaScript that connect a page to a server.

use std::fmt;

/// How pages connect with Laravel Echo and pusher-js. Displayed as lines of JavaScript to copy.
#[derive(Clone, Copy, Debug)]
pub struct EchoOptions<'a, Port: fmt::Display> {
    /// The app's key.
    pub key: &'a str,
    /// The host as written in a URL.
    pub host: &'a str,
    /// The port as written in a URL.
    pub port: Port,
    /// The prefix of every path, or empty.
    pub path: &'a str,
    /// Whether to connect with TLS.
    pub is_tls: bool,
}

impl<Port: fmt::Display> fmt::Display for EchoOptions<'_, Port> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, host, port, path, is_tls } = self;
        let port_name = if *is_tls { "wssPort" } else { "wsPort" };
        let ws_path =
            if path.is_empty() { String::new() } else { format!("\n    wsPath: '{path}',") };
        write!(
            f,
            r"// Laravel Echo: npm install laravel-echo pusher-js
import Echo from 'laravel-echo';
import Pusher from 'pusher-js';
window.Pusher = Pusher;
window.Echo = new Echo({{
    broadcaster: 'reverb',
    key: '{key}',
    wsHost: '{host}',
    {port_name}: {port},{ws_path}
    forceTLS: {is_tls},
    enabledTransports: ['ws', 'wss'],
}});
window.Echo.channel('my-channel').listen('.hello', (data) => console.log(data));

// pusher-js: npm install pusher-js
import Pusher from 'pusher-js';
const pusher = new Pusher('{key}', {{
    cluster: '',
    wsHost: '{host}',
    {port_name}: {port},{ws_path}
    forceTLS: {is_tls},
    enabledTransports: ['ws', 'wss'],
}});
pusher.subscribe('my-channel').bind('hello', (data) => console.log(data));
"
        )
    }
}
