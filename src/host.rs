//! What is found out about this host where no option says it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result, bail};

/// The interface of the default route and the host's address on it, from /proc/net/route.
pub(crate) fn default_route() -> Result<(String, Ipv4Addr)> {
    let table = fs::read_to_string("/proc/net/route").context("/proc/net/route")?;
    let name =
        default_interface(&table).context("this host has no default route; give --node-ip and --uplink")?;
    let address =
        address_of(&name)?.with_context(|| format!("{name} has no IPv4 address; give --node-ip"))?;
    Ok((name, address))
}

/// The interface whose route has destination and mask 0 and the lowest metric.
fn default_interface(table: &str) -> Option<String> {
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let defaults = rows.filter(|row| row.get(1) == Some(&"00000000") && row.get(7) == Some(&"00000000"));
    let best =
        defaults.min_by_key(|row| row.get(6).and_then(|m| m.parse::<u32>().ok()).unwrap_or(u32::MAX))?;
    best.first().map(|name| (*name).to_owned())
}

fn address_of(interface: &str) -> Result<Option<Ipv4Addr>> {
    let all = nix::ifaddrs::getifaddrs().context("list addresses")?;
    let mut own = all.filter(|entry| entry.interface_name == interface).filter_map(|entry| entry.address);
    Ok(own.find_map(|address| address.as_sockaddr_in().map(nix::sys::socket::SockaddrIn::ip)))
}

/// This host's name, as a node can have it: lower case, without what follows in a domain name it could not have.
pub(crate) fn node_name() -> Result<String> {
    let name = nix::unistd::gethostname().context("this host's name")?.to_string_lossy().to_lowercase();
    let valid = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if !valid {
        bail!("this host's name {name:?} can not be a node's; give --node-name");
    }
    Ok(name)
}

/// The host's name servers, but for those that only listen on loopback for another resolver's sake.
pub(crate) fn name_servers() -> Vec<SocketAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    parse_name_servers(&text)
}

fn parse_name_servers(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    words.filter_map(|word| word.trim().parse::<IpAddr>().ok()).map(|ip| SocketAddr::new(ip, 53)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_of_lowest_metric_counts() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth1\t00000000\t0100A8C0\t0003\t0\t0\t200\t00000000\n\
                     eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\n\
                     lo\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\n";
        assert_eq!(default_interface(table).as_deref(), Some("eth0"));
        assert_eq!(default_interface("Iface\n"), None);
    }

    #[test]
    fn name_servers_are_read() {
        let found = parse_name_servers("search x\nnameserver 9.9.9.9\n nameserver ::1\nnameserver bad\n");
        assert_eq!(found, ["9.9.9.9:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    }
}
