//! Lets the planned faults happen.

use std::sync::Arc;
use std::time::Duration;

use carrack_store::{Member, MemberError};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::disk::Fuse;
use crate::network::{Node, Weather, url};
use crate::plan::{Fault, Shape, Whom};
use crate::world::World;

/// How long a change of the membership may take before the nemesis turns to something else.
const PATIENCE: Duration = Duration::from_secs(4);

/// The most machines.
const MACHINES: Node = 8;

/// Lets the faults happen, one after the other; what they began ends on its own.
pub async fn run(world: Arc<World>) {
    let mut restarts = Vec::new();
    for (pause, fault) in world.setup.faults.clone() {
        sleep(pause).await;
        world.trace.event(format_args!("fault: {fault:?}"));
        match fault {
            Fault::Restart(whom, after) => restarts.push(restart(&world, find(&world, whom), after)),
            fault => strike(&world, fault).await,
        }
    }
    // Who is to start again has to be there before the end is judged.
    for restart in restarts {
        if let Err(error) = restart.await {
            world.watchdog.report(format!("a restart ended: {error}"));
        }
    }
}

fn restart(world: &Arc<World>, node: Node, after: Duration) -> JoinHandle<()> {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        world.stop(node).await;
        sleep(after).await;
        world.start(node);
    })
}

fn find(world: &World, whom: Whom) -> Node {
    let nodes = world.nodes();
    let any = |n: usize| nodes[n % nodes.len()];
    match whom {
        Whom::Leader => world.leader().unwrap_or_else(|| any(0)),
        Whom::Any(n) => any(n),
    }
}

/// Does something after a time, while other things go on.
fn later(world: &Arc<World>, after: Duration, what: impl FnOnce(&Arc<World>) + Send + 'static) {
    let world = Arc::clone(world);
    tokio::spawn(async move {
        sleep(after).await;
        what(&world);
    });
}

async fn strike(world: &Arc<World>, fault: Fault) {
    match fault {
        Fault::Crash(whom, fuse) => world.crash(find(world, whom), fuse),
        Fault::Blackout(fuse) => world.nodes().into_iter().for_each(|node| world.crash(node, fuse)),
        // Waited for, see `run`.
        Fault::Restart(whom, after) => drop(restart(world, find(world, whom), after)),
        Fault::Partition(shape, time) => {
            partition(world, shape);
            later(world, time, |world| world.network.mend());
        }
        Fault::Weather(weather, time) => {
            world.network.set_weather(weather);
            later(world, time, |world| world.network.set_weather(Weather::default()));
        }
        Fault::SlowDisk(whom, delay, time) => {
            let node = find(world, whom);
            set_delay(world, node, delay);
            later(world, time, move |world| set_delay(world, node, Duration::ZERO));
        }
        Fault::FullDisk(whom, time) => {
            let node = find(world, whom);
            if let Some(disk) = world.disk(node) {
                disk.set_capacity(disk.used());
            }
            later(world, time, move |world| make_room(world, node));
        }
        Fault::Freeze(whom, time) => world.network.freeze(find(world, whom), time),
        Fault::Jump(time) => tokio::time::advance(time).await,
        Fault::Transfer(to) => transfer(world, to).await,
        Fault::Compact(back) => compact(world, back).await,
        Fault::Add(learner) => add(world, learner).await,
        Fault::Promote => promote(world).await,
        Fault::Remove(whom) => remove(world, find(world, whom)).await,
    }
}

fn set_delay(world: &World, node: Node, delay: Duration) {
    if let Some(disk) = world.disk(node) {
        disk.set_sync_delay(delay);
    }
}

fn make_room(world: &World, node: Node) {
    if let Some(disk) = world.disk(node) {
        disk.set_capacity(u64::MAX);
    }
}

fn partition(world: &World, shape: Shape) {
    let nodes = world.nodes();
    let side = |node: Node, bits: u32| bits >> node & 1;
    let apart: Box<dyn Fn(Node, Node) -> bool> = match shape {
        Shape::Isolate(whom) => {
            let one = find(world, whom);
            Box::new(move |a, b| a == one || b == one)
        }
        Shape::Split(bits) => Box::new(move |a, b| side(a, bits) != side(b, bits)),
        Shape::Bridge(whom) => {
            let one = find(world, whom);
            Box::new(move |a, b| a != one && b != one && a % 2 != b % 2)
        }
        Shape::Mute(whom) => {
            let one = find(world, whom);
            Box::new(move |a, _| a == one)
        }
        Shape::Deaf(whom) => {
            let one = find(world, whom);
            Box::new(move |_, b| b == one)
        }
        Shape::OneWay(from, to) => {
            let (from, to) = (nodes[from % nodes.len()], nodes[to % nodes.len()]);
            Box::new(move |a, b| (a, b) == (from, to))
        }
    };
    for a in &nodes {
        for b in nodes.iter().filter(|b| *b != a && apart(*a, **b)) {
            world.network.cut(*a, *b);
        }
    }
}

/// The members as the leader knows them, with their machines.
fn members(world: &World) -> Vec<(Node, Member)> {
    let Some(life) = world.leader().and_then(|node| world.network.life(node)) else { return Vec::new() };
    let member = |member: Member| {
        let node = world.nodes().into_iter().find(|node| member.peer_urls.contains(&url(*node)))?;
        Some((node, member))
    };
    life.store.members().into_iter().filter_map(member).collect()
}

async fn transfer(world: &World, to: usize) {
    let Some(life) = world.leader().and_then(|node| world.network.life(node)) else { return };
    let voters: Vec<Member> = life.store.members().into_iter().filter(|member| member.votes).collect();
    let Some(member) = voters.get(to % voters.len().max(1)) else { return };
    let moved = timeout(PATIENCE, life.store.move_leader(member.id)).await;
    world.trace.event(format_args!("transfer to {:?}: {moved:?}", member.peer_urls));
}

async fn compact(world: &World, back: i64) {
    let nodes = world.alive();
    let Some(life) = nodes.first().and_then(|node| world.network.life(*node)) else { return };
    // Only what the book has: it must know everything in the end.
    let revision = world.book.lock().whole() - back;
    if revision > 1 {
        world.book.lock().compactions.push(revision);
        let done = timeout(PATIENCE, life.store.compact(revision)).await;
        world.trace.event(format_args!("compact {revision}: {done:?}"));
    }
}

async fn add(world: &Arc<World>, learner: bool) {
    let Some(life) = world.leader().and_then(|node| world.network.life(node)) else { return };
    let nodes = world.nodes();
    let Some(node) = (world.setup.members..MACHINES).find(|node| !nodes.contains(node)) else { return };
    let added = timeout(PATIENCE, life.store.member_add(learner, vec![url(node)])).await;
    world.trace.event(format_args!("add m{node}: {added:?}"));
    // Who does not know whether it was added starts it nevertheless, as people do: it asks the others.
    if !matches!(added, Ok(Err(_))) {
        world.add_machine(node, true);
        world.start(node);
    }
}

async fn promote(world: &World) {
    let Some((node, member)) = members(world).into_iter().find(|(_, member)| member.is_learner) else {
        return;
    };
    let Some(life) = world.leader().and_then(|node| world.network.life(node)) else { return };
    let promoted = timeout(PATIENCE, life.store.member_promote(member.id)).await;
    world.trace.event(format_args!("promote m{node}: {promoted:?}"));
}

async fn remove(world: &Arc<World>, node: Node) {
    let Some((_, member)) = members(world).into_iter().find(|(at, _)| *at == node) else { return };
    let Some(life) = world.leader().and_then(|node| world.network.life(node)) else { return };
    // It may be out before this is answered.
    let before = world.may_be_removed(node, true);
    let removed = timeout(PATIENCE, life.store.member_remove(member.id)).await;
    world.trace.event(format_args!("remove m{node}: {removed:?}"));
    match removed {
        Ok(Ok(())) => world.remove_machine(node).await,
        // It may be out by now, or later: it will say so itself.
        Ok(Err(MemberError::Unknown)) | Err(_) => {}
        Ok(Err(_)) => {
            world.may_be_removed(node, before);
        }
    }
}

/// Ends all that is wrong.
pub fn heal(world: &Arc<World>) {
    world.trace.event(format_args!("all is well again"));
    world.network.mend();
    world.network.set_weather(Weather::default());
    for node in world.nodes() {
        make_room(world, node);
        set_delay(world, node, Duration::ZERO);
        if let Some(disk) = world.disk(node)
            && !disk.is_dead()
        {
            disk.set_fuse(Fuse::Never);
        }
    }
}
