//! Feeds the eBPF programs; addresses, routes, services, DNS.
