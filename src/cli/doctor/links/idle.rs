//! A connection on which nothing is sent: whether it outlives the timeouts of proxies.

use super::{
    super::{
        Checkup,
        causes::way::{IDLE_TIMEOUT, PING_ANSWERED_BY_PROXY},
        finding::Finding,
        inputs::is_local,
        probe::{AnsweredBy, ClientEnd, ClientMessage, OpenClient},
        public::NO_CONNECTION,
        report::Outcome,
        snippets::IDLE,
    },
    client::another,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::{self, Instant};

/// How long a connection is held: longer than the shortest timeouts that are common, 60 and 100
/// seconds.
const HELD: Duration = Duration::from_secs(105);
/// How often the progress is shown.
const STEP: Duration = Duration::from_secs(1);

/// How a held connection ended, or that it was held to the end.
struct Held {
    after: Duration,
    end: Option<ClientEnd>,
    /// Whether the server pinged.
    was_pinged: bool,
}

pub(in crate::cli::doctor) async fn check(checkup: &mut Checkup<'_>) -> Outcome {
    let without_pings = || checkup.blocked(&["ping_not_answered"]);
    if let Some(skipped) = checkup.blocked(NO_CONNECTION).or_else(without_pings) {
        return skipped;
    }
    let args = checkup.inputs.args;
    if args.quick {
        return Outcome::Skipped("--quick".to_owned());
    }
    let is_direct = checkup.public.as_ref().is_some_and(|public| {
        let is_own_host =
            |host: &str| host == public.peer.host || is_local(host) && is_local(&public.peer.host);
        let own = checkup.direct.as_ref();
        own.is_some_and(|own| own.port == public.peer.port && is_own_host(&own.host))
    });
    if is_direct && args.wait_idle.is_none() {
        return Outcome::Skipped("no proxy is between browsers and the server".to_owned());
    }
    let held_for = args.wait_idle.map_or(HELD, Duration::from_secs);
    let (silent, pinging) = match (another(checkup).await, another(checkup).await) {
        (Ok(silent), Ok(pinging)) => (silent, pinging),
        (Err(outcome), _) | (_, Err(outcome)) => return outcome,
    };
    let activity = silent.activity_timeout;
    let (mut silent, mut pinging) = (silent, pinging);
    let holding = async {
        tokio::join!(
            hold(&mut silent, held_for, None),
            hold(&mut pinging, held_for, Some(activity / 4)),
        )
    };
    tokio::pin!(holding);
    let start = Instant::now();
    let mut ticks = time::interval(STEP);
    let (silent, pinging) = loop {
        tokio::select! {
            held = &mut holding => break held,
            _ = ticks.tick() => checkup.progress.show(format_args!(
                "holding an idle connection: {} of {} s (--quick skips this)",
                start.elapsed().as_secs(),
                held_for.as_secs()
            )),
        }
    };
    if let Some(ClientEnd::Closed { code: Some(code @ 4000..), reason }) = &silent.end {
        // The server closes for a reason of its own, such as a restart.
        return Outcome::Skipped(format!("closed with {code}: {reason}"));
    }
    if let Some(ClientEnd::Closed { code: Some(code @ (1001 | 1012)), reason }) = &silent.end {
        // So proxies close when they are reloaded.
        return Outcome::Skipped(format!("a proxy is restarting: closed with {code} {reason}"));
    }
    if let Some(end) = &silent.end {
        return cut(checkup, &silent, end, activity).into();
    }
    // Frames of a client postpone the server's ping, unless a program keeps them for itself.
    if pinging.was_pinged && pinging.end.is_none() {
        let seen = format!(
            "A client sent pings of WebSocket every {} s, and the server pinged it nevertheless.",
            (activity / 4).as_secs_f32()
        );
        return PING_ANSWERED_BY_PROXY.found(seen).into();
    }
    Outcome::Well(format!("an idle connection was kept for {} s", held_for.as_secs()))
}

/// Holds a connection, and answers the pings of the server. With `every`, it sends pings itself.
async fn hold(client: &mut OpenClient, held_for: Duration, every: Option<Duration>) -> Held {
    let start = Instant::now();
    let mut was_pinged = false;
    loop {
        let left = held_for.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Held { after: start.elapsed(), end: None, was_pinged };
        }
        let wait = every.map_or(left, |every| every.min(left));
        match client.socket.next(wait).await {
            Ok(ClientMessage::Event { name, .. }) if name == "pusher:ping" => {
                was_pinged = true;
                client.socket.send("pusher:pong", json!({})).await;
            }
            Ok(ClientMessage::Event { .. } | ClientMessage::Ping | ClientMessage::Pong) => {}
            Err(ClientEnd::Timeout) => {
                if every.is_some() {
                    client.socket.ping().await;
                }
            }
            Err(end) => return Held { after: start.elapsed(), end: Some(end), was_pinged },
        }
    }
}

fn cut(checkup: &Checkup<'_>, held: &Held, end: &ClientEnd, activity: Duration) -> Finding {
    let seconds = (held.after + Duration::from_millis(500)).as_secs();
    let pings = activity.as_secs();
    let whose = match seconds {
        60 => " That is the default of nginx and of AWS load balancers.",
        100 => " That is the timeout of Cloudflare.",
        350 => " That is the timeout of AWS network load balancers.",
        _ => "",
    };
    let seen = format!(
        "An idle connection was cut after {seconds} s ({end}); the server pings after {pings} s.{whose}"
    );
    let half = (held.after / 2).as_secs().max(1);
    let finding = IDLE_TIMEOUT
        .found(seen)
        .advice("Raise the timeout of the proxy, or have the server ping earlier:")
        .line("config.toml [connection]", format!("activity_timeout_s = {half}"));
    checkup.with_lines(finding, &IDLE, &AnsweredBy::Unknown)
}
