//! The maps of the kernel side, typed.

use std::net::{IpAddr, Ipv4Addr};

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData, MapError, PerCpuArray};
use carrack_ebpf_abi::{Address, Backend, Counter, PrefixV4, Service, ServiceKey, Settings, SlotKey, names};
use ipnet::Ipv4Net;

use super::bpf_error;
use crate::error::NetworkError;

/// A hash map.
type Hash<K, V> = HashMap<MapData, K, V>;

/// The maps that user space reads and writes.
pub(crate) struct Maps {
    pub(crate) services: Hash<ServiceKey, Service>,
    pub(crate) slots: Hash<SlotKey, u32>,
    pub(crate) backends: Hash<u32, Backend>,
    pub(crate) counters: PerCpuArray<MapData, u64>,
    node_addresses: Hash<Address, u32>,
    native: LpmTrie<MapData, PrefixV4, u32>,
    settings: Array<MapData, Settings>,
}

/// What the programs are told of this node.
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    /// The addresses on which node ports answer.
    pub(crate) node_addresses: Vec<Ipv4Addr>,
    /// The prefixes that pods reach with their own address.
    pub(crate) native: Vec<Ipv4Net>,
}

impl Maps {
    /// Takes the maps out of a loaded object.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, NetworkError> {
        fn one<M: TryFrom<aya::maps::Map, Error = MapError>>(
            ebpf: &mut Ebpf,
            name: &str,
        ) -> Result<M, NetworkError> {
            let missing = || NetworkError::Config(format!("the eBPF object has no map {name}"));
            let map = ebpf.take_map(name).ok_or_else(missing)?;
            M::try_from(map).map_err(bpf_error(format!("use map {name}")))
        }
        Ok(Maps {
            services: one(ebpf, names::SERVICES)?,
            slots: one(ebpf, names::SLOTS)?,
            backends: one(ebpf, names::BACKENDS)?,
            counters: one(ebpf, names::COUNTERS)?,
            node_addresses: one(ebpf, names::NODE_ADDRESSES)?,
            native: one(ebpf, names::NATIVE)?,
            settings: one(ebpf, names::SETTINGS)?,
        })
    }

    /// Tells the programs about this node, removing what they were told before.
    pub(crate) fn write_setup(&mut self, setup: &Setup) -> Result<(), NetworkError> {
        self.settings.set(0, setup.settings, 0).map_err(bpf_error("write the settings"))?;
        let addresses: Vec<Address> =
            setup.node_addresses.iter().map(|ip| Address::from(IpAddr::V4(*ip))).collect();
        for address in &addresses {
            self.node_addresses.insert(address, 1, 0).map_err(bpf_error("write the node's addresses"))?;
        }
        let known = self.node_addresses.keys().collect::<Result<Vec<_>, _>>();
        for address in known.map_err(bpf_error("read the node's addresses"))? {
            if !addresses.contains(&address) {
                self.node_addresses.remove(&address).map_err(bpf_error("remove an address of the node"))?;
            }
        }
        self.write_native(&setup.native).map_err(bpf_error("write the native prefixes"))
    }

    /// Changes the range in which node ports are looked for.
    pub(crate) fn set_node_ports(&mut self, min: u16, max: u16) -> Result<(), MapError> {
        let settings = self.settings.get(&0, 0)?;
        self.settings.set(0, Settings { node_port_min: min, node_port_max: max, ..settings }, 0)
    }

    fn write_native(&mut self, prefixes: &[Ipv4Net]) -> Result<(), MapError> {
        let key = |net: &Ipv4Net| {
            let address = u32::from_ne_bytes(net.network().octets());
            (u32::from(net.prefix_len()), address)
        };
        let wanted: Vec<_> = prefixes.iter().map(key).collect();
        for (length, address) in &wanted {
            self.native.insert(&Key::new(*length, PrefixV4(*address)), 1, 0)?;
        }
        for known in self.native.keys().collect::<Result<Vec<_>, _>>()? {
            if !wanted.contains(&(known.prefix_len(), known.data().0)) {
                self.native.remove(&known)?;
            }
        }
        Ok(())
    }

    /// Every counter, summed over the processors.
    pub(crate) fn counters(&self) -> Vec<(&'static str, u64)> {
        let sum = |counter: Counter| {
            self.counters.get(&(counter as u32), 0).map(|values| values.iter().sum()).unwrap_or(0)
        };
        Counter::ALL.iter().map(|counter| (counter.name(), sum(*counter))).collect()
    }
}
