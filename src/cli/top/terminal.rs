//! The terminal: keys, resizes and signals. It is restored however the view ends.

use super::{
    draw::{Theme, draw},
    poll::Poller,
    signals::stop_signal,
    view::{Key, View},
};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use std::{
    env, io,
    pin::{Pin, pin},
    thread,
};
use tokio::sync::mpsc;

/// Restores the terminal when it is dropped.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// What a terminal reports.
#[derive(Clone, Copy, Debug)]
enum Input {
    Key(Key),
    Resized,
}

/// Shows the view until a key or a signal ends it, or for `count` intervals.
///
/// # Errors
///
/// The terminal cannot be used.
pub(super) async fn run(
    server: &str,
    app_id: &str,
    poller: Poller<'_>,
    count: Option<u64>,
) -> io::Result<()> {
    let stop = stop_signal()?;
    // Restores the terminal on a panic as well.
    let terminal = ratatui::try_init()?;
    let _restore = Restore;
    let view = View::new(server, app_id);
    show(terminal, view, poller, count, pin!(stop)).await
}

async fn show(
    mut terminal: ratatui::DefaultTerminal,
    mut view: View,
    mut poller: Poller<'_>,
    count: Option<u64>,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> io::Result<()> {
    let theme = Theme::new(env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()));
    let mut inputs = inputs();
    let mut shown = 0;
    while count.is_none_or(|count| shown < count) {
        poller.order = view.order();
        let mut next = pin!(poller.next());
        loop {
            terminal.draw(|frame| draw(frame, &view, theme))?;
            tokio::select! {
                result = &mut next => {
                    view.update(result);
                    break;
                }
                input = inputs.recv() => match input {
                    Some(Input::Key(key)) if view.on_key(key) => return Ok(()),
                    Some(Input::Key(_) | Input::Resized) => {}
                    None => return Ok(()),
                },
                () = &mut stop => return Ok(()),
            }
        }
        shown += 1;
    }
    terminal.draw(|frame| draw(frame, &view, theme))?;
    Ok(())
}

/// Reads the terminal's events on a thread, since reading blocks. The thread ends with the process.
fn inputs() -> mpsc::UnboundedReceiver<Input> {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        while let Ok(event) = event::read() {
            if let Some(input) = input(&event)
                && sender.send(input).is_err()
            {
                return;
            }
        }
    });
    receiver
}

fn input(event: &Event) -> Option<Input> {
    match event {
        Event::Key(event) if event.kind != KeyEventKind::Release => key(*event).map(Input::Key),
        Event::Resize(..) => Some(Input::Resized),
        Event::Key(_)
        | Event::FocusGained
        | Event::FocusLost
        | Event::Mouse(_)
        | Event::Paste(_) => None,
    }
}

fn key(event: KeyEvent) -> Option<Key> {
    let is_control = event.modifiers.contains(KeyModifiers::CONTROL);
    if is_control {
        return (event.code == KeyCode::Char('c')).then_some(Key::Quit);
    }
    let keys = [
        (KeyCode::Char('q'), Key::Quit),
        (KeyCode::Esc, Key::Quit),
        (KeyCode::Char('s'), Key::Sort),
        (KeyCode::Up, Key::Up),
        (KeyCode::Char('k'), Key::Up),
        (KeyCode::Down, Key::Down),
        (KeyCode::Char('j'), Key::Down),
        (KeyCode::PageUp, Key::PageUp),
        (KeyCode::PageDown, Key::PageDown),
    ];
    keys.into_iter().find(|(code, _)| *code == event.code).map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_meaning() {
        let plain = |code| key(KeyEvent::new(code, KeyModifiers::NONE));
        assert_eq!(plain(KeyCode::Char('q')), Some(Key::Quit));
        assert_eq!(plain(KeyCode::Esc), Some(Key::Quit));
        assert_eq!(plain(KeyCode::Char('s')), Some(Key::Sort));
        assert_eq!(plain(KeyCode::Down), Some(Key::Down));
        assert_eq!(plain(KeyCode::Char('x')), None);
        let control = |c| key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        assert_eq!((control('c'), control('q')), (Some(Key::Quit), None));
    }
}
