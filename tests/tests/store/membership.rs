//! Members are replaced, moved, removed and added while the cluster serves; those that do not belong to it are refused.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use carrack_tests::eventually_sync;
use carrack_tests::history::{Load, until_written};
use carrack_tests::lan::Lan;
use carrack_tests::members::{Members, name};
use etcd_client::{Client, MemberAddOptions};

const LIMIT: Duration = Duration::from_secs(30);

/// The id of a member by its name, and whether it is a learner.
fn member(members: &Members, ask: usize, wanted: usize) -> Result<(u64, bool)> {
    members.ask(ask, async |mut client: Client| {
        let list = client.member_list().await?;
        let found = list.members().iter().find(|member| member.name() == name(wanted));
        found.map(|member| (member.id(), member.is_learner())).context("it is no member")
    })
}

#[test]
fn seven_members_survive_the_loss_of_three() {
    let all: Vec<usize> = (0..7).collect();
    let mut members = Members::start(Lan::new("seven", 7).unwrap(), 7).unwrap();
    let leader = members.leader(&all).unwrap();
    let load = Load::start(&members, &all, 2).unwrap();
    let lost: Vec<usize> = (0..3).map(|n| (leader + n) % 7).collect();
    let rest: Vec<usize> = all.iter().copied().filter(|n| !lost.contains(n)).collect();
    for n in &lost {
        members.end(*n, "KILL").unwrap();
    }
    let took = until_written(&members, &rest, LIMIT).unwrap();
    println!("seven members, the leader and two others killed: writes after {took:.1?}");
    // Without a fourth there is no majority.
    members.end(rest[0], "KILL").unwrap();
    assert!(until_written(&members, &rest[1..], Duration::from_secs(3)).is_err(), "three of seven");
    for n in &all {
        if !members.runs(*n) {
            members.start_founder(*n).unwrap();
        }
    }
    members.leader(&all).unwrap();
    let told = load.finish(&members, &all).unwrap();
    members.all_equal(&all, LIMIT).unwrap();
    println!("seven members: {told:?}, none lost");
}

#[test]
fn a_member_is_replaced_and_another_one_moves_while_the_cluster_serves() {
    let mut members = Members::start(Lan::new("replace", 3).unwrap(), 3).unwrap();
    let all = [0, 1, 2];
    members.leader(&all).unwrap();
    let load = Load::start(&members, &all, 2).unwrap();

    // Out: it ends by itself and says why, also when it is started again.
    let (id, _) = member(&members, 0, 2).unwrap();
    members.ask(0, async |mut client: Client| Ok(client.member_remove(id).await.map(drop)?)).unwrap();
    assert!(!members.ended(2, LIMIT).unwrap(), "a removed member fails");
    assert!(members.log(2).contains("was removed from the cluster"), "{}", members.log(2));
    members.start_founder(2).unwrap();
    assert!(!members.ended(2, LIMIT).unwrap(), "it is still out");
    // In: the same name and address, with nothing.
    std::fs::remove_dir_all(members.data_dir(2)).unwrap();
    let url = members.peer_url(2);
    members
        .ask(0, async |mut client: Client| Ok(client.member_add([url.as_str()], None).await.map(drop)?))
        .unwrap();
    let began = Instant::now();
    members.start_joining(2, &[0, 1]).unwrap();
    members.leader(&all).unwrap();
    eventually_sync(LIMIT, || Ok(member(&members, 0, 2).ok().filter(|(_, learner)| !learner))).unwrap();
    println!("a replaced member votes after {:.1?}", began.elapsed());
    assert_ne!(member(&members, 0, 2).unwrap().0, id, "it is another one");
    members.all_equal(&all, LIMIT).unwrap();

    // Moved: it stops, the others are told, it starts at its new address.
    members.end(1, "TERM").unwrap();
    let (id, _) = member(&members, 0, 1).unwrap();
    let moved = members.peer_url(1).replace(":2380", ":2390");
    members
        .ask(0, async |mut client: Client| Ok(client.member_update(id, [moved.clone()]).await.map(drop)?))
        .unwrap();
    members.move_peer(1, &moved);
    members.start_founder(1).unwrap();
    members.leader(&all).unwrap();
    members.all_equal(&all, LIMIT).unwrap();
    // It counts: with it and without another one there is a majority.
    members.end(2, "KILL").unwrap();
    let took = until_written(&members, &[0, 1], LIMIT).unwrap();
    println!("with the moved member and without another one: writes after {took:.1?}");
    members.start_founder(2).unwrap();
    members.leader(&all).unwrap();
    let told = load.finish(&members, &all).unwrap();
    println!("replaced and moved: {told:?}, none lost");
}

#[test]
fn a_learner_is_promoted_once_it_has_everything() {
    let mut members = Members::start(Lan::new("learner", 4).unwrap(), 3).unwrap();
    members.leader(&[0, 1, 2]).unwrap();
    let url = members.peer_url(3);
    let id = members
        .ask(0, async |mut client: Client| {
            let options = MemberAddOptions::new().with_is_learner();
            let added = client.member_add([url.as_str()], Some(options)).await?;
            let id = added.member().context("a member")?.id();
            let early = client.member_promote(id).await.expect_err("it has nothing yet");
            assert!(early.to_string().contains("learner"), "{early}");
            Ok(id)
        })
        .unwrap();
    members.start_joining(3, &[0, 1, 2]).unwrap();
    eventually_sync(LIMIT, || {
        members.ask(1, async |mut client: Client| Ok(client.member_promote(id).await.ok().map(drop)))
    })
    .unwrap();
    // It tells the others its name once it is there.
    let listed = eventually_sync(LIMIT, || Ok(member(&members, 2, 3).ok()));
    assert_eq!(listed.unwrap(), (id, false));
    members.leader(&[0, 1, 2, 3]).unwrap();
    // Two of four are no majority, three are.
    members.end(0, "KILL").unwrap();
    until_written(&members, &[1, 2, 3], LIMIT).unwrap();
    members.all_equal(&[1, 2, 3], LIMIT).unwrap();
}

#[test]
fn a_leader_that_is_told_to_stop_hands_over() {
    let mut members = Members::start(Lan::new("handover", 3).unwrap(), 3).unwrap();
    let mut gaps = Vec::new();
    for _ in 0..4 {
        let leader = members.leader(&[0, 1, 2]).unwrap();
        let rest: Vec<usize> = (0..3).filter(|n| *n != leader).collect();
        until_written(&members, &rest, LIMIT).unwrap();
        let began = Instant::now();
        assert!(members.end(leader, "TERM").unwrap(), "it ends well: {}", members.log(leader));
        let ended = began.elapsed();
        gaps.push((ended, until_written(&members, &rest, LIMIT).unwrap()));
        members.start_founder(leader).unwrap();
    }
    println!("stopped leaders: ended within, then the first write within: {gaps:.2?}");
    // Without a hand-over the others would have to notice first, which takes 0.65 s at least.
    gaps.sort_by_key(|(_, gap)| *gap);
    assert!(gaps[1].1 < Duration::from_millis(500), "{gaps:?}");
}

#[test]
fn strangers_do_not_get_in() {
    let mut members = Members::start(Lan::new("strangers", 4).unwrap(), 3).unwrap();
    let leader = members.leader(&[0, 1, 2]).unwrap();
    // A member that nobody added.
    members.start_joining(3, &[0, 1, 2]).unwrap();
    assert!(!members.ended(3, LIMIT).unwrap());
    assert!(members.log(3).contains("member add"), "it is told what to do: {}", members.log(3));
    // One that takes itself for the founder of another cluster with the same members.
    let all: Vec<String> = (0..4).map(|n| format!("{}={}", name(n), members.peer_url(n))).collect();
    members.start_with(3, &["--initial-cluster", &all.join(",")]).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(members.leader(&[0, 1, 2]).unwrap(), leader, "nobody is disturbed");
    assert!(until_written(&members, &[3], Duration::from_secs(2)).is_err(), "it has no cluster");
    members.end(3, "KILL").unwrap();
    // The data of one cluster, started as a member of another one.
    members.end(1, "KILL").unwrap();
    members.start_with(1, &["--initial-cluster-token", "another"]).unwrap();
    assert!(!members.ended(1, LIMIT).unwrap());
    assert!(members.log(1).contains("belongs to the cluster \"carrack\""), "{}", members.log(1));
    members.start_founder(1).unwrap();
    members.all_equal(&[0, 1, 2], LIMIT).unwrap();
}
