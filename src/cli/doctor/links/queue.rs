//! The queue of the application: whether a worker runs.

use super::super::{
    causes::machine::QUEUE_WORKER_NOT_RUNNING, inputs::Inputs, machine, report::Outcome,
};

/// Commands of artisan that work off a queue.
const WORKERS: [&str; 3] = ["queue:work", "queue:listen", "horizon"];

pub(in crate::cli::doctor) fn check(inputs: &Inputs<'_>) -> Outcome {
    if !inputs.is_laravel() {
        return Outcome::Skipped("no application of Laravel here".to_owned());
    }
    if !inputs.has_variables {
        return Outcome::Skipped("the variables of the application cannot be read".to_owned());
    }
    match inputs.variable("QUEUE_CONNECTION").as_deref() {
        None => Outcome::Skipped("QUEUE_CONNECTION is not set".to_owned()),
        Some("sync" | "deferred" | "background") => {
            Outcome::Well("events are not queued".to_owned())
        }
        Some(_) if machine::any_process(is_worker) => Outcome::Well("a worker runs".to_owned()),
        Some(queue) => QUEUE_WORKER_NOT_RUNNING
            .found(format!(
                "QUEUE_CONNECTION is {queue}, and no process runs queue:work or horizon."
            ))
            .command("php artisan queue:work")
            .into(),
    }
}

/// Whether a process with these arguments is a worker.
fn is_worker(arguments: &[String]) -> bool {
    let is_artisan = arguments.iter().any(|word| word.ends_with("artisan"));
    is_artisan
        && arguments
            .iter()
            .any(|word| WORKERS.contains(&word.split([' ', '=']).next().unwrap_or(word)))
}
