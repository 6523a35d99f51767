//! Leaders and followers are killed and stopped under load, round after round, and nothing that was acknowledged is lost.

use std::time::{Duration, Instant};

use carrack_tests::history::{Load, until_written};
use carrack_tests::lan::Lan;
use carrack_tests::members::Members;

/// How many times a member is killed or stopped; more with `CARRACK_ROUNDS`.
const ROUNDS: usize = 12;

/// How long a member stands still: longer than the others wait for it.
const STOPPED: Duration = Duration::from_millis(1500);

/// Within this time writes go on, however busy the machine. On an idle one it takes about a second, which is printed.
const PROGRESS: Duration = Duration::from_secs(30);

const ALL: [usize; 3] = [0, 1, 2];

/// What is done to whom, by turns.
const TURNS: [(&str, bool); 4] = [("KILL", true), ("KILL", false), ("STOP", true), ("STOP", false)];

#[test]
fn members_that_are_killed_and_stopped_lose_nothing() {
    let mut members = Members::start(Lan::new("rounds", 3).unwrap(), 3).unwrap();
    members.leader(&ALL).unwrap();
    let rounds = std::env::var("CARRACK_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let load = Load::start(&members, &ALL, 3).unwrap();
    let (began, mut waits) = (Instant::now(), Vec::new());
    for round in 0..rounds {
        let leader = members.leader(&ALL).unwrap();
        let (signal, of_leader) = TURNS[round % TURNS.len()];
        let victim = if of_leader { leader } else { (leader + 1) % 3 };
        let rest: Vec<usize> = ALL.into_iter().filter(|n| *n != victim).collect();
        let struck = Instant::now();
        if signal == "KILL" {
            members.end(victim, signal).unwrap();
        } else {
            members.signal(victim, signal).unwrap();
        }
        let wait = until_written(&members, &rest, PROGRESS).unwrap();
        waits.extend(of_leader.then_some(wait));
        if signal == "KILL" {
            members.start_founder(victim).unwrap();
        } else {
            std::thread::sleep(STOPPED.saturating_sub(struck.elapsed()));
            members.signal(victim, "CONT").unwrap();
        }
    }
    members.leader(&ALL).unwrap();
    let took = began.elapsed() / u32::try_from(rounds.max(1)).unwrap();
    let told = load.finish(&members, &ALL).unwrap();
    let revision = members.all_equal(&ALL, PROGRESS).unwrap();
    waits.sort();
    let (median, worst) = (waits.get(waits.len() / 2), waits.last());
    println!("{rounds} rounds of {took:.1?}: {told:?}, none lost; all equal at revision {revision}");
    println!("writes after the loss of a leader: median {median:.2?}, at most {worst:.2?}");
    assert!(told.writes > 5 * rounds as u64, "{told:?} is no load for {rounds} rounds");
}
