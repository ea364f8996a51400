//! `tests/drill.sh`'s work: rounds of the drill and a table of each. Exit 0 only when every equation
//! of every round holds.

use clap::Parser;
use mz_e2e::drill::{Round, round};
use std::process::ExitCode;

/// Kills processes at random under load, then checks that nothing was lost or doubled.
#[derive(Parser)]
struct Args {
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
        let round = round(args.persons, args.seed + number - 1);
        print(number, args.rounds, args.persons, &round);
        checks += round.checks.len();
        broken += round.checks.iter().filter(|check| !check.holds()).count();
    }
    println!("{} rounds, {checks} checks, {broken} broken", args.rounds);
    if broken == 0 && checks > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn print(number: u64, rounds: u64, persons: u64, round: &Round) {
    let kills: Vec<String> = round
        .kills
        .iter()
        .map(|(kind, count)| format!("{kind} {count}"))
        .collect();
    let slots: Vec<String> = round.taken_over.iter().map(u32::to_string).collect();
    println!(
        "\nround {number} of {rounds}: {persons} persons, seed {}, {:.0} s",
        round.seed,
        round.took.as_secs_f64()
    );
    println!("  SIGKILL        {}", kills.join(", "));
    println!(
        "  SIGSTOP        slot {} taken over, then woken",
        slots.join(", ")
    );
    let (asked, answered) = round.bundles;
    println!("  bundles        {asked} asked for, {answered} answered");
    for check in &round.checks {
        let mark = if check.holds() { "ok    " } else { "BROKEN" };
        println!("  {mark} {:<42} {}", check.name, check.figure);
        for fault in &check.faults {
            println!("           {fault}");
        }
    }
}
