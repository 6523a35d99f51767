//! What the service maps hold, and what has to be written to make them hold something else.
//!
//! Nothing here writes: [`Table::plan`] compares what is wanted with what is there and gives the writes in an order in which
//! nobody who looks meanwhile misses anything: back ends, slots of a new generation, then the services that name it.
//! What is no longer named is [`Retired`] and deleted when nobody can still be reading it.

use std::collections::{BTreeSet, HashMap, HashSet};

use carrack_ebpf_abi::{Address, Backend, Service, ServiceKey, SlotKey, backend_flags};

/// Address and port (network order) of a back end.
pub(crate) type Target = (Address, u16);

/// One port of a service, of one address family, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// What connections are addressed to; not empty.
    pub(crate) frontends: BTreeSet<ServiceKey>,
    /// Where they go.
    pub(crate) backends: BTreeSet<Target>,
    /// See [`Service::affinity_seconds`].
    pub(crate) affinity_seconds: u32,
}

/// A write into the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    Backend(u32, Backend),
    Slot(SlotKey, u32),
    Service(ServiceKey, Service),
    RemoveService(ServiceKey),
}

/// What to delete after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Retired {
    Slot(SlotKey),
    Backend(u32),
}

/// A change of the maps.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) writes: Vec<Write>,
    pub(crate) retired: Vec<Retired>,
}

/// A service as it stands in the maps.
#[derive(Clone, Debug)]
struct Known {
    frontends: BTreeSet<ServiceKey>,
    generation: u32,
    /// The highest generation that has slots, also ones that nothing names any more.
    last_generation: u32,
    /// In the order of the slots.
    backends: Vec<(Target, u32)>,
    affinity_seconds: u32,
    /// Whether the maps are known to hold just this; if not, they are written in any case.
    whole: bool,
}

impl Known {
    fn value(&self, id: u32) -> Service {
        let count = u32::try_from(self.backends.len()).unwrap_or(u32::MAX);
        Service { id, generation: self.generation, count, affinity_seconds: self.affinity_seconds }
    }

    fn slots(&self, id: u32) -> impl Iterator<Item = SlotKey> + use<> {
        let generation = self.generation;
        (0..self.value(id).count).map(move |index| SlotKey { service: id, generation, index })
    }

    fn has_backends(&self, wanted: &BTreeSet<Target>) -> bool {
        self.whole && self.backends.iter().map(|(target, _)| target).eq(wanted)
    }
}

/// The content of the maps.
#[derive(Debug)]
pub(crate) struct Table {
    by_id: HashMap<u32, Known>,
    by_frontend: HashMap<ServiceKey, u32>,
    next_service: u32,
    next_backend: u32,
}

impl Table {
    /// What an earlier process left in the maps, and those slots and back ends that are to be deleted once the first plan
    /// is written: until then a service that a crash left half changed may still name them.
    pub(crate) fn adopt(
        services: &[(ServiceKey, Service)],
        slots: &[(SlotKey, u32)],
        backends: &[(u32, Backend)],
    ) -> (Table, Vec<Retired>) {
        let service_ids =
            services.iter().map(|(_, service)| service.id).chain(slots.iter().map(|(key, _)| key.service));
        let mut table = Table {
            by_id: HashMap::new(),
            by_frontend: HashMap::new(),
            // An id whose service is gone is not used again while its slots may be read.
            next_service: service_ids.max().map_or(1, |id| id.wrapping_add(1)),
            next_backend: backends.iter().map(|(id, _)| *id).max().map_or(1, |id| id.wrapping_add(1)),
        };
        let slot_of: HashMap<SlotKey, u32> = slots.iter().copied().collect();
        let backend_of: HashMap<u32, Backend> = backends.iter().copied().collect();
        for (key, service) in services {
            table.adopt_service(key, service, &slot_of, &backend_of);
        }
        for (key, _) in slots {
            if let Some(known) = table.by_id.get_mut(&key.service) {
                known.last_generation = known.last_generation.max(key.generation);
            }
        }
        let named = table.named();
        let all = slots.iter().map(|(key, _)| Retired::Slot(*key));
        let all = all.chain(backends.iter().map(|(id, _)| Retired::Backend(*id)));
        let orphans = all.filter(|item| !named.contains(item)).collect();
        (table, orphans)
    }

    fn adopt_service(
        &mut self,
        key: &ServiceKey,
        service: &Service,
        slot_of: &HashMap<SlotKey, u32>,
        backend_of: &HashMap<u32, Backend>,
    ) {
        self.by_frontend.insert(*key, service.id);
        if let Some(known) = self.by_id.get_mut(&service.id) {
            known.frontends.insert(*key);
            // A crash between two frontends of one service leaves them different.
            known.whole &= known.value(service.id) == *service;
            return;
        }
        let backend = |index| {
            let id = *slot_of.get(&SlotKey { service: service.id, generation: service.generation, index })?;
            let backend = backend_of.get(&id).filter(|backend| backend.flags == 0)?;
            Some(((backend.address, backend.port), id))
        };
        let backends: Vec<_> = (0..service.count).map_while(backend).collect();
        let known = Known {
            frontends: BTreeSet::from([*key]),
            generation: service.generation,
            last_generation: service.generation,
            whole: backends.len() == service.count as usize,
            backends,
            affinity_seconds: service.affinity_seconds,
        };
        self.by_id.insert(service.id, known);
    }

    /// The slots and back ends that services name.
    fn named(&self) -> HashSet<Retired> {
        let of = |(id, known): (&u32, &Known)| {
            let ids = known.backends.iter().map(|(_, id)| Retired::Backend(*id)).collect::<Vec<_>>();
            known.slots(*id).map(Retired::Slot).chain(ids)
        };
        self.by_id.iter().flat_map(of).collect()
    }

    /// All that is translated.
    pub(crate) fn frontends(&self) -> impl Iterator<Item = &ServiceKey> {
        self.by_frontend.keys()
    }

    /// How many services' addresses and back ends there are.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.by_frontend.len(), self.by_id.values().map(|known| known.backends.len()).sum())
    }

    /// Changes the table to `wanted`, no frontend of which may occur twice, and says what has to be written for it.
    pub(crate) fn plan(&mut self, wanted: &[Port]) -> Plan {
        let mut stages = Stages::default();
        let mut claimed = HashSet::new();
        for port in wanted {
            let id = self.identify(port, &claimed);
            claimed.insert(id);
            self.plan_port(id, port, &mut stages);
        }
        let kept: HashSet<&ServiceKey> = wanted.iter().flat_map(|port| &port.frontends).collect();
        let gone = self.by_frontend.extract_if(|key, _| !kept.contains(key));
        stages.removals.extend(gone.map(|(key, _)| Write::RemoveService(key)));
        let dropped = self.by_id.extract_if(|id, _| !claimed.contains(id));
        for (id, known) in dropped {
            stages.retired.extend(known.slots(id).map(Retired::Slot));
            stages.retired.extend(known.backends.iter().map(|(_, id)| Retired::Backend(*id)));
        }
        stages.into_plan()
    }

    /// The id of the service that has one of the port's frontends now, else a new one.
    fn identify(&mut self, port: &Port, claimed: &HashSet<u32>) -> u32 {
        let mut known = port.frontends.iter().filter_map(|key| self.by_frontend.get(key));
        if let Some(id) = known.find(|id| !claimed.contains(id)) {
            return *id;
        }
        let id = self.next_service;
        self.next_service = id.wrapping_add(1);
        id
    }

    fn plan_port(&mut self, id: u32, port: &Port, stages: &mut Stages) {
        let old = self.by_id.remove(&id);
        let mut new = match &old {
            Some(old) if old.has_backends(&port.backends) => old.clone(),
            _ => self.next_generation(id, old.as_ref(), &port.backends, stages),
        };
        new.frontends.clone_from(&port.frontends);
        new.affinity_seconds = port.affinity_seconds;
        let value = new.value(id);
        let unchanged = old.is_some_and(|old| old.value(id) == value);
        for key in &new.frontends {
            let owner = self.by_frontend.insert(*key, id);
            if !unchanged || owner != Some(id) {
                stages.services.push(Write::Service(*key, value));
            }
        }
        self.by_id.insert(id, new);
    }

    /// New slots for a service: those back ends that it had keep their ids, and with them their clients.
    fn next_generation(
        &mut self,
        id: u32,
        old: Option<&Known>,
        wanted: &BTreeSet<Target>,
        stages: &mut Stages,
    ) -> Known {
        let mut had: HashMap<Target, u32> = old.iter().flat_map(|old| old.backends.iter().copied()).collect();
        let mut backends = Vec::with_capacity(wanted.len());
        for target in wanted {
            let backend = had.remove(target).unwrap_or_else(|| self.new_backend(*target, stages));
            backends.push((*target, backend));
        }
        for ((address, port), backend) in had {
            stages
                .draining
                .push(Write::Backend(backend, Backend { address, port, flags: backend_flags::DRAINING }));
            stages.retired.push(Retired::Backend(backend));
        }
        stages.retired.extend(old.iter().flat_map(|old| old.slots(id)).map(Retired::Slot));
        let generation = old.map_or(1, |old| old.last_generation.wrapping_add(1));
        let new = Known {
            frontends: BTreeSet::new(),
            generation,
            last_generation: generation,
            backends,
            affinity_seconds: 0,
            whole: true,
        };
        let slots = new.slots(id).zip(&new.backends);
        stages.slots.extend(slots.map(|(key, (_, backend))| Write::Slot(key, *backend)));
        new
    }

    fn new_backend(&mut self, (address, port): Target, stages: &mut Stages) -> u32 {
        let id = self.next_backend;
        self.next_backend = id.wrapping_add(1);
        stages.backends.push(Write::Backend(id, Backend { address, port, flags: 0 }));
        id
    }
}

/// The writes of a plan by what they have to come after.
#[derive(Default)]
struct Stages {
    backends: Vec<Write>,
    slots: Vec<Write>,
    services: Vec<Write>,
    removals: Vec<Write>,
    draining: Vec<Write>,
    retired: Vec<Retired>,
}

impl Stages {
    fn into_plan(self) -> Plan {
        let stages = [self.backends, self.slots, self.services, self.removals, self.draining];
        Plan { writes: stages.concat(), retired: self.retired }
    }
}
