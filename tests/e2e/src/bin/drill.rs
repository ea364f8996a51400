//! `tests/drill.sh`'s work: rounds of a drill and a table of each. Exit 0 only when every equation of
//! every round holds.

use clap::{Parser, ValueEnum};
use mz_e2e::drill::{Round, round};
use mz_e2e::{Check, grants_drill};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

/// What is drilled.
#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Registers, cases, deliveries
    Deliveries,
    /// Consents and what they bar
    Grants,
}

/// Kills processes at random under load, then checks that nothing was lost or doubled.
#[derive(Parser)]
struct Args {
    #[arg(value_enum, default_value = "deliveries")]
    mode: Mode,
    /// How many rounds
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// People in the city of each round
    #[arg(long, default_value_t = 20_000)]
    persons: u64,
    /// Seed of the first round; the next ones count on
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let (mut checks, mut broken) = (0, 0);
    for number in 1..=args.rounds {
        let seed = args.seed + number - 1;
        println!(
            "\nround {number} of {}: {} persons, seed {seed}",
            args.rounds, args.persons
        );
        let found = match args.mode {
            Mode::Deliveries => {
                let round = round(args.persons, seed);
                print(&round);
                round.checks
            }
            Mode::Grants => {
                let round = grants_drill::round(args.persons, seed);
                print_grants(&round);
                round.checks
            }
        };
        print_checks(&found);
        checks += found.len();
        broken += found.iter().filter(|check| !check.holds()).count();
    }
    println!("{} rounds, {checks} checks, {broken} broken", args.rounds);
    if broken == 0 && checks > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print(round: &Round) {
    let slots: Vec<String> = round.taken_over.iter().map(u32::to_string).collect();
    took(round.took);
    println!("  SIGKILL        {}", counts(&round.kills));
    println!(
        "  SIGSTOP        slot {} taken over, then woken",
        slots.join(", ")
    );
    let (asked, answered) = round.bundles;
    println!("  bundles        {asked} asked for, {answered} answered");
}

fn print_grants(round: &grants_drill::Round) {
    took(round.took);
    println!("  SIGKILL        {}", counts(&round.kills));
    println!("  SIGSTOP        {}, then woken", counts(&round.freezes));
    if !round.ended.is_empty() {
        println!("  ended alone    {}", counts(&round.ended));
    }
    let waits = &round.told.waits;
    let mut sorted = waits.clone();
    sorted.sort_unstable();
    let at = |share: f64| {
        let last = sorted.len().saturating_sub(1) as f64;
        sorted
            .get((share * last) as usize)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "  to enforced    p50 {:.2} s, p95 {:.2} s, max {:.2} s, retries and strikes included",
        at(0.5).as_secs_f64(),
        at(0.95).as_secs_f64(),
        at(1.0).as_secs_f64()
    );
    println!("  register       {} records published", round.events);
}

fn took(took: Duration) {
    println!("  took           {:.0} s", took.as_secs_f64());
}

fn counts<K: std::fmt::Display>(counts: &BTreeMap<K, u32>) -> String {
    let all: Vec<String> = counts
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    all.join(", ")
}

fn print_checks(checks: &[Check]) {
    for check in checks {
        let mark = if check.holds() { "ok    " } else { "BROKEN" };
        println!("  {mark} {:<42} {}", check.name, check.figure);
        for fault in &check.faults {
            println!("           {fault}");
        }
    }
}
