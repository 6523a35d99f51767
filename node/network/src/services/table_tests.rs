//! The table against a model of the maps in which somebody looks after every single write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use carrack_ebpf_abi::{Address, Backend, Service, ServiceKey, SlotKey, backend_flags};
use proptest::prelude::*;

use super::table::{Plan, Port, Retired, Table, Target, Write};

/// The maps.
#[derive(Default)]
struct Maps {
    services: HashMap<ServiceKey, Service>,
    slots: HashMap<SlotKey, u32>,
    backends: HashMap<u32, Backend>,
}

impl Maps {
    fn write(&mut self, write: Write) {
        match write {
            Write::Backend(id, backend) => drop(self.backends.insert(id, backend)),
            Write::Slot(key, id) => drop(self.slots.insert(key, id)),
            Write::Service(key, service) => drop(self.services.insert(key, service)),
            Write::RemoveService(key) => drop(self.services.remove(&key)),
        }
    }

    fn delete(&mut self, item: Retired) {
        match item {
            Retired::Slot(key) => assert!(self.slots.remove(&key).is_some(), "{key:?} retired twice"),
            Retired::Backend(id) => assert!(self.backends.remove(&id).is_some(), "{id} retired twice"),
        }
    }

    /// Every back end a connection to `key` could get; panics if one of them is missing.
    fn reachable(&self, key: &ServiceKey) -> Option<BTreeSet<Target>> {
        let service = self.services.get(key)?;
        let target = |index| {
            let slot = SlotKey { service: service.id, generation: service.generation, index };
            let id = self.slots.get(&slot).unwrap_or_else(|| panic!("no {slot:?} of {service:?}"));
            let backend = self.backends.get(id).unwrap_or_else(|| panic!("no back end {id} of {slot:?}"));
            (backend.address, backend.port)
        };
        Some((0..service.count).map(target).collect())
    }

    fn adopt(&self) -> (Table, Vec<Retired>) {
        let services: Vec<_> = self.services.iter().map(|(k, v)| (*k, *v)).collect();
        let slots: Vec<_> = self.slots.iter().map(|(k, v)| (*k, *v)).collect();
        let backends: Vec<_> = self.backends.iter().map(|(k, v)| (*k, *v)).collect();
        Table::adopt(&services, &slots, &backends)
    }

    /// Writes a plan, up to `stop` writes, looking after each. Every lookup has to give the old or the new back ends.
    fn apply(&mut self, plan: &Plan, wanted: &[Port], stop: usize) {
        let old: HashMap<_, _> =
            self.services.keys().filter_map(|key| Some((*key, self.reachable(key)?))).collect();
        let new: HashMap<_, _> = wanted
            .iter()
            .flat_map(|port| port.frontends.iter().map(|key| (*key, port.backends.clone())))
            .collect();
        for write in plan.writes.iter().take(stop) {
            self.write(*write);
            for key in old.keys().chain(new.keys()) {
                let now = self.reachable(key);
                assert!(
                    now.as_ref() == old.get(key) || now.as_ref() == new.get(key),
                    "{key:?} after {write:?}"
                );
            }
        }
    }

    fn assert_is(&self, wanted: &[Port]) {
        let mut expected = BTreeMap::new();
        for port in wanted {
            for key in &port.frontends {
                expected.insert(*key, (port.backends.clone(), port.affinity_seconds));
            }
        }
        let found = |(key, service): (&ServiceKey, &Service)| {
            (*key, (self.reachable(key).unwrap(), service.affinity_seconds))
        };
        assert_eq!(self.services.iter().map(found).collect::<BTreeMap<_, _>>(), expected);
    }

    /// Nothing is left over.
    fn assert_tight(&self, wanted: &[Port]) {
        let backends: usize = wanted.iter().map(|port| port.backends.len()).sum();
        assert_eq!((self.slots.len(), self.backends.len()), (backends, backends));
        assert!(self.backends.values().all(|backend| backend.flags & backend_flags::DRAINING == 0));
    }
}

fn address(n: u8) -> Address {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)).into()
}

fn frontend(n: u8) -> ServiceKey {
    ServiceKey { address: address(n), port: 80_u16.to_be(), protocol: 6, scope: 0 }
}

fn port(frontends: &[u8], backends: &[u8], affinity_seconds: u32) -> Port {
    Port {
        frontends: frontends.iter().map(|n| frontend(*n)).collect(),
        backends: backends.iter().map(|n| (address(*n), 8080_u16.to_be())).collect(),
        affinity_seconds,
    }
}

fn run(maps: &mut Maps, table: &mut Table, wanted: &[Port]) -> usize {
    let plan = table.plan(wanted);
    maps.apply(&plan, wanted, usize::MAX);
    plan.retired.iter().for_each(|item| maps.delete(*item));
    maps.assert_is(wanted);
    maps.assert_tight(wanted);
    plan.writes.len()
}

#[test]
fn writes_only_what_changes() {
    let (mut maps, mut table) = (Maps::default(), Maps::default().adopt().0);
    let others = [port(&[2], &[20, 21], 0), port(&[3], &[30], 0)];
    let with = |first: Port| [vec![first], others.to_vec()].concat();
    run(&mut maps, &mut table, &with(port(&[1], &[10, 11], 0)));
    assert_eq!(run(&mut maps, &mut table, &with(port(&[1], &[10, 11], 0))), 0);
    // One back end, two slots and one service; then two slots, one service, one draining mark.
    assert_eq!(run(&mut maps, &mut table, &with(port(&[1], &[10, 11, 12], 0))), 1 + 3 + 1);
    assert_eq!(run(&mut maps, &mut table, &with(port(&[1], &[10, 12], 0))), 2 + 1 + 1);
    assert_eq!(run(&mut maps, &mut table, &with(port(&[1], &[10, 12], 60))), 1);
    assert_eq!(run(&mut maps, &mut table, &with(port(&[1, 9], &[10, 12], 60))), 1);
    assert_eq!(run(&mut maps, &mut table, &others), 2);
    assert_eq!(run(&mut maps, &mut table, &[]), 2);
    assert_eq!(table.size(), (0, 0));
}

#[test]
fn a_back_end_that_stays_keeps_its_id() {
    let (mut maps, mut table) = (Maps::default(), Maps::default().adopt().0);
    run(&mut maps, &mut table, &[port(&[1], &[10, 11], 60)]);
    let id_of = |maps: &Maps, n| {
        maps.backends.iter().find_map(|(id, backend)| (backend.address == address(n)).then_some(*id)).unwrap()
    };
    let (ten, eleven) = (id_of(&maps, 10), id_of(&maps, 11));
    run(&mut maps, &mut table, &[port(&[1], &[11, 12], 60)]);
    assert_eq!(id_of(&maps, 11), eleven);
    run(&mut maps, &mut table, &[port(&[1], &[10, 11, 12], 60)]);
    assert_ne!(id_of(&maps, 10), ten, "one that comes back is another to its clients");
}

#[test]
fn a_frontend_moves_from_one_service_to_another() {
    let (mut maps, mut table) = (Maps::default(), Maps::default().adopt().0);
    run(&mut maps, &mut table, &[port(&[1, 2], &[10], 0)]);
    run(&mut maps, &mut table, &[port(&[1], &[10], 0), port(&[2], &[20], 0)]);
    run(&mut maps, &mut table, &[port(&[2], &[10], 0), port(&[1], &[20], 0)]);
    run(&mut maps, &mut table, &[port(&[1, 2], &[30], 0)]);
}

/// Tables of up to four services over six frontends and six back ends.
fn tables() -> impl Strategy<Value = Vec<Vec<Port>>> {
    let owner = prop::collection::vec(0_u8..5, 6);
    let services = prop::collection::vec((prop::collection::btree_set(10_u8..16, 0..5), 0_u32..3), 4);
    let table = (owner, services).prop_map(|(owner, services)| {
        let of = |(index, (backends, affinity)): (usize, &(BTreeSet<u8>, u32))| {
            let owned: Vec<_> = (0..6_u8).filter(|n| usize::from(owner[usize::from(*n)]) == index).collect();
            port(&owned, &backends.iter().copied().collect::<Vec<_>>(), *affinity)
        };
        services.iter().enumerate().map(of).filter(|port| !port.frontends.is_empty()).collect()
    });
    prop::collection::vec(table, 1..8)
}

proptest! {
    /// Whoever looks between any two writes finds all of the old or all of the new, and nothing is left over.
    #[test]
    fn nobody_misses_anything(tables in tables()) {
        let (mut maps, mut table) = (Maps::default(), Maps::default().adopt().0);
        for wanted in &tables {
            run(&mut maps, &mut table, wanted);
            prop_assert_eq!(table.plan(wanted).writes, vec![], "the same again");
        }
    }

    /// A process may die after any write; the next one takes the maps over and carries on without anyone missing anything.
    #[test]
    fn a_crash_anywhere_is_repaired(tables in tables(), stops in prop::collection::vec(0_usize..24, 8)) {
        let mut maps = Maps::default();
        for (wanted, stop) in tables.iter().zip(stops) {
            let (mut table, orphans) = maps.adopt();
            let plan = table.plan(wanted);
            maps.apply(&plan, wanted, stop);
            if stop >= plan.writes.len() {
                orphans.iter().chain(&plan.retired).for_each(|item| maps.delete(*item));
            }
        }
        let Some(last) = tables.last() else { return Ok(()) };
        let (mut table, orphans) = maps.adopt();
        let plan = table.plan(last);
        maps.apply(&plan, last, usize::MAX);
        maps.assert_is(last);
        orphans.iter().chain(&plan.retired).for_each(|item| maps.delete(*item));
        maps.assert_tight(last);
        prop_assert_eq!(table.plan(last).writes, vec![]);
    }
}
