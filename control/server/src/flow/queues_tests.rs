//! The queues under simulated time: a server whose requests take as long as they are told to.

use super::*;
use std::collections::BTreeMap;

use crate::flow::shard::flow_hash;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const SHAPE: Shape = Shape { queues: 64, hand: 6, length: 50 };

#[test]
fn seats_run_out_and_come_back_in_order() {
    let mut queues = Queues::new(Shape { queues: 1, hand: 1, length: 2 }, 2);
    let Arrival::Runs(first) = queues.arrive(ms(0), 7, 1, 'a') else { panic!("a waits") };
    assert!(matches!(queues.arrive(ms(0), 7, 1, 'b'), Arrival::Runs(_)));
    assert!(matches!(queues.arrive(ms(0), 7, 1, 'c'), Arrival::Waits(_)));
    let Arrival::Waits(d) = queues.arrive(ms(0), 7, 1, 'd') else { panic!("d runs") };
    assert_eq!(queues.arrive(ms(0), 7, 1, 'e'), Arrival::Refused("queue-full"));
    assert_eq!(queues.load(), [2, 2, 2, 2]);
    assert_eq!(queues.dispatch(ms(1)), None);
    queues.leave(ms(1), first);
    assert_eq!(queues.dispatch(ms(1)), Some('c'));
    assert_eq!(queues.dispatch(ms(1)), None);
    queues.leave(ms(2), d);
    assert_eq!(queues.load(), [2, 2, 0, 0], "who waits may go away");
    queues.leave(ms(2), d);
    assert_eq!(queues.load(), [2, 2, 0, 0], "once");
}

#[test]
fn without_queues_nobody_waits() {
    let mut queues = Queues::new(Shape { queues: 0, hand: 0, length: 0 }, 1);
    let Arrival::Runs(one) = queues.arrive(ms(0), 1, 1, ()) else { panic!("no room") };
    assert_eq!(queues.arrive(ms(0), 1, 1, ()), Arrival::Refused("concurrency-limit"));
    queues.leave(ms(1), one);
    assert!(matches!(queues.arrive(ms(1), 1, 1, ()), Arrival::Runs(_)));
}

#[test]
fn who_wants_more_than_there_is_runs_alone() {
    let mut queues = Queues::new(SHAPE, 4);
    let Arrival::Runs(small) = queues.arrive(ms(0), 1, 1, 's') else { panic!("no room") };
    assert!(matches!(queues.arrive(ms(0), 1, 10, 'l'), Arrival::Waits(_)));
    assert!(matches!(queues.arrive(ms(0), 1, 1, 'n'), Arrival::Waits(_) | Arrival::Runs(_)));
    queues.leave(ms(1), small);
    while queues.dispatch(ms(1)).is_some() {}
    assert!(queues.load()[1] >= 1);
}

#[test]
fn a_smaller_limit_and_fewer_queues_lose_nobody() {
    let mut queues = Queues::new(SHAPE, 3);
    let tickets: Vec<Ticket> = (0..40)
        .map(|n| match queues.arrive(ms(0), flow_hash("s", &n.to_string()), 1, n) {
            Arrival::Runs(ticket) | Arrival::Waits(ticket) => ticket,
            Arrival::Refused(why) => panic!("{why}"),
        })
        .collect();
    queues.reshape(Shape { queues: 2, hand: 1, length: 5 });
    queues.set_limit(ms(1), 1);
    let mut at = 1;
    for ticket in tickets {
        at += 1;
        queues.leave(ms(at), ticket);
        while queues.dispatch(ms(at)).is_some() {}
    }
    assert_eq!(queues.load(), [0, 0, 0, 0]);
    assert_eq!(queues.active_queues, 0);
    queues.set_limit(ms(at), 2);
    assert!(matches!(queues.arrive(ms(at), 1, 1, 0), Arrival::Runs(_)));
}

/// Clients that send again as soon as they are answered, `at_once` requests at a time.
struct Client {
    name: &'static str,
    at_once: usize,
    takes: Duration,
}

/// Runs clients against `limit` seats for two seconds; says how many requests of each were done, and the longest wait.
fn simulate(clients: &[Client], limit: u32) -> BTreeMap<&'static str, (u32, Duration)> {
    let mut queues: Queues<usize> = Queues::new(SHAPE, limit);
    let mut done: BTreeMap<&'static str, (u32, Duration)> = BTreeMap::new();
    // Every request by its number: whose it is, when it came, its ticket.
    let mut requests: Vec<(usize, Duration, Ticket)> = Vec::new();
    let mut ends: BTreeMap<(Duration, usize), ()> = BTreeMap::new();
    let mut send: Vec<usize> =
        clients.iter().enumerate().flat_map(|(which, c)| std::iter::repeat_n(which, c.at_once)).collect();
    let mut now = Duration::ZERO;
    while now < Duration::from_secs(2) {
        for which in std::mem::take(&mut send) {
            let number = requests.len();
            match queues.arrive(now, flow_hash("s", clients[which].name), 1, number) {
                Arrival::Runs(ticket) => {
                    requests.push((which, now, ticket));
                    ends.insert((now + clients[which].takes, number), ());
                }
                Arrival::Waits(ticket) => requests.push((which, now, ticket)),
                Arrival::Refused(why) => panic!("{why}"),
            }
        }
        while let Some(number) = queues.dispatch(now) {
            let (which, since, _) = requests[number];
            let entry = done.entry(clients[which].name).or_default();
            entry.1 = entry.1.max(now - since);
            ends.insert((now + clients[which].takes, number), ());
        }
        let Some(((at, number), ())) = ends.pop_first() else { break };
        now = at;
        let (which, _, ticket) = requests[number];
        queues.leave(now, ticket);
        done.entry(clients[which].name).or_default().0 += 1;
        send.push(which);
    }
    done
}

#[test]
fn a_flood_leaves_others_their_share() {
    let flood = Client { name: "flood", at_once: 250, takes: ms(10) };
    let alone = simulate(&[Client { name: "quiet", at_once: 1, takes: ms(10) }], 10);
    let both = simulate(&[flood, Client { name: "quiet", at_once: 1, takes: ms(10) }], 10);
    assert_eq!(alone["quiet"].0, 200);
    // One of seven queues (the flood has six): more than the one seat that the quiet one asks for.
    assert!(both["quiet"].0 > 100, "{both:?}");
    assert!(both["quiet"].1 <= ms(20), "{both:?}");
    assert!(both["flood"].0 > 1700, "the rest is not left unused: {both:?}");
}

#[test]
fn long_requests_do_not_get_more_than_short_ones() {
    let clients = [
        Client { name: "long", at_once: 20, takes: ms(40) },
        Client { name: "short", at_once: 20, takes: ms(5) },
    ];
    let done = simulate(&clients, 8);
    let (long, short) = (f64::from(done["long"].0) * 0.04, f64::from(done["short"].0) * 0.005);
    assert!((0.6..1.6).contains(&(long / short)), "seconds of seats: {long} and {short}");
}
