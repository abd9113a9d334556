//! The scenario `compare`: the same runs against several servers in turn, A B A B, and their ratios.

use crate::{
    failure::Failure,
    options::{Options, Scenario},
    progress, scenario,
    show::outcome::{Outcome, number, table},
};
use clap::Parser;
use std::str::FromStr;

/// The default runs.
const RUNS: [&str; 5] = ["connect -n 2000", "fanout", "unicast", "fanout --window 4", "saturate"];
/// How many of them have a floor.
const RUNS_WITH_FLOOR: usize = 3;

/// The name of the side that is no server.
const FLOOR: &str = "floor";

/// A server of the comparison, or what the kernel takes for the same load.
#[derive(Clone, Debug)]
pub(crate) struct Side {
    /// Its name in the table.
    name: String,
    /// Its options for a scenario; `None` for the floor.
    arguments: Option<Vec<String>>,
}

/// The outcomes of all sides in one run.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// The command line of the run.
    run: String,
    /// The outcomes of each side, one for each round.
    sides: Vec<Vec<Outcome>>,
}

impl FromStr for Side {
    type Err = String;

    /// `NAME=URL[,pid=N][,app-id=…][,key=…][,secret=…][,url=…][,resume]`, or `floor`
    fn from_str(text: &str) -> Result<Self, String> {
        if text == FLOOR {
            return Ok(Self { name: FLOOR.to_owned(), arguments: None });
        }
        let form =
            "floor or NAME=URL[,pid=N][,app-id=ID][,key=KEY][,secret=SECRET][,url=URL][,resume]";
        let (name, rest) = text.split_once('=').ok_or_else(|| format!("expected {form}"))?;
        let mut parts = rest.split(',');
        let mut arguments = vec!["--url".to_owned(), parts.next().unwrap_or_default().to_owned()];
        for part in parts {
            if part == "resume" {
                arguments.push("--resume".to_owned());
                continue;
            }
            let (key, value) = part.split_once('=').ok_or_else(|| format!("expected {form}"))?;
            if !["pid", "app-id", "key", "secret", "url"].contains(&key) {
                return Err(format!("{key} is not known; expected {form}"));
            }
            arguments.extend([format!("--{key}"), value.to_owned()]);
        }
        Ok(Self { name: name.to_owned(), arguments: Some(arguments) })
    }
}

/// Runs all scenarios against all sides, in the requested number of rounds.
pub(crate) fn compare(options: &Options) -> Result<Vec<Comparison>, Failure> {
    if options.sides.len() < 2 {
        return Err(Failure::Usage("compare needs two --side NAME=URL,pid=N at least".to_owned()));
    }
    let asked: Vec<&str> = options.runs.iter().map(String::as_str).collect();
    let has_floor = options.sides.iter().any(|side| side.arguments.is_none());
    let default = if has_floor { &RUNS[..RUNS_WITH_FLOOR] } else { &RUNS[..] };
    let runs = if asked.is_empty() { default.to_vec() } else { asked };
    let mut comparisons = Vec::new();
    for run in runs {
        let mut sides = vec![Vec::new(); options.sides.len()];
        for round in 1..=options.rounds {
            for (side, outcomes) in options.sides.iter().zip(&mut sides) {
                progress::say(format_args!("{run}: {}, round {round}", side.name));
                let asked = parse(run, side)?;
                outcomes.extend(match side.arguments {
                    Some(_) => scenario::run(&asked)?,
                    None => vec![scenario::floor_of(&asked)?],
                });
            }
        }
        comparisons.push(Comparison { run: run.to_owned(), sides });
    }
    Ok(comparisons)
}

fn parse(run: &str, side: &Side) -> Result<Options, Failure> {
    let words = ["load"].into_iter().chain(run.split_whitespace()).map(str::to_owned);
    let parsed = Options::try_parse_from(words.chain(side.arguments.iter().flatten().cloned()));
    let options = parsed.map_err(|error| Failure::Usage(error.to_string()))?;
    if matches!(options.scenario, Scenario::Compare | Scenario::Report | Scenario::Floor) {
        return Err(Failure::Usage(format!("{run} cannot be compared")));
    }
    Ok(options)
}

/// The medians of each side, and their ratios to the first side.
pub(crate) fn comparison_table(options: &Options, comparison: &Comparison) -> String {
    let names: Vec<&str> = options.sides.iter().map(|side| side.name.as_str()).collect();
    let mut head = vec![comparison.run.clone()];
    head.extend(names.iter().map(|name| (*name).to_owned()));
    head.extend(names.iter().skip(1).map(|name| format!("{name} / {}", names[0])));
    let mut rows = vec![head];
    for figure in figures(comparison) {
        let medians: Vec<Option<f64>> =
            comparison.sides.iter().map(|outcomes| median(outcomes, figure)).collect();
        let text = |value: Option<f64>| value.map_or_else(String::new, number);
        let mut row = vec![figure.replace('_', " ")];
        row.extend(medians.iter().map(|median| text(*median)));
        let ratio = |median: &Option<f64>| {
            let base = medians[0].filter(|base| *base != 0.0)?;
            Some(median.as_ref()? / base)
        };
        row.extend(medians.iter().skip(1).map(|median| text(ratio(median))));
        rows.push(row);
    }
    table(&rows)
}

/// All outcomes of a comparison, each with the name of its side.
pub(crate) fn flattened(options: &Options, comparisons: Vec<Comparison>) -> Vec<Outcome> {
    let mut all = Vec::new();
    for comparison in comparisons {
        for (side, outcomes) in options.sides.iter().zip(comparison.sides) {
            let named =
                |one: Outcome| Outcome { load: format!("{}: {}", side.name, one.load), ..one };
            all.extend(outcomes.into_iter().map(named));
        }
    }
    all
}

/// The names of all figures, in the order of the side with the most.
fn figures(comparison: &Comparison) -> Vec<&'static str> {
    let firsts = comparison.sides.iter().filter_map(|outcomes| outcomes.first());
    let fullest = firsts.max_by_key(|outcome| outcome.figures.len());
    fullest.map_or_else(Vec::new, |one| one.figures.iter().map(|figure| figure.name).collect())
}

fn median(outcomes: &[Outcome], figure: &str) -> Option<f64> {
    let mut values: Vec<f64> = outcomes.iter().filter_map(|one| one.value(figure)).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_is_given_to_a_scenario_as_options() {
        let side: Side = "a=http://127.0.0.1:1,pid=7,key=k".parse().unwrap();
        let options = parse("fanout --window 4", &side).unwrap();
        assert_eq!((options.scenario, options.window), (Scenario::Fanout, Some(4)));
        assert!(!options.bench().unwrap().target.resume);
        let side: Side = "a=http://127.0.0.1:1,resume,pid=7".parse().unwrap();
        assert!(parse("fanout", &side).unwrap().bench().unwrap().target.resume);
        let floor: Side = "floor".parse().unwrap();
        assert!(floor.arguments.is_none() && parse("fanout", &floor).is_ok());
        assert!("a=http://127.0.0.1:1,port=7".parse::<Side>().is_err());
        assert!(parse("report", &side).is_err());
    }

    #[test]
    fn ratios_are_those_of_the_medians() {
        let outcome = |value| {
            let mut outcome = Outcome::new("fanout", String::new());
            outcome.set("p99_ms", value);
            outcome
        };
        let options = Options::parse_from([
            "load",
            "compare",
            "--side",
            "a=http://127.0.0.1:1",
            "--side",
            "b=http://127.0.0.1:2",
        ]);
        let sides = vec![vec![outcome(1.0), outcome(3.0)], vec![outcome(8.0), outcome(8.0)]];
        let text = comparison_table(&options, &Comparison { run: "fanout".to_owned(), sides });
        let row = text.lines().last().unwrap();
        let cells: Vec<&str> =
            row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
        assert_eq!(cells, ["p99 ms", "2", "8", "4"]);
    }
}
