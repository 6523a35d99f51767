//! Links between members are cut in every shape, under load: the majority goes on, a minority refuses, nothing that was
//! acknowledged is lost, no read goes back, and in the end all are equal.

use std::time::{Duration, Instant};

use carrack_tests::history::{Load, refuse, until_written};
use carrack_tests::lan::Lan;
use carrack_tests::members::Members;

/// How long a cut lasts, at least.
const CUT: Duration = Duration::from_millis(2500);

/// Within this time the majority takes writes. On an idle machine it takes about one second: the time to notice that
/// the leader is gone, and one election.
const PROGRESS: Duration = Duration::from_secs(30);

/// Within this time after the end of a cut all are equal. Connections that hang are given up after four seconds.
const HEALED: Duration = Duration::from_secs(30);

/// Who is cut off from whom. Numbers are places in a list of members whose first is the leader.
struct Shape {
    name: &'static str,
    /// Nothing goes between any two of different groups; empty for the shapes that `one_way` makes.
    groups: &'static [&'static [usize]],
    /// What the first sends to the second is lost.
    one_way: &'static [(usize, usize)],
    /// Where writes go on.
    majority: &'static [usize],
    /// Who must answer nothing.
    minority: &'static [usize],
}

const fn groups(
    name: &'static str,
    groups: &'static [&'static [usize]],
    majority: &'static [usize],
    minority: &'static [usize],
) -> Shape {
    Shape { name, groups, one_way: &[], majority, minority }
}

const fn one_way(
    name: &'static str,
    one_way: &'static [(usize, usize)],
    majority: &'static [usize],
    minority: &'static [usize],
) -> Shape {
    Shape { name, groups: &[], one_way, majority, minority }
}

const OF_THREE: &[Shape] = &[
    groups("the leader alone", &[&[0], &[1, 2]], &[1, 2], &[0]),
    groups("a follower alone", &[&[1], &[0, 2]], &[0, 2], &[1]),
    groups("all apart but for one that sees both", &[&[0], &[1]], &[0, 2], &[]),
    one_way("the leader mute", &[(0, 1), (0, 2)], &[1, 2], &[0]),
    one_way("the leader deaf", &[(1, 0), (2, 0)], &[1, 2], &[0]),
    one_way("a follower mute", &[(1, 0), (1, 2)], &[0, 2], &[1]),
    one_way("a follower deaf", &[(0, 1), (2, 1)], &[0, 2], &[1]),
    one_way("one direction of one link", &[(0, 1)], &[0, 2], &[]),
];

const OF_FIVE: &[Shape] = &[
    groups("the leader with one other", &[&[0, 1], &[2, 3, 4]], &[2, 3, 4], &[0, 1]),
    groups("two followers apart", &[&[1, 2], &[0, 3, 4]], &[0, 3, 4], &[1, 2]),
    groups("two pairs, and one that sees both", &[&[0, 1], &[2, 3]], &[0, 1, 4], &[]),
    groups("one of them in three parts", &[&[0], &[1], &[2, 3, 4]], &[2, 3, 4], &[0, 1]),
    one_way("the leader mute", &[(0, 1), (0, 2), (0, 3), (0, 4)], &[1, 2, 3, 4], &[0]),
];

fn run(name: &str, size: usize, shapes: &[Shape]) {
    let members = Members::start(Lan::new(name, size).unwrap(), size).unwrap();
    let all: Vec<usize> = (0..size).collect();
    members.leader(&all).unwrap();
    let load = Load::start(&members, &all, 3).unwrap();
    for shape in shapes {
        let leader = members.leader(&all).unwrap();
        let places: Vec<usize> = (0..size).map(|place| (leader + place) % size).collect();
        let of = |list: &[usize]| list.iter().map(|place| places[*place]).collect::<Vec<_>>();
        let before = load.writes();
        for (n, group) in shape.groups.iter().enumerate() {
            for other in &shape.groups[n + 1..] {
                for (a, b) in group.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
                    members.lan.cut_both(places[a], places[b]).unwrap();
                }
            }
        }
        shape.one_way.iter().for_each(|(from, to)| members.lan.cut(places[*from], places[*to]).unwrap());
        let began = Instant::now();
        let urls = of(shape.minority).into_iter().map(|n| members.client_url(n)).collect();
        let refused = members.runtime.spawn(refuse(urls, CUT));
        let progress = until_written(&members, &of(shape.majority), PROGRESS)
            .unwrap_or_else(|error| panic!("{}: {error:#}", shape.name));
        members.runtime.block_on(refused).unwrap().unwrap_or_else(|error| panic!("{}: {error}", shape.name));
        std::thread::sleep(CUT.saturating_sub(began.elapsed()));
        members.lan.heal().unwrap();
        let healed = Instant::now();
        until_written(&members, &of(shape.minority), HEALED)
            .map(drop)
            .or_else(|error| if shape.minority.is_empty() { Ok(()) } else { Err(error) })
            .unwrap();
        members.leader(&all).unwrap();
        println!(
            "{name}: {}: writes after {progress:.1?}, all well {:.1?} after the cut, {} writes meanwhile",
            shape.name,
            healed.elapsed(),
            load.writes() - before,
        );
    }
    let told = load.finish(&members, &all).unwrap();
    let revision = members.all_equal(&all, HEALED).unwrap();
    println!("{name}: {told:?}, none lost; all equal at revision {revision}");
    assert!(told.writes > 20 * shapes.len() as u64, "{told:?} is no load");
}

#[test]
fn three_members_keep_their_promises_in_every_partition() {
    run("part3", 3, OF_THREE);
}

#[test]
fn five_members_keep_their_promises_in_every_partition() {
    run("part5", 5, OF_FIVE);
}
