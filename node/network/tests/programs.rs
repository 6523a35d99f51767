//! The masquerade programs on packets made by hand: what comes out, with every checksum reckoned anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may fail"
)]

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, PerCpuArray};
use aya::programs::{CgroupSockAddr, SchedClassifier, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use carrack_ebpf_abi::{Counter, NatEntry, NatTuple, PrefixV4, Settings, direction, names};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("CARRACK_BPF_OBJECT"));

/// tc's answers: ask the next program, drop.
const NEXT: i32 = -1;
const DROP: i32 = 2;

const NODE: [u8; 4] = [192, 0, 2, 1];
const POD: [u8; 4] = [10, 244, 7, 2];
const OTHER_POD: [u8; 4] = [10, 244, 7, 3];
const PEER: [u8; 4] = [198, 51, 100, 7];
const NEIGHBOUR: [u8; 4] = [10, 250, 0, 1];

/// The programs, loaded apart from any network.
struct Kernel {
    ebpf: Ebpf,
}

impl Kernel {
    fn new(ports: (u16, u16)) -> Self {
        let mut ebpf = EbpfLoader::new().btf(None).load(OBJECT).expect("load the programs (are you root?)");
        let word = u32::from_ne_bytes;
        let settings = Settings {
            node_address: word(NODE),
            pod_network: word([10, 244, 7, 0]),
            pod_mask: word([255, 255, 255, 0]),
            uplink_header: 14,
            nat_port_min: ports.0,
            nat_port_max: ports.1,
            ..Settings::default()
        };
        let mut map: Array<_, Settings> = ebpf.map_mut(names::SETTINGS).unwrap().try_into().unwrap();
        map.set(0, settings, 0).unwrap();
        let mut native: LpmTrie<_, PrefixV4, u32> = ebpf.map_mut(names::NATIVE).unwrap().try_into().unwrap();
        native.insert(&Key::new(24, PrefixV4(word([10, 244, 7, 0]))), 1, 0).unwrap();
        native.insert(&Key::new(16, PrefixV4(word([10, 250, 0, 0]))), 1, 0).unwrap();
        for name in [names::MASQUERADE_OUT, names::MASQUERADE_IN] {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        Kernel { ebpf }
    }

    fn run(&mut self, name: &str, packet: &[u8]) -> (i32, Vec<u8>) {
        let program: &mut SchedClassifier = self.ebpf.program_mut(name).unwrap().try_into().unwrap();
        let mut out = vec![0; 2048];
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = program.test_run(options).unwrap();
        out.truncate(packet.len());
        (result.return_value as i32, out)
    }

    fn out(&mut self, packet: &[u8]) -> (i32, Vec<u8>) {
        self.run(names::MASQUERADE_OUT, packet)
    }

    fn arrive(&mut self, packet: &[u8]) -> (i32, Vec<u8>) {
        self.run(names::MASQUERADE_IN, packet)
    }

    fn count(&self, counter: Counter) -> u64 {
        let map: PerCpuArray<_, u64> = self.ebpf.map(names::COUNTERS).unwrap().try_into().unwrap();
        map.get(&(counter as u32), 0).unwrap().iter().sum()
    }

    fn nat(&mut self) -> HashMap<&mut aya::maps::MapData, NatTuple, NatEntry> {
        self.ebpf.map_mut(names::NAT).unwrap().try_into().unwrap()
    }
}

/// The sum that a header of the internet is checked with.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A packet in parts.
#[derive(Clone)]
struct Packet {
    source: [u8; 4],
    destination: [u8; 4],
    protocol: u8,
    /// Flags and offset of fragments.
    fragment: u16,
    id: u16,
    options: Vec<u8>,
    payload: Vec<u8>,
}

impl Packet {
    fn new(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: Vec<u8>) -> Self {
        Packet { source, destination, protocol, fragment: 0, id: 99, options: vec![], payload }
    }

    fn ip(&self) -> Vec<u8> {
        let length = 20 + self.options.len() + self.payload.len();
        let mut ip = vec![0x40 | (5 + self.options.len() / 4) as u8, 0];
        ip.extend((length as u16).to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([64, self.protocol, 0, 0]);
        ip.extend(self.source);
        ip.extend(self.destination);
        ip.extend(&self.options);
        let sum = checksum(&[&ip]);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        ip.extend(&self.payload);
        ip
    }

    fn frame(&self) -> Vec<u8> {
        [vec![2; 12], vec![8, 0], self.ip()].concat()
    }
}

fn pseudo(source: [u8; 4], destination: [u8; 4], protocol: u8, length: usize) -> Vec<u8> {
    [&source[..], &destination, &[0, protocol], &(length as u16).to_be_bytes()].concat()
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

fn udp(source: ([u8; 4], u16), destination: ([u8; 4], u16), data: &[u8]) -> Packet {
    let length = 8 + data.len();
    let mut payload = ports(source.1, destination.1);
    payload.extend((length as u16).to_be_bytes());
    payload.extend([0, 0]);
    payload.extend(data);
    let sum = checksum(&[&pseudo(source.0, destination.0, 17, length), &payload]);
    payload[6..8].copy_from_slice(&sum.to_be_bytes());
    Packet::new(source.0, destination.0, 17, payload)
}

fn tcp(source: ([u8; 4], u16), destination: ([u8; 4], u16), data: &[u8]) -> Packet {
    let mut payload = ports(source.1, destination.1);
    payload.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
    payload.extend(data);
    let sum = checksum(&[&pseudo(source.0, destination.0, 6, payload.len()), &payload]);
    payload[16..18].copy_from_slice(&sum.to_be_bytes());
    Packet::new(source.0, destination.0, 6, payload)
}

fn icmp(source: [u8; 4], destination: [u8; 4], kind: u8, rest: [u8; 4], data: &[u8]) -> Packet {
    let mut payload = [&[kind, 0, 0, 0], &rest[..], data].concat();
    let sum = checksum(&[&payload]);
    payload[2..4].copy_from_slice(&sum.to_be_bytes());
    Packet::new(source, destination, 1, payload)
}

fn echo(source: [u8; 4], destination: [u8; 4], kind: u8, id: u16) -> Packet {
    let [a, b] = id.to_be_bytes();
    icmp(source, destination, kind, [a, b, 0, 1], b"some data")
}

/// The source and the destination of a frame's packet, each with its port.
fn ends(frame: &[u8]) -> (([u8; 4], u16), ([u8; 4], u16)) {
    let at = 14 + usize::from(frame[14] & 15) * 4;
    let port = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let ip = |at: usize| [frame[at], frame[at + 1], frame[at + 2], frame[at + 3]];
    if frame[23] == 1 {
        ((ip(26), port(at + 4)), (ip(30), 0))
    } else {
        ((ip(26), port(at)), (ip(30), port(at + 2)))
    }
}

/// What a frame becomes, in two words: whether it is untouched, dropped, or its new ends.
fn outcome(before: &Packet, (verdict, after): &(i32, Vec<u8>)) -> String {
    match *verdict {
        NEXT if *after == before.frame() => "as it was".to_owned(),
        NEXT => "changed".to_owned(),
        DROP => "dropped".to_owned(),
        other => format!("verdict {other}"),
    }
}

#[test]
fn flows_go_out_in_the_nodes_name_and_answers_come_back() {
    let mut kernel = Kernel::new((61_000, 65_535));
    type Make = fn(([u8; 4], u16), ([u8; 4], u16), &[u8]) -> Packet;
    for (make, data) in [(udp as Make, &b"odd"[..]), (udp, b""), (tcp, b"some bytes"), (tcp, b"odd")] {
        for options in [vec![], vec![1, 1, 1, 1, 1, 1, 1, 0]] {
            let out = Packet { options: options.clone(), ..make((POD, 40_000), (PEER, 53), data) };
            let (verdict, frame) = kernel.out(&out.frame());
            assert_eq!(verdict, NEXT);
            let (source, destination) = ends(&frame);
            assert_eq!((source.0, destination), (NODE, (PEER, 53)));
            assert!((61_000..=65_535).contains(&source.1), "{source:?}");
            // The same packet as if the node had made it: so all checksums are right.
            assert_eq!(frame, Packet { options: options.clone(), ..make(source, (PEER, 53), data) }.frame());
            let (_, again) = kernel.out(&out.frame());
            assert_eq!(again, frame, "a flow keeps its port");
            let answer = Packet { options: options.clone(), ..make((PEER, 53), source, data) };
            let expected = Packet { options, ..make((PEER, 53), (POD, 40_000), data) };
            assert_eq!(kernel.arrive(&answer.frame()), (NEXT, expected.frame()));
        }
    }
    // One flow of each protocol: options make no other flow.
    assert_eq!(kernel.count(Counter::NatFlow), 2);
    assert_eq!((kernel.count(Counter::NatOut), kernel.count(Counter::NatIn)), (16, 8));
}

#[test]
fn a_datagram_without_checksum_stays_without() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let mut out = udp((POD, 40_000), (PEER, 53), b"data");
    out.payload[6..8].fill(0);
    let (_, frame) = kernel.out(&out.frame());
    assert_eq!(ends(&frame).0.0, NODE);
    assert_eq!(frame[40..42], [0, 0]);
}

#[test]
fn echoes_are_told_apart_by_their_identifier() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let mut ids = Vec::new();
    for pod in [POD, OTHER_POD] {
        let (verdict, frame) = kernel.out(&echo(pod, PEER, 8, 7).frame());
        let id = ends(&frame).0.1;
        assert_eq!((verdict, &frame), (NEXT, &echo(NODE, PEER, 8, id).frame()));
        assert_eq!(kernel.arrive(&echo(PEER, NODE, 0, id).frame()), (NEXT, echo(PEER, pod, 0, 7).frame()));
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
    let reply = echo(POD, PEER, 0, 9);
    assert_eq!(outcome(&reply, &kernel.out(&reply.frame())), "dropped", "an answer to nothing");
}

#[test]
fn what_is_not_a_pods_or_not_for_outside_passes_as_it_is() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let at = |ip, port| (ip, port);
    let out = [
        ("the node's own", udp(at(NODE, 5000), at(PEER, 53), b"x")),
        ("to another pod", udp(at(POD, 5000), at(OTHER_POD, 53), b"x")),
        ("to a native prefix", tcp(at(POD, 5000), at(NEIGHBOUR, 53), b"x")),
    ];
    for (what, packet) in out {
        assert_eq!(outcome(&packet, &kernel.out(&packet.frame())), "as it was", "{what}");
    }
    let arriving = [
        ("to the node", tcp(at(PEER, 5000), at(NODE, 22), b"x")),
        ("to a port of the range that nobody has", tcp(at(PEER, 5000), at(NODE, 61_234), b"x")),
        ("an echo request", echo(PEER, NODE, 8, 5)),
        ("another protocol", Packet::new(PEER, NODE, 50, vec![0; 32])),
        ("to somebody else", udp(at(PEER, 53), at(NEIGHBOUR, 53), b"x")),
    ];
    for (what, packet) in arriving {
        assert_eq!(outcome(&packet, &kernel.arrive(&packet.frame())), "as it was", "{what}");
    }
    let mut arp = udp(at(POD, 1), at(PEER, 1), b"").frame();
    arp[12..14].copy_from_slice(&[8, 6]);
    assert_eq!(kernel.out(&arp), (NEXT, arp));
    assert_eq!(kernel.nat().keys().count(), 0);
}

#[test]
fn a_flow_that_began_outside_keeps_its_addresses() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let pairs = [
        (tcp((PEER, 5000), (POD, 80), b"syn"), tcp((POD, 80), (PEER, 5000), b"ack")),
        (udp((PEER, 5000), (POD, 80), b"q"), udp((POD, 80), (PEER, 5000), b"a")),
        (echo(PEER, POD, 8, 5), echo(POD, PEER, 0, 5)),
    ];
    for (ask, answer) in pairs {
        assert_eq!(outcome(&ask, &kernel.arrive(&ask.frame())), "as it was");
        assert_eq!(outcome(&answer, &kernel.out(&answer.frame())), "as it was");
        let error = icmp(POD, PEER, 3, [0; 4], &ask.ip());
        assert_eq!(outcome(&error, &kernel.out(&error.frame())), "as it was");
    }
}

#[test]
fn icmp_errors_are_translated_with_what_they_quote() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let router = [203, 0, 113, 1];
    type Make = fn([u8; 4], u16) -> Packet;
    let flows: [Make; 3] = [
        |source, port| udp((source, port), (PEER, 53), b"question"),
        |source, port| tcp((source, port), (PEER, 53), b""),
        |source, port| echo(source, PEER, 8, port),
    ];
    for make in flows {
        let port = ends(&kernel.out(&make(POD, 40_000).frame()).1).0.1;
        for (kind, rest) in [(3, [0, 0, 5, 0]), (11, [0; 4]), (12, [0; 4])] {
            // Routers quote eight bytes after the header, or more.
            for quoted in [28, usize::MAX] {
                let quote = |packet: Packet| packet.ip().into_iter().take(quoted).collect::<Vec<_>>();
                let error = icmp(router, NODE, kind, rest, &quote(make(NODE, port)));
                let (verdict, frame) = kernel.arrive(&error.frame());
                assert_eq!(verdict, NEXT);
                // The quoted TCP or UDP checksum is left: nobody looks at it, and it may be cut off. All else is as if the
                // pod had been asked.
                let expected = icmp(router, POD, kind, rest, &quote(make(POD, 40_000)));
                let but_quoted_sum = |frame: &[u8]| {
                    let mut frame = frame.to_vec();
                    let sum = 14 + 20 + 8 + 20 + if frame[14 + 20 + 8 + 9] == 17 { 6 } else { 16 };
                    if frame[14 + 20 + 8 + 9] != 1 && frame.len() > sum + 1 {
                        frame[sum..sum + 2].fill(0);
                    }
                    frame[36..38].fill(0);
                    frame
                };
                if frame[14 + 20 + 8 + 9] == 1 {
                    // The quoted echo's own checksum covers the identifier: left as well.
                    assert_eq!(frame[..36], expected.frame()[..36]);
                } else {
                    assert_eq!(but_quoted_sum(&frame), but_quoted_sum(&expected.frame()));
                }
                assert_eq!(checksum(&[&frame[14..34]]), 0, "the error's IP header");
                assert_eq!(checksum(&[&frame[34..]]), 0, "the error's ICMP checksum");
                assert_eq!(checksum(&[&frame[42..62]]), 0, "the quoted IP header");
            }
        }
    }
    assert_eq!(kernel.count(Counter::NatErrorIn), 18);
    let foreign = icmp(router, NODE, 3, [0; 4], &udp((NODE, 4000), (PEER, 53), b"").ip());
    assert_eq!(outcome(&foreign, &kernel.arrive(&foreign.frame())), "as it was");
}

#[test]
fn a_pods_own_errors_leave_in_the_nodes_name() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let port = ends(&kernel.out(&udp((POD, 40_000), (PEER, 53), b"q").frame()).1).0.1;
    // The answer reaches the pod after it has closed the port.
    let answer = udp((PEER, 53), (POD, 40_000), b"a");
    let (verdict, frame) = kernel.out(&icmp(POD, PEER, 3, [0; 4], &answer.ip()).frame());
    assert_eq!(verdict, NEXT);
    assert_eq!((&frame[26..30], &frame[30..34]), (&NODE[..], &PEER[..]));
    assert_eq!((&frame[58..62], &frame[64..66]), (&NODE[..], &port.to_be_bytes()[..]));
    for (what, part) in [("IP", &frame[14..34]), ("ICMP", &frame[34..]), ("quoted IP", &frame[42..62])] {
        assert_eq!(checksum(&[part]), 0, "{what}");
    }
    let unknown = icmp(POD, PEER, 3, [0; 4], &udp((PEER, 99), (POD, 99), b"").ip());
    assert_eq!(outcome(&unknown, &kernel.out(&unknown.frame())), "dropped");
    assert_eq!(kernel.count(Counter::NatErrorUnknown), 1);
}

#[test]
fn fragments_follow_their_first() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let whole = udp((POD, 40_000), (PEER, 53), &[7; 32]);
    let parts = |packet: &Packet| {
        let first = Packet { fragment: 0x2000, payload: packet.payload[..24].to_vec(), ..packet.clone() };
        let last = Packet { fragment: 3, payload: packet.payload[24..].to_vec(), ..packet.clone() };
        [first, last]
    };
    let [first, last] = parts(&whole);
    assert_eq!(outcome(&last, &kernel.out(&last.frame())), "dropped", "before its first");
    let (_, frame) = kernel.out(&first.frame());
    let port = ends(&frame).0.1;
    let [first_out, last_out] = parts(&udp((NODE, port), (PEER, 53), &[7; 32]));
    assert_eq!(frame, first_out.frame(), "the checksum is the whole datagram's");
    assert_eq!(kernel.out(&last.frame()), (NEXT, last_out.frame()));
    let [first, last] = parts(&udp((PEER, 53), (NODE, port), &[8; 32]));
    let [first_in, last_in] = parts(&udp((PEER, 53), (POD, 40_000), &[8; 32]));
    assert_eq!(outcome(&last, &kernel.arrive(&last.frame())), "as it was", "the node's own, for all we know");
    assert_eq!(kernel.arrive(&first.frame()), (NEXT, first_in.frame()));
    assert_eq!(kernel.arrive(&last.frame()), (NEXT, last_in.frame()));
    assert_eq!((kernel.count(Counter::NatFragment), kernel.count(Counter::NatFragmentLost)), (2, 1));
}

#[test]
fn ports_that_run_out_fail_closed() {
    let mut kernel = Kernel::new((61_000, 61_001));
    let send = |kernel: &mut Kernel, port| {
        let (verdict, frame) = kernel.out(&udp((POD, port), (PEER, 53), b"x").frame());
        (verdict == NEXT).then(|| ends(&frame).0.1)
    };
    let first = send(&mut kernel, 1).unwrap();
    // With 32 tries for two ports, the second flow finds the other one but once in four thousand million times.
    let second = send(&mut kernel, 2).unwrap();
    assert_ne!(first, second);
    assert_eq!(send(&mut kernel, 3), None);
    assert_eq!(kernel.count(Counter::NatExhausted), 1);
    assert_eq!((send(&mut kernel, 1), send(&mut kernel, 2)), (Some(first), Some(second)));
    // Another peer is another matter.
    assert_eq!(kernel.out(&udp((POD, 3), (NEIGHBOUR.map(|byte| byte ^ 1), 53), b"x").frame()).0, NEXT);
}

#[test]
fn either_entry_of_a_flow_is_rebuilt_from_the_other() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let out = udp((POD, 40_000), (PEER, 53), b"x").frame();
    let (_, frame) = kernel.out(&out);
    let port = ends(&frame).0.1;
    let answer = udp((PEER, 53), (NODE, port), b"y").frame();
    let evict = |kernel: &mut Kernel, which| {
        let mut nat = kernel.nat();
        let keys: Vec<_> = nat.keys().map(Result::unwrap).collect();
        keys.iter().filter(|key| key.direction == which).for_each(|key| nat.remove(key).unwrap());
    };
    evict(&mut kernel, direction::OUT);
    assert_eq!(kernel.out(&out).1, frame, "the incoming entry shows that the port is this flow's");
    // The other way the flow looks after its incoming entry once a second.
    evict(&mut kernel, direction::IN);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    kernel.out(&out);
    assert_eq!(ends(&kernel.arrive(&answer).1).1, (POD, 40_000));
    evict(&mut kernel, direction::OUT);
    std::thread::sleep(std::time::Duration::from_millis(1100));
    kernel.arrive(&answer);
    assert_eq!(kernel.nat().keys().count(), 2);
    assert_eq!(kernel.count(Counter::NatRepaired), 2);
}

#[test]
fn what_cannot_be_masqueraded_is_dropped_and_counted() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let cut = Packet::new(POD, PEER, 6, vec![0, 80]);
    let table = [
        (Packet::new(POD, PEER, 132, vec![0; 32]), Counter::NatUnsupported),
        (icmp(POD, PEER, 13, [0; 4], b""), Counter::NatUnsupported),
        (cut, Counter::NatMalformed),
    ];
    for (packet, counter) in table {
        assert_eq!(outcome(&packet, &kernel.out(&packet.frame())), "dropped");
        assert!(kernel.count(counter) > 0, "{counter:?}");
    }
}

/// The verifier's work grows with paths through a program; a leap here means that something was unrolled or forked.
#[test]
fn programs_stay_simple() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let mut counts = Vec::new();
    for name in names::SOCKET_PROGRAMS {
        let program: &mut CgroupSockAddr = kernel.ebpf.program_mut(name).unwrap().try_into().unwrap();
        program.load().unwrap();
        counts.push((name, program.info().unwrap().verified_instruction_count().unwrap()));
    }
    for name in [names::MASQUERADE_OUT, names::MASQUERADE_IN] {
        let program: &mut SchedClassifier = kernel.ebpf.program_mut(name).unwrap().try_into().unwrap();
        counts.push((name, program.info().unwrap().verified_instruction_count().unwrap()));
    }
    println!("{counts:?}");
    assert!(counts.iter().all(|(_, count)| *count < 20_000), "{counts:?}");
}

/// A packet of the host costs next to nothing; how little is printed with `--nocapture`.
#[test]
fn packets_of_the_host_pass_quickly() {
    let mut kernel = Kernel::new((61_000, 65_535));
    let program: &mut SchedClassifier =
        kernel.ebpf.program_mut(names::MASQUERADE_OUT).unwrap().try_into().unwrap();
    let packet = udp((NODE, 40_000), (PEER, 53), &[0; 64]).frame();
    let options = TestRunOptions { data_in: Some(&packet), repeat: 100_000, ..TestRunOptions::default() };
    let result = program.test_run(options).unwrap();
    println!("a packet of the node itself: {:?}", result.duration);
    assert!(result.duration.as_micros() < 10);
}
