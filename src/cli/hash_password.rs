//! `campanile hash-password`: prints the line for `console.password`.

use super::{EXIT_FAILED, EXIT_USAGE, fail, print, print_error};
use crate::{config::check_setting, console::hash_password};
use ratatui::crossterm::{
    event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
    terminal::{disable_raw_mode, enable_raw_mode},
};
use std::{
    io::{self, IsTerminal, Read},
    process::ExitCode,
};

/// What is read of standard input, in bytes: more than a password may have, so that a longer one is rejected.
const INPUT_MAX: u64 = 4_096;

/// Shows nothing of what is typed until it is dropped.
struct Hidden;

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = disable_raw_mode();
    }
}

pub(super) fn hash() -> ExitCode {
    let password = match read_password() {
        Ok(Some(password)) => password,
        Ok(None) => return ExitCode::from(EXIT_FAILED),
        Err(error) => return fail(EXIT_FAILED, format_args!("cannot read a password: {error}")),
    };
    if password.is_empty() || password.starts_with('$') {
        return fail(EXIT_USAGE, "the password must have at least 8 characters, the first not `$`");
    }
    if let Err(error) = check_setting("console.password", &password) {
        return fail(EXIT_USAGE, format_args!("the password {error}"));
    }
    match hash_password(&password) {
        Ok(hash) => print(hash),
        Err(error) => fail(EXIT_FAILED, error),
    }
}

/// The password from standard input, without the line break at its end. `None` if it was not entered.
fn read_password() -> io::Result<Option<String>> {
    if io::stdin().is_terminal() {
        return type_twice();
    }
    let mut password = String::new();
    io::stdin().lock().take(INPUT_MAX).read_to_string(&mut password)?;
    let password = password.strip_suffix('\n').unwrap_or(&password);
    Ok(Some(password.strip_suffix('\r').unwrap_or(password).to_owned()))
}

fn type_twice() -> io::Result<Option<String>> {
    for _ in 0..3 {
        let Some(password) = type_hidden("Password: ")? else { return Ok(None) };
        let Some(again) = type_hidden("Once more: ")? else { return Ok(None) };
        if password == again {
            return Ok(Some(password));
        }
        print_error("The two differ.");
    }
    Ok(None)
}

/// Reads a line from the terminal without showing it; `None` if Ctrl-C ended it.
fn type_hidden(prompt: &str) -> io::Result<Option<String>> {
    print_error(prompt);
    enable_raw_mode()?;
    let _hidden = Hidden;
    let mut typed = String::new();
    loop {
        let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event::read()? else { continue };
        if kind == KeyEventKind::Release {
            continue;
        }
        let is_control = modifiers.contains(KeyModifiers::CONTROL);
        if let KeyCode::Char('c' | 'd') = code
            && is_control
        {
            return Ok(None);
        } else if let KeyCode::Char('u') = code
            && is_control
        {
            typed.clear();
        } else if let KeyCode::Char(letter) = code {
            typed.push(letter);
        } else if code == KeyCode::Backspace {
            typed.pop();
        } else if code == KeyCode::Enter {
            return Ok(Some(typed));
        }
    }
}
