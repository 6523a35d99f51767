//! The disk of one of three members is full: the others go on, the member goes on answering, and once there is space
//! again it catches up without a restart.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use carrack_tests::eventually_sync;
use carrack_tests::history::{Load, until_written};
use carrack_tests::lan::Lan;
use carrack_tests::members::Members;
use carrack_tests::small_disk::SmallDisk;
use etcd_client::{AlarmAction, AlarmType, Client, GetOptions};

const ALL: [usize; 3] = [0, 1, 2];

/// Megabytes of each member's disk: twice the 32 that the log takes in advance, what it keeps for others, the history.
const DISK: u32 = 256;

/// More than the log has taken in advance.
const WRITTEN: usize = 40 << 20;
const VALUE: usize = 100_000;

/// How much is written while a member is away: more than any log keeps.
const TIMES: usize = 4;

/// Within this time a member that was full has everything.
const CAUGHT_UP: Duration = Duration::from_secs(30);

/// Writes more than fits into the log of a member whose disk is full; each write is acknowledged.
fn write_much(members: &Members, on: usize) -> Result<()> {
    members.ask(on, async |mut client: Client| {
        for n in 0..WRITTEN / VALUE {
            client.put(format!("much/{}", n % 20), vec![b'x'; VALUE], None).await.context("a write")?;
        }
        Ok(())
    })
}

fn says_no_space(members: &Members, n: usize) -> Result<bool> {
    members.ask(n, async |mut client: Client| {
        let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
        let status = client.status().await?;
        let id = status.header().context("a header")?.member_id();
        let raised = alarms.alarms().iter().any(|a| a.member_id() == id && a.alarm() == AlarmType::Nospace);
        Ok(raised && status.errors().iter().any(|error| error.contains("NOSPACE")))
    })
}

#[test]
fn a_member_whose_disk_is_full_costs_nobody_else() {
    let mut members = Members::prepare(Lan::new("full", 3).unwrap(), 3).unwrap();
    for n in ALL {
        std::fs::create_dir(members.data_dir(n)).unwrap();
    }
    let disks: Vec<SmallDisk> = ALL.map(|n| SmallDisk::new(&members.data_dir(n), DISK).unwrap()).into();
    ALL.into_iter().for_each(|n| members.start_founder(n).unwrap());
    let leader = members.leader(&ALL).unwrap();
    let load = Load::start(&members, &ALL, 2).unwrap();

    // A follower: the others do not even notice.
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let filler = disks[follower].fill().unwrap();
    write_much(&members, other).unwrap();
    assert!(says_no_space(&members, follower).unwrap(), "the member says why it is behind");
    assert_eq!(members.leader(&ALL).unwrap(), leader, "nothing has happened to the leader");
    members
        .ask(follower, async |mut client: Client| {
            client.get("load/0", Some(GetOptions::new().with_serializable())).await?;
            Ok(())
        })
        .expect("it still answers");
    // A write through it is passed on to the leader.
    let through = until_written(&members, &[follower], CAUGHT_UP).unwrap();
    println!("full follower: a write through it: {through:.1?}");
    std::fs::remove_file(filler).unwrap();
    let freed = Instant::now();
    members.all_equal(&ALL, CAUGHT_UP).unwrap();
    println!("full follower: has everything {:.1?} after there is space", freed.elapsed());
    eventually_sync(CAUGHT_UP, || Ok((!says_no_space(&members, follower)?).then_some(()))).unwrap();

    // The leader: another one takes over.
    let leader = members.leader(&ALL).unwrap();
    let filler = disks[leader].fill().unwrap();
    let rest: Vec<usize> = ALL.into_iter().filter(|n| *n != leader).collect();
    let began = Instant::now();
    write_much(&members, rest[0]).expect("no write is refused");
    let new = members.leader(&ALL).unwrap();
    println!("full leader: {} MiB written in {:.1?}", WRITTEN >> 20, began.elapsed());
    assert_ne!(new, leader, "it still leads");
    std::fs::remove_file(filler).unwrap();
    let freed = Instant::now();
    members.all_equal(&ALL, CAUGHT_UP).unwrap();
    println!("full leader: has everything {:.1?} after there is space", freed.elapsed());
    let told = load.finish(&members, &ALL).unwrap();
    println!("full disks: {told:?}, none lost");
    assert!(ALL.into_iter().all(|n| members.runs(n)));
    drop(members);
}

/// A member that is away must not fill the disks of the others: their logs keep a bounded part for it.
#[test]
fn the_log_stays_small_while_a_member_is_away() {
    let mut members = Members::start(Lan::new("away", 3).unwrap(), 3).unwrap();
    let leader = members.leader(&ALL).unwrap();
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    members.end(away, "KILL").unwrap();
    for _ in 0..TIMES {
        write_much(&members, leader).unwrap();
    }
    let bytes = |n: usize| -> Result<u64> {
        let files = std::fs::read_dir(members.data_dir(n).join("log"))?;
        files.map(|file| Ok(file?.metadata()?.len())).sum()
    };
    // What is kept (32 MiB), the file in use, the next one, and what came since the last checkpoint.
    let most = 112 << 20;
    for n in [leader, other] {
        let small = eventually_sync(Duration::from_secs(5), || Ok((bytes(n)? <= most).then_some(())));
        small.unwrap_or_else(|_| panic!("the log of {n} (leader: {leader}) has {:?} bytes", bytes(n)));
    }
    members.start_founder(away).unwrap();
    let began = Instant::now();
    members.all_equal(&ALL, 3 * CAUGHT_UP).unwrap();
    println!("back after {} MiB: all equal within {:.1?}", (TIMES * WRITTEN) >> 20, began.elapsed());
}
