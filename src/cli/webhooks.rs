//! `campanile webhooks test`: sends samples to the endpoints.

use super::{ConfigArgs, EXIT_FAILED, EXIT_USAGE, fail, print_line, runtime};
use crate::{
    config::Flags,
    webhook::{TestDelivery, send_test},
};
use clap::{Args, Subcommand};
use std::process::ExitCode;

#[derive(Args, Debug)]
pub(super) struct WebhooksArgs {
    #[command(subcommand)]
    command: WebhooksCommand,
}

#[derive(Debug, Subcommand)]
enum WebhooksCommand {
    /// Send a sample of each configured event to each configured webhook and print the responses
    Test(ConfigArgs),
}

/// Maximum number of printed characters of a response's body.
const EXCERPT_CHARS: usize = 200;

pub(super) fn webhooks(args: &WebhooksArgs) -> ExitCode {
    match &args.command {
        WebhooksCommand::Test(sources) => test(sources),
    }
}

fn test(sources: &ConfigArgs) -> ExitCode {
    let (loaded, runtime) = match (sources.load(Flags::default()), runtime()) {
        (Ok(loaded), Ok(runtime)) => (loaded, runtime),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    if loaded.config.apps.iter().all(|app| app.webhooks.is_empty()) {
        return fail(EXIT_USAGE, "no app has webhooks: see [[apps.webhooks]] in config.toml");
    }
    let (mut failed, mut all) = (0, 0);
    let tried = runtime.block_on(send_test(&loaded.config, |test_delivery| {
        all += 1;
        failed += usize::from(!test_delivery.succeeded());
        print_line(line(&test_delivery));
    }));
    // The system may still resolve a name, which is not waited for.
    runtime.shutdown_background();
    match (tried, failed) {
        (Err(error), _) => fail(EXIT_FAILED, error),
        (Ok(()), 0) => ExitCode::SUCCESS,
        (Ok(()), failed) => fail(EXIT_FAILED, format_args!("{failed} of {all} samples failed")),
    }
}

fn line(test_delivery: &TestDelivery) -> String {
    let TestDelivery { app_id, webhook, host, event, response, took } = test_delivery;
    let event = event.as_str();
    let begin = format!("app {app_id}, webhook {webhook} at {host}, {event}");
    match response {
        Ok((status, body)) => {
            let verdict = if test_delivery.succeeded() { "ok" } else { "FAILED" };
            let body = excerpt(body);
            let colon = if body.is_empty() { "" } else { ": " };
            format!("{begin}: {verdict}, {status} in {} ms{colon}{body}", took.as_millis())
        }
        Err(error) => format!("{begin}: FAILED, {error}"),
    }
}

/// The beginning of a received body, on one line and without control characters.
fn excerpt(body: &str) -> String {
    let words = body.split(|c: char| c.is_whitespace() || c.is_control());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    let text = words.join(" ");
    match text.char_indices().nth(EXCERPT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_printed_on_one_short_line() {
        assert_eq!(excerpt("<h1>\r\n  Not\x1b[31m found</h1>\n"), "<h1> Not [31m found</h1>");
        assert_eq!(excerpt(""), "");
        assert_eq!(excerpt(&"é".repeat(200)), "é".repeat(200));
        assert_eq!(excerpt(&"é".repeat(201)), format!("{}…", "é".repeat(200)));
    }
}
