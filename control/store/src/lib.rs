//! The replicated store: Raft, revisions, watch and leases.
