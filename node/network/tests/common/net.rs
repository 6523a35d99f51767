//! Servers that say who they are and whom they saw, and clients that tell what they got.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::Netns;

pub const PATIENCE: Duration = Duration::from_secs(3);

/// A TCP server: greets each connection with `<name> <address it sees>\n` and then echoes.
pub fn serve_tcp(netns: &Netns, address: &str, name: &str) {
    let listener = netns.run(|| TcpListener::bind(address)).unwrap();
    let name = name.to_owned();
    netns.spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let name = name.clone();
            std::thread::spawn(move || -> io::Result<()> {
                let mut stream = stream;
                writeln!(stream, "{name} {}", stream.peer_addr()?)?;
                let mut buffer = vec![0; 65_536];
                loop {
                    let length = stream.read(&mut buffer)?;
                    if length == 0 {
                        return Ok(());
                    }
                    stream.write_all(&buffer[..length])?;
                }
            });
        }
    });
}

/// A UDP server: answers each datagram with `<name> <address it sees> <length>`.
pub fn serve_udp(netns: &Netns, address: &str, name: &str) {
    let socket = netns.run(|| UdpSocket::bind(address)).unwrap();
    let name = name.to_owned();
    netns.spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {peer} {length}").as_bytes(), peer);
        }
    });
}

/// What a server said, split at spaces, and the peer that the socket believes it has.
pub struct Reply {
    pub name: String,
    pub saw: SocketAddr,
    pub peer: SocketAddr,
}

fn reply(text: &str, peer: SocketAddr) -> Reply {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or_default().to_owned();
    Reply { name, saw: words.next().unwrap_or_default().parse().unwrap(), peer }
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The IPv4 address as an IPv6 socket names it.
pub fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

/// Connects and reads the greeting.
pub fn tcp(address: SocketAddr) -> io::Result<Reply> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    greeting(stream)
}

pub fn greeting(mut stream: TcpStream) -> io::Result<Reply> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = stream.peer_addr()?;
    let mut text = Vec::new();
    while text.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        text.extend(byte);
    }
    Ok(reply(&String::from_utf8_lossy(&text), peer))
}

/// Sends bytes through the echo of a TCP server; whether they come back the same.
pub fn tcp_echo(address: SocketAddr, length: usize) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
    }
    let sent: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
    let mut writer = stream.try_clone()?;
    let copy = sent.clone();
    let thread = std::thread::spawn(move || writer.write_all(&copy));
    let mut received = vec![0; length];
    stream.read_exact(&mut received)?;
    thread.join().unwrap()?;
    Ok(received == sent)
}

pub fn udp_socket(peer: SocketAddr) -> io::Result<UdpSocket> {
    let any = if peer.is_ipv4() { address("0.0.0.0:0") } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// One datagram and its answer through an unconnected socket; the peer is where the answer claims to come from.
pub fn udp_with(socket: &UdpSocket, to: SocketAddr, length: usize) -> io::Result<Reply> {
    socket.send_to(&vec![b'x'; length], to)?;
    let mut buffer = [0; 2048];
    let (length, peer) = socket.recv_from(&mut buffer)?;
    Ok(reply(&String::from_utf8_lossy(&buffer[..length]), peer))
}

pub fn udp(to: SocketAddr) -> io::Result<Reply> {
    udp_with(&udp_socket(to)?, to, 10)
}

/// The same through a connected socket; the peer is what getpeername says.
pub fn udp_connected(to: SocketAddr) -> io::Result<Reply> {
    let socket = udp_socket(to)?;
    socket.connect(to)?;
    socket.send(b"connected")?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    Ok(reply(&String::from_utf8_lossy(&buffer[..length]), socket.peer_addr()?))
}

/// The error number of a failure.
pub fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}
