//! The maps. Hashes that user space writes are not preallocated: an element then stays as it was for readers that hold
//! it, instead of being recycled under them.

use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray};
use aya_ebpf::macros::btf_map;
use carrack_ebpf_abi::{
    Address, AffinityEntry, AffinityKey, Backend, Counter, FragmentKey, NatEntry, NatTuple, PrefixV4,
    ReverseKey, ReverseValue, Service, ServiceKey, Settings, SlotKey,
};

const ON_DEMAND: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map]
pub static SERVICES: HashMap<ServiceKey, Service, 65_536, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static SLOTS: HashMap<SlotKey, u32, 524_288, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static BACKENDS: HashMap<u32, Backend, 262_144, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static REVERSE: LruHashMap<ReverseKey, ReverseValue, 65_536> = LruHashMap::new();
#[btf_map]
pub static AFFINITY: LruHashMap<AffinityKey, AffinityEntry, 16_384> = LruHashMap::new();
#[btf_map]
pub static NODE_ADDRESSES: HashMap<Address, u32, 1_024, ON_DEMAND> = HashMap::new();
#[btf_map]
pub static SETTINGS: Array<Settings, 1> = Array::new();
#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { Counter::COUNT as usize }> = PerCpuArray::new();
#[btf_map]
pub static NAT: LruHashMap<NatTuple, NatEntry, 131_072> = LruHashMap::new();
#[btf_map]
pub static FRAGMENTS: LruHashMap<FragmentKey, u32, 4_096> = LruHashMap::new();
#[btf_map]
pub static NATIVE: LpmTrie<PrefixV4, u32, 4_096> = LpmTrie::new();

/// Adds one to a counter of this processor.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the pointer is to this processor's own slot of the map, which the verifier checked.
        unsafe { *value += 1 }
    }
}
